//! The log queue: each message is an entry of the log, which the logger keeps ([`crate::store`]).
//!
//! It is a CloudEvent, or, as existing publishers of systems of this kind send it, a bare `{"name","data"}`
//! whose level is in the routing key: `log.INFO`. Both are checked as the broker checks what it is asked to log.

use chassis::amqp::Delivery;
use chassis::request::RequestContext;
use chassis::rpc::LoggerClient;
use chassis::trace::TraceContext;
use contracts::event::{CONTENT_TYPE, CloudEvent};
use contracts::log::{self, Entry, Level, LogPayload};
use contracts::topology::Retry;
use contracts::trail::Step;
use contracts::validation::Violations;
use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use crate::retrying;
use crate::store::{Keep, Outcomes};

/// How the entries of this service came in.
const VIA: &str = "queue";
/// The largest body that is read, in bytes. What the broker takes is at most 1 MiB, and grows when it is written again.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Why a message can't become an entry, now or later.
#[derive(Debug, Error)]
enum DecodeError {
    /// The body is too large.
    #[error("the body has {0} bytes, more than {MAX_BODY}")]
    TooLarge(usize),
    /// The body is not a CloudEvent.
    #[error("the body is not a CloudEvent: {0}")]
    Event(serde_json::Error),
    /// The body is not JSON.
    #[error("the body is not JSON: {0}")]
    Json(serde_json::Error),
    /// What is to be logged is not valid.
    #[error("{0}")]
    Invalid(#[from] Violations),
}

/// The messages of the log queue.
#[derive(Debug)]
pub(crate) struct Log {
    /// The exchange of the CloudEvents.
    pub(crate) events: String,
}

impl Keep for Log {
    type Item = Entry;

    fn read(&self, delivery: &Delivery) -> Result<Entry, String> {
        decode(delivery, &self.events).map_err(|error| error.to_string())
    }

    async fn send(&self, logger: &LoggerClient, context: &RequestContext, entries: Vec<Entry>) -> Outcomes {
        logger.append_all(context, entries).await
    }

    fn retrying(&self, entry: &Entry, delivery: &Delivery, why: String, retry: &Retry) -> Option<Step> {
        let step = retrying::step(entry.id, "log", delivery, why, retry);
        Some(Step { trace_id: entry.trace_id.clone(), ..step })
    }
}

/// The entry of a message. It is a CloudEvent where its content type says so, or where it came by the exchange
/// of the `events`.
fn decode(delivery: &Delivery, events: &str) -> Result<Entry, DecodeError> {
    let body = delivery.body();
    if body.len() > MAX_BODY {
        return Err(DecodeError::TooLarge(body.len()));
    }
    let typed = delivery.content_type().is_some_and(|given| given.starts_with(CONTENT_TYPE));
    if typed || delivery.exchange() == events { event(delivery) } else { bare(delivery) }
}

fn event(delivery: &Delivery) -> Result<Entry, DecodeError> {
    let event: CloudEvent<Value> = serde_json::from_slice(delivery.body()).map_err(DecodeError::Event)?;
    let payload = payload(delivery, event.data)?;
    let trace = event.traceparent.as_deref().and_then(TraceContext::parse).or_else(|| delivery.trace());
    Ok(Entry::new(event.id, payload, VIA, trace.map(TraceContext::trace_id_hex), event.time))
}

fn bare(delivery: &Delivery) -> Result<Entry, DecodeError> {
    let body = serde_json::from_slice(delivery.body()).map_err(DecodeError::Json)?;
    let payload = payload(delivery, body)?;
    let at = delivery.timestamp().unwrap_or(delivery.received_at());
    let trace_id = delivery.trace().map(TraceContext::trace_id_hex);
    Ok(Entry::new(bare_id(delivery), payload, VIA, trace_id, at))
}

/// The payload; the level that it does not name is that of the routing key.
fn payload(delivery: &Delivery, mut data: Value) -> Result<LogPayload, Violations> {
    let level = delivery.routing_key().rsplit('.').next().and_then(Level::parse);
    if let (Value::Object(object), Some(level)) = (&mut data, level)
        && object.get("level").is_none_or(Value::is_null)
    {
        object.insert("level".to_owned(), level.as_str().into());
    }
    LogPayload::parse(data)
}

/// The id of a bare message. Delivered again it has the same one if its publisher gave it a message id. Without one it gets
/// one here; where it is published again, or delivered again before it was passed on, nothing tells it from a new one.
fn bare_id(delivery: &Delivery) -> Uuid {
    match delivery.message_id() {
        None => delivery.given_id(),
        Some(id) => log::bare_id(id, delivery.body()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};
    use contracts::topology::log_key;
    use lapin::BasicProperties;
    use lapin::types::{AMQPValue, FieldTable};
    use serde_json::json;

    const EVENTS: &str = "switchboard.events";
    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn delivery(
        exchange: &str,
        key: &str,
        properties: BasicProperties,
        body: impl Into<Vec<u8>>,
    ) -> Delivery {
        let mut delivery = lapin::message::Delivery::mock(1, exchange.into(), key.into(), false, body.into());
        delivery.properties = properties;
        delivery.into()
    }

    fn bare(key: &str, properties: BasicProperties, body: &Value) -> Result<Entry, DecodeError> {
        decode(&delivery("logs_topic", key, properties, body.to_string()), EVENTS)
    }

    #[test]
    fn an_event_keeps_its_id_time_and_trace() {
        let payload = LogPayload::parse(json!({"name": "n", "data": 1, "level": "error"})).unwrap();
        let mut event =
            CloudEvent::new(Uuid::now_v7(), "test", log_key(Level::Error), Utc::now(), payload.clone());
        event.traceparent = Some(TRACEPARENT.to_owned());
        let body = serde_json::to_vec(&event).unwrap();
        let entry = decode(&delivery(EVENTS, "log.error", BasicProperties::default(), body), EVENTS).unwrap();
        let trace_id = Some("0af7651916cd43dd8448eb211c80319c".to_owned());
        assert_eq!(entry, Entry::new(event.id, payload, "queue", trace_id, event.time));
    }

    #[test]
    fn an_event_is_known_by_its_content_type_wherever_it_comes_from() {
        let event =
            CloudEvent::new(Uuid::now_v7(), "test", "log.info", Utc::now(), json!({"name": "n", "data": 1}));
        let body = serde_json::to_vec(&event).unwrap();
        let properties =
            BasicProperties::default().with_content_type(format!("{CONTENT_TYPE}; charset=utf-8").into());
        let entry = decode(&delivery("", "switchboard.log", properties, body), EVENTS).unwrap();
        assert_eq!((entry.id, entry.level), (event.id, Level::Info));
    }

    #[test]
    fn a_bare_message_has_its_level_in_the_routing_key_unless_it_names_one() {
        for (key, level, expected) in [
            ("log.INFO", json!(null), Level::Info),
            ("log.WARNING", json!(null), Level::Warning),
            ("log.ERROR", json!(null), Level::Error),
            ("log.DEBUG", json!(null), Level::Info),
            ("log.ERROR", json!("warning"), Level::Warning),
        ] {
            let entry =
                bare(key, BasicProperties::default(), &json!({"name": "n", "data": "d", "level": level}));
            let entry = entry.unwrap();
            assert_eq!((entry.level, entry.via.as_str()), (expected, "queue"), "{key}");
        }
    }

    #[test]
    fn the_id_of_a_bare_message_is_the_same_when_it_comes_again() {
        let body = json!({"name": "n", "data": "d"});
        let id = |message_id: &str, body: &Value| {
            bare("log.INFO", BasicProperties::default().with_message_id(message_id.into()), body).unwrap().id
        };
        let uuid = Uuid::now_v7();
        assert_eq!(id(&uuid.to_string(), &body), uuid);
        assert_eq!(id("1", &body), id("1", &body));
        assert_ne!(id("1", &body), id("2", &body));
        assert_ne!(
            id("1", &body),
            id("1", &json!({"name": "n", "data": "other"})),
            "a counter that began again"
        );
        assert_ne!(id("", &body), id("", &body), "nothing to tell them from each other");
    }

    #[test]
    fn a_message_that_is_read_again_is_the_same_entry() {
        let body = json!({"name": "n", "data": "d"}).to_string();
        let delivery = delivery("logs_topic", "log.INFO", BasicProperties::default(), body);
        assert_eq!(decode(&delivery, EVENTS).unwrap(), decode(&delivery, EVENTS).unwrap());
    }

    #[test]
    fn a_bare_message_has_time_and_trace_from_its_properties() {
        let mut headers = FieldTable::default();
        headers.insert("traceparent".into(), AMQPValue::LongString(TRACEPARENT.into()));
        let properties = BasicProperties::default().with_timestamp(1_767_323_045).with_headers(headers);
        let entry = bare("log.INFO", properties, &json!({"name": "n", "data": "d"})).unwrap();
        assert_eq!(entry.at, DateTime::from_timestamp(1_767_323_045, 0).unwrap());
        assert_eq!(entry.trace_id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
        let entry = bare("log.INFO", BasicProperties::default(), &json!({"name": "n", "data": "d"})).unwrap();
        assert!((Utc::now() - entry.at).num_seconds() < 60 && entry.trace_id.is_none());
    }

    #[test]
    fn what_can_not_be_an_entry_says_why() {
        let of = |exchange, body: &[u8]| {
            let delivery = delivery(exchange, "log.INFO", BasicProperties::default(), body);
            decode(&delivery, EVENTS).unwrap_err().to_string()
        };
        let deep = [vec![b'['; 1000], vec![b']'; 1000]].concat();
        for (exchange, body, reason) in [
            ("logs_topic", &b""[..], "the body is not JSON: EOF"),
            ("logs_topic", b"\xff\xfe", "the body is not JSON: "),
            ("logs_topic", b"{} {}", "the body is not JSON: trailing characters"),
            ("logs_topic", &deep, "the body is not JSON: recursion limit"),
            ("logs_topic", b"[1]", "log must be an object"),
            ("logs_topic", b"{\"name\":\"\"}", "name must not be empty; data is required"),
            (EVENTS, b"{\"name\":\"n\",\"data\":1}", "the body is not a CloudEvent: missing field"),
            (EVENTS, b"no", "the body is not a CloudEvent: "),
            (EVENTS, &vec![b' '; MAX_BODY + 1], "the body has 4194305 bytes"),
        ] {
            let said = of(exchange, body);
            assert!(said.starts_with(reason), "{said} instead of {reason}");
        }
    }
}
