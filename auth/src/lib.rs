//! Users and their passwords: `POST /authenticate`, on PostgreSQL.
//!
//! A request's way: `routes` → [`login`], which looks the account up in [`users`] over a connection of
//! [`chassis::postgres`] and has the [`password`] checked on a thread of [`hashing`]. A new user is written by
//! [`registration`], with the event that tells of it; [`chassis::outbox`] publishes that.

pub mod config;
pub mod development;
pub mod hashing;
pub mod login;
pub mod password;
pub mod registration;
mod routes;
pub mod users;

use anyhow::Context as _;
use chassis::amqp::Publisher;
use chassis::http::server;
use chassis::lifecycle::Lifecycle;
use chassis::outbox::Relay;
use chassis::postgres::Database;
use chassis::retry;
use contracts::topology::Topology;
use sqlx::migrate::Migrator;
use tokio::net::TcpListener;

use crate::config::{Config, Environment};
use crate::hashing::Hasher;
use crate::login::Login;

/// The tables.
pub static MIGRATIONS: Migrator = Migrator { ignore_missing: true, ..sqlx::migrate!() };

/// Listens where the settings say, and serves.
pub async fn start(config: Config, lifecycle: Lifecycle) -> anyhow::Result<()> {
    let listener = server::bind(config.common.listen(config.port.get())).await?;
    serve(listener, config, &lifecycle).await
}

/// Serves on `listener`. PostgreSQL need not be there yet: it is waited for in the background.
#[expect(clippy::unused_async, reason = "the same for every service, and others do wait")]
pub async fn serve(listener: TcpListener, config: Config, lifecycle: &Lifecycle) -> anyhow::Result<()> {
    let hasher = Hasher::start(config.hash_threads(), config.hash_queue)
        .context("the hashing threads (HASH_THREADS) can't be started")?;
    let database = Database::new("auth", &config.database, &MIGRATIONS);
    let login = Login::new(database.clone(), hasher.clone())?;
    let routes = routes::routes(login, database.clone(), lifecycle.draining());
    lifecycle.spawn("http", server::serve(listener, routes, lifecycle.stopping()));
    let topology = Topology::within(&config.amqp.namespace);
    let publisher = Publisher::start(&config.amqp.url, topology.clone(), lifecycle)?;
    Relay::start(&database, publisher, &topology.events, lifecycle);
    let prepare = prepare(database.clone(), hasher, config.environment);
    lifecycle.background("database", database.keep(prepare, lifecycle.closing()));
    Ok(())
}

/// Sees to it that the account to try is there, where there is to be one.
async fn prepare(database: Database, hasher: Hasher, environment: Environment) {
    let account = || development::prepare(environment, &hasher, &database);
    retry::forever("the account to try", account).await;
}
