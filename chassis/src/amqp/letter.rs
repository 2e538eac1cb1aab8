//! A message of the dead queue, read as the [`Letter`] that is kept of it.
//!
//! Most were put there by a consumer, which says why in headers (`super::onward`). The others were put there by the
//! server, because nobody acknowledged them, and have what it says in `x-death`.

use chrono::{DateTime, Utc};
use contracts::dead_letter::{Body, Letter};
use lapin::types::{AMQPValue, FieldTable};
use uuid::Uuid;

use super::Delivery;
use super::onward::{ATTEMPTS, DIED_AT, EXCHANGE, QUEUE, REASON, ROUTING_KEY};
use crate::request::TRACEPARENT;

/// The namespace of the ids of letters.
const LETTERS: Uuid = Uuid::from_u128(0x9f4b_62d0_1e7a_4c39_8d5e_b3c1_70a8_24f6);

/// What the server says of why a message left a queue.
struct Death {
    queue: String,
    exchange: String,
    routing_key: String,
    at: Option<DateTime<Utc>>,
}

impl Delivery {
    /// The letter of a message of the dead queue: delivered again, it is the same, where the message has an id.
    pub fn letter(&self) -> Letter {
        let death = self.death();
        let of = |header, death: Option<&String>| {
            self.name(header).map(str::to_owned).or_else(|| death.cloned()).unwrap_or_default()
        };
        let queue = of(QUEUE, death.as_ref().map(|death| &death.queue));
        let at = self.number(DIED_AT).and_then(DateTime::from_timestamp_millis);
        let died_at = at.or_else(|| death.as_ref()?.at);
        let reason = self.header(REASON).map_or_else(
            || "it was delivered again and again, and never acknowledged: its consumer died of it, or was killed".to_owned(),
            str::to_owned,
        );
        let message_id = self.message_id().map(str::to_owned);
        let attempts = self.number(ATTEMPTS).and_then(|attempts| u32::try_from(attempts).ok());
        Letter {
            id: match &message_id {
                Some(message_id) => letter_id(&queue, message_id, died_at, self.body()),
                // Nothing tells it from another one that died with it: rather two letters of one message than one of two.
                None => self.given_id(),
            },
            action: message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok()),
            exchange: of(EXCHANGE, death.as_ref().map(|death| &death.exchange)),
            routing_key: of(ROUTING_KEY, death.as_ref().map(|death| &death.routing_key)),
            queue,
            reason,
            attempts: attempts.unwrap_or_default(),
            died_at: died_at.unwrap_or(self.received_at()),
            published_at: self.timestamp(),
            message_id,
            content_type: self.content_type().map(str::to_owned),
            traceparent: self.name(TRACEPARENT.as_str()).map(str::to_owned),
            body: Body::of(self.body()),
        }
    }

    /// The last time that the server took it out of a queue: the first in its list.
    fn death(&self) -> Option<Death> {
        let headers = self.message.properties.headers().as_ref()?;
        let AMQPValue::FieldArray(deaths) = headers.inner().get("x-death")? else { return None };
        let AMQPValue::FieldTable(death) = deaths.as_slice().first()? else { return None };
        let keys = match death.inner().get("routing-keys") {
            Some(AMQPValue::FieldArray(keys)) => keys.as_slice().first().and_then(string),
            _ => None,
        };
        let at = match death.inner().get("time") {
            Some(AMQPValue::Timestamp(seconds)) => {
                i64::try_from(*seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0))
            }
            _ => None,
        };
        Some(Death {
            queue: field(death, "queue"),
            exchange: field(death, "exchange"),
            routing_key: keys.unwrap_or_default(),
            at,
        })
    }
}

fn field(table: &FieldTable, name: &str) -> String {
    table.inner().get(name).and_then(string).unwrap_or_default()
}

fn string(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

/// The id of a letter: of one death of one message.
fn letter_id(queue: &str, message_id: &str, at: Option<DateTime<Utc>>, body: &[u8]) -> Uuid {
    let at = at.map(|at| at.timestamp_millis()).unwrap_or_default();
    let head = format!("{queue}\0{message_id}\0{at}\0");
    Uuid::new_v5(&LETTERS, &[head.as_bytes(), body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::BasicProperties;

    fn text(value: &str) -> AMQPValue {
        AMQPValue::LongString(value.into())
    }

    fn table(fields: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
        let mut table = FieldTable::default();
        for (key, value) in fields {
            table.insert(key.into(), value);
        }
        table
    }

    /// What the server makes of a message that nobody acknowledged. The death before, in a retry queue, is older.
    fn died(at: u64, id: &str, body: &[u8]) -> Delivery {
        let death = |queue: &str, exchange: AMQPValue, key: &str, at| {
            AMQPValue::FieldTable(table([
                ("queue", text(queue)),
                ("exchange", exchange),
                ("routing-keys", AMQPValue::FieldArray(vec![text(key)].into())),
                ("time", AMQPValue::Timestamp(at)),
                ("reason", text("delivery_limit")),
            ]))
        };
        let deaths = vec![
            death("the queue", AMQPValue::ShortString("the exchange".into()), "the.key", at),
            death("a retry queue", text("retry"), "the queue", at - 10),
        ];
        let headers = table([("x-death", AMQPValue::FieldArray(deaths.into()))]);
        let mut delivery = lapin::message::Delivery::mock(1, "".into(), "dead".into(), false, body.to_vec());
        delivery.properties = BasicProperties::default()
            .with_message_id(id.into())
            .with_timestamp(1_600_000_000)
            .with_headers(headers);
        Delivery::from(delivery)
    }

    #[test]
    fn what_the_server_put_there_is_told_as_the_server_says_it() {
        let id = Uuid::now_v7().to_string();
        let letter = died(1_700_000_000, &id, b"a body").letter();
        assert_eq!(letter.queue, "the queue");
        assert_eq!(letter.exchange, "the exchange");
        assert_eq!(letter.routing_key, "the.key");
        assert_eq!(letter.died_at.timestamp(), 1_700_000_000);
        assert_eq!(letter.published_at.map(|at| at.timestamp()), Some(1_600_000_000));
        assert_eq!(letter.action.map(|action| action.to_string()), Some(id));
        assert!(letter.reason.contains("never acknowledged"), "{}", letter.reason);
    }

    #[test]
    fn one_death_is_one_letter_and_another_is_another() {
        let first = died(1_700_000_000, "id", b"a body").letter();
        assert_eq!(died(1_700_000_000, "id", b"a body").letter().id, first.id);
        let unknown =
            Delivery::from(lapin::message::Delivery::mock(1, "".into(), "dead".into(), false, vec![]));
        assert_eq!(unknown.letter(), unknown.letter(), "of whose death nothing is known");
        // Nothing tells two messages without an id from each other.
        let nameless = || {
            let mut delivery = died(1_700_000_000, "id", b"a body");
            delivery.message.properties = delivery.message.properties.clone().with_message_id("".into());
            delivery
        };
        assert_ne!(nameless().letter().id, nameless().letter().id);
        // Replayed, and dead again; or another message.
        for other in [
            died(1_700_000_001, "id", b"a body"),
            died(1_700_000_000, "another", b"a body"),
            died(1_700_000_000, "id", b"another body"),
        ] {
            assert_ne!(other.letter().id, first.id);
        }
    }
}
