//! HTML as plain text, for the text part of a mail that came with HTML alone.
//!
//! Not a browser: tags go, the ends of blocks become line ends, the usual character references become
//! characters. Whatever it makes of odd HTML, it makes it in one pass.

/// Elements whose content nobody reads.
const UNSEEN: [&str; 4] = ["style", "script", "head", "title"];
/// Elements that begin a new line.
const BLOCKS: [&str; 15] = [
    "p",
    "div",
    "br",
    "tr",
    "li",
    "ul",
    "ol",
    "table",
    "h1",
    "h2",
    "h3",
    "h4",
    "blockquote",
    "section",
    "hr",
];

/// The text of `html`.
pub(crate) fn of_html(html: &str) -> String {
    let mut text = Text::default();
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        text.push_run(&rest[..at]);
        rest = &rest[at..];
        rest = if rest.starts_with('&') { reference(rest, &mut text) } else { markup(rest, &mut text) };
    }
    text.push_run(rest);
    text.out.trim().to_owned()
}

#[derive(Default)]
struct Text {
    out: String,
}

impl Text {
    /// Adds text in which any white space is one space.
    fn push_run(&mut self, run: &str) {
        for c in run.chars() {
            if !c.is_whitespace() {
                self.out.push(c);
            } else if !self.out.is_empty() && !self.out.ends_with([' ', '\n']) {
                self.out.push(' ');
            }
        }
    }

    /// Ends the line, unless there are two ends already.
    fn end_line(&mut self) {
        let kept = self.out.trim_end_matches(' ').len();
        self.out.truncate(kept);
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }
}

/// Takes a character reference from the beginning of `rest`.
fn reference<'a>(rest: &'a str, text: &mut Text) -> &'a str {
    let name_end = rest.bytes().take(12).position(|byte| byte == b';');
    let known = name_end.and_then(|end| Some((character(&rest[1..end])?, &rest[end + 1..])));
    let (c, after) = known.unwrap_or(('&', &rest[1..]));
    text.out.push(c);
    after
}

fn character(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "copy" => '©',
        "euro" => '€',
        "hellip" => '…',
        "ndash" => '–',
        "mdash" => '—',
        "bull" => '•',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?
        }
    })
}

/// Takes a tag or a comment from the beginning of `rest`.
fn markup<'a>(rest: &'a str, text: &mut Text) -> &'a str {
    if rest.starts_with("<!--") {
        return rest.split_once("-->").map_or("", |(_, after)| after);
    }
    let inside = rest[1..].trim_start_matches('/');
    if !inside.starts_with(|c: char| c.is_ascii_alphabetic() || c == '!' || c == '?') {
        text.out.push('<');
        return &rest[1..];
    }
    let name_length = inside.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(inside.len());
    let name = inside[..name_length].to_ascii_lowercase();
    let Some((_, after)) = rest.split_once('>') else { return "" };
    if BLOCKS.contains(&name.as_str()) {
        text.end_line();
    }
    if rest.starts_with("</") || !UNSEEN.contains(&name.as_str()) {
        return after;
    }
    end_of(&name, after)
}

/// What comes after the end tag of the element called `name`; nothing where it has none.
fn end_of<'a>(name: &str, mut rest: &'a str) -> &'a str {
    while let Some((_, after)) = rest.split_once("</") {
        if after.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return after.split_once('>').map_or("", |(_, after)| after);
        }
        rest = after;
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn html_becomes_readable_text() {
        let html = "<!doctype html><html><head><title>T</title><style>p { color: red }</style></head>\n\
                    <body><h1>Hello,\n  Ada</h1><p>1 &lt; 2 &amp;&nbsp;so on&#33; <b>Bold</b><br/>next</p>\
                    <!-- unseen --><ul><li>one</li><li>two</li></ul></body></html>";
        assert_eq!(of_html(html), "Hello, Ada\n\n1 < 2 & so on! Bold\nnext\n\none\n\ntwo");
    }

    #[test]
    fn what_only_looks_like_html_stays() {
        assert_eq!(of_html("a < b & c &unknown; d"), "a < b & c &unknown; d");
    }

    proptest! {
        #[test]
        fn any_input_makes_some_text(html in "[<>&;!/#x\\-a-c éß]{0,60}|\\PC{0,60}") {
            prop_assert!(of_html(&html).len() <= html.len() + 20);
        }
    }
}
