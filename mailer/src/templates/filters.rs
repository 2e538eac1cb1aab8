//! What a template can do with a value, beyond `default`.

use minijinja::value::Value;
use minijinja::{Error, ErrorKind, HtmlEscape};

/// What a link may begin with: nothing that runs in a mail program.
const LINKS: [&str; 3] = ["https://", "http://", "mailto:"];

/// The paragraphs of a text: what empty lines separate.
pub(super) fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs = Vec::new();
    let mut paragraph = String::new();
    for line in text.lines().chain([""]) {
        let line = line.trim_end();
        if !line.is_empty() {
            if !paragraph.is_empty() {
                paragraph.push('\n');
            }
            paragraph.push_str(line);
        } else if !paragraph.is_empty() {
            paragraphs.push(std::mem::take(&mut paragraph));
        }
    }
    paragraphs
}

/// The text as HTML, with its line ends.
pub(super) fn line_breaks(text: &str) -> Value {
    Value::from_safe_string(HtmlEscape(text).to_string().replace('\n', "<br>\n"))
}

/// The text itself, where it is a link to the web or to a mailbox.
pub(super) fn link(text: String) -> Result<String, Error> {
    let begins = |with: &&str| text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    if LINKS.iter().any(begins) && !text.contains(|c: char| c.is_control() || c == ' ') {
        return Ok(text);
    }
    Err(Error::new(ErrorKind::InvalidOperation, format!("a link begins with one of {}", LINKS.join(", "))))
}
