//! Reads a JSON object field by field and collects everything that is wrong with it.
//!
//! Serde stops at the first mistake; a person who fills in a form wants to see all of them at once. So each
//! payload is read through a [`Form`]: every getter records its complaint and goes on, and
//! [`Form::finish`] gives either the value or the whole list.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How deep a JSON value inside a payload may nest. MongoDB refuses documents beyond 100 levels.
pub const MAX_DEPTH: usize = 64;

/// One field that failed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Where: `name`, `to[1]`, `attachments[0].content`.
    pub field: String,
    /// What is wrong, as the end of a sentence that begins with the field: `is required`.
    pub message: String,
}

/// Every field that failed. Never empty inside an `Err`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Violations(pub Vec<Violation>);

impl Violations {
    /// A list of one.
    pub fn one(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self(vec![Violation { field: field.into(), message: message.into() }])
    }

    /// Adds a complaint.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Violation { field: field.into(), message: message.into() });
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Violation { field, message }) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{field} {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}

/// What a text may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// One line: no control characters at all, so that it is safe in a header.
    Line,
    /// Any lines: tab, line feed and carriage return are the only control characters.
    Lines,
}

impl Text {
    fn allows(self, c: char) -> bool {
        !c.is_control() || (self == Self::Lines && matches!(c, '\n' | '\r' | '\t'))
    }
}

/// A JSON object being read. Getters take a field out; what they can't accept is recorded.
#[derive(Debug)]
pub struct Form {
    object: Map<String, Value>,
    violations: Violations,
}

impl Form {
    /// Starts on `value`, which must be an object; `name` is what to call it in the complaint.
    pub fn of(name: &str, value: Value) -> Result<Self, Violations> {
        match value {
            Value::Object(object) => Ok(Self { object, violations: Violations::default() }),
            other => Err(Violations::one(name, format!("must be an object, not {}", kind(&other)))),
        }
    }

    /// Takes a field out; absent and `null` are the same.
    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.object.remove(field).filter(|value| !value.is_null())
    }

    /// Records a complaint.
    pub fn violation(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.violations.add(field, message);
    }

    /// A text that must be there: 1 to `max` characters.
    pub fn required(&mut self, field: &str, text: Text, max: usize) -> String {
        self.optional(field, text, max).unwrap_or_else(|| {
            if !self.violations.0.iter().any(|v| v.field == field) {
                self.violation(field, "is required");
            }
            String::new()
        })
    }

    /// A text that may be absent or `null`. An empty one is a violation here too: it is never what was meant.
    pub fn optional(&mut self, field: &str, text: Text, max: usize) -> Option<String> {
        let value = self.take(field)?;
        self.text(field, value, text, max)
    }

    /// Checks one value as a text of 1 to `max` characters; `field` is where it stands.
    pub fn text(&mut self, field: &str, value: Value, text: Text, max: usize) -> Option<String> {
        let Value::String(string) = value else {
            self.violation(field, format!("must be a string, not {}", kind(&value)));
            return None;
        };
        if string.trim().is_empty() {
            self.violation(field, "must not be empty");
        } else if string.chars().take(max + 1).count() > max {
            self.violation(field, format!("must not be longer than {max} characters"));
        } else if let Some(c) = string.chars().find(|&c| !text.allows(c)) {
            self.violation(field, format!("must not contain the control character U+{:04X}", c as u32));
        } else {
            return Some(string);
        }
        None
    }

    /// An object that may be absent; nesting and keys are checked as in [`Form::json`].
    pub fn object(&mut self, field: &str) -> Map<String, Value> {
        match self.take(field) {
            None => Map::new(),
            Some(Value::Object(object)) => match check_json(&Value::Object(object.clone())) {
                Ok(()) => object,
                Err(message) => {
                    self.violation(field, message);
                    Map::new()
                }
            },
            Some(other) => {
                self.violation(field, format!("must be an object, not {}", kind(&other)));
                Map::new()
            }
        }
    }

    /// Any JSON value but `null` and the empty string; nesting deeper than [`MAX_DEPTH`] and keys with a NUL
    /// character, which no document store takes, are violations.
    pub fn json(&mut self, field: &str) -> Value {
        let Some(value) = self.take(field) else {
            self.violation(field, "is required");
            return Value::Null;
        };
        if value.as_str() == Some("") {
            self.violation(field, "must not be empty");
        } else if let Err(message) = check_json(&value) {
            self.violation(field, message);
        }
        value
    }

    /// Yes or no; no where it is absent.
    pub fn flag(&mut self, field: &str) -> bool {
        match self.take(field) {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(_) => {
                self.violation(field, "must be true or false");
                false
            }
        }
    }

    /// A list that may be absent, of at most `max` items. A single string stands for a list of one.
    pub fn list(&mut self, field: &str, max: usize) -> Vec<Value> {
        match self.take(field) {
            None => Vec::new(),
            Some(Value::Array(items)) if items.len() > max => {
                self.violation(field, format!("must not have more than {max} items"));
                Vec::new()
            }
            Some(Value::Array(items)) => items,
            Some(single @ Value::String(_)) => vec![single],
            Some(other) => {
                self.violation(field, format!("must be a list, not {}", kind(&other)));
                Vec::new()
            }
        }
    }

    /// The value, or everything that is wrong.
    pub fn finish<T>(self, value: T) -> Result<T, Violations> {
        if self.violations.0.is_empty() { Ok(value) } else { Err(self.violations) }
    }
}

/// What a person calls this kind of JSON value.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Whether a document store takes this value. The value is at most as deep as serde_json's own limit of 128
/// levels, so the recursion is bounded.
fn check_json(value: &Value) -> Result<(), String> {
    fn walk(value: &Value, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("must not nest deeper than {MAX_DEPTH} levels"));
        }
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| walk(item, depth + 1)),
            Value::Object(object) => object.iter().try_for_each(|(key, item)| {
                if key.contains('\0') {
                    return Err("must not have a key with the control character U+0000".to_owned());
                }
                walk(item, depth + 1)
            }),
            _ => Ok(()),
        }
    }
    walk(value, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_failing_field_is_listed() {
        let mut form = Form::of("log", json!({"name": 5, "level": "", "note": "a\u{7}b"})).unwrap();
        form.required("name", Text::Line, 10);
        form.required("missing", Text::Line, 10);
        form.optional("level", Text::Line, 10);
        form.optional("note", Text::Lines, 10);
        let violations = form.finish(()).unwrap_err();
        assert_eq!(
            violations.to_string(),
            "name must be a string, not a number; missing is required; level must not be empty; \
             note must not contain the control character U+0007"
        );
    }

    #[test]
    fn length_is_counted_in_characters() {
        let mut form = Form::of("x", json!({"a": "ééé", "b": "éééé"})).unwrap();
        assert_eq!(form.required("a", Text::Line, 3), "ééé");
        form.required("b", Text::Line, 3);
        assert_eq!(form.finish(()).unwrap_err().to_string(), "b must not be longer than 3 characters");
    }

    #[test]
    fn json_that_no_document_store_takes_is_refused() {
        let deep = (0..=MAX_DEPTH).fold(json!(1), |inner, _| json!([inner]));
        let mut form = Form::of("x", json!({"deep": deep, "nul": {"a\0": 1}, "empty": ""})).unwrap();
        form.json("deep");
        form.json("nul");
        form.json("empty");
        form.json("absent");
        assert_eq!(form.finish(()).unwrap_err().0.len(), 4);
    }
}
