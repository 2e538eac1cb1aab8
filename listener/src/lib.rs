//! Consumes the queues: what was published ends where it belongs.
//!
//! A message's way: its queue → `chassis::amqp::consumer`, which takes what is there as a batch → the module of the
//! queue: [`log`], [`trail`] and [`dead`] read each message as something for the logger, and [`store`] brings the
//! batch there in one call; [`mail`] asks the mailer. A message is acknowledged after its effect is durable; one that
//! can't be worked on waits for its next attempt, or goes to the dead letters.
//!
//! The listener keeps nothing, and any number of replicas may run. Its HTTP port is for health and metrics only.

pub mod config;
mod dead;
mod log;
mod mail;
mod retrying;
mod store;
mod trail;

use std::sync::Arc;

use chassis::amqp::{self, Consumer, Flow, Onward, Standing};
use chassis::health::Health;
use chassis::http::server;
use chassis::lifecycle::Lifecycle;
use chassis::rpc::LoggerClient;
use contracts::topology::Topology;
use tokio::net::TcpListener;

pub use config::Config;

use crate::dead::Dead;
use crate::log::Log;
use crate::mail::Mails;
use crate::store::{Keep, Store};
use crate::trail::Trail;

/// How many dead letters are taken at a time: they are rare, and may be large.
const FEW: Flow = Flow { prefetch: 32, batch: 16 };
/// How this service calls itself to others.
const SERVICE: &str = "listener";

/// Listens where the settings say, and consumes.
pub async fn start(config: Config, lifecycle: Lifecycle) -> anyhow::Result<()> {
    let listener = server::bind(config.common.listen(config.port.get())).await?;
    serve(listener, config, &lifecycle).await
}

/// Consumes, and serves health and metrics on `listener`; nothing that it needs has to be there yet.
#[expect(clippy::unused_async, reason = "the same for every service, and others do wait")]
pub async fn serve(listener: TcpListener, config: Config, lifecycle: &Lifecycle) -> anyhow::Result<()> {
    let topology = Topology::within(&config.amqp.namespace)
        .with_delays(&config.amqp.namespace, &config.listener_retry_delays);
    let Topology { events, log_queue, mail_queue, trail_queue, dead_queue, .. } = topology.clone();
    let onward = Onward::new(&config.amqp.url, topology, lifecycle)?;
    let logger = LoggerClient::start(config.logger.logger_rpc_addr.clone(), lifecycle);
    let mails = Mails::new(
        config.mail_service_url.clone(),
        config.mail_timeout,
        onward.clone(),
        lifecycle.stopping(),
    );

    let consumers = Consumers { config: &config, onward, logger: logger.clone(), lifecycle };
    let mail = Flow { prefetch: config.listener_mails.get(), batch: 1 };
    let mail = consumers.consumer(&mail_queue, mail)?;
    let many = Flow { prefetch: config.listener_prefetch.get(), batch: config.listener_batch.get().into() };
    let standings = [
        consumers.keep("log consumer", &log_queue, many, Log { events })?,
        consumers.keep("trail consumer", &trail_queue, many, Trail)?,
        consumers.keep("dead consumer", &dead_queue, FEW, Dead { mail_queue, trail_queue })?,
        mail.standing(),
    ];
    lifecycle.spawn("mail consumer", mail.run(move |_, batch| Arc::clone(&mails).send(batch)));

    let health = Health::new(lifecycle.draining())
        .check(amqp::NAME, move || std::future::ready(standings.iter().try_for_each(Standing::check)))
        .check("the logger", move || {
            let logger = logger.clone();
            async move { logger.check().await }
        });
    lifecycle.spawn("http", server::serve(listener, health.routes(), lifecycle.stopping()));
    Ok(())
}

/// What the consumers have in common.
struct Consumers<'a> {
    config: &'a Config,
    onward: Onward,
    logger: LoggerClient,
    lifecycle: &'a Lifecycle,
}

impl Consumers<'_> {
    fn consumer(&self, queue: &str, flow: Flow) -> anyhow::Result<Consumer> {
        Ok(Consumer::new(&self.config.amqp.url, queue, flow, self.onward.clone(), self.lifecycle)?)
    }

    /// Starts a consumer whose messages the logger keeps.
    fn keep<K: Keep>(
        &self,
        name: &'static str,
        queue: &str,
        flow: Flow,
        kind: K,
    ) -> anyhow::Result<Standing> {
        let consumer = self.consumer(queue, flow)?;
        let standing = consumer.standing();
        let store = Store::new(kind, self.logger.clone(), self.onward.clone(), self.lifecycle.stopping());
        let handler = move |context, batch| Arc::clone(&store).store(context, batch);
        self.lifecycle.spawn(name, consumer.run(handler));
        Ok(standing)
    }
}
