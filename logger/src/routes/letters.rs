//! `GET /dead-letters`, `GET /dead-letters/{id}` and what is decided about one: `POST …/replaying` and `…/replayed`, which the
//! broker calls before it puts the message into its queue again, and once it is there, and `POST …/discard`.

use axum::extract::{Path, RawQuery, State};
use chassis::http::Answer;
use chassis::http::body::JsonBody;
use contracts::dead_letter::{Discard, Kept, LetterState, Replayed};
use contracts::log::MAX_NAME;
use contracts::validation::Violations;
use http::StatusCode;
use serde::Serialize;
use uuid::Uuid;

use super::{App, count, id, parameters};
use crate::dead_letters::{DecideError, Decision, Filter};
use crate::page::{Cursor, Range};

/// Every parameter of `GET /dead-letters`.
const KNOWN: &str = "queue, reason, action, state, since, until, limit, before";

/// The `data` of a page.
#[derive(Serialize)]
struct PageData<'a> {
    letters: &'a [Kept],
    next: Option<String>,
}

pub(super) async fn list(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Answer, Answer> {
    let (filter, range) =
        parse(query.as_deref()).map_err(|violations| Answer::invalid("query", violations))?;
    let page = app.letters.page(&filter, &range).await?;
    let message = count(page.items.len(), "letter", "letters");
    let data = PageData { letters: &page.items, next: page.next.map(Cursor::text) };
    Ok(Answer::ok(StatusCode::OK, message).with_data(&data))
}

pub(super) async fn one(State(app): State<App>, Path(text): Path<String>) -> Result<Answer, Answer> {
    let id = letter_id(&text)?;
    match app.letters.one(id).await? {
        Some(kept) => Ok(Answer::ok(StatusCode::OK, "1 letter").with_data(&kept)),
        None => Err(nothing(id)),
    }
}

pub(super) async fn replaying(State(app): State<App>, Path(text): Path<String>) -> Result<Answer, Answer> {
    let id = letter_id(&text)?;
    decided(id, app.letters.begin_replay(id).await)
}

pub(super) async fn replayed(
    State(app): State<App>,
    Path(text): Path<String>,
    body: JsonBody,
) -> Result<Answer, Answer> {
    let id = letter_id(&text)?;
    let Replayed { at } = body.parse()?;
    decided(id, app.letters.decide(id, Decision::Replayed(at)).await)
}

pub(super) async fn discard(
    State(app): State<App>,
    Path(text): Path<String>,
    body: JsonBody,
) -> Result<Answer, Answer> {
    let id = letter_id(&text)?;
    let discard =
        Discard::parse(body.value()?).map_err(|violations| Answer::invalid("discard", violations))?;
    decided(id, app.letters.decide(id, Decision::Discarded(discard)).await)
}

fn decided(id: Uuid, decided: Result<Kept, DecideError>) -> Result<Answer, Answer> {
    match decided {
        Ok(kept) => Ok(Answer::ok(StatusCode::OK, kept.state.as_str()).with_data(&kept)),
        Err(DecideError::Unknown) => Err(nothing(id)),
        Err(error @ (DecideError::Decided(_) | DecideError::Replaying)) => {
            Err(Answer::failed(StatusCode::CONFLICT, error.to_string()))
        }
        Err(DecideError::Read(error)) => Err(error.into()),
    }
}

fn letter_id(text: &str) -> Result<Uuid, Answer> {
    id(text, "a letter")
}

fn nothing(id: Uuid) -> Answer {
    Answer::failed(StatusCode::NOT_FOUND, format!("there is no letter {id}"))
}

fn parse(query: Option<&str>) -> Result<(Filter, Range), Violations> {
    parameters::list(query, |filter: &mut Filter, name, value| {
        match name {
            "queue" => filter.queue = Some(parameters::text(value, MAX_NAME)?),
            "reason" => filter.reason = Some(parameters::text(value, parameters::MAX_TEXT)?),
            "action" => filter.action = Some(parameters::uuid(value)?),
            "state" => {
                let state = LetterState::parse(value).ok_or("must be one of dead, replayed, discarded")?;
                filter.state = state;
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
    fn nothing_asked_is_the_newest_fifty_that_are_dead() {
        let (filter, range) = parse(None).unwrap();
        assert_eq!((filter.state, range), (LetterState::Dead, Range::default()));
    }

    #[test]
    fn every_parameter_is_read_and_every_wrong_one_named() {
        let id = Uuid::now_v7();
        let (filter, _) = parse(Some(&format!("queue=q&reason=a%20b&action={id}&state=replayed"))).unwrap();
        let (queue, reason) = (Some("q".to_owned()), Some("a b".to_owned()));
        assert_eq!(filter, Filter { state: LetterState::Replayed, queue, reason, action: Some(id) });
        let query = "queue=&reason=%00&action=7&state=alive&since=x&limit=201&before=x&sate=dead";
        let violations = parse(Some(query)).unwrap_err();
        let named: Vec<_> = violations.0.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(named, ["queue", "reason", "action", "state", "since", "limit", "before", "sate"]);
    }
}
