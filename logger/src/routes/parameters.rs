//! The parameters of a question: every one that is wrong is named, and so is one that is not known.

use chrono::{DateTime, Utc};
use contracts::validation::Violations;
use url::form_urlencoded;
use uuid::Uuid;

use crate::page::{Cursor, Range};

/// The most on a page.
const MAX_LIMIT: u32 = 200;
/// The longest text to search for, in characters.
pub(super) const MAX_TEXT: usize = 256;

/// Reads a query string: `set` is given each parameter, and says what is wrong with it. Gives all that is wrong.
pub(super) fn read(query: Option<&str>, mut set: impl FnMut(&str, &str) -> Result<(), String>) -> Violations {
    let mut violations = Violations::default();
    let mut seen = Vec::new();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let read = if seen.contains(&name) {
            Err("must be given only once".to_owned())
        } else if value.is_empty() {
            Err("must not be empty".to_owned())
        } else {
            set(&name, &value)
        };
        if let Err(why) = read {
            violations.add(name.clone(), why);
        }
        seen.push(name);
    }
    violations
}

/// Reads the query string of a list: those parameters that every list has, and those that `set` puts into its filter.
pub(super) fn list<F: Default>(
    query: Option<&str>,
    set: impl Fn(&mut F, &str, &str) -> Result<(), String>,
) -> Result<(F, Range), Violations> {
    let (mut filter, mut range) = (F::default(), Range::default());
    let mut violations = read(query, |name, value| {
        match name {
            "since" => range.since = Some(time(value)?),
            "until" => range.until = Some(time(value)?),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                range.limit = limit.ok_or_else(|| format!("must be a number from 1 to {MAX_LIMIT}"))?;
            }
            "before" => {
                let cursor = Cursor::parse(value).ok_or("must be the `next` of the page before")?;
                range.before = Some(cursor);
            }
            _ => return set(&mut filter, name, value),
        }
        Ok(())
    });
    if let (Some(since), Some(until)) = (range.since, range.until)
        && since >= until
    {
        violations.add("until", "must be later than since");
    }
    if violations.0.is_empty() { Ok((filter, range)) } else { Err(violations) }
}

/// What is wrong with a parameter that is none of those in `known`.
pub(super) fn unknown(known: &str) -> String {
    format!("is not a parameter: there are {known}")
}

/// A text of at most `max` characters.
pub(super) fn text(value: &str, max: usize) -> Result<String, String> {
    if value.contains('\0') {
        Err("must not contain the control character U+0000".to_owned())
    } else if value.chars().count() > max {
        Err(format!("must not be longer than {max} characters"))
    } else {
        Ok(value.to_owned())
    }
}

/// An id.
pub(super) fn uuid(value: &str) -> Result<Uuid, String> {
    value.parse().map_err(|_| "must be a UUID".to_owned())
}

fn time(value: &str) -> Result<DateTime<Utc>, String> {
    let time = DateTime::parse_from_rfc3339(value);
    let time = time.map_err(|_| "must be a time such as 2026-01-02T03:04:05Z (RFC 3339)")?;
    Ok(time.to_utc())
}
