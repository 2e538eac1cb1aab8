//! An entry of the log as a document.
//!
//! | field | BSON | what |
//! |---|---|---|
//! | `_id` | UUID | the id: written twice, it is there once |
//! | `at` | date | when the request was accepted; what pages and retention go by |
//! | `stored_at` | date | when it was stored; what the trail of a queued log says, and no part of the entry |
//! | `name`, `level`, `via`, `trace_id` | string | as in the entry |
//! | `data`, `fields` | native ([`json`]) | as in the entry |
//! | `text` | string | the words inside `data`, where it is not a string itself: what a search reads |

use std::fmt::Write as _;

use bson::DateTime;
use bson::raw::{RawBsonRef, RawDocument, RawDocumentBuf, cstr};
use chrono::Utc;
use contracts::log::Entry;
use contracts::logger::AppendError;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{DecodeError, append_some, binary, date, json, optional, required};

/// The largest document that MongoDB takes, in bytes.
const MAX_DOCUMENT: usize = 16 * 1024 * 1024;

/// Why an entry can't be a document.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// Lists and objects inside each other, more than MongoDB follows.
    #[error("it nests deeper than {} levels", json::MAX_DEPTH)]
    TooDeep,
    /// BSON ends a key at a NUL character.
    #[error("a key in it has the control character U+0000")]
    NulInKey,
    /// More bytes than MongoDB takes.
    #[error("it takes {0} bytes as a document, more than {MAX_DOCUMENT}")]
    TooLarge(usize),
}

impl From<EncodeError> for AppendError {
    fn from(error: EncodeError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// The document of an entry.
pub fn encode(entry: &Entry) -> Result<RawDocumentBuf, EncodeError> {
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), binary(entry.id));
    document.append(cstr!("at"), date(entry.at));
    document.append(cstr!("stored_at"), DateTime::now());
    document.append(cstr!("name"), entry.name.as_str());
    document.append(cstr!("level"), entry.level.as_str());
    document.append(cstr!("data"), json::encode(&entry.data)?);
    if !entry.fields.is_empty() {
        document.append(cstr!("fields"), json::encode_object(&entry.fields)?);
    }
    document.append(cstr!("via"), entry.via.as_str());
    append_some(&mut document, cstr!("trace_id"), entry.trace_id.as_deref());
    if !entry.data.is_string() {
        let mut text = String::new();
        words(&entry.data, &mut text);
        document.append(cstr!("text"), text.as_str());
    }
    let size = document.as_bytes().len();
    if size > MAX_DOCUMENT { Err(EncodeError::TooLarge(size)) } else { Ok(document) }
}

/// Every key and every value, a line each.
fn words(value: &Value, out: &mut String) {
    let mut line = |word: &dyn std::fmt::Display| {
        // Writing to a string can't fail.
        let _ = writeln!(out, "{word}");
    };
    match value {
        Value::Null => line(&"null"),
        Value::Bool(value) => line(value),
        Value::Number(number) => line(number),
        Value::String(text) => line(text),
        Value::Array(items) => items.iter().for_each(|item| words(item, out)),
        Value::Object(fields) => {
            for (key, item) in fields {
                out.push_str(key);
                out.push('\n');
                words(item, out);
            }
        }
    }
}

/// The entry of a document.
pub fn decode(document: &RawDocument) -> Result<Entry, DecodeError> {
    let mut fields = Map::new();
    if let Some(RawBsonRef::Document(inner)) = document.get("fields")? {
        fields = json::decode_object(inner)?;
    }
    let data = document.get("data")?.ok_or(DecodeError::Field("data"))?;
    Ok(Entry {
        id: required(document, "_id")?,
        name: required(document, "name")?,
        data: json::decode(data)?,
        level: required(document, "level")?,
        fields,
        via: required(document, "via")?,
        trace_id: optional(document, "trace_id")?,
        at: required(document, "at")?,
    })
}

/// When the entry of a document was stored; when it was accepted, where only that is known.
pub fn stored_at(document: &RawDocument) -> Result<chrono::DateTime<Utc>, DecodeError> {
    let stored_at = optional(document, "stored_at")?;
    stored_at.map_or_else(|| required(document, "at"), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::spec::BinarySubtype;
    use contracts::log::{Level, LogPayload};
    use serde_json::json;
    use uuid::Uuid;

    fn entry(data: Value) -> Entry {
        let fields = [("k".to_owned(), json!(1))].into_iter().collect();
        let payload = LogPayload { name: "n".into(), data, level: Level::Warning, fields };
        let at = chrono::DateTime::from_timestamp_millis(1_767_323_045_007).unwrap();
        Entry::new(Uuid::now_v7(), payload, "rpc", Some("ab".repeat(16)), at)
    }

    #[test]
    fn an_entry_comes_back_as_it_was() {
        for data in [json!("text"), json!({"a": [1, null]}), json!(u64::MAX), json!(false)] {
            let entry = entry(data);
            assert_eq!(decode(&encode(&entry).unwrap()).unwrap(), entry);
        }
        let bare = Entry { fields: Map::new(), trace_id: None, ..entry(json!(1)) };
        assert_eq!(decode(&encode(&bare).unwrap()).unwrap(), bare);
    }

    #[test]
    fn the_id_is_a_uuid_and_the_time_a_date() {
        let entry = entry(json!(1));
        let document = encode(&entry).unwrap();
        let id = document.get_binary("_id").unwrap();
        assert_eq!((id.subtype, id.bytes), (BinarySubtype::Uuid, &entry.id.as_bytes()[..]));
        assert_eq!(document.get_datetime("at").unwrap().timestamp_millis(), entry.at.timestamp_millis());
    }

    #[test]
    fn when_it_was_stored_is_kept_beside_it() {
        let before = DateTime::now().timestamp_millis();
        let mut document = encode(&entry(json!(1))).unwrap();
        let stored = document.get_datetime("stored_at").unwrap().timestamp_millis();
        assert!((before..=DateTime::now().timestamp_millis()).contains(&stored));
        assert_eq!(stored_at(&document).unwrap().timestamp_millis(), stored);
        // As it was before there was such a field.
        document = bson::rawdoc! { "at": DateTime::from_millis(7) };
        assert_eq!(stored_at(&document).unwrap().timestamp_millis(), 7);
    }

    #[test]
    fn a_search_finds_words_at_any_depth_and_a_plain_text_is_not_kept_twice() {
        let nested = encode(&entry(json!({"user": {"names": ["Ada", 7]}}))).unwrap();
        assert_eq!(nested.get_str("text").unwrap(), "user\nnames\nAda\n7\n");
        assert!(encode(&entry(json!("plain"))).unwrap().get("text").unwrap().is_none());
    }

    #[test]
    fn what_no_document_can_be_is_refused() {
        let deep = (0..500).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(encode(&entry(deep)).unwrap_err(), EncodeError::TooDeep);
        assert_eq!(encode(&entry(json!({"a\0": 1}))).unwrap_err(), EncodeError::NulInKey);
        let large = encode(&entry(json!("x".repeat(MAX_DOCUMENT)))).unwrap_err();
        assert!(matches!(large, EncodeError::TooLarge(_)), "{large}");
    }

    #[test]
    fn a_document_of_another_program_is_an_error_and_not_a_panic() {
        let foreign = bson::rawdoc! { "_id": 5, "name": "n" };
        assert_eq!(decode(&foreign).unwrap_err(), DecodeError::Field("data"));
    }
}
