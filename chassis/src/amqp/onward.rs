//! The ways of a message that could not be worked on: to a wait, to the dead letters, and back into its queue.
//!
//! The body, the message id and the headers stay as they were, and a message without an id gets one; where it came from
//! and what is known about the failure is added in headers of its own. It is confirmed where it goes before its delivery
//! is acknowledged, so that one that is lost on the way is still in its queue.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use contracts::dead_letter::{Letter, event_id};
use contracts::topology::{Retry, Topology};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use secrecy::SecretString;
use tokio::sync::OnceCell;

use super::confirm::Message;
use super::publisher::{PublishError, Publisher};
use super::server::{InvalidUrl, Server};
use super::{Delivery, topology};
use crate::lifecycle::Lifecycle;
use crate::request::TRACEPARENT;

/// Header: why it could not be worked on.
pub const REASON: &str = "x-reason";
/// Header: how many attempts have failed.
pub const ATTEMPTS: &str = "x-attempts";
/// Header: the queue that it died in.
pub const QUEUE: &str = "x-queue";
/// Header: the exchange that it was published to.
pub const EXCHANGE: &str = "x-exchange";
/// Header: the routing key that it was published with.
pub const ROUTING_KEY: &str = "x-routing-key";
/// Header: the dead letter that it is a replay of.
pub const REPLAY: &str = "x-replay";
/// Header: when it died, in milliseconds since 1970.
pub const DIED_AT: &str = "x-died-at";

/// The longest reason that is kept, in bytes.
const MAX_REASON: usize = 1024;
/// How much of its own headers a message keeps, in bytes: they share one frame with what is added.
const MAX_HEADERS: usize = 4096;
/// What a message does not keep: the first two would send it to further queues, and the others are the server's
/// own, of the queue that it leaves.
const LEFT_BEHIND: [&str; 3] = ["CC", "BCC", "x-delivery-count"];

/// The way onward of the messages of a process. It connects with the first of them: most processes never have one.
/// Clones share it.
#[derive(Clone, Debug)]
pub struct Onward(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    server: Server,
    topology: Topology,
    lifecycle: Lifecycle,
    publisher: OnceCell<Publisher>,
}

impl Onward {
    /// `url` is the setting `RABBITMQ_URL`. Nothing is connected yet.
    pub fn new(url: &SecretString, topology: Topology, lifecycle: &Lifecycle) -> Result<Self, InvalidUrl> {
        let (server, lifecycle) = (Server::parse(url)?, lifecycle.clone());
        Ok(Self(Arc::new(Inner { server, topology, lifecycle, publisher: OnceCell::new() })))
    }

    /// The names on the server.
    pub fn topology(&self) -> &Topology {
        &self.0.topology
    }

    /// What publishes.
    pub async fn publisher(&self) -> &Publisher {
        let Inner { server, topology, lifecycle, publisher } = &*self.0;
        publisher.get_or_init(async || Publisher::on(server, topology.clone(), lifecycle)).await
    }

    /// Keeps `delivery`, which came from `queue`, with the dead letters; one that comes from there goes to those that
    /// nobody can read. `Ok` once it is confirmed; told again with the same time it is the same letter.
    pub(super) async fn bury(
        &self,
        queue: &str,
        delivery: &Delivery,
        reason: &str,
        died_at: DateTime<Utc>,
    ) -> Result<(), PublishError> {
        let mut headers = headers(delivery);
        let attempts = u64::from(delivery.attempt()).saturating_add(delivery.redeliveries());
        let attempts = i64::try_from(attempts).unwrap_or(i64::MAX);
        headers.insert(REASON.into(), text(&reason[..reason.floor_char_boundary(MAX_REASON)]));
        headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(attempts));
        headers.insert(QUEUE.into(), text(queue));
        headers.insert(DIED_AT.into(), AMQPValue::LongLongInt(died_at.timestamp_millis()));
        let Topology { dead_queue, unreadable_queue, .. } = &self.0.topology;
        let grave = if queue == dead_queue { unreadable_queue } else { dead_queue };
        self.pass("", grave, headers, delivery).await
    }

    /// Lets `delivery`, which came from `queue`, wait and return there. `Ok` once it is confirmed.
    pub(super) async fn wait(
        &self,
        queue: &str,
        delivery: &Delivery,
        retry: &Retry,
    ) -> Result<(), PublishError> {
        let mut headers = headers(delivery);
        headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(delivery.attempt().into()));
        self.pass(&retry.name, queue, headers, delivery).await
    }

    async fn pass(
        &self,
        exchange: &str,
        routing_key: &str,
        headers: FieldTable,
        delivery: &Delivery,
    ) -> Result<(), PublishError> {
        let (exchange, routing_key) = (short(exchange)?, short(routing_key)?);
        let mut properties = properties(&delivery.message.properties).with_headers(headers);
        if delivery.message_id().is_none() {
            let id = event_id(delivery.body()).unwrap_or_else(|| delivery.given_id());
            properties = properties.with_message_id(id.to_string().into());
        }
        let body = delivery.body().to_vec();
        self.publisher().await.confirmed(Message { exchange, routing_key, properties, body }).await
    }
}

impl Publisher {
    /// Puts a dead letter back into the queue that it came from, with this body and its own id, as if nothing had
    /// been tried yet. `Ok` once it is confirmed. Replayed twice, it has one effect.
    pub async fn replay(&self, letter: &Letter, body: Vec<u8>) -> Result<(), PublishError> {
        let mut headers = FieldTable::default();
        headers.insert(EXCHANGE.into(), text(&letter.exchange));
        headers.insert(ROUTING_KEY.into(), text(&letter.routing_key));
        headers.insert(REPLAY.into(), text(&letter.id.to_string()));
        if let Some(traceparent) = &letter.traceparent {
            headers.insert(TRACEPARENT.as_str().into(), text(traceparent));
        }
        let id = letter.message_id_of(&body);
        let mut properties = BasicProperties::default().with_headers(headers).with_message_id(short(&id)?);
        if let Some(content_type) = &letter.content_type {
            properties = properties.with_content_type(short(content_type)?);
        }
        if let Some(seconds) = letter.published_at.and_then(|at| u64::try_from(at.timestamp()).ok()) {
            properties = properties.with_timestamp(seconds);
        }
        let routing_key = short(&letter.queue)?;
        self.confirmed(Message { exchange: "".into(), routing_key, properties, body }).await
    }
}

fn short(name: &str) -> Result<ShortString, PublishError> {
    topology::short(name).map_err(|error| PublishError::Unwritable(error.to_string()))
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// The headers of a delivery, with where it was first published.
fn headers(delivery: &Delivery) -> FieldTable {
    let mut headers = FieldTable::default();
    let mut room = MAX_HEADERS;
    for (key, value) in delivery.message.properties.headers().iter().flatten() {
        let size = field(key, value);
        if !LEFT_BEHIND.contains(&key.as_str()) && size <= room {
            room -= size;
            headers.insert(key.clone(), value.clone());
        }
    }
    headers.insert(EXCHANGE.into(), text(delivery.exchange()));
    headers.insert(ROUTING_KEY.into(), text(delivery.routing_key()));
    headers
}

/// The properties but the headers, made anew: a `user-id` of another user would be refused, and an `expiration`
/// would lose the message.
fn properties(original: &BasicProperties) -> BasicProperties {
    let mut properties = BasicProperties::default();
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

/// How many bytes a field of a table takes: the length of its name, the name, and the value.
fn field(name: &ShortString, value: &AMQPValue) -> usize {
    1 + name.as_str().len() + size(value)
}

/// How many bytes a value takes at most (AMQP 0-9-1, 4.2.5): its kind, and what it is, with a length in front where it has
/// one.
fn size(value: &AMQPValue) -> usize {
    1 + match value {
        AMQPValue::LongString(text) => 4 + text.as_bytes().len(),
        AMQPValue::ShortString(text) => 1 + text.as_str().len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.len(),
        AMQPValue::FieldTable(table) => {
            4 + table.inner().iter().map(|(name, value)| field(name, value)).sum::<usize>()
        }
        AMQPValue::FieldArray(values) => 4 + values.as_slice().iter().map(size).sum::<usize>(),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(headers: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> Delivery {
        let mut table = FieldTable::default();
        for (key, value) in headers {
            table.insert(key.into(), value);
        }
        let mut delivery =
            lapin::message::Delivery::mock(1, "an exchange".into(), "a.key".into(), false, Vec::new());
        delivery.properties = BasicProperties::default().with_headers(table);
        Delivery::from(delivery)
    }

    /// Which of these headers go on, beside the two of the origin.
    fn kept(given: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> Vec<String> {
        let headers = headers(&delivery(given));
        let names = headers.inner().keys().map(ToString::to_string);
        names.filter(|name| name != EXCHANGE && name != ROUTING_KEY).collect()
    }

    const TRACE: &str = "traceparent";

    fn long(bytes: usize) -> AMQPValue {
        AMQPValue::LongString("x".repeat(bytes).into())
    }

    #[test]
    fn what_is_too_long_to_be_the_name_of_where_it_came_from_is_none() {
        let mut straight = delivery([
            (EXCHANGE, long(4000)),
            (ROUTING_KEY, long(255)),
            (QUEUE, long(4000)),
            (TRACE, long(4000)),
        ]);
        straight.message.exchange = "".into();
        let kept = headers(&straight);
        assert_eq!(kept.inner()[EXCHANGE], text(""));
        assert_eq!(kept.inner()[ROUTING_KEY], long(255));
        let letter = straight.letter();
        assert_eq!((letter.exchange.len(), letter.routing_key.len(), letter.queue.len()), (0, 255, 0));
        assert_eq!(letter.traceparent, None);
    }

    #[test]
    fn a_message_keeps_as_many_of_its_headers_as_leave_room_for_the_reason() {
        // With a name of one letter a text takes seven bytes more than it has.
        assert_eq!(kept([("a", long(MAX_HEADERS - 7))]), ["a"]);
        assert!(kept([("a", long(MAX_HEADERS - 6))]).is_empty());
        assert_eq!(kept([("a", long(MAX_HEADERS / 2)), ("b", long(MAX_HEADERS / 2 - 14))]), ["a", "b"]);
        assert_eq!(kept([("a", long(MAX_HEADERS / 2)), ("b", long(MAX_HEADERS / 2 - 13))]), ["a"]);
        // A small one is kept though a large one before it was not.
        assert_eq!(kept([("a", long(MAX_HEADERS)), ("b", long(1))]), ["b"]);
        // A list of nothing is not small.
        assert!(kept([("a", AMQPValue::FieldArray(vec![long(0); MAX_HEADERS / 5].into()))]).is_empty());
    }

    #[test]
    fn what_would_send_it_elsewhere_or_was_the_servers_own_is_left_behind() {
        let given = [("CC", long(1)), ("BCC", long(1)), ("x-delivery-count", AMQPValue::LongLongInt(7))];
        assert!(kept(given).is_empty());
        assert_eq!(kept([("x-delivery", long(1))]), ["x-delivery"]);
    }

    #[test]
    fn a_header_counts_with_all_that_is_in_it() {
        let mut table = FieldTable::default();
        table.insert("abc".into(), long(20));
        table.insert("de".into(), AMQPValue::Boolean(true));
        for (value, bytes) in [
            (long(300), 5 + 300),
            (AMQPValue::ShortString("x".repeat(200).into()), 2 + 200),
            (AMQPValue::ByteArray(vec![0; 100].into()), 5 + 100),
            (AMQPValue::LongLongInt(1), 9),
            (AMQPValue::FieldArray(vec![long(30), long(4)].into()), 5 + 35 + 9),
            (AMQPValue::FieldTable(table), 5 + (4 + 25) + (3 + 9)),
        ] {
            assert_eq!(size(&value), bytes, "{value:?}");
        }
    }
}
