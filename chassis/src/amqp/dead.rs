//! Dead letters: what can't be worked on is kept, with the reason, where people find it.
//!
//! The body, the message id and the headers stay as they were; what is known about the failure is added in
//! headers of its own. The letter is confirmed before its delivery is acknowledged, so that one that is lost
//! on the way is still in its queue.

use chrono::Utc;
use contracts::topology::Topology;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::OnceCell;

use super::confirm::Message;
use super::publisher::{PublishError, Publisher};
use super::server::Server;
use super::{Delivery, topology};
use crate::lifecycle::Lifecycle;

/// Header: why it could not be worked on.
pub const REASON: &str = "x-reason";
/// Header: how often it was delivered.
pub const ATTEMPTS: &str = "x-attempts";
/// Header: the queue that it died in.
pub const QUEUE: &str = "x-queue";
/// Header: the exchange that it was published to.
pub const EXCHANGE: &str = "x-exchange";
/// Header: the routing key that it was published with.
pub const ROUTING_KEY: &str = "x-routing-key";
/// Header: when it died, in milliseconds since 1970.
pub const DIED_AT: &str = "x-died-at";

/// The longest reason that is kept, in bytes.
const MAX_REASON: usize = 1024;
/// How much of its own headers a letter keeps, in bytes: they share one frame with what is added.
const MAX_HEADERS: usize = 4096;

/// Where dead letters go. It connects with the first of them: most processes never have one.
#[derive(Debug)]
pub(super) struct DeadLetters {
    server: Server,
    topology: Topology,
    lifecycle: Lifecycle,
    publisher: OnceCell<Publisher>,
}

impl DeadLetters {
    pub(super) fn new(server: Server, topology: Topology, lifecycle: Lifecycle) -> Self {
        Self { server, topology, lifecycle, publisher: OnceCell::new() }
    }

    /// Keeps `delivery`, which came from `queue`. `Ok` once it is confirmed.
    pub(super) async fn bury(
        &self,
        queue: &str,
        delivery: &Delivery,
        reason: &str,
    ) -> Result<(), PublishError> {
        let start = async || Publisher::on(&self.server, self.topology.clone(), &self.lifecycle);
        let publisher = self.publisher.get_or_init(start).await;
        let routing_key = topology::short(&self.topology.dead_queue)
            .map_err(|error| PublishError::Unwritable(error.to_string()))?;
        let properties = properties(queue, delivery, reason);
        let body = delivery.body().to_vec();
        publisher.confirmed(Message { exchange: "".into(), routing_key, properties, body }).await
    }
}

fn properties(queue: &str, delivery: &Delivery, reason: &str) -> BasicProperties {
    let original = &delivery.0.properties;
    let mut headers = FieldTable::default();
    let mut room = MAX_HEADERS;
    for (key, value) in original.headers().iter().flatten() {
        let size = key.as_str().len() + size(value);
        // The first two would send it to further queues.
        if !matches!(key.as_str(), "CC" | "BCC") && size <= room {
            room -= size;
            headers.insert(key.clone(), value.clone());
        }
    }
    let text = |text: &str| AMQPValue::LongString(text.into());
    let attempts = i64::try_from(delivery.redeliveries()).unwrap_or(i64::MAX).saturating_add(1);
    headers.insert(REASON.into(), text(&reason[..reason.floor_char_boundary(MAX_REASON)]));
    headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(attempts));
    headers.insert(QUEUE.into(), text(queue));
    headers.insert(EXCHANGE.into(), text(delivery.exchange()));
    headers.insert(ROUTING_KEY.into(), text(delivery.routing_key()));
    headers.insert(DIED_AT.into(), AMQPValue::LongLongInt(Utc::now().timestamp_millis()));

    // Made anew: a `user-id` of another user would be refused, and an `expiration` would lose the letter.
    let mut properties = BasicProperties::default().with_headers(headers);
    if let Some(value) = original.content_type() {
        properties = properties.with_content_type(value.clone());
    }
    if let Some(value) = original.content_encoding() {
        properties = properties.with_content_encoding(value.clone());
    }
    if let Some(value) = original.message_id() {
        properties = properties.with_message_id(value.clone());
    }
    if let Some(value) = original.timestamp() {
        properties = properties.with_timestamp(*value);
    }
    if let Some(value) = original.correlation_id() {
        properties = properties.with_correlation_id(value.clone());
    }
    if let Some(value) = original.kind() {
        properties = properties.with_type(value.clone());
    }
    if let Some(value) = original.app_id() {
        properties = properties.with_app_id(value.clone());
    }
    properties
}

/// About how many bytes a value takes.
fn size(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::LongString(text) => text.as_bytes().len(),
        AMQPValue::ShortString(text) => text.as_str().len(),
        AMQPValue::ByteArray(bytes) => bytes.len(),
        AMQPValue::FieldTable(table) => {
            table.inner().iter().map(|(key, value)| key.as_str().len() + size(value)).sum()
        }
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(size).sum(),
        _ => 16,
    }
}
