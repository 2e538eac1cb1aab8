//! From the first signal to the last flush.
//!
//! A service stops in this order: readiness turns false ([`Lifecycle::draining`]); after the drain delay,
//! which gives a load balancer time to look elsewhere, nothing new is accepted ([`Lifecycle::stopping`]); what
//! is in flight ends ([`Lifecycle::spawn`]ed work is waited for); then background tasks end
//! ([`Lifecycle::closing`]). The drain has a deadline. A background task that ends by itself is a crash, and
//! stops the service with a failing exit code.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long background tasks may take to end, at the very end.
const CLOSE: Duration = Duration::from_secs(2);

/// The stop signals of one process and the tasks that follow them. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    draining: CancellationToken,
    stopping: CancellationToken,
    closing: CancellationToken,
    work: TaskTracker,
    background: TaskTracker,
    failure: Arc<Mutex<Option<String>>>,
}

/// How a drain is bounded.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// Between readiness turning false and the listeners closing.
    pub delay: Duration,
    /// How long what is in flight may take, after which it is abandoned.
    pub timeout: Duration,
}

impl Lifecycle {
    /// Cancelled when readiness is to turn false.
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Cancelled when nothing new is to be accepted.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Cancelled when what was in flight has ended.
    pub fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Begins to stop, as a signal does.
    pub fn stop(&self) {
        self.draining.cancel();
    }

    /// Runs work that ends by itself once [`Self::stopping`] is cancelled: a server, a consumer. Its error
    /// stops the service, and so does an end before that.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.watch(&self.work, &self.stopping, name, work);
    }

    /// Runs a task that the work needs until the very end, such as a connection; it ends by itself once
    /// [`Self::closing`] is cancelled. Its error stops the service, and so does an end before that.
    pub fn background(
        &self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.watch(&self.background, &self.closing, name, task);
    }

    fn watch(
        &self,
        tracker: &TaskTracker,
        until: &CancellationToken,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let (lifecycle, until) = (self.clone(), until.clone());
        // A task of its own, so that a panic is seen as an end too.
        let handle = tokio::spawn(task);
        tracker.spawn(async move {
            let failure = match handle.await {
                Ok(Ok(())) if until.is_cancelled() => return,
                Ok(Ok(())) => "ended by itself".to_owned(),
                Ok(Err(error)) => format!("{error:#}"),
                Err(panic) => panic.to_string(),
            };
            lifecycle.fail(format!("{name}: {failure}"));
        });
    }

    fn fail(&self, why: String) {
        tracing::error!(why, "a task of this service failed: stopping");
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.draining.cancel();
    }

    /// Begins to stop on SIGTERM or SIGINT; a second signal ends the process at once.
    pub fn stop_on_signals(&self) -> std::io::Result<()> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let lifecycle = self.clone();
        tokio::spawn(async move {
            let mut signals = 0;
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                signals += 1;
                if signals > 1 {
                    crate::telemetry::flush();
                    std::process::exit(130);
                }
                tracing::info!(signal = name, "stopping; a second signal ends at once");
                lifecycle.stop();
            }
        });
        Ok(())
    }

    /// Waits until something begins to stop, then drains. `Err` says which task failed, or that the drain
    /// took too long.
    pub async fn run(self, drain: Drain) -> anyhow::Result<()> {
        self.draining.cancelled().await;
        tokio::time::sleep(drain.delay).await;
        self.stopping.cancel();
        self.work.close();
        let late = tokio::time::timeout(drain.timeout, self.work.wait()).await.is_err();
        self.closing.cancel();
        self.background.close();
        let clings = tokio::time::timeout(CLOSE, self.background.wait()).await.is_err();
        if let Some(why) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            anyhow::bail!(why);
        }
        if late {
            anyhow::bail!(
                "not drained within {:?} (DRAIN_TIMEOUT): what was left is abandoned",
                drain.timeout
            );
        }
        anyhow::ensure!(!clings, "background tasks did not end within {CLOSE:?}: they are dropped");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAIN: Drain = Drain { delay: Duration::ZERO, timeout: Duration::from_secs(5) };

    #[tokio::test]
    async fn work_in_flight_ends_before_the_background_does() {
        let lifecycle = Lifecycle::default();
        let order = Arc::new(Mutex::new(Vec::new()));
        let (stopping, closing) = (lifecycle.stopping(), lifecycle.closing());
        let (first, second) = (order.clone(), order.clone());
        lifecycle.background("connection", async move {
            closing.cancelled().await;
            second.lock().unwrap().push("background");
            Ok(())
        });
        lifecycle.spawn("server", async move {
            stopping.cancelled().await;
            tokio::task::yield_now().await;
            first.lock().unwrap().push("work");
            Ok(())
        });
        lifecycle.stop();
        lifecycle.run(DRAIN).await.unwrap();
        assert_eq!(*order.lock().unwrap(), ["work", "background"]);
    }

    #[tokio::test]
    async fn a_task_that_ends_by_itself_stops_the_service() {
        for panics in [false, true] {
            let lifecycle = Lifecycle::default();
            lifecycle.background("connection", async move {
                assert!(!panics, "boom");
                Ok(())
            });
            let error = lifecycle.run(DRAIN).await.unwrap_err();
            assert!(error.to_string().starts_with("connection: "), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_that_takes_too_long_is_abandoned_and_said() {
        let lifecycle = Lifecycle::default();
        lifecycle.spawn("server", std::future::pending());
        lifecycle.stop();
        let error = lifecycle.run(DRAIN).await.unwrap_err();
        assert!(error.to_string().contains("DRAIN_TIMEOUT"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_background_task_that_does_not_end_in_time_is_dropped_and_said() {
        let lifecycle = Lifecycle::default();
        lifecycle.background("connection", std::future::pending());
        lifecycle.stop();
        let error = lifecycle.run(DRAIN).await.unwrap_err();
        assert!(error.to_string().starts_with("background tasks did not end within 2s"), "{error}");
    }
}
