//! Names on RabbitMQ that a test leaves as little of as it can.

use std::time::Duration;

use contracts::topology::Topology;
use lapin::options::{ExchangeDeleteOptions, QueuePurgeOptions};
use lapin::{Connection, ConnectionProperties};

use crate::{eventually, setting};

/// Removes every exchange of a topology of the test's own, and what is in its queues.
///
/// The queues stay: of one that is deleted soon after it was declared, the process that dead-letters may not have begun
/// yet, and takes those of all other queues along when it finds nothing (RabbitMQ's issue 16652; a restart mends it).
/// `dev/test` begins with a RabbitMQ that has none.
pub async fn clean(topology: &Topology) {
    // RabbitMQ closes the connection that purges a queue which a service is just declaring.
    eventually(Duration::from_secs(10), "the topology can be cleaned", || async {
        try_clean(topology).await.map_err(|error| error.to_string())
    })
    .await;
}

async fn try_clean(topology: &Topology) -> lapin::Result<()> {
    let connection = Connection::connect(&setting("RABBITMQ_URL"), ConnectionProperties::default()).await?;
    let retries = topology.retries.iter().map(|retry| &retry.name);
    let queues = [&topology.log_queue, &topology.mail_queue, &topology.trail_queue];
    let queues = queues.into_iter().chain([&topology.dead_queue, &topology.unreadable_queue]);
    for queue in queues.chain(retries.clone()) {
        // One that is not there closes the channel.
        let channel = connection.create_channel().await?;
        let _ = channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await;
    }
    let channel = connection.create_channel().await?;
    for exchange in [&topology.events, &topology.logs_topic].into_iter().chain(retries) {
        channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await?;
    }
    connection.close(200, "".into()).await
}
