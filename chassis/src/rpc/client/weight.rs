//! How large an entry is on the wire, so that a batch can be sent in pieces that fit into a frame.

use contracts::log::Entry;
use serde_json::{Map, Value};

/// The id, the level, the time, the trace id, and what MessagePack puts around them.
const AROUND: usize = 160;
/// The most that MessagePack puts in front of a text, a list or an object; a number with its mark is 9.
const HEAD: usize = 5;

/// Splits a batch into pieces of about `limit` bytes; an entry that is larger is a piece of its own.
pub(super) fn pieces(entries: Vec<Entry>, limit: usize) -> Vec<Vec<Entry>> {
    let mut pieces = Vec::new();
    let (mut piece, mut size) = (Vec::new(), 0);
    for entry in entries {
        let weight = entry_weight(&entry);
        if size + weight > limit && !piece.is_empty() {
            pieces.push(std::mem::take(&mut piece));
            size = 0;
        }
        size += weight;
        piece.push(entry);
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// At least as many bytes as the entry takes on the wire.
fn entry_weight(entry: &Entry) -> usize {
    AROUND + entry.name.len() + entry.via.len() + weight(&entry.data) + object(&entry.fields)
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
            let mut codec = SymmetricalMessagePack::<Entry>::default();
            let bytes = Pin::new(&mut codec).serialize(&entry).unwrap();
            assert!(entry_weight(&entry) >= bytes.len(), "{} < {}", entry_weight(&entry), bytes.len());
        }
    }

    #[test]
    fn an_entry_survives_the_wire() {
        let data = json!({"u": u64::MAX, "i": i64::MIN, "f": 0.1, "n": null, "l": [[], {}, "", true]});
        let entry = entry(data);
        let mut codec = SymmetricalMessagePack::<Entry>::default();
        let bytes = Pin::new(&mut codec).serialize(&entry).unwrap();
        let mut codec = SymmetricalMessagePack::<Entry>::default();
        let again = tokio_serde::Deserializer::deserialize(Pin::new(&mut codec), &bytes[..].into()).unwrap();
        assert_eq!(entry, again);
    }

    #[test]
    fn a_batch_is_split_in_its_order_and_nothing_is_left_out() {
        let entries: Vec<_> = (0..10).map(|i| entry(json!("x".repeat(i * 100)))).collect();
        let pieces = pieces(entries.clone(), 1500);
        assert!(pieces.len() > 2);
        for piece in &pieces {
            assert!(piece.len() == 1 || piece.iter().map(entry_weight).sum::<usize>() <= 1500);
        }
        assert_eq!(pieces.concat(), entries);
        assert!(super::pieces(Vec::new(), 1500).is_empty());
    }
}
