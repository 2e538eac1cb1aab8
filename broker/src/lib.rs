//! The one entry of the system: `POST /handle` takes an action and hands it to the service that does it.
//!
//! A request's way: [`routes`] → [`action`], which reads it, → `action/auth.rs`, `action/log.rs` or
//! `action/mail.rs` → `clients/…` → the other service, or, through `action/queue.rs`, the exchange. What became of it is
//! in [`trail`], and what could not be worked on in [`dead_letters`]. The broker keeps nothing, so any number of
//! replicas may run.

pub mod action;
pub mod clients;
pub mod config;
mod dead_letters;
mod health;
mod routes;
mod trail;

use chassis::amqp::Publisher;
use chassis::http::server;
use chassis::lifecycle::Lifecycle;
use chassis::rpc::LoggerClient;
use contracts::topology::Topology;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clients::{AuthClient, LoggerHttp, MailerClient};
use crate::config::Config;
use crate::health::System;

/// What the handlers share.
pub struct App {
    auth: AuthClient,
    mailer: MailerClient,
    logger: LoggerClient,
    logger_http: LoggerHttp,
    publisher: Publisher,
    topology: Topology,
    system: System,
    stopping: CancellationToken,
}

/// Listens where the settings say, and serves.
pub async fn start(config: Config, lifecycle: Lifecycle) -> anyhow::Result<()> {
    let listener = server::bind(config.common.listen(config.port.get())).await?;
    serve(listener, config, &lifecycle).await
}

/// Serves on `listener`; nothing that the broker calls has to be there yet.
#[expect(clippy::unused_async, reason = "the same for every service, and others do wait")]
pub async fn serve(listener: TcpListener, config: Config, lifecycle: &Lifecycle) -> anyhow::Result<()> {
    let topology = Topology::within(&config.amqp.namespace);
    let publisher = Publisher::start(&config.amqp.url, topology.clone(), lifecycle)?;
    let logger = LoggerClient::start(config.logger.logger_rpc_addr.clone(), lifecycle);
    let app = App {
        auth: AuthClient::new(config.auth_service_url.clone(), config.auth_timeout),
        mailer: MailerClient::new(config.mail_service_url.clone(), config.mail_timeout),
        system: System::new(&config, logger.clone(), publisher.clone()),
        logger,
        logger_http: LoggerHttp::new(config.logger_service_url.clone()),
        publisher,
        topology,
        stopping: lifecycle.stopping(),
    };
    let routes = routes::routes(app, lifecycle.draining());
    let serving = server::serve_pages(listener, routes, routes::cors(&config), lifecycle.stopping());
    lifecycle.spawn("http", serving);
    Ok(())
}
