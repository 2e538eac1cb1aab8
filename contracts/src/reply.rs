//! The envelope of every HTTP answer: `{error, message, data?, id?, trace_id?}`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::validation::Violations;

/// One answer. `error` and `message` are always there; the rest only where it is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply<T = Value> {
    /// Whether the request failed.
    pub error: bool,
    /// One sentence for a person.
    pub message: String,
    /// What the request asked for, or what is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none", default = "none")]
    pub data: Option<T>,
    /// The id of the request, which is the id of its effect.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<Uuid>,
    /// The W3C trace id: 32 lowercase hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trace_id: Option<String>,
}

fn none<T>() -> Option<T> {
    None
}

impl<T> Reply<T> {
    /// A successful answer without data.
    pub fn ok(message: impl Into<String>) -> Self {
        Self { error: false, message: message.into(), data: None, id: None, trace_id: None }
    }

    /// A failed answer without data.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { error: true, ..Self::ok(message) }
    }

    /// The same answer with `data`.
    #[must_use]
    pub fn with_data(mut self, data: T) -> Self {
        self.data = Some(data);
        self
    }
}

/// The `data` of an answer to a payload that failed validation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invalid {
    /// Every field that failed, in the order in which they were checked.
    pub fields: Violations,
}
