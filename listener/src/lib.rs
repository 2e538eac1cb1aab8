//! Consumes the queues: what was published ends where it belongs.
//!
//! A log message's way: the queue → `chassis::amqp::consumer`, which takes what is there as a batch → [`log`],
//! which stores it → [`log::decode`], which reads each message → `chassis::rpc::LoggerClient` → the logger. A
//! message is acknowledged after its entry is in the logger's journal; one that can't be read goes to the dead
//! letters.
//!
//! The listener keeps nothing, and any number of replicas may run. Its HTTP port is for health and metrics only.

pub mod config;
pub mod log;

use std::sync::Arc;

use chassis::amqp::{self, Consumer, Flow};
use chassis::health::Health;
use chassis::http::server;
use chassis::lifecycle::Lifecycle;
use chassis::rpc::LoggerClient;
use contracts::topology::Topology;
use tokio::net::TcpListener;

pub use config::Config;

/// Listens where the settings say, and consumes.
pub async fn start(config: Config, lifecycle: Lifecycle) -> anyhow::Result<()> {
    let listener = server::bind(config.common.listen(config.port.get())).await?;
    serve(listener, config, &lifecycle).await
}

/// Consumes, and serves health and metrics on `listener`; neither RabbitMQ nor the logger has to be there yet.
#[expect(clippy::unused_async, reason = "the same for every service, and others do wait")]
pub async fn serve(listener: TcpListener, config: Config, lifecycle: &Lifecycle) -> anyhow::Result<()> {
    let topology = Topology::within(&config.amqp.namespace);
    let flow = Flow { prefetch: config.listener_prefetch.get(), batch: config.listener_batch.get().into() };
    let consumer = Consumer::new(&config.amqp.url, topology.clone(), &topology.log_queue, flow, lifecycle)?;
    let logger = LoggerClient::start(config.logger.logger_rpc_addr, lifecycle);

    let (rabbitmq, asked) = (consumer.standing(), logger.clone());
    let health = Health::new(lifecycle.draining())
        .check(amqp::NAME, move || std::future::ready(rabbitmq.check()))
        .check("the logger", move || {
            let logger = asked.clone();
            async move { logger.check().await }
        });

    let store = Arc::new(log::Store::new(logger, &topology, lifecycle.stopping()));
    let handler = move |context, batch| Arc::clone(&store).store(context, batch);
    lifecycle.spawn("consumer", consumer.run(handler));
    lifecycle.spawn("http", server::serve(listener, health.routes(), lifecycle.stopping()));
    Ok(())
}
