//! The parameters of `GET /logs`: every one that is wrong is named, and so is one that is not known.

use chrono::{DateTime, Utc};
use contracts::log::{Level, MAX_NAME};
use contracts::validation::Violations;
use url::form_urlencoded;
use uuid::Uuid;

use crate::search::{Cursor, Filter};

/// The most entries on a page.
const MAX_LIMIT: u32 = 200;
/// Entries on a page unless told.
const LIMIT: u32 = 50;
/// The longest text to search for, in characters.
const MAX_TEXT: usize = 256;
/// Every parameter.
const KNOWN: &str = "name, level, since, until, id, trace_id, text, limit, before";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) filter: Filter,
    pub(super) limit: u32,
    pub(super) before: Option<Cursor>,
}

/// Reads a query string.
pub(super) fn parse(query: &str) -> Result<Asked, Violations> {
    let mut asked = Asked { filter: Filter::default(), limit: LIMIT, before: None };
    let mut violations = Violations::default();
    let mut seen = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let read = if seen.contains(&name) {
            Err("must be given only once".to_owned())
        } else if value.is_empty() {
            Err("must not be empty".to_owned())
        } else {
            set(&mut asked, &name, &value)
        };
        if let Err(why) = read {
            violations.add(name.clone(), why);
        }
        seen.push(name);
    }
    if let (Some(since), Some(until)) = (asked.filter.since, asked.filter.until)
        && since >= until
    {
        violations.add("until", "must be later than since");
    }
    if violations.0.is_empty() { Ok(asked) } else { Err(violations) }
}

fn set(asked: &mut Asked, name: &str, value: &str) -> Result<(), String> {
    let filter = &mut asked.filter;
    match name {
        "name" => filter.name = Some(text(value, MAX_NAME)?),
        "text" => filter.text = Some(text(value, MAX_TEXT)?),
        "level" => {
            let level = Level::parse(value).ok_or("must be one of info, warning, error")?;
            filter.level = Some(level);
        }
        "since" => filter.since = Some(time(value)?),
        "until" => filter.until = Some(time(value)?),
        "id" => filter.id = Some(value.parse::<Uuid>().map_err(|_| "must be a UUID")?),
        "trace_id" => {
            if value.len() != 32 || !value.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err("must be 32 hexadecimal digits".to_owned());
            }
            filter.trace_id = Some(value.to_ascii_lowercase());
        }
        "limit" => {
            let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
            asked.limit = limit.ok_or_else(|| format!("must be a number from 1 to {MAX_LIMIT}"))?;
        }
        "before" => {
            let cursor = Cursor::parse(value).ok_or("must be the `next` of the page before")?;
            asked.before = Some(cursor);
        }
        _ => return Err(format!("is not a parameter: there are {KNOWN}")),
    }
    Ok(())
}

fn text(value: &str, max: usize) -> Result<String, String> {
    if value.contains('\0') {
        Err("must not contain the control character U+0000".to_owned())
    } else if value.chars().count() > max {
        Err(format!("must not be longer than {max} characters"))
    } else {
        Ok(value.to_owned())
    }
}

fn time(value: &str) -> Result<DateTime<Utc>, String> {
    let time = DateTime::parse_from_rfc3339(value);
    let time = time.map_err(|_| "must be a time such as 2026-01-02T03:04:05Z (RFC 3339)")?;
    Ok(time.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_is_the_newest_fifty() {
        let asked = parse("").unwrap();
        assert_eq!(asked, Asked { filter: Filter::default(), limit: 50, before: None });
    }

    #[test]
    fn every_parameter_is_read() {
        let asked = parse(
            "name=a%20b&level=ERROR&since=2026-01-02T03:04:05Z&until=2026-01-02T03:04:05.5%2B00:00&limit=200\
             &id=01890000-0000-7000-8000-000000000000&trace_id=0AF7651916CD43DD8448EB211C80319C&text=%C3%A9",
        )
        .unwrap();
        assert_eq!(asked.filter.name.as_deref(), Some("a b"));
        assert_eq!(asked.filter.level, Some(Level::Error));
        assert_eq!(asked.filter.text.as_deref(), Some("é"));
        assert_eq!(asked.filter.trace_id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
        assert!(asked.filter.since < asked.filter.until && asked.filter.id.is_some());
        assert_eq!(asked.limit, 200);
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        let query = "level=loud&since=yesterday&id=7&trace_id=xyz&limit=0&before=x&nmae=a&text=";
        let violations = parse(query).unwrap_err();
        let named: Vec<_> = violations.0.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(named, ["level", "since", "id", "trace_id", "limit", "before", "nmae", "text"]);
        for limit in ["-1", "201", "1e2", "4294967296"] {
            assert!(parse(&format!("limit={limit}")).is_err(), "{limit}");
        }
        assert!(parse("name=a&name=b").is_err());
        assert!(parse("since=2026-01-02T03:04:05Z&until=2026-01-02T03:04:05Z").is_err());
        assert!(parse(&format!("text={}", "x".repeat(257))).is_err());
        assert!(parse("name=%00").is_err());
    }
}
