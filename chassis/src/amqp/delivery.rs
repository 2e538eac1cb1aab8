//! What a consumer is given, and what it says of it.

use std::sync::OnceLock;

use chrono::{DateTime, Utc};
use contracts::topology::{Retry, Topology};
use lapin::types::AMQPValue;
use uuid::Uuid;

use super::onward::{ATTEMPTS, EXCHANGE, REPLAY, ROUTING_KEY};
use crate::request::TRACEPARENT;
use crate::trace::TraceContext;

/// The longest name that AMQP has, in bytes: its texts of that kind have one byte for their length.
const MAX_NAME: usize = 255;

/// One message from a queue.
#[derive(Debug)]
pub struct Delivery {
    pub(super) message: lapin::message::Delivery,
    given: OnceLock<Uuid>,
    received_at: DateTime<Utc>,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Its effect is durable: it leaves the queue.
    Done,
    /// It was not worked on: back into the queue. The delivery counts against the queue's limit and comes again at
    /// once, so this is for a consumer that is stopping.
    Requeue,
    /// It could not be worked on, and may be later: it waits there, and comes back.
    Later(Retry),
    /// It never can be: to the dead letters, with the reason.
    Dead(String),
}

impl Disposition {
    /// Whether it is to be elsewhere before it may leave the queue.
    pub(super) fn is_onward(&self) -> bool {
        matches!(self, Self::Later(_) | Self::Dead(_))
    }
}

impl From<lapin::message::Delivery> for Delivery {
    fn from(delivery: lapin::message::Delivery) -> Self {
        Self { message: delivery, given: OnceLock::new(), received_at: Utc::now() }
    }
}

impl Delivery {
    /// The exchange that it was first published to, also where it comes from a wait or from the dead letters; empty
    /// when straight to the queue.
    pub fn exchange(&self) -> &str {
        self.origin(EXCHANGE).unwrap_or(self.message.exchange.as_str())
    }

    /// The routing key that it was first published with.
    pub fn routing_key(&self) -> &str {
        self.origin(ROUTING_KEY).unwrap_or(self.message.routing_key.as_str())
    }

    /// What a header says of where it was first published, where it came straight to the queue.
    fn origin(&self, name: &str) -> Option<&str> {
        if self.message.exchange.as_str().is_empty() { self.name(name) } else { None }
    }

    /// Which attempt this is, from 1: the waits behind it are counted, as [`Disposition::Later`] makes them.
    pub fn attempt(&self) -> u32 {
        let failed = self.number(ATTEMPTS).and_then(|failed| u32::try_from(failed).ok());
        failed.unwrap_or_default().saturating_add(1)
    }

    /// The dead letter that it is a replay of, if it is one.
    pub fn replay(&self) -> Option<Uuid> {
        self.header(REPLAY).and_then(|letter| Uuid::try_parse(letter).ok())
    }

    /// What becomes of it after an attempt that failed: the next wait, or death after the last.
    pub fn later(&self, topology: &Topology, why: &str) -> Disposition {
        let attempt = self.attempt();
        let place = usize::try_from(attempt - 1).unwrap_or(usize::MAX);
        match topology.retries.get(place) {
            Some(retry) => Disposition::Later(retry.clone()),
            None => Disposition::Dead(format!("given up after {attempt} attempts: {why}")),
        }
    }

    /// The content type, if it was given.
    pub fn content_type(&self) -> Option<&str> {
        self.message.properties.content_type().as_ref().map(lapin::types::ShortString::as_str)
    }

    /// The id that its publisher gave it, where it is one.
    pub fn message_id(&self) -> Option<&str> {
        let id = self.message.properties.message_id().as_ref().map(lapin::types::ShortString::as_str);
        id.filter(|id| !id.is_empty())
    }

    /// The id for a message whose publisher gave it none: it is known by it from here on, also after a wait.
    pub fn given_id(&self) -> Uuid {
        *self.given.get_or_init(Uuid::now_v7)
    }

    /// When it came here, this time.
    pub fn received_at(&self) -> DateTime<Utc> {
        self.received_at
    }

    /// When its publisher says that it was made; to the second.
    pub fn timestamp(&self) -> Option<DateTime<Utc>> {
        let seconds = (*self.message.properties.timestamp())?;
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)
    }

    /// A header, where it is a text.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.message.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
            AMQPValue::ShortString(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// A header, where it is as short as names are in AMQP: what goes on with the message has to fit into a frame.
    pub(super) fn name(&self, header: &str) -> Option<&str> {
        self.header(header).filter(|name| name.len() <= MAX_NAME)
    }

    /// The trace that it belongs to, by its header.
    pub fn trace(&self) -> Option<TraceContext> {
        self.header(TRACEPARENT.as_str()).and_then(TraceContext::parse)
    }

    /// How often it has been delivered before this time, as the queue counts: the first time it says nothing, and a header of
    /// that name is its publisher's.
    pub fn redeliveries(&self) -> u64 {
        let counted = self.number("x-delivery-count").filter(|_| self.message.redelivered);
        counted.and_then(|count| u64::try_from(count).ok()).unwrap_or_default()
    }

    /// A header, where it is a whole number.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        match self.message.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongLongInt(number) => Some(*number),
            AMQPValue::LongInt(number) => Some((*number).into()),
            AMQPValue::ShortInt(number) => Some((*number).into()),
            AMQPValue::ShortShortInt(number) => Some((*number).into()),
            AMQPValue::LongUInt(number) => Some((*number).into()),
            AMQPValue::ShortUInt(number) => Some((*number).into()),
            AMQPValue::ShortShortUInt(number) => Some((*number).into()),
            _ => None,
        }
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.message.data
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use lapin::types::FieldTable;

    use super::*;

    #[test]
    fn a_header_is_read_however_its_client_writes_texts_and_numbers() {
        let mut headers = FieldTable::default();
        let texts = [AMQPValue::LongString("x".into()), AMQPValue::ShortString("x".into())];
        let numbers = [
            AMQPValue::LongLongInt(7),
            AMQPValue::LongInt(7),
            AMQPValue::ShortInt(7),
            AMQPValue::ShortShortInt(7),
            AMQPValue::LongUInt(7),
            AMQPValue::ShortUInt(7),
            AMQPValue::ShortShortUInt(7),
        ];
        for (at, value) in texts.iter().chain(&numbers).enumerate() {
            headers.insert(at.to_string().into(), value.clone());
        }
        let mut message = lapin::message::Delivery::mock(1, "".into(), "q".into(), false, Vec::new());
        message.properties = BasicProperties::default().with_headers(headers);
        let delivery = Delivery::from(message);
        for at in 0..texts.len() + numbers.len() {
            let (text, number) = (delivery.header(&at.to_string()), delivery.number(&at.to_string()));
            let expected = if at < texts.len() { (Some("x"), None) } else { (None, Some(7)) };
            assert_eq!((text, number), expected, "{at}");
        }
    }

    #[test]
    fn of_a_first_delivery_no_header_says_that_it_came_before() {
        let delivery = |redelivered| {
            let mut headers = FieldTable::default();
            headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(7));
            let mut message =
                lapin::message::Delivery::mock(1, "".into(), "q".into(), redelivered, Vec::new());
            message.properties = BasicProperties::default().with_headers(headers);
            Delivery::from(message)
        };
        assert_eq!((delivery(false).redeliveries(), delivery(true).redeliveries()), (0, 7));
    }
}
