//! The same done to many letters: a few at a time, each for itself.

use std::time::{Duration, Instant};

use chassis::http::Answer;
use contracts::validation::Form;
use futures_util::stream::{self, StreamExt as _};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// How many letters one request may name.
const MOST: usize = 200;
/// How many are worked on at a time.
const AT_ONCE: usize = 4;
/// For how long letters are begun with, so that an answer comes before whoever waits for it has gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes the `ids` out of a form, each once.
pub(super) fn ids(form: &mut Form) -> Vec<Uuid> {
    let items = match form.take("ids") {
        Some(Value::Array(items)) if (1..=MOST).contains(&items.len()) => items,
        _ => {
            form.violation("ids", format!("must be a list of 1 to {MOST} UUIDs"));
            return Vec::new();
        }
    };
    let mut ids = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        match item.as_str().and_then(|id| id.parse().ok()) {
            Some(id) if ids.contains(&id) => {}
            Some(id) => ids.push(id),
            None => form.violation(format!("ids[{i}]"), "must be a UUID"),
        }
    }
    ids
}

/// What became of them.
pub(super) struct Outcome {
    done: Vec<Uuid>,
    failed: Vec<Failed>,
}

/// One to which it could not be done: what it would have been answered alone.
#[derive(Serialize)]
struct Failed {
    id: Uuid,
    status: u16,
    message: String,
}

/// Does it to each.
pub(super) async fn each<T, F>(ids: Vec<Uuid>, act: impl Fn(Uuid) -> F) -> Outcome
where
    F: Future<Output = Result<T, Answer>>,
{
    let (started, act) = (Instant::now(), &act);
    let one = |id| async move {
        if started.elapsed() < PATIENCE {
            (id, act(id).await.map(drop))
        } else {
            let message = "not begun: those before it took too long, try again shortly";
            (id, Err(Answer::failed(StatusCode::SERVICE_UNAVAILABLE, message)))
        }
    };
    let mut outcome = Outcome { done: Vec::new(), failed: Vec::new() };
    let mut results = std::pin::pin!(stream::iter(ids).map(one).buffered(AT_ONCE));
    while let Some((id, result)) = results.next().await {
        match result {
            Ok(()) => outcome.done.push(id),
            Err(answer) => {
                let (status, message) = (answer.status().as_u16(), answer.message().to_owned());
                outcome.failed.push(Failed { id, status, message });
            }
        }
    }
    outcome
}

impl Outcome {
    /// 202 with both lists; `did` is what was done, for a person, and `name` the list of those to which it was.
    pub(super) fn answer(&self, did: &str, name: &str) -> Answer {
        let Self { done, failed } = self;
        let message = format!("{did}: {} of {}", done.len(), done.len() + failed.len());
        Answer::ok(StatusCode::ACCEPTED, message).with_data(&json!({name: done, "failed": failed}))
    }
}
