//! Group commit: what arrives while a write is under way is written by the next one, together.
//!
//! A journaled write takes about a millisecond however many entries are in it, so under load many callers share
//! one; a single caller's entry is written at once. Each caller gets the outcome of its own entries, after they are
//! in the journal. When MongoDB is away everything that waits ([`queue`]) is told so, and what comes is refused at
//! once until a ping is answered.

mod queue;

use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use chassis::lifecycle::Lifecycle;
use chassis::retry;
use contracts::log::Entry;
use contracts::logger::{AppendError, Stored};
use tokio_util::sync::CancellationToken;

use self::queue::{BATCH, BATCH_BYTES, Call, Queue};
use crate::document::{self, entry};
use crate::insert::{Insert, Outcome};
use crate::mongo::{Mongo, NAME};

/// How long few entries wait for a larger write that is under way: it may be stalled.
const PATIENCE: Duration = Duration::from_millis(20);
/// How many writes are under way at a time.
const WRITERS: usize = 2;

/// Where entries are written. Clones share it.
#[derive(Clone, Debug)]
pub struct GroupCommit {
    queue: Arc<Queue>,
    insert: Insert,
}

impl GroupCommit {
    /// Starts the tasks that write. They end when the service closes, after what waits is written.
    pub fn start(insert: Insert, mongo: &Mongo, lifecycle: &Lifecycle) -> Self {
        let queue = Arc::new(Queue::default());
        for _ in 0..WRITERS {
            let writer = Writer { queue: Arc::clone(&queue), insert: insert.clone(), mongo: mongo.clone() };
            lifecycle.background("log writer", writer.run(lifecycle.closing()));
        }
        Self { queue, insert }
    }

    /// Stores one entry; comes back after it is in the journal.
    pub async fn append(&self, entry: &Entry) -> Outcome {
        let document = match entry::encode(entry) {
            Ok(document) => document,
            Err(error) => return self.counted(Err(error.into())),
        };
        let mut outcomes = self.commit(vec![document]).await;
        self.compare(std::slice::from_ref(entry), &mut outcomes).await;
        outcomes.pop().unwrap_or_else(|| Err(stopped()))
    }

    /// Stores entries that came together: an outcome for each, in their order.
    pub async fn append_all(&self, entries: &[Entry]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut places = Vec::with_capacity(entries.len());
        let mut parts = vec![(Vec::new(), 0)];
        for (place, entry) in entries.iter().enumerate() {
            match entry::encode(entry) {
                Ok(document) => {
                    let size = document.as_bytes().len();
                    if parts
                        .last()
                        .is_some_and(|(part, bytes)| part.len() >= BATCH || bytes + size > BATCH_BYTES)
                    {
                        parts.push((Vec::new(), 0));
                    }
                    if let Some((part, bytes)) = parts.last_mut() {
                        part.push(document);
                        *bytes += size;
                    }
                    places.push(place);
                    outcomes.push(Err(stopped()));
                }
                Err(error) => outcomes.push(self.counted(Err(error.into()))),
            }
        }
        let commits =
            parts.into_iter().filter(|(part, _)| !part.is_empty()).map(|(part, _)| self.commit(part));
        let committed = futures_util::future::join_all(commits).await;
        for (place, outcome) in places.into_iter().zip(committed.into_iter().flatten()) {
            outcomes[place] = outcome;
        }
        self.compare(entries, &mut outcomes).await;
        outcomes
    }

    /// Looks at the entries whose ids were there already: one that says something else is a conflict.
    async fn compare(&self, entries: &[Entry], outcomes: &mut [Outcome]) {
        let again = |outcome: &Outcome| *outcome == Ok(Stored::Already);
        let pairs = || entries.iter().zip(&*outcomes);
        let ids: Vec<_> =
            pairs().filter(|(_, o)| again(o)).map(|(entry, _)| document::binary(entry.id)).collect();
        if ids.is_empty() {
            return;
        }
        let standing = self.insert.standing(ids).await;
        // What is no entry was not written by a logger, and says the same as none.
        let standing = standing
            .map(|found| found.iter().filter_map(|there| entry::decode(there).ok()).collect::<Vec<_>>());
        for (entry, outcome) in entries.iter().zip(outcomes).filter(|(_, outcome)| again(outcome)) {
            match &standing {
                Ok(standing) => {
                    let there = standing.iter().find(|there| there.id == entry.id);
                    if there.is_some_and(|there| !there.says_the_same(entry)) {
                        *outcome = self.counted(Err(AppendError::Conflict));
                    }
                }
                // It is stored; whether as this entry is not known, and the same call may be made again.
                Err(_) => *outcome = Err(away()),
            }
        }
    }

    /// Queues documents and waits for their outcomes.
    async fn commit(&self, documents: Vec<RawDocumentBuf>) -> Vec<Outcome> {
        let count = documents.len();
        let error = match self.queue.push(documents) {
            Ok(reply) => match reply.await {
                Ok(outcomes) => return outcomes,
                Err(_) => stopped(),
            },
            Err(error) => error,
        };
        self.insert.count_unavailable(count);
        vec![Err(error); count]
    }

    fn counted(&self, outcome: Outcome) -> Outcome {
        self.insert.count(&outcome);
        outcome
    }
}

/// Only while the process ends.
fn stopped() -> AppendError {
    AppendError::Unavailable("writer".to_owned())
}

fn away() -> AppendError {
    AppendError::Unavailable(NAME.to_owned())
}

/// One task that writes.
struct Writer {
    queue: Arc<Queue>,
    insert: Insert,
    mongo: Mongo,
}

impl Writer {
    async fn run(self, closing: CancellationToken) -> anyhow::Result<()> {
        let mut now = false;
        loop {
            let batch = self.queue.take(now);
            if !batch.is_empty() {
                self.write(batch, &closing).await;
                now = false;
                continue;
            }
            now = tokio::select! {
                biased;
                () = self.queue.filled.notified() => false,
                () = tokio::time::sleep(PATIENCE), if !self.queue.is_empty() => true,
                () = closing.cancelled() => return Ok(()),
            };
        }
    }

    async fn write(&self, batch: Vec<Call>, closing: &CancellationToken) {
        let mut documents = Vec::with_capacity(batch.len());
        let mut callers = Vec::with_capacity(batch.len());
        for call in batch {
            callers.push((call.documents.len(), call.reply));
            documents.extend(call.documents);
        }
        let written = self.insert.write(&documents).await;
        self.queue.written(documents.len());
        match written {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for (count, reply) in callers {
                    // A caller may have gone; its entries are stored all the same.
                    let _ = reply.send(outcomes.by_ref().take(count).collect());
                }
            }
            Err(error) => {
                tracing::warn!(%error, entries = documents.len(), "{NAME} is away: nothing is taken until it is back");
                let waited = self.queue.close();
                let waited = waited.into_iter().map(|call| (call.documents.len(), call.reply));
                let waited: Vec<_> =
                    waited.inspect(|(count, _)| self.insert.count_unavailable(*count)).collect();
                for (count, reply) in callers.into_iter().chain(waited) {
                    let _ = reply.send(vec![Err(away()); count]);
                }
                tokio::select! {
                    () = retry::forever(NAME, || self.mongo.ping()) => self.queue.open(),
                    () = closing.cancelled() => {}
                }
            }
        }
    }
}
