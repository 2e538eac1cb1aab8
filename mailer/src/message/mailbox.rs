//! Reads `ada@example.com` and `Ada Lovelace <ada@example.com>`.

use contracts::validation::Violations;
use email_address::{EmailAddress, Options};
use lettre::Address;
use lettre::message::Mailbox;

use super::Place;

/// Who sends the mails that name no sender.
#[derive(Clone, Debug)]
pub(crate) struct Sender(Mailbox);

impl Sender {
    /// The sender called `name`; an empty name is none.
    pub(crate) fn new(name: &str, address: &Address) -> Self {
        Self(Mailbox::new(named(name), address.clone()))
    }

    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.0
    }
}

/// Reads the mailboxes of a field.
pub(super) fn parse_all(
    place: impl Fn(usize) -> Place,
    texts: &[String],
    violations: &mut Violations,
) -> Vec<Mailbox> {
    let places = texts.iter().enumerate();
    places.filter_map(|(i, text)| parse(place(i), text, violations)).collect()
}

/// Reads one mailbox. A domain beyond ASCII becomes its ASCII form (RFC 5891), which every server takes.
pub(super) fn parse(place: Place, text: &str, violations: &mut Violations) -> Option<Mailbox> {
    let result = read(text.trim());
    result.map_err(|why| violations.add(place.to_string(), why)).ok()
}

fn read(text: &str) -> Result<Mailbox, String> {
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    let parsed = EmailAddress::parse_with_options(text, Options::default().with_display_text())
        .map_err(|error| format!("is not a mail address: {error}"))?;
    let ascii = (!parsed.domain().is_ascii()).then(|| idna::domain_to_ascii(parsed.domain()));
    let ascii = ascii.transpose().map_err(|_| "has a domain that no server can have")?;
    let domain = ascii.as_deref().unwrap_or(parsed.domain());
    let address = Address::new(parsed.local_part(), domain)
        .map_err(|error| format!("is not a mail address: {error}"))?;
    Ok(Mailbox::new(named(parsed.display_part()), address))
}

/// A display name without its quotes (RFC 5322, 3.2.4).
fn named(text: &str) -> Option<String> {
    let text = text.trim();
    let name = match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => unescape(quoted),
        None => text.to_owned(),
    };
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

fn unescape(quoted: &str) -> String {
    let mut chars = quoted.chars();
    let mut name = String::with_capacity(quoted.len());
    while let Some(c) = chars.next() {
        name.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(text: &str) -> (Option<String>, String) {
        let mailbox = read(text).unwrap();
        (mailbox.name, mailbox.email.to_string())
    }

    #[test]
    fn names_and_addresses_are_told_apart() {
        let of = |name: Option<&str>, address: &str| (name.map(str::to_owned), address.to_owned());
        assert_eq!(read_back("a@example.com"), of(None, "a@example.com"));
        assert_eq!(read_back("Ada <a@example.com>"), of(Some("Ada"), "a@example.com"));
        let quoted = r#""Lovelace, \"Ada\"" <a@example.com>"#;
        assert_eq!(read_back(quoted), of(Some(r#"Lovelace, "Ada""#), "a@example.com"));
        assert_eq!(read_back("Ada <a@[127.0.0.1]>"), of(Some("Ada"), "a@[127.0.0.1]"));
    }

    #[test]
    fn a_domain_beyond_ascii_becomes_ascii() {
        assert_eq!(read_back("a@bücher.example").1, "a@xn--bcher-kva.example");
    }

    #[test]
    fn what_is_no_mailbox_is_refused() {
        for bad in
            ["", "nobody", "a@b\r\nBcc: c@d.e", "A\r\nB <a@example.com>", "a@example.com, b@example.com"]
        {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
