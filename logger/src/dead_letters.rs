//! The dead letters: kept until somebody decides what becomes of each, and decided about once.
//!
//! What was decided about a letter of the mail queue is also a step of its action's trail. It is told after the decision
//! is durable, and again whenever somebody asks for a decision that is made already, so that none is missing.

use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Document, doc};
use chassis::crash;
use chrono::{DateTime, Utc};
use contracts::dead_letter::{Discard, Kept, Letter, LetterState};
use contracts::trail::{Details, Step, StepKind, trace_id};
use metrics::gauge;
use mongodb::Collection;
use mongodb::options::{ReturnDocument, WriteConcern};
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::document::letter::{decode, decode_summary, encode, summary};
use crate::document::{binary, date};
use crate::insert::{Insert, Outcome};
use crate::mongo::Mongo;
use crate::page::{Page, Range};
use crate::read::{self, ReadError, WORK, patiently, readable};
use crate::steps::Steps;

/// What pages go by.
const DIED_AT: &str = "died_at";
/// What the name of the queue of steps ends with.
const TRAIL: &str = "trail";
/// What the name of the queue of mails ends with, and what their actions are called.
const MAIL: &str = "mail";
/// What the actions of the other queues are called.
const LOG: &str = "log";
/// Who says that something is dead: whoever consumes the queues.
const CONSUMER: &str = "listener";
/// Who says what was decided.
const SERVICE: &str = "logger";

/// How often those that wait are counted.
const COUNT_EVERY: Duration = Duration::from_secs(15);
/// How many are counted: more are as bad.
const MOST: u64 = 10_000;
/// How many letters of one action are told of: one that was replayed may die again.
const TOLD: i64 = 20;

/// Which letters. All of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// What became of them.
    pub state: LetterState,
    /// The queue that they died in.
    pub queue: Option<String>,
    /// Those with this text in their reason, in any case.
    pub reason: Option<String>,
    /// Those of this action.
    pub action: Option<Uuid>,
}

/// What somebody decided about a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is in its queue again.
    Replayed(DateTime<Utc>),
    /// It is not needed.
    Discarded(Discard),
}

/// Why a decision was not made.
#[derive(Debug, Error)]
pub enum DecideError {
    /// There is no such letter.
    #[error("there is no such letter")]
    Unknown,
    /// Another one was made before.
    #[error("the letter is {} already", .0.as_str())]
    Decided(LetterState),
    /// A replay has begun, and was not told to have ended.
    #[error(
        "a replay of the letter has begun, and it may be in its queue: replay it again, or discard it `anyway`"
    )]
    Replaying,
    /// Whether it was made is not known.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The dead letters. Clones share their connections.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    letters: Collection<RawDocumentBuf>,
    write_concern: WriteConcern,
    insert: Insert,
    steps: Steps,
}

impl DeadLetters {
    /// The letters in this database; what is decided is told to `steps`.
    pub fn new(mongo: &Mongo, steps: Steps) -> Self {
        let letters = mongo.dead_letters();
        let insert = Insert::new(mongo, letters.clone());
        Self { letters, write_concern: mongo.write_concern().clone(), insert, steps }
    }

    /// Counts those that nobody has decided about, for the metrics, until `closing`.
    pub async fn count(self, closing: CancellationToken) {
        let waiting = gauge!("dead_letters_waiting");
        let mut tick = interval(COUNT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while closing.run_until_cancelled(tick.tick()).await.is_some() {
            let counted = self.letters.count_documents(query(&Filter::default())).limit(MOST).max_time(WORK);
            match patiently(async { counted.await }).await {
                Ok(count) => waiting.set(u32::try_from(count).map_or(f64::MAX, f64::from)),
                Err(error) => tracing::debug!(%error, "the dead letters could not be counted"),
            }
        }
    }

    /// Keeps letters that came together: an outcome for each, in their order. One that is there stays as it is, with
    /// what was decided about it.
    pub async fn bury(&self, letters: &[Letter]) -> Vec<Outcome> {
        let documents: Vec<_> = letters.iter().map(encode).collect();
        self.insert.write_all(&documents).await
    }

    /// The letters that match, their bodies cut where they are long.
    pub async fn page(&self, filter: &Filter, range: &Range) -> Result<Page<Kept>, ReadError> {
        let found = self.letters.find(range.of(DIED_AT, query(filter))).projection(summary());
        range.page(DIED_AT, found, decode_summary).await
    }

    /// The letter with this id.
    pub async fn one(&self, id: Uuid) -> Result<Option<Kept>, ReadError> {
        let document = read::one(&self.letters, id).await?;
        Ok(document.and_then(|document| readable(&document, decode)))
    }

    /// What the letters of an action say of it, as steps: the newest, where there are very many. A step of the trail that
    /// died says nothing of the action that it was about.
    pub async fn told(&self, action: Uuid) -> Result<Vec<Step>, ReadError> {
        let queue = doc! { "$not": { "$regex": format!("{TRAIL}$") } };
        let found = self.letters.find(doc! { "action": binary(action), "queue": queue });
        let found = found.sort(doc! { DIED_AT: -1, "_id": -1 }).limit(TOLD).projection(summary());
        let letters = read::all(found).await?;
        let letters = letters.iter().filter_map(|document| readable(document, decode_summary));
        Ok(letters.flat_map(|kept| [death(&kept), decision(&kept)]).flatten().collect())
    }

    /// Marks a letter that is dead as on its way back into its queue, also a second time: from here on nobody discards it
    /// unawares.
    pub async fn begin_replay(&self, id: Uuid) -> Result<Kept, DecideError> {
        self.change(id, doc! {}, doc! { "replaying_at": date(Utc::now()) }).await
    }

    /// Decides about a letter that is dead: of several who do so at a time, one.
    pub async fn decide(&self, id: Uuid, decision: Decision) -> Result<Kept, DecideError> {
        let (which, change) = match decision {
            Decision::Replayed(at) => {
                (doc! {}, doc! { "state": LetterState::Replayed.as_str(), "decided_at": date(at) })
            }
            Decision::Discarded(Discard { reason: why, anyway }) => (
                if anyway {
                    doc! {}
                } else {
                    doc! { "replaying_at": null }
                },
                doc! { "state": LetterState::Discarded.as_str(), "decided_at": date(Utc::now()), "decided_why": why },
            ),
        };
        self.change(id, which, change).await
    }

    /// Changes the letter with this id, if it is dead and what else is asked of it holds.
    async fn change(&self, id: Uuid, mut which: Document, change: Document) -> Result<Kept, DecideError> {
        which.extend(doc! { "_id": binary(id), "state": LetterState::Dead.as_str() });
        let update = self.letters.find_one_and_update(which, doc! { "$set": change }).max_time(WORK);
        let update = update.return_document(ReturnDocument::After).write_concern(self.write_concern.clone());
        let changed = patiently(async { update.await }).await?;
        crash::point("logger: letter changed");
        if let Some(kept) = changed.and_then(|document| readable(&document, decode)) {
            self.tell(&kept).await?;
            return Ok(kept);
        }
        let kept = self.one(id).await?.ok_or(DecideError::Unknown)?;
        self.tell(&kept).await?;
        Err(match kept.state {
            LetterState::Dead => DecideError::Replaying,
            decided => DecideError::Decided(decided),
        })
    }

    /// Adds what was decided to the trail of a mail.
    async fn tell(&self, kept: &Kept) -> Result<(), ReadError> {
        let Some(step) = decision(kept).filter(|step| step.name == MAIL) else { return Ok(()) };
        match self.steps.record(&[step]).await.pop() {
            Some(Err(error)) => Err(ReadError::Away(error.to_string())),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

/// The filter in MongoDB's words.
fn query(filter: &Filter) -> Document {
    let mut query = doc! { "state": filter.state.as_str() };
    if let Some(queue) = &filter.queue {
        query.insert("queue", queue);
    }
    if let Some(reason) = &filter.reason {
        query.insert("reason", read::containing(reason));
    }
    if let Some(action) = filter.action {
        query.insert("action", binary(action));
    }
    query
}

/// That the message of the letter was given up, as a step of its action.
fn death(kept: &Kept) -> Option<Step> {
    let letter = &kept.letter;
    let attempt = Some(letter.attempts).filter(|attempts| *attempts > 0);
    let details = Details { attempt, why: Some(letter.reason.clone()), ..Details::default() };
    let kind = if letter.is_conflict() { StepKind::Conflict } else { StepKind::Dead };
    step(kept, kind, CONSUMER, letter.died_at, details)
}

/// What was decided about the letter, as a step of its action.
fn decision(kept: &Kept) -> Option<Step> {
    let kind = match kept.state {
        LetterState::Dead => return None,
        LetterState::Replayed => StepKind::Replayed,
        // That nobody wants what was a mistake is nothing that became of the action; that it goes back is.
        LetterState::Discarded if kept.letter.is_conflict() => return None,
        LetterState::Discarded => StepKind::Discarded,
    };
    let details = Details { why: kept.decided_why.clone(), ..Details::default() };
    step(kept, kind, SERVICE, kept.decided_at?, details)
}

fn step(kept: &Kept, kind: StepKind, service: &str, at: DateTime<Utc>, details: Details) -> Option<Step> {
    let letter = &kept.letter;
    let name = if letter.queue.ends_with(MAIL) { MAIL } else { LOG };
    let step = Step::new(letter.action?, name, kind, letter.id.as_u128(), service);
    let trace_id = letter.traceparent.as_deref().and_then(trace_id);
    Some(Step { at, trace_id, details, ..step })
}
