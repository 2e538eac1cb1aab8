//! The `mail` action: a message to send.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use email_address::{EmailAddress, Options};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::validation::{Form, Text, Violations, kind};

/// The longest mailbox: a display name and an address.
const MAX_MAILBOX: usize = 320;
/// Well inside the 998 characters that a header line may have (RFC 5322, 2.1.1).
const MAX_SUBJECT: usize = 255;
/// More than a body of 1 MiB can carry.
const MAX_TEXT: usize = 1024 * 1024;
/// How many recipients one field may name.
const MAX_RECIPIENTS: usize = 100;
/// How many attachments a mail may have.
const MAX_ATTACHMENTS: usize = 20;

/// A message to send. Valid once parsed: no header of it can carry a second line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MailPayload {
    /// The sender, `ada@example.com` or `Ada <ada@example.com>`; the mailer's own address unless told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// Who it goes to: at least one mailbox.
    pub to: Vec<String>,
    /// Who gets a copy.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub cc: Vec<String>,
    /// Who gets a copy without being named.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub bcc: Vec<String>,
    /// Where an answer goes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reply_to: Option<String>,
    /// The subject: one line.
    pub subject: String,
    /// The text. May be absent where `html` or `template` gives the mail its content.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// The HTML part, used as it is; a template makes it otherwise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub html: Option<String>,
    /// The template that makes both parts; the mailer's plain one unless told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub template: Option<String>,
    /// What the template may use, by name.
    #[serde(skip_serializing_if = "Map::is_empty", default)]
    pub context: Map<String, Value>,
    /// Files to send along.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub attachments: Vec<Attachment>,
}

/// A file to send along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The name that the recipient sees: one line.
    pub filename: String,
    /// Its media type (RFC 6838); `application/octet-stream` unless told.
    pub content_type: String,
    /// The bytes; base64 (RFC 4648, 4) on the wire.
    #[serde(with = "base64_bytes")]
    pub content: Vec<u8>,
}

/// What the mailer answers: the mail was taken by the SMTP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The id of the request.
    pub id: Uuid,
    /// The `Message-ID` header, made from the id.
    pub message_id: String,
}

impl MailPayload {
    /// Reads and checks the payload. Whether the template exists is the mailer's to say.
    pub fn parse(payload: Value) -> Result<Self, Violations> {
        let mut form = Form::of("mail", payload)?;
        let from = mailbox(&mut form, "from");
        let to = mailboxes(&mut form, "to", true);
        let cc = mailboxes(&mut form, "cc", false);
        let bcc = mailboxes(&mut form, "bcc", false);
        let reply_to = mailbox(&mut form, "reply_to");
        let subject = form.required("subject", Text::Line, MAX_SUBJECT);
        let html = form.optional("html", Text::Lines, MAX_TEXT);
        let template = form.optional("template", Text::Line, 64);
        let message = if html.is_some() || template.is_some() {
            form.optional("message", Text::Lines, MAX_TEXT)
        } else {
            Some(form.required("message", Text::Lines, MAX_TEXT))
        };
        let context = form.object("context");
        let attachments = form
            .list("attachments", MAX_ATTACHMENTS)
            .into_iter()
            .enumerate()
            .filter_map(|(i, item)| attachment(&mut form, i, item))
            .collect();
        form.finish(Self {
            from,
            to,
            cc,
            bcc,
            reply_to,
            subject,
            message,
            html,
            template,
            context,
            attachments,
        })
    }
}

fn mailbox(form: &mut Form, field: &str) -> Option<String> {
    let value = form.take(field)?;
    check_mailbox(form, field, value)
}

fn mailboxes(form: &mut Form, field: &str, required: bool) -> Vec<String> {
    let items = match form.take(field) {
        Some(single @ Value::String(_)) => return check_mailbox(form, field, single).into_iter().collect(),
        Some(Value::Array(items)) if items.len() > MAX_RECIPIENTS => {
            form.violation(field, format!("must not have more than {MAX_RECIPIENTS} addresses"));
            return Vec::new();
        }
        Some(Value::Array(items)) => items,
        None => Vec::new(),
        Some(other) => {
            form.violation(field, format!("must be an address or a list of them, not {}", kind(&other)));
            return Vec::new();
        }
    };
    if items.is_empty() && required {
        form.violation(field, "is required");
    }
    let places = items.into_iter().enumerate();
    places.filter_map(|(i, item)| check_mailbox(form, &format!("{field}[{i}]"), item)).collect()
}

fn check_mailbox(form: &mut Form, field: &str, value: Value) -> Option<String> {
    let text = form.text(field, value, Text::Line, MAX_MAILBOX)?;
    match EmailAddress::parse_with_options(text.trim(), Options::default().with_display_text()) {
        Ok(_) => Some(text.trim().to_owned()),
        Err(error) => {
            form.violation(field, format!("is not a mail address: {error}"));
            None
        }
    }
}

fn attachment(form: &mut Form, index: usize, item: Value) -> Option<Attachment> {
    let place = format!("attachments[{index}]");
    let mut inner = match Form::of(&place, item) {
        Ok(inner) => inner,
        Err(violations) => {
            violations.0.into_iter().for_each(|v| form.violation(v.field, v.message));
            return None;
        }
    };
    let filename = inner.required("filename", Text::Line, 255);
    let content_type = inner
        .optional("content_type", Text::Line, 127)
        .unwrap_or_else(|| "application/octet-stream".to_owned());
    let content = match inner.take("content") {
        Some(Value::String(encoded)) => STANDARD.decode(encoded).unwrap_or_else(|error| {
            inner.violation("content", format!("is not base64: {error}"));
            Vec::new()
        }),
        Some(other) => {
            inner.violation("content", format!("must be a base64 string, not {}", kind(&other)));
            Vec::new()
        }
        None => {
            inner.violation("content", "is required");
            Vec::new()
        }
    };
    inner
        .finish(Attachment { filename, content_type, content })
        .map_err(|violations| {
            for v in violations.0 {
                form.violation(format!("{place}.{}", v.field), v.message);
            }
        })
        .ok()
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn minimal() -> Value {
        json!({"from": "me@example.com", "to": "you@example.com", "subject": "Hi", "message": "Hello"})
    }

    #[test]
    fn the_plain_payload_of_existing_clients_is_accepted() {
        let mail = MailPayload::parse(minimal()).unwrap();
        assert_eq!(mail.to, ["you@example.com"]);
        assert_eq!(mail.message.as_deref(), Some("Hello"));
    }

    #[test]
    fn a_valid_payload_survives_the_way_to_the_mailer() {
        let mut payload = minimal();
        payload["to"] = json!(["Ada <ada@example.com>", "b@example.com"]);
        payload["attachments"] = json!([{"filename": "a.bin", "content": "AAEC"}]);
        let mail = MailPayload::parse(payload).unwrap();
        let again = MailPayload::parse(serde_json::to_value(&mail).unwrap()).unwrap();
        assert_eq!(again, mail);
    }

    #[test]
    fn every_failing_field_of_a_mail_is_named() {
        let violations = MailPayload::parse(json!({
            "from": "nobody", "to": ["ok@example.com", "a@b\r\nBcc: x@y.z"], "cc": 7, "subject": "a\nb",
            "attachments": [{"filename": "x", "content": "%"}, 3]
        }))
        .unwrap_err();
        let fields: Vec<_> = violations.0.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(
            fields,
            ["from", "to[1]", "cc", "subject", "message", "attachments[0].content", "attachments[1]"]
        );
    }

    #[test]
    fn html_or_a_template_may_stand_for_the_message() {
        for (field, value) in [("html", "<p>x</p>"), ("template", "welcome")] {
            let mut payload = minimal();
            payload["message"] = Value::Null;
            payload[field] = json!(value);
            MailPayload::parse(payload).unwrap();
        }
    }

    proptest! {
        #[test]
        fn no_accepted_header_has_a_second_line(to in "\\PC{0,10}[\\r\\n]?\\PC{0,20}", subject in any::<String>()) {
            let payload = json!({"to": to, "subject": subject, "message": "m"});
            if let Ok(mail) = MailPayload::parse(payload) {
                prop_assert!(!mail.to[0].contains(['\r', '\n']));
                prop_assert!(!mail.subject.contains(['\r', '\n']));
            }
        }
    }
}
