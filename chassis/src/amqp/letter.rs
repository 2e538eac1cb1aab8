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
    /// The letter of a message of the dead queue: delivered again, it is the same.
    pub fn letter(&self) -> Letter {
        let death = self.death();
        let of = |header, death: Option<&String>| {
            self.header(header).map(str::to_owned).or_else(|| death.cloned()).unwrap_or_default()
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
            id: letter_id(&queue, message_id.as_deref(), died_at, self.body()),
            action: message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok()),
            exchange: of(EXCHANGE, death.as_ref().map(|death| &death.exchange)),
            routing_key: of(ROUTING_KEY, death.as_ref().map(|death| &death.routing_key)),
            queue,
            reason,
            attempts: attempts.unwrap_or_default(),
            died_at: died_at.unwrap_or_else(Utc::now),
            message_id,
            content_type: self.content_type().map(str::to_owned),
            traceparent: self.header(TRACEPARENT.as_str()).map(str::to_owned),
            body: Body::of(self.body()),
        }
    }

    /// The last time that the server took it out of a queue: the first in its list.
    fn death(&self) -> Option<Death> {
        let headers = self.0.properties.headers().as_ref()?;
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
fn letter_id(queue: &str, message_id: Option<&str>, at: Option<DateTime<Utc>>, body: &[u8]) -> Uuid {
    let at = at.map(|at| at.timestamp_millis()).unwrap_or_default();
    let head = format!("{queue}\0{}\0{at}\0", message_id.unwrap_or_default());
    Uuid::new_v5(&LETTERS, &[head.as_bytes(), body].concat())
}
