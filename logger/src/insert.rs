//! One write: documents in, one outcome for each, after the journal has them.
//!
//! Everything here may be done twice: a document whose id is there already is not written again, and MongoDB
//! answers that only once the one that is there is as durable as this write was to be.

use std::time::{Duration, Instant};

use bson::raw::RawDocumentBuf;
use bson::{Binary, doc};
use chassis::crash;
use contracts::logger::{AppendError, Stored};
use futures_util::TryStreamExt as _;
use metrics::{Counter, Histogram, counter, histogram};
use mongodb::Collection;
use mongodb::error::{Error, ErrorKind, InsertManyError};
use mongodb::options::WriteConcern;
use thiserror::Error;

use crate::mongo::{Mongo, NAME, describe};

/// How long one write may take. Less than a caller's own deadline, so that it gets an answer that says why.
const PATIENCE: Duration = Duration::from_secs(3);
/// `DuplicateKey`: the only unique index is that of the id.
const DUPLICATE: i32 = 11000;
/// What MongoDB answers when it won't ever take this document: `BadValue`, `FailedToParse`, `TypeMismatch`,
/// `Overflow`, `InvalidBSON`, `DollarPrefixedFieldName`, `InvalidDBRef`, `EmptyFieldName`, `DottedFieldName`,
/// `DocumentValidationFailure`, `BSONObjectTooLarge`, `KeyTooLong`, and two older codes for a document that is too
/// large. Anything else may pass.
const REFUSED: [i32; 14] = [2, 9, 14, 15, 22, 52, 55, 56, 57, 121, 10334, 17280, 17419, 17420];

/// What became of one document.
pub type Outcome = Result<Stored, AppendError>;

/// Nothing is known of any document: MongoDB is away, or too slow.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Away(pub String);

impl From<Away> for AppendError {
    fn from(_: Away) -> Self {
        Self::Unavailable(NAME.to_owned())
    }
}

/// Writes to one collection.
#[derive(Clone, Debug)]
pub struct Insert {
    collection: Collection<RawDocumentBuf>,
    write_concern: WriteConcern,
    duration: Histogram,
    size: Histogram,
    created: Counter,
    already: Counter,
    refused: Counter,
    conflict: Counter,
    unavailable: Counter,
}

impl Insert {
    /// Writes with the write concern of the settings, journaled. What becomes of the documents is counted under the
    /// collection's name: `log_entries_total`.
    pub fn new(mongo: &Mongo, collection: Collection<RawDocumentBuf>) -> Self {
        let name = collection.name().to_owned();
        let total = format!("log_{name}_total");
        let outcome = |outcome: &'static str| counter!(total.clone(), "outcome" => outcome);
        Self {
            write_concern: mongo.write_concern().clone(),
            duration: histogram!("log_insert_duration_seconds", "collection" => name.clone()),
            size: histogram!("log_batch_size", "collection" => name),
            created: outcome("created"),
            already: outcome("already"),
            refused: outcome("refused"),
            conflict: outcome("conflict"),
            unavailable: outcome("unavailable"),
            collection,
        }
    }

    /// Writes these documents and gives an outcome for each, in their order.
    pub async fn write(&self, documents: &[RawDocumentBuf]) -> Result<Vec<Outcome>, Away> {
        crash::point("logger: to insert");
        let started = Instant::now();
        let written = match tokio::time::timeout(PATIENCE, self.write_parts(documents)).await {
            Ok(written) => written,
            Err(_) => Err(Away(format!("no answer within {PATIENCE:?}"))),
        };
        crash::point("logger: inserted");
        self.duration.record(started.elapsed().as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        self.size.record(documents.len() as f64);
        match &written {
            Ok(outcomes) => outcomes.iter().for_each(|outcome| self.count(outcome)),
            Err(_) => self.count_unavailable(documents.len()),
        }
        written
    }

    /// Writes documents that came together: an outcome for each, also where MongoDB is away.
    pub async fn write_all(&self, documents: &[RawDocumentBuf]) -> Vec<Outcome> {
        self.write(documents).await.unwrap_or_else(|away| {
            let collection = self.collection.name();
            tracing::warn!(error = %away, documents = documents.len(), collection, "{NAME} is away");
            vec![Err(away.into()); documents.len()]
        })
    }

    /// The documents that are there under these ids.
    pub async fn standing(&self, ids: Vec<Binary>) -> Result<Vec<RawDocumentBuf>, Away> {
        let found = async {
            let found = self.collection.find(doc! { "_id": { "$in": ids } }).await?;
            found.try_collect().await
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found.map_err(|error| Away(describe(&error))),
            Err(_) => Err(Away(format!("no answer within {PATIENCE:?}"))),
        }
    }

    /// Counts what became of a document.
    pub fn count(&self, outcome: &Outcome) {
        let counter = match outcome {
            Ok(Stored::Created) => &self.created,
            Ok(Stored::Already) => &self.already,
            Err(AppendError::Refused(_)) => &self.refused,
            Err(AppendError::Conflict) => &self.conflict,
            Err(AppendError::Unavailable(_)) => &self.unavailable,
        };
        counter.increment(1);
    }

    /// Counts documents that were not written because something is away.
    pub fn count_unavailable(&self, documents: usize) {
        self.unavailable.increment(documents as u64);
    }

    /// Writes all at once; where MongoDB refuses the whole because of one, the halves, until that one is alone.
    async fn write_parts(&self, documents: &[RawDocumentBuf]) -> Result<Vec<Outcome>, Away> {
        let mut outcomes = Vec::with_capacity(documents.len());
        let mut parts = vec![documents];
        while let Some(part) = parts.pop() {
            match self.write_part(part).await {
                Verdict::Each(each) => outcomes.extend(each),
                Verdict::Away(error) => return Err(Away(describe(&error))),
                Verdict::Whole(why) if part.len() <= 1 => outcomes.push(Err(AppendError::Refused(why))),
                Verdict::Whole(_) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    // The last in is the next out.
                    parts.extend([second, first]);
                }
            }
        }
        Ok(outcomes)
    }

    async fn write_part(&self, part: &[RawDocumentBuf]) -> Verdict {
        let write =
            || self.collection.insert_many(part).ordered(false).write_concern(self.write_concern.clone());
        let mut written = write().await.map(drop);
        if let Err(error) = &written
            && is_passing(error)
        {
            // Most often a connection that a restarted server does not know, or a new primary.
            tracing::warn!(why = describe(error), "an insert is repeated");
            written = write().await.map(drop);
        }
        judge(part.len(), written)
    }
}

/// What an answer of MongoDB says about a write.
enum Verdict {
    /// What became of each document.
    Each(Vec<Outcome>),
    /// The whole was refused for good.
    Whole(String),
    /// It may pass.
    Away(Error),
}

fn judge(count: usize, written: Result<(), Error>) -> Verdict {
    let Err(error) = written else { return Verdict::Each(vec![Ok(Stored::Created); count]) };
    match &*error.kind {
        ErrorKind::InsertMany(errors) => Verdict::Each(each(count, errors)),
        ErrorKind::Command(command) if REFUSED.contains(&command.code) => {
            Verdict::Whole(refusal(command.code))
        }
        ErrorKind::InvalidArgument { .. } | ErrorKind::Bson(_) => Verdict::Whole(describe(&error)),
        _ => Verdict::Away(error),
    }
}

fn each(count: usize, errors: &InsertManyError) -> Vec<Outcome> {
    let away = || AppendError::Unavailable(NAME.to_owned());
    // Written, but not as durably as it was to be.
    let doubtful = errors.write_concern_error.is_some();
    let mut outcomes = vec![if doubtful { Err(away()) } else { Ok(Stored::Created) }; count];
    for error in errors.write_errors.iter().flatten() {
        let outcome = match error.code {
            DUPLICATE if doubtful => Err(away()),
            DUPLICATE => Ok(Stored::Already),
            code if REFUSED.contains(&code) => Err(AppendError::Refused(refusal(code))),
            _ => Err(away()),
        };
        if let Some(slot) = outcomes.get_mut(error.index) {
            *slot = outcome;
        }
    }
    outcomes
}

fn refusal(code: i32) -> String {
    format!("{NAME} does not take it (code {code})")
}

/// Whether the same write may well succeed right away.
fn is_passing(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. })
        || error.contains_label("RetryableWriteError")
        // A server that is stepping down or stopping does not label what the driver would not repeat.
        || matches!(&*error.kind, ErrorKind::Command(command)
            if [91, 189, 10107, 11600, 11602, 13435, 13436].contains(&command.code))
}
