//! Keeps log entries, the trails of actions, and dead letters: each durable before it is acknowledged and stored once.
//!
//! An entry comes in by [`rpc`] (`append`, `append_all`) or by [`routes`] (`POST /log`), becomes a [`document`] in
//! the task that received it, and waits in [`group_commit`] for the next write, which [`insert`] makes. Steps and
//! letters come in by [`rpc`] (`record`, `bury`), many at a time, and go through [`steps`] and [`dead_letters`] to an
//! [`insert`] of their own. Reading goes from [`routes`]: `GET /logs` through [`search`], `GET /actions` through
//! [`trails`], `GET /dead-letters` through [`dead_letters`], which also keeps what is decided about them; [`page`] and
//! [`read`] have what these share. [`mongo`] is the connection; [`indexes`] are made at start, retention among them.

pub mod config;
pub mod dead_letters;
pub mod document;
pub mod group_commit;
pub mod indexes;
pub mod insert;
pub mod mongo;
pub mod page;
pub mod read;
pub mod routes;
pub mod rpc;
pub mod search;
pub mod steps;
pub mod trails;

use anyhow::Context as _;
use chassis::health::Health;
use chassis::http::server;
use chassis::lifecycle::Lifecycle;
use chassis::rpc::server::Limits;
use tokio::net::TcpListener;

pub use config::Config;

use crate::dead_letters::DeadLetters;
use crate::group_commit::GroupCommit;
use crate::insert::Insert;
use crate::mongo::Mongo;
use crate::routes::App;
use crate::search::Search;
use crate::steps::Steps;
use crate::trails::Trails;

/// Listens for HTTP and RPC, and serves.
pub async fn start(config: Config, lifecycle: Lifecycle) -> anyhow::Result<()> {
    let http = server::bind(config.common.listen(config.port.get())).await?;
    let address = config.common.listen(config.rpc_port.get());
    let rpc = TcpListener::bind(address).await;
    let rpc = rpc.with_context(|| format!("cannot listen on {address} (HOST, RPC_PORT)"))?;
    serve(http, rpc, config, &lifecycle).await
}

/// Serves on listeners that the caller chose. It answers at once, also while MongoDB is away.
pub async fn serve(
    http: TcpListener,
    rpc: TcpListener,
    config: Config,
    lifecycle: &Lifecycle,
) -> anyhow::Result<()> {
    let mongo = Mongo::open(&config).await?;
    let log = GroupCommit::start(Insert::new(&mongo, mongo.entries()), &mongo, lifecycle);
    indexes::keep(mongo.clone(), config.log_retention_days, lifecycle);

    let steps = Steps::new(&mongo);
    let letters = DeadLetters::new(&mongo, steps.clone());
    let counting = letters.clone().count(lifecycle.closing());
    lifecycle.background("count of dead letters", async {
        counting.await;
        Ok(())
    });
    let app = App {
        log: log.clone(),
        search: Search::new(&mongo),
        trails: Trails::new(&mongo, steps.clone(), letters.clone()),
        letters: letters.clone(),
        draining: lifecycle.draining(),
    };
    let health = Health::new(lifecycle.draining()).check("MongoDB", move || {
        let mongo = mongo.clone();
        async move { mongo.ping().await }
    });
    let routes = routes::routes(app).merge(health.routes());
    lifecycle.spawn("http", server::serve(http, routes, lifecycle.stopping()));
    let handler = rpc::handler(log, steps, letters);
    let calls = chassis::rpc::server::serve(rpc, lifecycle.stopping(), Limits::default(), handler);
    lifecycle.spawn("rpc", calls);
    Ok(())
}
