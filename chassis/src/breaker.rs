//! A circuit breaker for calls to another service: after a run of failures calls are refused at once, and
//! a second later a few are let through to see whether it is back.

use std::time::Duration;

use recloser::{AsyncRecloser, Error, Recloser};

/// How many calls the failure rate is taken over.
const WINDOW: usize = 20;
/// How many calls decide whether it closes again.
const PROBES: usize = 2;
/// How long it stays open.
pub const OPEN_FOR: Duration = Duration::from_secs(1);

/// A breaker. Clones share their state.
#[derive(Clone, Debug)]
pub struct Breaker {
    recloser: AsyncRecloser,
}

impl Default for Breaker {
    fn default() -> Self {
        let recloser = Recloser::custom()
            .error_rate(0.5)
            .closed_len(WINDOW)
            .half_open_len(PROBES)
            .open_wait(OPEN_FOR)
            .build();
        Self { recloser: AsyncRecloser::from(recloser) }
    }
}

/// Why a call gave nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum BreakerError<E> {
    /// The breaker is open: the call was not made.
    Open,
    /// The call was made and failed.
    Failed(E),
}

impl Breaker {
    /// Makes the call unless the breaker is open; `counts` says which errors are the callee's failing.
    pub async fn call<T, E>(
        &self,
        counts: impl Fn(&E) -> bool,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BreakerError<E>> {
        self.recloser.call_with(counts, call).await.map_err(|error| match error {
            Error::Inner(error) => BreakerError::Failed(error),
            Error::Rejected => BreakerError::Open,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn call(
        breaker: &Breaker,
        result: Result<(), &'static str>,
    ) -> Result<(), BreakerError<&'static str>> {
        breaker.call(|_| true, async { result }).await
    }

    #[tokio::test]
    async fn it_opens_after_a_run_of_failures_and_not_before() {
        let breaker = Breaker::default();
        for _ in 0..WINDOW {
            assert_eq!(call(&breaker, Err("down")).await, Err(BreakerError::Failed("down")));
        }
        let mut last = call(&breaker, Err("down")).await;
        for _ in 0..2 {
            last = call(&breaker, Err("down")).await;
        }
        assert_eq!(last, Err(BreakerError::Open));
    }

    #[tokio::test]
    async fn errors_that_are_not_the_callees_failing_do_not_open_it() {
        let breaker = Breaker::default();
        for _ in 0..WINDOW * 3 {
            let result = breaker.call(|_| false, async { Err::<(), _>("bad request") }).await;
            assert_eq!(result, Err(BreakerError::Failed("bad request")));
        }
    }
}
