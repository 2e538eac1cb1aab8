//! One batch: the handler's work on it, and the way onward of what could not be worked on.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use futures_util::future::{BoxFuture, join_all};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::Uuid;

use super::{Batch, Delivery, Disposition};
use crate::amqp::Onward;
use crate::crash;
use crate::request::{RequestContext, span_context};
use crate::retry::Pause;
use crate::telemetry;

/// How many traces a batch's span is linked to at most; OpenTelemetry drops further ones.
const MAX_LINKS: usize = 128;

type Handler = dyn Fn(RequestContext, Batch) -> BoxFuture<'static, Vec<Disposition>> + Send + Sync;

/// What is done with every batch. Clones do the same.
#[derive(Clone)]
pub(super) struct Work {
    queue: Arc<str>,
    handler: Arc<Handler>,
    onward: Onward,
    stopping: CancellationToken,
    meters: Arc<Meters>,
}

/// A batch that is worked off: a disposition for every delivery, and each that is to be elsewhere is there.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) batch: Batch,
    pub(super) dispositions: Vec<Disposition>,
}

impl Work {
    pub(super) fn new<H, F>(queue: &str, handler: H, onward: Onward, stopping: CancellationToken) -> Self
    where
        H: Fn(RequestContext, Batch) -> F + Send + Sync + 'static,
        F: Future<Output = Vec<Disposition>> + Send + 'static,
    {
        let handler: Arc<Handler> = Arc::new(move |context, batch| Box::pin(handler(context, batch)));
        Self { queue: queue.into(), handler, onward, stopping, meters: Arc::new(Meters::of(queue)) }
    }

    /// Begins with a batch, on a task of its own. Dropping the handle abandons it.
    pub(super) fn start(&self, batch: Vec<Delivery>) -> AbortOnDropHandle<Finished> {
        let (work, batch) = (self.clone(), Batch::from(batch));
        // A batch of one continues the trace of its message. A larger one belongs to many traces: its span
        // begins one of its own and is linked to each of them.
        let trace = if let [only] = &*batch { only.trace() } else { None };
        let context = RequestContext::with_id(Uuid::now_v7(), None, trace);
        AbortOnDropHandle::new(tokio::spawn(async move {
            let name = format!("consume {}", work.queue);
            context.scope(&name, |context| work.run(context, batch)).await
        }))
    }

    async fn run(self, context: RequestContext, batch: Batch) -> Finished {
        let started = Instant::now();
        let _working = self.meters.working(batch.len());
        if telemetry::exports_spans() && batch.len() > 1 {
            link(&batch);
        }
        crash::point("consumer: delivered");
        let mut dispositions = (self.handler)(context, Arc::clone(&batch)).await;
        crash::point("consumer: worked off");
        dispositions.resize(batch.len(), Disposition::Requeue);
        self.pass_on(&batch, &mut dispositions).await;
        crash::point("consumer: passed on");
        let count = |wanted: fn(&Disposition) -> bool| dispositions.iter().filter(|d| wanted(d)).count();
        let retry = count(|d| matches!(d, Disposition::Requeue | Disposition::Later(_)));
        let dead = count(|d| matches!(d, Disposition::Dead(_)));
        self.meters.count(batch.len() - retry - dead, retry, dead);
        let micros = started.elapsed().as_micros();
        let duration_ms = u32::try_from(micros).map_or(f64::INFINITY, |micros| f64::from(micros) / 1000.0);
        tracing::info!(queue = %self.queue, count = batch.len(), retry, dead, duration_ms, "batch");
        Finished { batch, dispositions }
    }

    /// Brings what could not be worked on to where it waits or is kept, however long it takes; at a stop those that
    /// are left go back into the queue.
    async fn pass_on(&self, batch: &[Delivery], dispositions: &mut [Disposition]) {
        let onward = batch.iter().zip(dispositions).filter(|(_, disposition)| disposition.is_onward());
        let passed = onward.map(async |(delivery, disposition)| {
            let (mut pause, died_at) = (Pause::default(), Utc::now());
            loop {
                let passed = match &*disposition {
                    Disposition::Done | Disposition::Requeue => return,
                    Disposition::Later(retry) => self.onward.wait(&self.queue, delivery, retry).await,
                    Disposition::Dead(reason) => {
                        self.onward.bury(&self.queue, delivery, reason, died_at).await
                    }
                };
                let Err(error) = passed else { break };
                let wait = pause.grow();
                let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(queue = %self.queue, %error, retry_in_ms, "a message could not be passed on");
                let waiting = async { self.onward.publisher().await.rest(wait).await };
                if self.stopping.run_until_cancelled(waiting).await.is_none() {
                    *disposition = Disposition::Requeue;
                    return;
                }
            }
            let id = delivery.message_id().unwrap_or("none");
            let routing_key = delivery.routing_key();
            if let Disposition::Dead(reason) = disposition {
                tracing::warn!(queue = %self.queue, message_id = id, routing_key, "dead letter");
                // It may repeat what is in the message.
                tracing::debug!(queue = %self.queue, message_id = id, reason, "why it is dead");
            }
        });
        join_all(passed).await;
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// Links the current span to the traces of the batch.
fn link(batch: &[Delivery]) {
    let span = tracing::Span::current();
    for trace in batch.iter().filter_map(Delivery::trace).filter(|trace| trace.sampled()).take(MAX_LINKS) {
        span.add_link(span_context(trace));
    }
}

/// The metrics of one queue.
struct Meters {
    done: Counter,
    retry: Counter,
    dead: Counter,
    sizes: Histogram,
    in_hand: Gauge,
}

impl Meters {
    fn of(queue: &str) -> Self {
        let outcome = |outcome: &'static str| counter!("amqp_consumed_total", "queue" => queue.to_owned(), "outcome" => outcome);
        Self {
            done: outcome("done"),
            retry: outcome("retry"),
            dead: outcome("dead"),
            sizes: histogram!("amqp_batch_size", "queue" => queue.to_owned()),
            in_hand: gauge!("amqp_in_hand", "queue" => queue.to_owned()),
        }
    }

    /// Counts messages as in hand until the guard is dropped.
    fn working(&self, count: usize) -> impl Drop + use<> {
        struct Working(Gauge, f64);
        impl Drop for Working {
            fn drop(&mut self) {
                self.0.decrement(self.1);
            }
        }
        let count = u32::try_from(count).map_or(f64::MAX, f64::from);
        self.sizes.record(count);
        self.in_hand.increment(count);
        Working(self.in_hand.clone(), count)
    }

    fn count(&self, done: usize, retry: usize, dead: usize) {
        for (counter, count) in [(&self.done, done), (&self.retry, retry), (&self.dead, dead)] {
            counter.increment(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }
}
