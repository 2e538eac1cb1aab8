//! Dead letters: messages that could not be worked on, as they are kept and shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::idempotency::KEY_CONFLICT;
use crate::log::{self, LogPayload};
use crate::validation::{Form, Text, Violations};

/// The longest body that is kept, in bytes: more than any message of the system has.
pub const MAX_BODY: usize = 4 * 1024 * 1024;
/// The longest reason to discard a letter, in characters.
pub const MAX_REASON: usize = 255;

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// The letter's own id: the same message may die again.
    pub id: Uuid,
    /// The action that the message stands for, where its message id says so.
    pub action: Option<Uuid>,
    /// The queue that it died in.
    pub queue: String,
    /// The exchange that it was published to.
    pub exchange: String,
    /// The routing key that it was published with.
    pub routing_key: String,
    /// Why it was given up.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up.
    pub died_at: DateTime<Utc>,
    /// When its publisher says that it was published.
    pub published_at: Option<DateTime<Utc>>,
    /// The id that its publisher gave it.
    pub message_id: Option<String>,
    /// Its content type.
    pub content_type: Option<String>,
    /// Its W3C trace context.
    pub traceparent: Option<String>,
    /// Its body.
    #[serde(flatten)]
    pub body: Body,
}

impl Letter {
    /// Whether it is of a request whose key another one had used: it says nothing of the action that has the id.
    pub fn is_conflict(&self) -> bool {
        self.reason == KEY_CONFLICT
    }

    /// The message id with which it goes back, with this body or its own: the effect is the same with whatever body. It is
    /// the one that it had, but where another body would make another id of that.
    pub fn message_id_of(&self, body: &[u8]) -> String {
        // Without an id of its own it is known by the letter's.
        let Some(id) = &self.message_id else { return self.id.to_string() };
        let own = self.whole();
        if Uuid::try_parse(id).is_ok() || own.as_deref() == Some(body) {
            return id.clone();
        }
        // What could not be an entry has no id yet: two of them may have the same message id.
        let entry =
            own.filter(|own| serde_json::from_slice(own).is_ok_and(|own| LogPayload::parse(own).is_ok()));
        entry.map_or(self.id, |own| log::bare_id(id, &own)).to_string()
    }

    /// The id that the event has whose body takes the place of its own: that of its own, where it can be read.
    pub fn event_id(&self) -> Uuid {
        let own = self.whole().and_then(|own| event_id(&own));
        own.or(self.action).unwrap_or(self.id)
    }

    /// Its own body, where all of it is there.
    fn whole(&self) -> Option<Vec<u8>> {
        self.body.bytes().filter(|_| !self.body.truncated)
    }
}

/// The id of the CloudEvent that this body is, if it is one.
pub fn event_id(body: &[u8]) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(rename = "specversion")]
        _version: String,
        id: Uuid,
    }
    serde_json::from_slice(body).map(|Head { id, .. }| id).ok()
}

/// The body of a letter: as text where it is text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// The body itself, or its first [`MAX_BODY`] bytes.
    pub body: String,
    /// How it is written.
    pub encoding: Encoding,
    /// Whether the end is missing: it can be replayed only with another body.
    pub truncated: bool,
}

/// How the body of a letter is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As it is.
    Text,
    /// In base64 (RFC 4648, 4).
    Base64,
}

impl Encoding {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Base64 => "base64",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Text, Self::Base64].into_iter().find(|encoding| encoding.as_str() == name)
    }
}

impl Body {
    /// The body of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let truncated = bytes.len() > MAX_BODY;
        let bytes = &bytes[..bytes.len().min(MAX_BODY)];
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { body: text.to_owned(), encoding: Encoding::Text, truncated },
            Err(_) => Self { body: STANDARD.encode(bytes), encoding: Encoding::Base64, truncated },
        }
    }

    /// The bytes; `None` where what is written is no base64.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self.encoding {
            Encoding::Text => Some(self.body.clone().into_bytes()),
            Encoding::Base64 => STANDARD.decode(&self.body).ok(),
        }
    }
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LetterState {
    /// It waits for somebody to look at it.
    #[default]
    Dead,
    /// It went back into its queue.
    Replayed,
    /// Somebody decided that it is not needed.
    Discarded,
}

impl LetterState {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Dead, Self::Replayed, Self::Discarded].into_iter().find(|state| state.as_str() == name)
    }
}

/// What is told of a letter that went back into its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// When it was about to: before anything else could become of it.
    pub at: DateTime<Utc>,
}

/// A letter as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The letter.
    #[serde(flatten)]
    pub letter: Letter,
    /// What became of it.
    pub state: LetterState,
    /// When somebody last began to bring it back into its queue: it may be there, told or not.
    #[serde(default)]
    pub replaying_at: Option<DateTime<Utc>>,
    /// When that was decided.
    pub decided_at: Option<DateTime<Utc>>,
    /// Why it was discarded.
    pub decided_why: Option<String>,
}

/// What a person sends to discard a letter. Valid once parsed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discard {
    /// Why it is not needed: 1 to [`MAX_REASON`] characters on one line.
    pub reason: String,
    /// Also where a replay of it has begun, and it may be in its queue.
    #[serde(default)]
    pub anyway: bool,
}

impl Discard {
    /// Reads and checks the payload.
    pub fn parse(payload: Value) -> Result<Self, Violations> {
        let mut form = Form::of("discard", payload)?;
        let discard = Self::take(&mut form);
        form.finish(discard)
    }

    /// Reads and checks its fields, where they are some of many.
    pub fn take(form: &mut Form) -> Self {
        Self { reason: form.required("reason", Text::Line, MAX_REASON), anyway: form.flag("anyway") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_letter_is_discarded_for_a_reason_on_one_line() {
        let reason = "é".repeat(MAX_REASON);
        assert_eq!(Discard::parse(json!({"reason": reason.clone()})), Ok(Discard { reason, anyway: false }));
        let anyway = Discard::parse(json!({"reason": "r", "anyway": true}));
        assert_eq!(anyway, Ok(Discard { reason: "r".to_owned(), anyway: true }));
        let wrong = Discard::parse(json!({"reason": "r", "anyway": "yes"})).unwrap_err();
        assert_eq!(wrong.to_string(), "anyway must be true or false");
        let long = "x".repeat(MAX_REASON + 1);
        for wrong in [json!({}), json!({"reason": ""}), json!({"reason": "a\nb"}), json!({"reason": long})] {
            assert_eq!(Discard::parse(wrong).unwrap_err().0[0].field, "reason");
        }
        assert!(Discard::parse(json!("reason")).is_err());
    }

    fn letter(message_id: Option<&str>) -> Letter {
        Letter {
            id: Uuid::from_u128(7),
            action: None,
            queue: "q".into(),
            exchange: "e".into(),
            routing_key: "k".into(),
            reason: "r".into(),
            attempts: 1,
            died_at: DateTime::default(),
            published_at: None,
            message_id: message_id.map(str::to_owned),
            content_type: None,
            traceparent: None,
            body: Body::of(b"own"),
        }
    }

    #[test]
    fn with_another_body_it_is_the_same_effect() {
        let uuid = Uuid::now_v7().to_string();
        assert_eq!(letter(Some(&uuid)).message_id_of(b"other"), uuid);
        assert_eq!(letter(None).message_id_of(b"other"), Uuid::from_u128(7).to_string());
        // Of whoever counts, the body is a part of the id: of an entry its own, and of what was none the letter.
        let entry = br#"{"name":"n","data":1}"#;
        let counted = Letter { body: Body::of(entry), ..letter(Some("17")) };
        assert_eq!(counted.message_id_of(entry), "17");
        assert_eq!(counted.message_id_of(b"other"), log::bare_id("17", entry).to_string());
        let broken = letter(Some("17"));
        assert_eq!(broken.message_id_of(b"own"), "17");
        assert_eq!(broken.message_id_of(b"other"), broken.id.to_string());
        let mut cut = counted.clone();
        cut.body.truncated = true;
        assert_eq!(cut.message_id_of(entry), cut.id.to_string());
    }

    #[test]
    fn another_body_is_an_event_with_the_id_that_its_own_had() {
        let (own, action) = (Uuid::now_v7(), Uuid::now_v7());
        let event = json!({"specversion": "1.0", "id": own}).to_string();
        let mut letter = Letter { action: Some(action), ..letter(None) };
        assert_eq!(letter.event_id(), action);
        letter.body = Body::of(event.as_bytes());
        assert_eq!(letter.event_id(), own);
        (letter.body.truncated, letter.action) = (true, None);
        assert_eq!(letter.event_id(), letter.id);
    }

    #[test]
    fn the_id_of_an_event_is_read_where_it_is_one() {
        let id = Uuid::now_v7();
        let event = json!({"specversion": "1.0", "id": id, "data": {}});
        assert_eq!(event_id(event.to_string().as_bytes()), Some(id));
        for other in [json!({"id": id, "name": "n"}), json!({"specversion": "1.0", "id": "7"}), json!([id])] {
            assert_eq!(event_id(other.to_string().as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_letter_of_an_older_version_is_read() {
        let letter = json!({
            "id": Uuid::nil(), "action": null, "queue": "q", "exchange": "e", "routing_key": "k", "reason": "r",
            "attempts": 1, "died_at": "2026-01-02T03:04:05Z", "message_id": null, "content_type": null,
            "traceparent": null, "body": "b", "encoding": "text", "truncated": false
        });
        let read: Letter = serde_json::from_value(letter.clone()).unwrap();
        assert_eq!(read.published_at, None);
        let mut written = serde_json::to_value(read).unwrap();
        written.as_object_mut().unwrap().remove("published_at");
        assert_eq!(written, letter);
    }

    #[test]
    fn every_name_is_read_back() {
        for encoding in [Encoding::Text, Encoding::Base64] {
            assert_eq!(Encoding::parse(encoding.as_str()), Some(encoding));
            assert_eq!(serde_json::to_value(encoding).unwrap(), encoding.as_str());
        }
        for state in [LetterState::Dead, LetterState::Replayed, LetterState::Discarded] {
            assert_eq!(LetterState::parse(state.as_str()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }

    #[test]
    fn a_body_comes_back_as_it_was() {
        for bytes in [&b"{\"name\":1}"[..], b"\xff\x00", b""] {
            let body = Body::of(bytes);
            assert_eq!(body.bytes().unwrap(), bytes);
            assert!(!body.truncated);
        }
        assert!(Body::of(&vec![b'x'; MAX_BODY + 1]).truncated);
    }
}
