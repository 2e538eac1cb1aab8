//! `POST /log`, `GET /logs`, `GET /logs/{id}`: the log.

use axum::extract::{Path, RawQuery, State};
use chassis::http::Answer;
use chassis::http::body::JsonBody;
use chassis::request::RequestContext;
use chrono::Utc;
use contracts::log::{Entry, Level, LogPayload, MAX_NAME};
use contracts::logger::AppendError;
use contracts::validation::Violations;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use uuid::Uuid;

use super::{App, count, id, parameters};
use crate::page::{Cursor, Range};
use crate::search::Filter;

/// Every parameter of `GET /logs`.
const KNOWN: &str = "name, level, since, until, id, trace_id, text, limit, before";
/// The header whose value is the id of the entry.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The `data` of a stored entry.
#[derive(Serialize)]
struct StoredEntry {
    id: Uuid,
}

/// The `data` of a page.
#[derive(Serialize)]
struct PageData<'a> {
    entries: &'a [Entry],
    next: Option<String>,
}

pub(super) async fn log(
    State(app): State<App>,
    context: RequestContext,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Answer, Answer> {
    let id = match headers.get(IDEMPOTENCY_KEY) {
        None => context.id,
        Some(key) => key.to_str().ok().and_then(|key| key.parse().ok()).ok_or_else(|| {
            Answer::failed(
                StatusCode::BAD_REQUEST,
                "the header Idempotency-Key must be a UUID: the entry's id",
            )
        })?,
    };
    let payload =
        LogPayload::parse(body.value()?).map_err(|violations| Answer::invalid("log", violations))?;
    let entry = Entry::new(id, payload, "http", Some(context.trace.trace_id_hex()), Utc::now());
    match app.log.append(&entry).await {
        Ok(_) => {
            let answer = Answer::ok(StatusCode::ACCEPTED, format!("Logged: {}", entry.name));
            Ok(answer.with_data(&StoredEntry { id }))
        }
        Err(AppendError::Unavailable(what)) => Err(Answer::unavailable(&what)),
        Err(AppendError::Conflict) => Err(Answer::key_conflict()),
        Err(AppendError::Refused(why)) => {
            let message = format!("the entry can't be stored: {why}");
            Err(Answer::failed(StatusCode::UNPROCESSABLE_ENTITY, message))
        }
    }
}

pub(super) async fn list(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Answer, Answer> {
    let (filter, range) =
        parse(query.as_deref()).map_err(|violations| Answer::invalid("query", violations))?;
    let page = app.search.page(&filter, &range).await?;
    let message = count(page.items.len(), "entry", "entries");
    let data = PageData { entries: &page.items, next: page.next.map(Cursor::text) };
    Ok(Answer::ok(StatusCode::OK, message).with_data(&data))
}

pub(super) async fn one(State(app): State<App>, Path(text): Path<String>) -> Result<Answer, Answer> {
    let id = id(&text, "an entry")?;
    match app.search.one(id).await? {
        Some(entry) => Ok(Answer::ok(StatusCode::OK, "1 entry").with_data(&entry)),
        None => Err(Answer::failed(StatusCode::NOT_FOUND, format!("there is no entry {id}"))),
    }
}

fn parse(query: Option<&str>) -> Result<(Filter, Range), Violations> {
    parameters::list(query, |filter: &mut Filter, name, value| {
        match name {
            "name" => filter.name = Some(parameters::text(value, MAX_NAME)?),
            "text" => filter.text = Some(parameters::text(value, parameters::MAX_TEXT)?),
            "level" => {
                let level = Level::parse(value).ok_or("must be one of info, warning, error")?;
                filter.level = Some(level);
            }
            "id" => filter.id = Some(parameters::uuid(value)?),
            "trace_id" => {
                if value.len() != 32 || !value.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err("must be 32 hexadecimal digits".to_owned());
                }
                filter.trace_id = Some(value.to_ascii_lowercase());
            }
            _ => return Err(parameters::unknown(KNOWN)),
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_is_the_newest_fifty() {
        let (filter, range) = parse(None).unwrap();
        assert_eq!((filter, range.limit), (Filter::default(), 50));
        assert_eq!(range, Range::default());
    }

    #[test]
    fn every_parameter_is_read() {
        let (filter, range) = parse(Some(
            "name=a%20b&level=ERROR&since=2026-01-02T03:04:05Z&until=2026-01-02T03:04:05.5%2B00:00&limit=200\
             &id=01890000-0000-7000-8000-000000000000&trace_id=0AF7651916CD43DD8448EB211C80319C&text=%C3%A9",
        ))
        .unwrap();
        assert_eq!(filter.name.as_deref(), Some("a b"));
        assert_eq!(filter.level, Some(Level::Error));
        assert_eq!(filter.text.as_deref(), Some("é"));
        assert_eq!(filter.trace_id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
        assert!(range.since < range.until && filter.id.is_some());
        assert_eq!(range.limit, 200);
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        let query = "level=loud&since=yesterday&id=7&trace_id=xyz&limit=0&before=x&nmae=a&text=";
        let violations = parse(Some(query)).unwrap_err();
        let named: Vec<_> = violations.0.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(named, ["level", "since", "id", "trace_id", "limit", "before", "nmae", "text"]);
        for limit in ["-1", "201", "1e2", "4294967296"] {
            assert!(parse(Some(&format!("limit={limit}"))).is_err(), "{limit}");
        }
        assert!(parse(Some("name=a&name=b")).is_err());
        assert!(parse(Some("since=2026-01-02T03:04:05Z&until=2026-01-02T03:04:05Z")).is_err());
        assert!(parse(Some(&format!("text={}", "x".repeat(257)))).is_err());
        assert!(parse(Some("name=%00")).is_err());
    }
}
