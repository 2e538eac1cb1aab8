//! The mailer: templates and SMTP behind `POST /send`.
//!
//! A request enters in [`routes`] as a [`contracts::mail::MailPayload`]; [`delivery`] has it rendered
//! ([`templates`]) and built ([`message`]) and hands it over ([`transport`]) in a task that outlives the
//! request.

pub mod config;
mod delivery;
mod message;
mod metrics;
mod plain_text;
mod routes;
mod templates;
mod transport;

use std::sync::Arc;

use anyhow::Context as _;
use chassis::health::Health;
use chassis::http::server;
use chassis::lifecycle::Lifecycle;
use tokio::net::TcpListener;

pub use config::Config;

use delivery::Delivery;
use message::Sender;
use templates::Templates;
use transport::Transport;

/// What the SMTP server is called in answers, logs and readiness.
pub(crate) const MAIL_SERVER: &str = "the mail server";

/// Binds the port of the settings and starts the service.
pub async fn start(config: Config, lifecycle: Lifecycle) -> anyhow::Result<()> {
    let listener = server::bind(config.common.listen(config.port)).await?;
    serve(listener, config, &lifecycle).await
}

/// Starts the service on `listener`; it runs until the lifecycle stops it. The mail server need not be there.
#[expect(clippy::unused_async, reason = "it waits for nothing, but callers start every service alike")]
pub async fn serve(listener: TcpListener, config: Config, lifecycle: &Lifecycle) -> anyhow::Result<()> {
    let templates = Templates::load().context("the built-in templates do not load")?;
    let transport = Arc::new(Transport::new(&config)?);
    let sender = Sender::new(&config.from_name, &config.from_address);
    let delivery = Delivery::new(templates, sender, Arc::clone(&transport));

    let probed = Arc::clone(&transport);
    let health = Health::new(lifecycle.draining()).check(MAIL_SERVER, move || {
        let transport = Arc::clone(&probed);
        async move { transport.probe().await }
    });

    let under_way = delivery.under_way();
    let routes = routes::routes(Arc::new(delivery), health);
    lifecycle.spawn("http", server::serve(listener, routes, lifecycle.stopping()));
    let stopping = lifecycle.stopping();
    lifecycle.spawn("deliveries", async move {
        // A mail whose client has left is in nobody's request any more; it is waited for all the same.
        stopping.cancelled().await;
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
