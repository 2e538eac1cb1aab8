//! How large something is on the wire, so that a batch can be sent in pieces that fit into a frame.

use contracts::dead_letter::Letter;
use contracts::log::Entry;
use contracts::trail::Step;
use serde_json::{Map, Value};

/// The ids, the times, the names of the fields, and what MessagePack puts around them.
const AROUND: usize = 160;
/// The same of what travels with the names of its fields.
const AROUND_NAMED: usize = 512;
/// The most that MessagePack puts in front of a text, a list or an object; a number with its mark is 9.
const HEAD: usize = 5;

/// What the logger is sent many of.
pub(super) trait Weighed: Clone {
    /// At least as many bytes as it takes on the wire.
    fn weight(&self) -> usize;
}

/// Splits a batch into pieces of about `limit` bytes; an item that is larger is a piece of its own.
pub(super) fn pieces<T: Weighed>(items: Vec<T>, limit: usize) -> Vec<Vec<T>> {
    let mut pieces = Vec::new();
    let (mut piece, mut size) = (Vec::new(), 0);
    for item in items {
        let weight = item.weight();
        if size + weight > limit && !piece.is_empty() {
            pieces.push(std::mem::take(&mut piece));
            size = 0;
        }
        size += weight;
        piece.push(item);
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

impl Weighed for Entry {
    fn weight(&self) -> usize {
        AROUND + self.name.len() + self.via.len() + weight(&self.data) + object(&self.fields)
    }
}

impl Weighed for Step {
    fn weight(&self) -> usize {
        AROUND_NAMED + self.service.len() + self.details.why.as_ref().map_or(0, String::len)
    }
}

impl Weighed for Letter {
    fn weight(&self) -> usize {
        let texts = [&self.queue, &self.exchange, &self.routing_key, &self.reason, &self.body.body];
        let others = [&self.message_id, &self.content_type, &self.traceparent];
        let others = others.into_iter().flatten().map(String::len).sum::<usize>();
        AROUND_NAMED + texts.map(String::len).iter().sum::<usize>() + others
    }
}

fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(_) => 9,
        Value::String(text) => HEAD + text.len(),
        Value::Array(items) => HEAD + items.iter().map(weight).sum::<usize>(),
        Value::Object(fields) => object(fields),
    }
}

fn object(fields: &Map<String, Value>) -> usize {
    HEAD + fields.iter().map(|(name, value)| HEAD + name.len() + weight(value)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::log::{Level, LogPayload};
    use serde_json::json;
    use std::pin::Pin;
    use tokio_serde::Serializer as _;
    use tokio_serde::formats::SymmetricalMessagePack;
    use uuid::Uuid;

    fn entry(data: Value) -> Entry {
        let payload = LogPayload { name: "n".into(), data, level: Level::Warning, fields: Map::new() };
        let trace_id = Some("0af7651916cd43dd8448eb211c80319c".to_owned());
        Entry::new(Uuid::now_v7(), payload, "queue", trace_id, chrono::Utc::now())
    }

    #[test]
    fn an_entry_weighs_at_least_what_it_takes_on_the_wire() {
        for data in [
            json!("x"),
            json!(vec![u64::MAX; 100]),
            json!({"a": {"b": [1.5, null, true, "é".repeat(70_000)]}}),
            json!(vec![json!({}); 70_000]),
        ] {
            let entry = entry(data);
            let (bytes, _) = on_the_wire(&entry);
            assert!(entry.weight() >= bytes, "{} < {bytes}", entry.weight());
        }
    }

    #[test]
    fn an_entry_survives_the_wire() {
        let data = json!({"u": u64::MAX, "i": i64::MIN, "f": 0.1, "n": null, "l": [[], {}, "", true]});
        let entry = entry(data);
        assert_eq!(on_the_wire(&entry).1, entry);
    }

    fn on_the_wire<T: serde::Serialize + serde::de::DeserializeOwned + Unpin>(value: &T) -> (usize, T) {
        let mut codec = SymmetricalMessagePack::<T>::default();
        let bytes = Pin::new(&mut codec).serialize(value).unwrap();
        let mut codec = SymmetricalMessagePack::<T>::default();
        let again = tokio_serde::Deserializer::deserialize(Pin::new(&mut codec), &bytes[..].into()).unwrap();
        (bytes.len(), again)
    }

    #[test]
    fn a_step_and_a_letter_survive_the_wire_and_weigh_enough() {
        use contracts::dead_letter::Body;
        use contracts::trail::StepKind;
        let now = chrono::Utc::now();
        let mut step = Step::new(Uuid::now_v7(), "mail", StepKind::Retrying, 3, "listener");
        step.trace_id = Some("0af7651916cd43dd8448eb211c80319c".to_owned());
        (step.details.attempt, step.details.due, step.details.began) = (Some(3), Some(now), Some(now));
        step.details.why = Some("it was not there".repeat(9));
        let letter = Letter {
            id: Uuid::now_v7(),
            action: Some(Uuid::now_v7()),
            queue: "q".into(),
            exchange: "e".into(),
            routing_key: "r".into(),
            reason: "é".repeat(500),
            attempts: 6,
            died_at: now,
            published_at: Some(now),
            message_id: Some("m".repeat(255)),
            content_type: None,
            traceparent: None,
            body: Body::of(&vec![0xff; 100_000]),
        };
        let (bytes, again) = on_the_wire(&step);
        assert!(step.weight() >= bytes, "{} < {bytes}", step.weight());
        assert_eq!(again, step);
        let (bytes, again) = on_the_wire(&letter);
        assert!(letter.weight() >= bytes, "{} < {bytes}", letter.weight());
        assert_eq!(again, letter);
    }

    #[test]
    fn a_batch_is_split_in_its_order_and_nothing_is_left_out() {
        let entries: Vec<_> = (0..10).map(|i| entry(json!("x".repeat(i * 100)))).collect();
        let pieces = pieces(entries.clone(), 1500);
        assert!(pieces.len() > 2);
        for piece in &pieces {
            assert!(piece.len() == 1 || piece.iter().map(Weighed::weight).sum::<usize>() <= 1500);
        }
        assert_eq!(pieces.concat(), entries);
        assert!(super::pieces::<Entry>(Vec::new(), 1500).is_empty());
    }
}
