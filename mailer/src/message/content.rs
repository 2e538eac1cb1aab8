//! What a mail says: its text and its HTML, given or made of a template.

use contracts::mail::MailPayload;
use contracts::validation::Violations;
use lettre::message::Mailbox;

use crate::plain_text;
use crate::templates::{Templates, Values};

/// The template of a mail that names none.
const DEFAULT_TEMPLATE: &str = "plain";

/// Both forms of one mail, with the line ends and characters that a mail may have.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) text: String,
    pub(super) html: String,
}

/// The content of this mail. Given HTML stays as it is.
pub(super) fn of(
    payload: &MailPayload,
    from: Option<&Mailbox>,
    templates: &Templates,
    violations: &mut Violations,
) -> Option<Content> {
    if let Some(html) = &payload.html {
        if payload.template.is_some() {
            violations.add("template", "must not be given beside html, which says it all");
            return None;
        }
        let text = match &payload.message {
            Some(message) => mail_lines(message),
            None => mail_lines(&plain_text::of_html(html)),
        };
        return Some(Content { text, html: mail_lines(html) });
    }
    let name = payload.template.as_deref().unwrap_or(DEFAULT_TEMPLATE);
    let values = Values {
        message: payload.message.as_deref(),
        subject: &payload.subject,
        from: &from?.to_string(),
        to: &payload.to.join(", "),
        context: &payload.context,
    };
    match templates.render(name, &values) {
        Ok(rendered) => Some(Content { text: mail_lines(&rendered.text), html: mail_lines(&rendered.html) }),
        Err(error) => {
            let violation = error.violation();
            violations.add(violation.field, violation.message);
            None
        }
    }
}

/// The same text with CR LF at the end of each line, and without control characters that no mail may have.
/// A lone CR or LF is how one mail is smuggled into another, so none is left; lettre would add the CRs too,
/// in time that grows with the square of the lines.
fn mail_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 32);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                out.push_str("\r\n");
            }
            '\n' => out.push_str("\r\n"),
            '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_in_a_mail_and_control_characters_are_left_out() {
        assert_eq!(mail_lines("a\nb\r\nc\rd\n\r\n\te\0\u{1b}f"), "a\r\nb\r\nc\r\nd\r\n\r\n\tef");
    }
}
