//! Log messages: a batch of them becomes one call of the logger.
//!
//! While the logger is away, the batches in hand are held and sent again; nothing more is taken from the queue
//! than the prefetch allows, so the rest waits where it is safe. Sending again stores nothing twice, because
//! an entry has its id from here on.

pub mod decode;

use std::sync::Arc;
use std::time::Duration;

use chassis::amqp::Disposition;
use chassis::amqp::consumer::Batch;
use chassis::request::RequestContext;
use chassis::retry::Pause;
use chassis::rpc::LoggerClient;
use contracts::log::Entry;
use contracts::logger::AppendError;
use contracts::topology::Topology;
use tokio_util::sync::CancellationToken;

use self::decode::decode;

/// How long a call that is under way at a stop may still take.
const GRACE: Duration = Duration::from_secs(5);
/// After how many failures of a batch the next line about it is written.
const SAY_EVERY: u32 = 10;

/// Stores batches.
#[derive(Debug)]
pub struct Store {
    logger: LoggerClient,
    events: String,
    stopping: CancellationToken,
}

impl Store {
    /// Stores with `logger` what comes from the log queue of `topology`, and gives up what it could not store
    /// once `stopping` is cancelled.
    pub fn new(logger: LoggerClient, topology: &Topology, stopping: CancellationToken) -> Self {
        Self { logger, events: topology.events.clone(), stopping }
    }

    /// Stores a batch, however long it takes; gives what became of each message.
    pub async fn store(self: Arc<Self>, context: RequestContext, batch: Batch) -> Vec<Disposition> {
        let mut dispositions = vec![Disposition::Retry; batch.len()];
        let mut waiting = Waiting::default();
        for (at, delivery) in batch.iter().enumerate() {
            match decode(delivery, &self.events) {
                Ok(entry) => waiting.push(at, entry),
                Err(error) => dispositions[at] = Disposition::Dead(error.to_string()),
            }
        }
        let mut pause = Pause::default();
        let mut failures = 0_u32;
        while !waiting.entries.is_empty() {
            let Some(why) = self.attempt(&context, &mut waiting, &mut dispositions).await else { break };
            failures += 1;
            metrics::counter!("listener_retries_total").increment(1);
            let wait = pause.grow();
            if failures == 1 || failures.is_multiple_of(SAY_EVERY) {
                let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                let count = waiting.entries.len();
                tracing::warn!(
                    error = why,
                    count,
                    failures,
                    retry_in_ms,
                    "a batch is held: it could not be stored"
                );
            }
            let waited = tokio::time::sleep(wait);
            if self.stopping.run_until_cancelled(waited).await.is_none() {
                break;
            }
        }
        dispositions
    }

    /// One call for all that wait. Gives why some still do.
    async fn attempt(
        &self,
        context: &RequestContext,
        waiting: &mut Waiting,
        dispositions: &mut [Disposition],
    ) -> Option<String> {
        let late = async {
            self.stopping.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        let outcomes = tokio::select! {
            result = self.logger.append_all(context, waiting.entries.clone()) => match result {
                Ok(outcomes) => outcomes,
                Err(failure) => return Some(failure.to_string()),
            },
            () = late => return Some("the logger did not answer before the stop".to_owned()),
        };
        let mut why = None;
        let mut still = Waiting::default();
        for ((at, entry), outcome) in std::mem::take(waiting).into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => dispositions[at] = Disposition::Done,
                Err(AppendError::Refused(reason)) => dispositions[at] = Disposition::Dead(reason),
                Err(conflict @ AppendError::Conflict) => {
                    dispositions[at] = Disposition::Dead(conflict.to_string());
                }
                Err(AppendError::Unavailable(what)) => {
                    why = Some(format!("the logger says that {what} is not available"));
                    still.push(at, entry);
                }
            }
        }
        *waiting = still;
        why
    }
}

/// Entries that are not stored yet, and where in the batch they stand.
#[derive(Default)]
struct Waiting {
    places: Vec<usize>,
    entries: Vec<Entry>,
}

impl Waiting {
    fn push(&mut self, at: usize, entry: Entry) {
        self.places.push(at);
        self.entries.push(entry);
    }

    fn into_iter(self) -> impl Iterator<Item = (usize, Entry)> {
        self.places.into_iter().zip(self.entries)
    }
}
