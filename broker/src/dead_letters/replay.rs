//! Puts a dead letter back into the queue that it came from.
//!
//! The logger is told before, so that nobody discards what is on its way, and once RabbitMQ has confirmed it. Where one of
//! them fails, or the broker dies in between, the letter can be replayed again, which has no second effect, since the
//! message has the same id, whatever its body.

use std::collections::HashMap;

use chassis::crash;
use chassis::http::Answer;
use chassis::http::body::JsonBody;
use chassis::request::RequestContext;
use chrono::Utc;
use contracts::dead_letter::{Kept, Letter, LetterState, Replayed, event_id};
use contracts::topology::Topology;
use contracts::validation::Violations;
use http::StatusCode;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::App;

/// What takes the place of the letter's own body, if anything does: `body` as it is where it is a string, else the JSON
/// that it is.
pub(super) fn edited(body: &JsonBody) -> Result<Option<Vec<u8>>, Answer> {
    if body.0.trim_ascii().is_empty() {
        return Ok(None);
    }
    let mut fields: HashMap<String, Box<RawValue>> = body.parse()?;
    let edited = fields.remove("body").filter(|edited| edited.get() != "null");
    if let Some(other) = fields.into_keys().next() {
        let violations = Violations::one(other, "is not a field: there is body");
        return Err(Answer::invalid("replay", violations));
    }
    let Some(edited) = edited else { return Ok(None) };
    if !edited.get().starts_with('"') {
        return Ok(Some(edited.get().into()));
    }
    let text: Result<String, _> = serde_json::from_str(edited.get());
    let bad = |error| Answer::failed(StatusCode::BAD_REQUEST, format!("`body` cannot be read: {error}"));
    text.map(|text| Some(text.into())).map_err(bad)
}

/// Replays the letter `id`, with its own body unless another is given.
pub(super) async fn replay(
    app: &App,
    context: &RequestContext,
    id: Uuid,
    edited: Option<Vec<u8>>,
) -> Result<Letter, Answer> {
    let Kept { letter, state, .. } = app.logger_http.kept(context, id).await?;
    if state == LetterState::Replayed {
        // The logger may have died before the trail knew.
        app.logger_http.replayed(context, id, Replayed { at: Utc::now() }).await?;
    }
    replayable(&app.topology, &letter, state)?;
    let own = || if letter.body.truncated { None } else { letter.body.bytes() };
    let Some(body) = edited.or_else(own) else {
        let violations = Violations::one("body", "is required: the letter's own is not whole");
        return Err(Answer::invalid("replay", violations));
    };
    keeps_its_id(&letter, &body)?;
    app.logger_http.replaying(context, id).await?;
    crash::point("replay: begun");
    let replayed = Replayed { at: Utc::now() };
    app.publisher.replay(&letter, body).await?;
    crash::point("replay: published");
    app.logger_http.replayed(context, id, replayed).await?;
    Ok(letter)
}

/// Whether a letter may go back: once, and into a queue of this system.
fn replayable(topology: &Topology, letter: &Letter, state: LetterState) -> Result<(), Answer> {
    let Letter { id, queue, .. } = letter;
    let conflict = |message| Err(Answer::failed(StatusCode::CONFLICT, message));
    if state != LetterState::Dead {
        return conflict(format!("the dead letter {id} was {} before", state.as_str()));
    }
    let Topology { log_queue, mail_queue, trail_queue, .. } = topology;
    if [log_queue, mail_queue, trail_queue].contains(&queue) {
        Ok(())
    } else {
        let shown: String = queue.chars().take(255).collect();
        conflict(format!("the dead letter {id} died in {shown:?}, which is no queue of this system"))
    }
}

/// Whether an event goes back under its own id, which is that of its effect.
fn keeps_its_id(letter: &Letter, body: &[u8]) -> Result<(), Answer> {
    let own = letter.event_id();
    if event_id(body).is_none_or(|id| id == own) {
        return Ok(());
    }
    let violations = Violations::one("body", format!("must keep the id of its event, {own}"));
    Err(Answer::invalid("replay", violations))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Option<String>, (u16, String)> {
        let edited = edited(&JsonBody(body.to_owned().into()));
        edited
            .map(|body| body.map(|bytes| String::from_utf8(bytes).unwrap()))
            .map_err(|answer| (answer.status().as_u16(), answer.message().to_owned()))
    }

    #[test]
    fn a_string_is_used_as_it_is_and_other_json_as_it_is_written() {
        for nothing in ["", " \n", "{}", r#"{"body":null}"#] {
            assert_eq!(read(nothing), Ok(None), "{nothing:?}");
        }
        for (body, expected) in [
            (r#"{"body":"{\"name\":\"n\"}"}"#, r#"{"name":"n"}"#),
            (r#"{"body":""}"#, ""),
            (
                r#"{"body": {"b": 1.0, "a": 12345678901234567890123} }"#,
                r#"{"b": 1.0, "a": 12345678901234567890123}"#,
            ),
            (r#"{"body":[1]}"#, "[1]"),
        ] {
            assert_eq!(read(body), Ok(Some(expected.to_owned())), "{body}");
        }
    }

    #[test]
    fn what_is_no_edit_is_refused() {
        for (body, status, expected) in [
            ("[\"x\"]", 400, "the body must be one JSON value"),
            ("{\"body\":", 400, "the body must be one JSON value"),
            (r#"{"body":"\ud800"}"#, 400, "`body` cannot be read"),
            (r#"{"Body":"x"}"#, 422, "replay: Body is not a field: there is body"),
        ] {
            let refused = read(body).unwrap_err();
            assert!(refused.0 == status && refused.1.starts_with(expected), "{body}: {refused:?}");
        }
    }
}
