//! The trail of an action, from wherever something is known of it: its steps, its log entry, its dead letter.
//!
//! A mail has steps. Of a log there is one for each attempt that failed: what became of it is seen in the log itself, and in
//! the dead letters.

use std::sync::Arc;
use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use contracts::trail::{Step, StepKind, Trail};
use mongodb::Collection;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::dead_letters::DeadLetters;
use crate::document::{DecodeError, entry};
use crate::mongo::Mongo;
use crate::read::{self, ReadError, readable};
use crate::steps::Steps;

/// What [`contracts::log::Entry::via`] says of an entry that was in a queue.
const QUEUE: &str = "queue";
/// What an action that is an entry of the log is called.
const LOG: &str = "log";
/// The first pause before somebody who waits is looked after again.
const FIRST: Duration = Duration::from_millis(50);
/// How many may wait at once, each of whom asks MongoDB again and again.
const WAITING: usize = 256;
/// The longest pause.
const LONGEST: Duration = Duration::from_millis(500);

/// Reads trails. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Trails {
    steps: Steps,
    entries: Collection<RawDocumentBuf>,
    letters: DeadLetters,
    places: Arc<Semaphore>,
}

impl Trails {
    /// Reads from this database.
    pub fn new(mongo: &Mongo, steps: Steps, letters: DeadLetters) -> Self {
        Self { steps, entries: mongo.entries(), letters, places: Arc::new(Semaphore::new(WAITING)) }
    }

    /// The trail of an action; `None` where nothing is known of it.
    pub async fn of(&self, id: Uuid) -> Result<Option<Trail>, ReadError> {
        let mut steps = self.steps.of(id).await?;
        if steps.iter().all(|step| step.name == LOG) {
            let document = read::one(&self.entries, id).await?;
            steps.extend(document.and_then(|document| readable(&document, logged)).into_iter().flatten());
            steps.extend(self.letters.told(id).await?);
        }
        Ok(Trail::of(id, steps))
    }

    /// The same, as soon as the action is at its end; as it is after `wait`, or when `stop` is cancelled, otherwise. Where
    /// too many wait already, at once.
    pub async fn awaited(
        &self,
        id: Uuid,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Option<Trail>, ReadError> {
        let place = self.places.try_acquire();
        let wait = if place.is_ok() { wait } else { Duration::ZERO };
        let (end, mut pause) = (Instant::now() + wait, FIRST);
        loop {
            let ends = stop.is_cancelled() || Instant::now() >= end;
            let trail = self.of(id).await?;
            if ends || trail.as_ref().is_some_and(|trail| trail.state.is_final()) {
                return Ok(trail);
            }
            tokio::select! {
                () = sleep_until(end.min(Instant::now() + pause)) => pause = LONGEST.min(pause * 2),
                () = stop.cancelled() => {}
            }
        }
    }
}

/// What an entry of the log says of its action, as steps.
fn logged(document: &RawDocument) -> Result<Vec<Step>, DecodeError> {
    let entry = entry::decode(document)?;
    let step = |kind, service, at| {
        let trace_id = entry.trace_id.clone();
        Step { at, trace_id, ..Step::new(entry.id, LOG, kind, 0, service) }
    };
    let queued = (entry.via == QUEUE).then(|| step(StepKind::Queued, "broker", entry.at));
    let done = step(StepKind::Done, "logger", entry::stored_at(document)?);
    Ok(queued.into_iter().chain([done]).collect())
}
