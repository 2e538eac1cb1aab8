//! What is kept by the logger: a batch of messages becomes one call.
//!
//! While the logger is away, the batches in hand are held and sent again, and what comes is gathered behind them; nothing
//! more is taken from the queue than the prefetch allows, so the rest waits where it is safe. Sending again stores nothing twice, because
//! everything has its id from here on.

use std::sync::Arc;
use std::time::Duration;

use chassis::amqp::consumer::Batch;
use chassis::amqp::{Delivery, Disposition};
use chassis::crash;
use chassis::request::RequestContext;
use chassis::retry::Pause;
use chassis::rpc::{LoggerClient, RpcFailure};
use contracts::logger::{AppendError, Stored};
use tokio_util::sync::CancellationToken;

/// How long a call that is under way at a stop may still take.
const GRACE: Duration = Duration::from_secs(5);
/// After how many failures of a batch the next line about it is written.
const SAY_EVERY: u32 = 10;

/// What became of each of a batch.
pub(crate) type Outcomes = Result<Vec<Result<Stored, AppendError>>, RpcFailure>;

/// A kind of message that the logger keeps.
pub(crate) trait Keep: Send + Sync + 'static {
    /// What the logger is sent.
    type Item: Clone + Send + Sync;

    /// Reads a message; `Err` says why it can't be kept, now or later.
    fn read(&self, delivery: &Delivery) -> Result<Self::Item, String>;

    /// Sends them.
    fn send(
        &self,
        logger: &LoggerClient,
        context: &RequestContext,
        items: Vec<Self::Item>,
    ) -> impl Future<Output = Outcomes> + Send;
}

/// Stores batches.
#[derive(Debug)]
pub(crate) struct Store<K> {
    kind: K,
    logger: LoggerClient,
    stopping: CancellationToken,
}

impl<K: Keep> Store<K> {
    /// Stores with `logger`, and gives up what it could not store once `stopping` is cancelled.
    pub(crate) fn new(kind: K, logger: LoggerClient, stopping: CancellationToken) -> Arc<Self> {
        Arc::new(Self { kind, logger, stopping })
    }

    /// Stores a batch, however long it takes; gives what became of each message.
    pub(crate) async fn store(self: Arc<Self>, context: RequestContext, batch: Batch) -> Vec<Disposition> {
        let mut dispositions = vec![Disposition::Requeue; batch.len()];
        let mut waiting = Vec::new();
        for (at, delivery) in batch.iter().enumerate() {
            match self.kind.read(delivery) {
                Ok(item) => waiting.push((at, item)),
                Err(why) => dispositions[at] = Disposition::Dead(why),
            }
        }
        let mut pause = Pause::default();
        let mut failures = 0_u32;
        while !waiting.is_empty() {
            let Some(why) = self.attempt(&context, &mut waiting, &mut dispositions).await else { break };
            failures += 1;
            metrics::counter!("listener_retries_total").increment(1);
            let wait = pause.grow();
            if failures == 1 || failures.is_multiple_of(SAY_EVERY) {
                let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                let count = waiting.len();
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
        waiting: &mut Vec<(usize, K::Item)>,
        dispositions: &mut [Disposition],
    ) -> Option<String> {
        let late = async {
            self.stopping.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        let items = waiting.iter().map(|(_, item)| item.clone()).collect();
        let outcomes = tokio::select! {
            result = self.kind.send(&self.logger, context, items) => match result {
                Ok(outcomes) => outcomes,
                Err(failure) => return Some(failure.to_string()),
            },
            () = late => return Some("the logger did not answer before the stop".to_owned()),
        };
        crash::point("listener: stored");
        let mut why = None;
        for ((at, item), outcome) in std::mem::take(waiting).into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => dispositions[at] = Disposition::Done,
                Err(AppendError::Refused(reason)) => dispositions[at] = Disposition::Dead(reason),
                Err(conflict @ AppendError::Conflict) => {
                    dispositions[at] = Disposition::Dead(conflict.to_string());
                }
                Err(AppendError::Unavailable(what)) => {
                    why = Some(format!("the logger says that {what} is not available"));
                    waiting.push((at, item));
                }
            }
        }
        why
    }
}
