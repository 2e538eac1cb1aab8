//! The mailer: templates and SMTP behind `POST /send`.
//!
//! A request enters in [`routes`] as a [`contracts::mail::MailPayload`]; [`delivery`] has it rendered
//! ([`templates`]) and built ([`message`]), claims it in the [`ledger`], and hands it over ([`transport`]) in a
//! task that outlives the request. What became of it is told by [`chassis::outbox`].

pub mod config;
mod delivery;
mod ledger;
mod message;
mod metrics;
mod plain_text;
mod routes;
mod templates;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chassis::amqp::Publisher;
use chassis::health::Health;
use chassis::http::server;
use chassis::lifecycle::Lifecycle;
use chassis::outbox::Relay;
use chassis::postgres::{self, Database};
use contracts::topology::Topology;
use sqlx::migrate::Migrator;
use tokio::net::TcpListener;

pub use config::Config;

use delivery::Delivery;
use ledger::Ledger;
use message::Sender;
use templates::Templates;
use transport::Transport;

/// What the SMTP server is called in answers, logs and readiness.
pub(crate) const MAIL_SERVER: &str = "the mail server";

/// How much longer than the sending of a mail its lease is at least: both ends of it are written to the ledger.
const MARGIN: Duration = Duration::from_secs(5);

/// The tables.
static MIGRATIONS: Migrator = Migrator { ignore_missing: true, ..sqlx::migrate!() };

/// Binds the port of the settings and starts the service.
pub async fn start(config: Config, lifecycle: Lifecycle) -> anyhow::Result<()> {
    let listener = server::bind(config.common.listen(config.port)).await?;
    serve(listener, config, &lifecycle).await
}

/// Starts the service on `listener`; it runs until the lifecycle stops it. The mail server need not be there.
#[expect(clippy::unused_async, reason = "it waits for nothing, but callers start every service alike")]
pub async fn serve(listener: TcpListener, config: Config, lifecycle: &Lifecycle) -> anyhow::Result<()> {
    anyhow::ensure!(
        config.mail_lease >= config.mail_timeout + MARGIN,
        "MAIL_LEASE must be at least {MARGIN:?} longer than MAIL_TIMEOUT: a mail that is still being sent would be sent again"
    );
    let templates = Templates::load().context("the built-in templates do not load")?;
    let transport = Arc::new(Transport::new(&config)?);
    let sender = Sender::new(&config.from_name, &config.from_address);
    let database = Database::new("mailer", &config.database, &MIGRATIONS);
    let ledger = Ledger::start(&database, config.mail_lease, config.mail_ledger_days, lifecycle);
    let topology = Topology::within(&config.amqp.namespace);
    let publisher = Publisher::start(&config.amqp.url, topology.clone(), lifecycle)?;
    Relay::start(&database, publisher, &topology.events, lifecycle);
    let delivery = Delivery::new(
        templates,
        sender,
        ledger,
        Arc::clone(&transport),
        usize::from(config.mail_room_mib) * 1024,
    );

    let probed = Arc::clone(&transport);
    let asked = database.clone();
    let health = Health::new(lifecycle.draining())
        .check(MAIL_SERVER, move || {
            let transport = Arc::clone(&probed);
            async move { transport.probe().await }
        })
        .check(postgres::NAME, move || {
            let database = asked.clone();
            async move { database.check().await }
        });
    lifecycle.background("database", database.keep(std::future::ready(()), lifecycle.closing()));

    let under_way = delivery.under_way();
    let routes = routes::routes(Arc::new(delivery), health);
    let serving = server::serve(listener, routes, lifecycle.stopping());
    lifecycle.spawn("http", async move {
        serving.await?;
        // A mail whose client has left is in nobody's request any more; it is waited for all the same.
        under_way.close();
        under_way.wait().await;
        Ok(())
    });
    let closing = lifecycle.closing();
    lifecycle.background("smtp pool", async move {
        transport.keep_up(closing).await;
        Ok(())
    });
    Ok(())
}
