//! A dead letter as a document, with what became of it.
//!
//! | field | BSON | what |
//! |---|---|---|
//! | `_id` | UUID | the letter's own id: buried twice, it is there once |
//! | `action` | UUID | the action that the message stood for |
//! | `died_at` | date | when it was given up; what pages go by |
//! | `published_at` | date | as in the letter |
//! | `state` | string | `dead`, until somebody decides |
//! | `replaying_at` | date | when somebody last began to bring it back into its queue |
//! | `decided_at` | date | when that was; what the retention goes by, so that an undecided letter stays |
//! | `decided_why` | string | why it was discarded |
//! | `body`, `encoding` | string | as in the letter |
//! | `truncated` | boolean | as in the letter |
//! | `attempts` | number | as in the letter |
//! | `queue`, `exchange`, `routing_key`, `reason`, `message_id`, `content_type`, `traceparent` | string | as in the letter |

use bson::Document;
use bson::doc;
use bson::raw::{RawDocument, RawDocumentBuf, cstr};
use contracts::dead_letter::{Body, Kept, Letter, LetterState};

use super::{DecodeError, append_some, binary, date, optional, required};

/// How much of a body a list shows, in bytes: a whole number of base64's groups.
const SHOWN: usize = 2048;
/// Every field but the body.
const FIELDS: [&str; 18] = [
    "_id",
    "action",
    "queue",
    "exchange",
    "routing_key",
    "reason",
    "attempts",
    "died_at",
    "published_at",
    "message_id",
    "content_type",
    "traceparent",
    "encoding",
    "truncated",
    "state",
    "replaying_at",
    "decided_at",
    "decided_why",
];

/// The document of a letter that nobody has decided about.
pub fn encode(letter: &Letter) -> RawDocumentBuf {
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), binary(letter.id));
    append_some(&mut document, cstr!("action"), letter.action.map(binary));
    document.append(cstr!("state"), LetterState::Dead.as_str());
    document.append(cstr!("died_at"), date(letter.died_at));
    document.append(cstr!("queue"), letter.queue.as_str());
    document.append(cstr!("exchange"), letter.exchange.as_str());
    document.append(cstr!("routing_key"), letter.routing_key.as_str());
    document.append(cstr!("reason"), letter.reason.as_str());
    document.append(cstr!("attempts"), i64::from(letter.attempts));
    append_some(&mut document, cstr!("published_at"), letter.published_at.map(date));
    append_some(&mut document, cstr!("message_id"), letter.message_id.as_deref());
    append_some(&mut document, cstr!("content_type"), letter.content_type.as_deref());
    append_some(&mut document, cstr!("traceparent"), letter.traceparent.as_deref());
    document.append(cstr!("encoding"), letter.body.encoding.as_str());
    document.append(cstr!("truncated"), letter.body.truncated);
    document.append(cstr!("body"), letter.body.body.as_str());
    document
}

/// The letter of a document.
pub fn decode(document: &RawDocument) -> Result<Kept, DecodeError> {
    let body = Body {
        body: required(document, "body")?,
        encoding: required(document, "encoding")?,
        truncated: required(document, "truncated")?,
    };
    let letter = Letter {
        id: required(document, "_id")?,
        action: optional(document, "action")?,
        queue: required(document, "queue")?,
        exchange: required(document, "exchange")?,
        routing_key: required(document, "routing_key")?,
        reason: required(document, "reason")?,
        attempts: required(document, "attempts")?,
        died_at: required(document, "died_at")?,
        published_at: optional(document, "published_at")?,
        message_id: optional(document, "message_id")?,
        content_type: optional(document, "content_type")?,
        traceparent: optional(document, "traceparent")?,
        body,
    };
    Ok(Kept {
        letter,
        state: required(document, "state")?,
        replaying_at: optional(document, "replaying_at")?,
        decided_at: optional(document, "decided_at")?,
        decided_why: optional(document, "decided_why")?,
    })
}

/// What MongoDB is to send of a letter in a list: of its body one character more than is shown, which says whether
/// there is more.
pub fn summary() -> Document {
    let shown = i64::try_from(SHOWN).unwrap_or(i64::MAX) + 1;
    let mut fields: Document = FIELDS.iter().map(|field| ((*field).to_owned(), 1.into())).collect();
    fields.insert("body", doc! { "$substrCP": ["$body", 0, shown] });
    fields
}

/// The letter of a document that has the fields of [`summary`], its body cut where it is long.
pub fn decode_summary(document: &RawDocument) -> Result<Kept, DecodeError> {
    let mut kept = decode(document)?;
    let body = &mut kept.letter.body;
    if body.body.len() > SHOWN {
        body.body.truncate(body.body.floor_char_boundary(SHOWN));
        body.truncated = true;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::spec::BinarySubtype;
    use uuid::Uuid;

    fn letter(body: &[u8]) -> Letter {
        Letter {
            id: Uuid::now_v7(),
            action: Some(Uuid::now_v7()),
            queue: "q".into(),
            exchange: "e".into(),
            routing_key: "k".into(),
            reason: "r".into(),
            attempts: 6,
            died_at: chrono::DateTime::from_timestamp_millis(1_767_323_045_007).unwrap(),
            published_at: chrono::DateTime::from_timestamp(1_767_323_000, 0),
            message_id: Some("m".into()),
            content_type: Some("c".into()),
            traceparent: Some("t".into()),
            body: Body::of(body),
        }
    }

    #[test]
    fn a_letter_comes_back_as_it_was_and_nobody_has_decided() {
        let full = letter(b"\xff\0");
        let bare = Letter {
            action: None,
            published_at: None,
            message_id: None,
            content_type: None,
            traceparent: None,
            ..letter(b"")
        };
        for letter in [full, bare] {
            let kept = decode(&encode(&letter)).unwrap();
            assert_eq!(
                kept,
                Kept {
                    letter,
                    state: LetterState::Dead,
                    replaying_at: None,
                    decided_at: None,
                    decided_why: None
                }
            );
        }
    }

    #[test]
    fn ids_are_uuids_and_a_letter_that_is_dead_has_no_date_to_be_deleted_by() {
        let letter = letter(b"{}");
        let document = encode(&letter);
        let id = document.get_binary("_id").unwrap();
        assert_eq!((id.subtype, id.bytes), (BinarySubtype::Uuid, &letter.id.as_bytes()[..]));
        assert!(document.get_datetime("died_at").is_ok());
        assert!(document.get("decided_at").unwrap().is_none());
    }

    #[test]
    fn a_list_shows_the_beginning_of_a_long_body_and_says_so() {
        for (body, shown, truncated) in [
            ("x".repeat(2048), 2048, false),
            ("x".repeat(2049), 2048, true),
            (format!("x{}", "é".repeat(1024)), 2047, true),
        ] {
            let summary = decode_summary(&encode(&letter(body.as_bytes()))).unwrap();
            assert_eq!(summary.letter.body.body, body[..shown]);
            assert_eq!(summary.letter.body.truncated, truncated);
        }
        let binary = decode_summary(&encode(&letter(&[0xff; 5000]))).unwrap();
        assert_eq!(binary.letter.body.bytes().unwrap(), [0xff; 1536]);
    }
}
