//! `GET /actions/{id}`: what became of an action, at once or as soon as it is at its end.

use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use chassis::http::Answer;
use contracts::validation::Violations;
use http::StatusCode;

use super::{App, id, parameters};

/// The longest wait.
const MAX_WAIT: Duration = Duration::from_mins(1);
/// Every parameter.
const KNOWN: &str = "wait";

pub(super) async fn one(
    State(app): State<App>,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Answer, Answer> {
    let id = id(&text, "an action")?;
    let wait = parse(query.as_deref()).map_err(|violations| Answer::invalid("query", violations))?;
    match app.trails.awaited(id, wait, &app.draining).await? {
        Some(trail) => {
            let message = format!("{}: {}", trail.action, trail.state.as_str());
            Ok(Answer::ok(StatusCode::OK, message).with_data(&trail))
        }
        None => Err(Answer::failed(StatusCode::NOT_FOUND, format!("nothing is known of {id}"))),
    }
}

/// How long to wait; not at all unless told.
fn parse(query: Option<&str>) -> Result<Duration, Violations> {
    let mut wait = Duration::ZERO;
    let violations = parameters::read(query, |name, value| {
        if name != KNOWN {
            return Err(parameters::unknown(KNOWN));
        }
        let asked = humantime::parse_duration(value).ok().filter(|asked| *asked <= MAX_WAIT);
        wait = asked.ok_or("must be a duration such as 30s, at most 60s")?;
        Ok(())
    });
    if violations.0.is_empty() { Ok(wait) } else { Err(violations) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_duration_of_a_minute_at_most() {
        assert_eq!(parse(None), Ok(Duration::ZERO));
        for (wait, millis) in [("30s", 30_000), ("60s", 60_000), ("1m", 60_000), ("250ms", 250), ("0s", 0)] {
            assert_eq!(parse(Some(&format!("wait={wait}"))), Ok(Duration::from_millis(millis)));
        }
        for wrong in ["wait=61s", "wait=30", "wait=-1s", "wait=soon", "wait=", "wait=1s&wait=1s"] {
            assert_eq!(parse(Some(wrong)).unwrap_err().0[0].field, "wait", "{wrong}");
        }
        let violations = parse(Some("wait=61s&wiat=1s")).unwrap_err();
        let named: Vec<_> = violations.0.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(named, ["wait", "wiat"]);
    }
}
