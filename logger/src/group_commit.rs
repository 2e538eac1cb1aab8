//! Group commit: what arrives while a write is under way is written by the next one, together.
//!
//! A journaled write takes about a millisecond however many entries are in it, so under load many callers share
//! one; a single caller's entry is written at once. A second write goes beside the first only if it is as large,
//! so that groups don't fall apart into small ones, of which each costs as much. Each caller gets the outcome of its own entries, after they
//! are in the journal. What waits is bounded by count and bytes, and refused beyond that. When MongoDB is away
//! everything that waits is told so, and what comes is refused at once until a ping is answered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use chassis::lifecycle::Lifecycle;
use chassis::retry;
use contracts::log::Entry;
use contracts::logger::{AppendError, Stored};
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
        self.compare(std::slice::from_ref(entry), &mut outcomes).await;
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
        let first = waiting.calls.len() == 1;
        let wakes = first || waiting.is_due();
        drop(waiting);
        if wakes {
            self.filled.notify_one();
        }
        Ok(outcomes)
    }

    /// What is to be written next, if it is time or has to be now; more than one call unless the first fills it.
    /// Callers that have given up are left out.
    fn take(&self, now: bool) -> Vec<Call> {
        let mut waiting = self.lock();
        let (mut entries, mut bytes, mut batch) = (0, 0, Vec::new());
        if !now && !waiting.is_due() {
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

    fn is_empty(&self) -> bool {
        self.lock().calls.is_empty()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn call(queue: &Queue) -> oneshot::Receiver<Vec<Outcome>> {
        queue.push(vec![RawDocumentBuf::new()]).unwrap()
    }

    fn entries(batch: &[Call]) -> usize {
        batch.iter().map(|call| call.documents.len()).sum()
    }

    #[test]
    fn a_second_write_is_begun_only_when_it_is_as_large_as_the_first() {
        let queue = Queue::default();
        let mut callers: Vec<_> = (0..3).map(|_| call(&queue)).collect();
        assert_eq!(entries(&queue.take(false)), 3);
        callers.push(call(&queue));
        callers.push(call(&queue));
        assert!(queue.take(false).is_empty(), "two beside three");
        callers.push(call(&queue));
        assert_eq!(entries(&queue.take(false)), 3);
        callers.push(call(&queue));
        assert!(queue.take(false).is_empty());
        queue.written(3);
        assert!(queue.take(false).is_empty());
        queue.written(3);
        assert_eq!(entries(&queue.take(false)), 1);
    }

    #[test]
    fn nobody_waits_for_ever_for_a_stalled_write() {
        let queue = Queue::default();
        let _stalled: Vec<_> = (0..9).map(|_| call(&queue)).collect();
        assert_eq!(entries(&queue.take(false)), 9);
        let _single = call(&queue);
        assert_eq!(entries(&queue.take(true)), 1);
    }

    #[test]
    fn callers_that_gave_up_are_neither_written_nor_counted() {
        let queue = Queue::default();
        drop(call(&queue));
        let _caller = call(&queue);
        assert_eq!(entries(&queue.take(false)), 1);
        assert_eq!(queue.lock().writing, 1);
        drop(call(&queue));
        assert!(queue.take(true).is_empty());
        let waiting = queue.lock();
        assert_eq!((waiting.entries, waiting.bytes), (0, 0));
    }

    #[test]
    fn while_mongodb_is_away_everything_is_refused_at_once() {
        let queue = Queue::default();
        let _caller = call(&queue);
        assert_eq!(queue.close().len(), 1);
        assert!(queue.push(vec![RawDocumentBuf::new()]).is_err());
        queue.open();
        let _caller = call(&queue);
        assert_eq!(entries(&queue.take(false)), 1);
    }
}
