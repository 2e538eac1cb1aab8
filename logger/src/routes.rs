//! The logger over HTTP: `POST /log` goes to [`crate::group_commit`], `GET /logs` to [`crate::search`].

mod parameters;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::routing::{get, post};
use chassis::http::Answer;
use chassis::http::body::JsonBody;
use chassis::request::RequestContext;
use chrono::Utc;
use contracts::log::{Entry, LogPayload};
use contracts::logger::AppendError;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use uuid::Uuid;

use crate::group_commit::GroupCommit;
use crate::search::Search;

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

/// What the handlers work with.
#[derive(Clone, Debug)]
struct App {
    log: GroupCommit,
    search: Search,
}

/// The routes.
pub fn routes(log: GroupCommit, search: Search) -> Router {
    Router::new()
        .route("/log", post(log_entry))
        .route("/logs", get(list))
        .route("/logs/{id}", get(one))
        .with_state(App { log, search })
}

async fn log_entry(
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

async fn list(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Answer, Answer> {
    let asked = parameters::parse(query.as_deref().unwrap_or_default())
        .map_err(|violations| Answer::invalid("query", violations))?;
    let page = app.search.page(&asked.filter, asked.limit, asked.before).await?;
    let message = match page.entries.len() {
        1 => "1 entry".to_owned(),
        count => format!("{count} entries"),
    };
    let data = PageData { entries: &page.entries, next: page.next.map(crate::search::Cursor::text) };
    Ok(Answer::ok(StatusCode::OK, message).with_data(&data))
}

async fn one(State(app): State<App>, Path(id): Path<String>) -> Result<Answer, Answer> {
    let id: Uuid = id
        .parse()
        .map_err(|_| Answer::failed(StatusCode::BAD_REQUEST, "the id of an entry must be a UUID"))?;
    match app.search.one(id).await? {
        Some(entry) => Ok(Answer::ok(StatusCode::OK, "1 entry").with_data(&entry)),
        None => Err(Answer::failed(StatusCode::NOT_FOUND, format!("there is no entry {id}"))),
    }
}
