//! `GET /actions/{id}`: how a queued action stands, and the way that it went. The logger keeps it:
//! [`crate::clients::LoggerHttp`].

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use chassis::http::Answer;
use chassis::request::RequestContext;
use contracts::validation::Violations;
use http::HeaderValue;
use url::form_urlencoded;
use uuid::Uuid;

use crate::App;
use crate::routes::Id;

/// How long the logger is asked to wait at least: what was queued is known there only moments later.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest that a client may ask to wait.
const LONGEST: Duration = Duration::from_mins(1);

/// Where a client finds out about the action `id`.
pub(crate) fn location(id: Uuid) -> HeaderValue {
    // Visible ASCII, whichever it is.
    HeaderValue::try_from(format!("/actions/{id}")).unwrap_or(HeaderValue::from_static("/actions"))
}

/// Asks the logger, which answers when the action has ended, or the wait is over.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    context: RequestContext,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<Answer, Answer> {
    let wait = wait(query.as_deref().unwrap_or_default())
        .map_err(|violations| Answer::invalid("query", violations))?;
    let ask = |wait| app.logger_http.action(&context, id, wait);
    tokio::select! {
        answer = ask(wait) => answer,
        // Whoever waits longer than this process lives is told how it stands now.
        () = app.stopping.cancelled() => ask(SHORTEST).await,
    }
}

/// Reads the query: `wait` is all that it may have.
fn wait(query: &str) -> Result<Duration, Violations> {
    let mut wait = None;
    let mut violations = Violations::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match (&*name, humantime::parse_duration(&value)) {
            ("wait", _) if wait.is_some() => violations.add("wait", "must be given only once"),
            ("wait", Ok(asked)) if asked <= LONGEST => wait = Some(asked),
            ("wait", _) => violations.add("wait", "must be a time of at most 60s, such as 10s"),
            (other, _) => violations.add(other, "is not a parameter: there is wait"),
        }
    }
    let wait = wait.unwrap_or_default().max(SHORTEST);
    if violations.0.is_empty() { Ok(wait) } else { Err(violations) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_time_of_a_second_to_a_minute() {
        for (query, expected) in [
            ("", 1000),
            ("wait=0s", 1000),
            ("wait=200ms", 1000),
            ("wait=1500ms", 1500),
            ("wait=1s%20500ms", 1500),
            ("wait=60s", 60_000),
            ("wait=1m", 60_000),
        ] {
            assert_eq!(wait(query), Ok(Duration::from_millis(expected)), "{query}");
        }
    }

    #[test]
    fn what_is_wrong_in_a_query_is_named() {
        for (query, expected) in [
            ("wait=61s", "wait must be a time of at most 60s"),
            ("wait=", "wait must be a time"),
            ("wait", "wait must be a time"),
            ("wait=10", "wait must be a time"),
            ("wait=-1s", "wait must be a time"),
            ("wait=99999999999999999999y", "wait must be a time"),
            ("wait=1s&wait=2s", "wait must be given only once"),
            ("Wait=1s&x=1", "Wait is not a parameter: there is wait; x is not a parameter"),
        ] {
            let violations = wait(query).unwrap_err().to_string();
            assert!(violations.starts_with(expected), "{query}: {violations}");
        }
    }
}
