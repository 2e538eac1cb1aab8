//! What a consumer is given, and what it says of it.

use chrono::{DateTime, Utc};
use lapin::types::AMQPValue;

use crate::request::TRACEPARENT;
use crate::trace::TraceContext;

/// One message from a queue.
#[derive(Debug)]
pub struct Delivery(pub(super) lapin::message::Delivery);

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Its effect is durable: it leaves the queue.
    Done,
    /// It could not be worked on, and may be later: back into the queue. The delivery counts against the
    /// queue's limit and comes again at once, so this is for a consumer that is stopping.
    Retry,
    /// It never can be: to the dead letters, with the reason.
    Dead(String),
}

impl From<lapin::message::Delivery> for Delivery {
    fn from(delivery: lapin::message::Delivery) -> Self {
        Self(delivery)
    }
}

impl Delivery {
    /// The exchange that it was published to; empty when straight to the queue.
    pub fn exchange(&self) -> &str {
        self.0.exchange.as_str()
    }

    /// The routing key that it was published with.
    pub fn routing_key(&self) -> &str {
        self.0.routing_key.as_str()
    }

    /// The content type, if it was given.
    pub fn content_type(&self) -> Option<&str> {
        self.0.properties.content_type().as_ref().map(lapin::types::ShortString::as_str)
    }

    /// The id that its publisher gave it.
    pub fn message_id(&self) -> Option<&str> {
        self.0.properties.message_id().as_ref().map(lapin::types::ShortString::as_str)
    }

    /// When its publisher says that it was made; to the second.
    pub fn timestamp(&self) -> Option<DateTime<Utc>> {
        let seconds = (*self.0.properties.timestamp())?;
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)
    }

    /// A header, where it is a text.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.0.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
            AMQPValue::ShortString(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// The trace that it belongs to, by its header.
    pub fn trace(&self) -> Option<TraceContext> {
        self.header(TRACEPARENT.as_str()).and_then(TraceContext::parse)
    }

    /// How often it has been delivered before this time, as the queue counts.
    pub fn redeliveries(&self) -> u64 {
        let count =
            self.0.properties.headers().as_ref().and_then(|headers| headers.inner().get("x-delivery-count"));
        match count {
            Some(AMQPValue::LongLongInt(count)) => u64::try_from(*count).unwrap_or_default(),
            Some(AMQPValue::LongInt(count)) => u64::try_from(*count).unwrap_or_default(),
            Some(AMQPValue::ShortInt(count)) => u64::try_from(*count).unwrap_or_default(),
            Some(AMQPValue::ShortShortInt(count)) => u64::try_from(*count).unwrap_or_default(),
            Some(AMQPValue::LongUInt(count)) => u64::from(*count),
            Some(AMQPValue::ShortUInt(count)) => u64::from(*count),
            Some(AMQPValue::ShortShortUInt(count)) => u64::from(*count),
            _ => 0,
        }
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.0.data
    }
}
