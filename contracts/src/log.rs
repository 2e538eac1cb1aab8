//! The `log` action: the payload that a client sends, and the entry that it becomes.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::validation::{Form, Text, Violations};

/// The longest name of an entry, in characters.
pub const MAX_NAME: usize = 255;

/// The name space of the ids that are made of message ids.
const MESSAGE_IDS: Uuid = Uuid::from_u128(0x6d2a_9c44_7f1e_4b0b_9a55_2c8b_6f3d_0e71);

/// The id of the entry of a bare message with this message id: a UUID is taken as it is; from anything else one is made,
/// together with the body, because publishers that count begin again at 1.
pub fn bare_id(message_id: &str, body: &[u8]) -> Uuid {
    Uuid::try_parse(message_id)
        .unwrap_or_else(|_| Uuid::new_v5(&MESSAGE_IDS, &[message_id.as_bytes(), b"\0", body].concat()))
}

/// How serious an entry is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It happened.
    #[default]
    Info,
    /// It should not happen often.
    Warning,
    /// It should not happen.
    Error,
}

impl Level {
    /// Every level, mildest first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Error];

    /// The name on the wire: `info`, `warning`, `error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// Reads a name in any case, as routing keys of existing publishers have it in capitals.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(name))
    }
}

/// What a client asks to be logged. Valid once parsed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogPayload {
    /// What the entry is about: 1 to [`MAX_NAME`] characters on one line.
    pub name: String,
    /// The entry itself: any JSON value but `null` and the empty string.
    pub data: Value,
    /// How serious it is; `info` unless told.
    #[serde(default)]
    pub level: Level,
    /// Further facts, by name.
    #[serde(default)]
    pub fields: Map<String, Value>,
}

impl LogPayload {
    /// Reads and checks the payload.
    pub fn parse(payload: Value) -> Result<Self, Violations> {
        let mut form = Form::of("log", payload)?;
        let name = form.required("name", Text::Line, MAX_NAME);
        let data = form.json("data");
        let level = match form.optional("level", Text::Line, MAX_NAME) {
            None => Level::default(),
            Some(level) => Level::parse(&level).unwrap_or_else(|| {
                form.violation("level", "must be one of info, warning, error");
                Level::default()
            }),
        };
        let fields = form.object("fields");
        form.finish(Self { name, data, level, fields })
    }
}

/// One entry on its way into the log. Its `id` is the document's `_id`: written twice, it is there once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The id of the request or event, and of its one effect.
    pub id: Uuid,
    /// What the entry is about.
    pub name: String,
    /// The entry itself.
    pub data: Value,
    /// How serious it is.
    pub level: Level,
    /// Further facts, by name.
    pub fields: Map<String, Value>,
    /// How it came in: `rpc`, `http`, `queue`.
    pub via: String,
    /// The W3C trace id of the request that caused it, if it had one.
    pub trace_id: Option<String>,
    /// When the request was accepted.
    pub at: DateTime<Utc>,
}

impl Entry {
    /// Whether `other` says the same, whenever and however it came in: what a request that is sent again does.
    pub fn says_the_same(&self, other: &Self) -> bool {
        (&self.name, &self.data, self.level, &self.fields)
            == (&other.name, &other.data, other.level, &other.fields)
    }

    /// The entry of a payload.
    pub fn new(
        id: Uuid,
        payload: LogPayload,
        via: &str,
        trace_id: Option<String>,
        at: DateTime<Utc>,
    ) -> Self {
        let LogPayload { name, data, level, fields } = payload;
        Self { id, name, data, level, fields, via: via.to_owned(), trace_id, at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn every_failing_field_of_a_log_is_named() {
        let violations =
            LogPayload::parse(json!({"name": "a\nb", "level": "loud", "fields": []})).unwrap_err();
        assert_eq!(
            violations.to_string(),
            "name must not contain the control character U+000A; data is required; \
             level must be one of info, warning, error; fields must be an object, not a list"
        );
    }

    #[test]
    fn false_zero_and_empty_containers_are_data() {
        for data in [json!(false), json!(0), json!([]), json!({})] {
            assert_eq!(LogPayload::parse(json!({"name": "n", "data": data.clone()})).unwrap().data, data);
        }
    }

    proptest! {
        #[test]
        fn any_line_and_any_text_are_accepted_unchanged(name in "[a-zé ]{0,40}[a-z]", data in "\\PC{1,80}") {
            let payload = LogPayload::parse(json!({"name": name.clone(), "data": data.clone()})).unwrap();
            prop_assert_eq!(payload.name, name);
            prop_assert_eq!(payload.data, json!(data));
        }
    }
}
