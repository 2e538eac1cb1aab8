//! A publisher that is none of the system's own.

use std::time::{Duration, SystemTime};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use testkit::setting;
use uuid::Uuid;

/// Publishes a persistent message with this message id, and the time; returns when RabbitMQ has confirmed it.
pub async fn publish(exchange: &str, routing_key: &str, id: Uuid, body: &[u8]) {
    let connection = Connection::connect(&setting("RABBITMQ_URL"), ConnectionProperties::default()).await;
    let channel = connection.expect("RabbitMQ is there").create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO).as_secs();
    let properties = BasicProperties::default()
        .with_message_id(id.to_string().into())
        .with_timestamp(now)
        .with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish(exchange.into(), routing_key.into(), options, body, properties);
    let confirmed = sent.await.expect("it can be published").await.expect("RabbitMQ answers");
    assert!(confirmed.is_ack(), "{confirmed:?}");
}
