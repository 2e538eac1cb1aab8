//! What waits to be written: bounded by count and bytes, and refused beyond that.
//!
//! A second write goes beside the first only if it is as large, so that groups don't fall apart into small ones, of
//! which each costs MongoDB as much.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bson::raw::RawDocumentBuf;
use contracts::logger::AppendError;
use tokio::sync::{Notify, oneshot};

use super::away;
use crate::insert::Outcome;

/// How many entries are written at once.
pub(super) const BATCH: usize = 1000;
/// How many bytes are written at once; MongoDB takes messages of 48 MB.
pub(super) const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// How many entries may wait.
const WAITING: usize = 20_000;
/// How many bytes may wait.
const WAITING_BYTES: usize = 64 * 1024 * 1024;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    pub(super) filled: Notify,
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
pub(super) struct Call {
    pub(super) documents: Vec<RawDocumentBuf>,
    bytes: usize,
    pub(super) reply: oneshot::Sender<Vec<Outcome>>,
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
    pub(super) fn push(
        &self,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<oneshot::Receiver<Vec<Outcome>>, AppendError> {
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
    pub(super) fn take(&self, now: bool) -> Vec<Call> {
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

    pub(super) fn is_empty(&self) -> bool {
        self.lock().calls.is_empty()
    }

    /// A write of so many entries has ended.
    pub(super) fn written(&self, entries: usize) {
        self.lock().writing -= entries;
    }

    /// From now on everything is refused at once; gives what waited.
    pub(super) fn close(&self) -> VecDeque<Call> {
        let mut waiting = self.lock();
        waiting.away = true;
        (waiting.entries, waiting.bytes) = (0, 0);
        std::mem::take(&mut waiting.calls)
    }

    pub(super) fn open(&self) {
        self.lock().away = false;
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
