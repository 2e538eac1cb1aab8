//! Names on RabbitMQ that a test leaves nothing of.

use contracts::topology::Topology;
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Connection, ConnectionProperties};

use crate::setting;

/// Removes every exchange and queue of a topology of the test's own.
pub async fn clean(topology: &Topology) {
    let connection = Connection::connect(&setting("RABBITMQ_URL"), ConnectionProperties::default())
        .await
        .expect("RabbitMQ is there");
    let channel = connection.create_channel().await.expect("a channel");
    let retries = topology.retries.iter().map(|retry| &retry.name);
    let queues = [&topology.log_queue, &topology.mail_queue, &topology.trail_queue];
    let queues = queues.into_iter().chain([&topology.dead_queue, &topology.unreadable_queue]);
    for queue in queues.chain(retries.clone()) {
        let options = QueueDeleteOptions::default();
        channel.queue_delete(queue.as_str().into(), options).await.expect("the queue can be deleted");
    }
    for exchange in [&topology.events, &topology.logs_topic].into_iter().chain(retries) {
        let options = ExchangeDeleteOptions::default();
        channel
            .exchange_delete(exchange.as_str().into(), options)
            .await
            .expect("the exchange can be deleted");
    }
    connection.close(200, "".into()).await.expect("the connection can be closed");
}
