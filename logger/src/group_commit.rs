//! Group commit: what arrives while a write is under way is written by the next one, together.
//!
//! A journaled write takes about a millisecond however many entries are in it, so under load many callers share
//! one; a single caller's entry is written at once. A second write goes beside the first only if it is as large,
//! so that groups don't fall apart into small ones, of which each costs as much. Each caller gets the outcome of its own entries, after they
//! are in the journal. What waits is bounded by count and bytes, and refused beyond that. When MongoDB is away
//! everything that waits is told so, and what comes is refused at once until a ping is answered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bson::raw::RawDocumentBuf;
use chassis::lifecycle::Lifecycle;
use chassis::retry;
use contracts::log::Entry;
use contracts::logger::AppendError;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::document;
use crate::insert::{Insert, Outcome};
use crate::mongo::{Mongo, NAME};

/// How many entries are written at once.
const BATCH: usize = 1000;
/// How many bytes are written at once; MongoDB takes messages of 48 MB.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// How many entries may wait.
const WAITING: usize = 20_000;
/// How many bytes may wait.
const WAITING_BYTES: usize = 64 * 1024 * 1024;
/// How many writes are under way at a time.
const WRITERS: usize = 2;

/// Where entries are written. Clones share it.
#[derive(Clone, Debug)]
pub struct GroupCommit {
    queue: Arc<Queue>,
    insert: Insert,
}

/// What waits to be written.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: VecDeque<Call>,
    entries: usize,
    bytes: usize,
    /// How many entries are being written.
    writing: usize,
    /// MongoDB did not answer, and nothing since says that it is back.
    away: bool,
}

/// The documents of one caller.
#[derive(Debug)]
struct Call {
    documents: Vec<RawDocumentBuf>,
    bytes: usize,
    reply: oneshot::Sender<Vec<Outcome>>,
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
        let document = match document::encode(entry) {
            Ok(document) => document,
            Err(error) => return self.counted(Err(error.into())),
        };
        let mut outcomes = self.commit(vec![document]).await;
        outcomes.pop().unwrap_or_else(|| Err(stopped()))
    }

    /// Stores entries that came together: an outcome for each, in their order.
    pub async fn append_all(&self, entries: &[Entry]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut places = Vec::with_capacity(entries.len());
        let mut parts = vec![(Vec::new(), 0)];
        for (place, entry) in entries.iter().enumerate() {
            match document::encode(entry) {
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
        outcomes
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

impl Waiting {
    /// Whether what waits is to be written now.
    fn is_due(&self) -> bool {
        !self.calls.is_empty() && (self.entries >= self.writing || self.bytes >= BATCH_BYTES)
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds documents, or says why not.
    fn push(&self, documents: Vec<RawDocumentBuf>) -> Result<oneshot::Receiver<Vec<Outcome>>, AppendError> {
        let bytes = documents.iter().map(|document| document.as_bytes().len()).sum();
        let (reply, outcomes) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.away {
            return Err(away());
        }
        // A batch larger than the bound is taken when nothing else waits.
        let full = waiting.entries + documents.len() > WAITING || waiting.bytes + bytes > WAITING_BYTES;
        if full && !waiting.calls.is_empty() {
            return Err(AppendError::Unavailable("write queue".to_owned()));
        }
        waiting.entries += documents.len();
        waiting.bytes += bytes;
        waiting.calls.push_back(Call { documents, bytes, reply });
        let due = waiting.is_due();
        drop(waiting);
        if due {
            self.filled.notify_one();
        }
        Ok(outcomes)
    }

    /// What is to be written next, if it is time; more than one call unless the first fills it. Callers that have
    /// given up are left out.
    fn take(&self) -> Vec<Call> {
        let mut waiting = self.lock();
        let (mut entries, mut bytes, mut batch) = (0, 0, Vec::new());
        if !waiting.is_due() {
            return batch;
        }
        while let Some(next) = waiting.calls.front() {
            let fits = entries + next.documents.len() <= BATCH && bytes + next.bytes <= BATCH_BYTES;
            if !fits && !batch.is_empty() {
                break;
            }
            let Some(call) = waiting.calls.pop_front() else { break };
            waiting.entries -= call.documents.len();
            waiting.bytes -= call.bytes;
            if call.reply.is_closed() {
                continue;
            }
            entries += call.documents.len();
            bytes += call.bytes;
            batch.push(call);
        }
        waiting.writing += entries;
        let more = waiting.is_due();
        drop(waiting);
        if more {
            self.filled.notify_one();
        }
        batch
    }

    /// A write of so many entries has ended.
    fn written(&self, entries: usize) {
        self.lock().writing -= entries;
    }

    /// From now on everything is refused at once; gives what waited.
    fn close(&self) -> VecDeque<Call> {
        let mut waiting = self.lock();
        waiting.away = true;
        (waiting.entries, waiting.bytes) = (0, 0);
        std::mem::take(&mut waiting.calls)
    }

    fn open(&self) {
        self.lock().away = false;
    }
}

/// One task that writes.
struct Writer {
    queue: Arc<Queue>,
    insert: Insert,
    mongo: Mongo,
}

impl Writer {
    async fn run(self, closing: CancellationToken) -> anyhow::Result<()> {
        loop {
            let batch = self.queue.take();
            if !batch.is_empty() {
                self.write(batch, &closing).await;
                continue;
            }
            tokio::select! {
                () = self.queue.filled.notified() => {}
                () = closing.cancelled() => return Ok(()),
            }
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
