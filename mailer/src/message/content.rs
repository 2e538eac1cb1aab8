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
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    let mut rest = text;
    // Most of a text is runs of what may stay.
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
        let (run, from_control) = rest.split_at(at);
        out.push_str(run);
        let line_end = ["\r\n", "\r", "\n"].iter().find(|end| from_control.starts_with(**end));
        if line_end.is_some() {
            out.push_str("\r\n");
        }
        let control =
            line_end.map_or_else(|| from_control.chars().next().map_or(0, char::len_utf8), |e| e.len());
        rest = &from_control[control..];
    }
    out.push_str(rest);
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
