//! What is kept by the logger: a batch of messages becomes one call.
//!
//! While the logger is away, or lacks its database, the batches in hand are held and sent again, and what comes is gathered
//! behind them; nothing more is taken from the queue than the prefetch allows, so the rest waits where it is safe. Sending
//! again stores nothing twice, because everything has its id from here on.
//!
//! Where the logger is there, and yet breaks off or gives no answer to the same batch again and again, something in it may
//! be the reason: it is sent in ever smaller parts, until what is to blame is alone. That waits for its next
//! attempt as a mail does, and is dead after the last.

use std::sync::Arc;
use std::time::Duration;

use chassis::amqp::consumer::Batch;
use chassis::amqp::{Delivery, Disposition, Onward};
use chassis::crash;
use chassis::request::RequestContext;
use chassis::retry::Pause;
use chassis::rpc::{LoggerClient, RpcFailure};
use contracts::logger::{AppendError, Stored};
use contracts::topology::Retry;
use contracts::trail::Step;
use tokio_util::sync::CancellationToken;

/// How long a call that is under way at a stop may still take.
const GRACE: Duration = Duration::from_secs(5);
/// After how many failures of a batch the next line about it is written.
const SAY_EVERY: u32 = 10;
/// How often the logger may fail at a whole batch, though it was there a moment before, until something in it is suspected:
/// it also dies for other reasons.
const CHANCES: u32 = 3;

/// What became of each of a batch.
pub(crate) type Outcomes = Result<Vec<Result<Stored, AppendError>>, RpcFailure>;

/// A kind of message that the logger keeps.
pub(crate) trait Keep: Send + Sync + 'static {
    /// What the logger is sent.
    type Item: Send;
    /// Whether a message that the logger fails at may wait for another attempt: the count of a dead letter's is that of
    /// its life before.
    const RETRIES: bool = true;

    /// Reads a message, the same each time; `Err` says why it can't be kept, now or later.
    fn read(&self, delivery: &Delivery) -> Result<Self::Item, String>;

    /// Sends them.
    fn send(
        &self,
        logger: &LoggerClient,
        context: &RequestContext,
        items: Vec<Self::Item>,
    ) -> impl Future<Output = Outcomes> + Send;

    /// The step of its action's trail that it waits for another attempt, where it is an action of its own.
    fn retrying(&self, _: &Self::Item, _: &Delivery, _why: String, _: &Retry) -> Option<Step> {
        None
    }
}

/// Stores batches.
#[derive(Debug)]
pub(crate) struct Store<K> {
    kind: K,
    logger: LoggerClient,
    onward: Onward,
    stopping: CancellationToken,
}

/// Messages that are sent together: where each stands in its batch. They are read for each attempt: most need but one, and
/// to keep what was sent would be one more copy of all.
type Part = Vec<usize>;

/// How it ended with a part.
enum Ended {
    /// There is a disposition for each.
    Stored,
    /// The logger is there, and fails at it.
    Suspect(String),
    /// The process is to end.
    Stopped,
}

impl<K: Keep> Store<K> {
    /// Stores with `logger`, and gives up what it could not store once `stopping` is cancelled.
    pub(crate) fn new(
        kind: K,
        logger: LoggerClient,
        onward: Onward,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self { kind, logger, onward, stopping })
    }

    /// Stores a batch, however long it takes; gives what became of each message.
    pub(crate) async fn store(self: Arc<Self>, context: RequestContext, batch: Batch) -> Vec<Disposition> {
        let mut dispositions = vec![Disposition::Requeue; batch.len()];
        // What has waited for another attempt was alone already, and is again, after the others.
        let (waiting, suspects): (Part, Part) =
            (0..batch.len()).partition(|at| !K::RETRIES || batch[*at].attempt() == 1);
        let mut parts: Vec<_> = suspects.into_iter().rev().map(|suspect| (vec![suspect], 1)).collect();
        parts.push((waiting, CHANCES));
        while let Some((mut part, chances)) = parts.pop() {
            match self.keep(&context, &batch, &mut part, chances, &mut dispositions).await {
                Ended::Stored => {}
                Ended::Suspect(why) => {
                    if let [at] = part.as_slice() {
                        dispositions[*at] = self.fails_at(&context, &batch[*at], why).await;
                    } else {
                        tracing::warn!(count = part.len(), why, "the logger fails at a batch: it is divided");
                        let half = part.split_off(part.len() / 2);
                        parts.extend([(half, 1), (part, 1)]);
                    }
                }
                Ended::Stopped => break,
            }
        }
        dispositions
    }

    /// What becomes of a message that the logger fails at.
    async fn fails_at(&self, context: &RequestContext, delivery: &Delivery, why: String) -> Disposition {
        tracing::warn!(attempt = delivery.attempt(), why, "the logger fails at a message");
        if !K::RETRIES {
            return Disposition::Dead(why);
        }
        let later = delivery.later(self.onward.topology(), &why);
        let Disposition::Later(retry) = &later else { return later };
        let item = match self.kind.read(delivery) {
            Ok(item) => item,
            Err(why) => return Disposition::Dead(why),
        };
        let Some(step) = self.kind.retrying(&item, delivery, why, retry) else { return later };
        let mut pause = Pause::default();
        let telling = async {
            while let Err(failure) = self.tell(context, step.clone()).await {
                tracing::warn!(%failure, "a step could not be told");
                tokio::time::sleep(pause.grow()).await;
            }
        };
        match self.stopping.run_until_cancelled(Box::pin(telling)).await {
            Some(()) => later,
            None => Disposition::Requeue,
        }
    }

    /// Tells a step. One that the logger does not take now or later is as good as told.
    async fn tell(&self, context: &RequestContext, step: Step) -> Result<(), RpcFailure> {
        match self.logger.record(context, vec![step]).await?.pop() {
            Some(Err(unavailable @ AppendError::Unavailable(_))) => Err(unavailable.into()),
            _ => Ok(()),
        }
    }

    /// Sends a part until all of it has a disposition, or until the logger has failed at it so often that it is a suspect.
    async fn keep(
        &self,
        context: &RequestContext,
        batch: &[Delivery],
        part: &mut Part,
        chances: u32,
        dispositions: &mut [Disposition],
    ) -> Ended {
        let mut pause = Pause::default();
        let (mut failures, mut doubts, mut was_there) = (0_u32, 0, false);
        while !part.is_empty() {
            let Err(failure) = self.attempt(context, batch, part, dispositions).await else { continue };
            if self.stopping.is_cancelled() {
                return Ended::Stopped;
            }
            failures += 1;
            metrics::counter!("listener_retries_total").increment(1);
            let (why, wait) = (failure.to_string(), pause.grow());
            // Of a logger that was away already this says nothing.
            doubts += u32::from(was_there && failure.is_doubtful());
            if doubts >= chances {
                return Ended::Suspect(why);
            }
            if failures == 1 || failures.is_multiple_of(SAY_EVERY) {
                let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                let count = part.len();
                tracing::warn!(
                    error = why,
                    count,
                    failures,
                    retry_in_ms,
                    "a batch is held: it could not be stored"
                );
            }
            let next = async {
                tokio::time::sleep(wait).await;
                while let Err(why) = self.logger.check().await {
                    tracing::debug!(why, "the logger is waited for");
                    tokio::time::sleep(pause.grow()).await;
                }
            };
            if self.stopping.run_until_cancelled(next).await.is_none() {
                return Ended::Stopped;
            }
            was_there = true;
        }
        Ended::Stored
    }

    /// One call for all of a part; what is left in it is to be sent again.
    async fn attempt(
        &self,
        context: &RequestContext,
        batch: &[Delivery],
        part: &mut Part,
        dispositions: &mut [Disposition],
    ) -> Result<(), RpcFailure> {
        let late = async {
            self.stopping.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        let mut items = Vec::with_capacity(part.len());
        part.retain(|&at| match self.kind.read(&batch[at]) {
            Ok(item) => {
                items.push(item);
                true
            }
            Err(why) => {
                dispositions[at] = Disposition::Dead(why);
                false
            }
        });
        if items.is_empty() {
            return Ok(());
        }
        let outcomes = tokio::select! {
            result = self.kind.send(&self.logger, context, items) => result?,
            () = late => return Err(RpcFailure::TooSlow),
        };
        crash::point("listener: stored");
        let mut failure = Ok(());
        for (at, outcome) in std::mem::take(part).into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => dispositions[at] = Disposition::Done,
                Err(AppendError::Refused(reason)) => dispositions[at] = Disposition::Dead(reason),
                Err(conflict @ AppendError::Conflict) => {
                    dispositions[at] = Disposition::Dead(conflict.to_string());
                }
                Err(unavailable @ AppendError::Unavailable(_)) => {
                    failure = Err(unavailable.into());
                    part.push(at);
                }
            }
        }
        failure
    }
}
