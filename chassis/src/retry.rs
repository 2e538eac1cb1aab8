//! Exponential backoff: the one place that knows the `backoff` crate.
//!
//! `backoff` is no longer maintained (RUSTSEC-2025-0012), so everything that waits and tries again comes
//! through here, and another crate can take its place in this file.

use std::fmt::Display;
use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// The first pause. A server that comes back is found again within the second that people notice.
const FIRST: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST: Duration = Duration::from_millis(500);

/// A pause that grows from one failure to the next: 50 ms to half a second, with jitter, for ever.
#[derive(Debug)]
pub struct Pause {
    policy: ExponentialBackoff,
}

impl Default for Pause {
    fn default() -> Self {
        Self {
            policy: ExponentialBackoff {
                current_interval: FIRST,
                initial_interval: FIRST,
                max_interval: LONGEST,
                multiplier: 2.0,
                max_elapsed_time: None,
                ..ExponentialBackoff::default()
            },
        }
    }
}

impl Pause {
    /// How long to wait before the next try.
    pub fn grow(&mut self) -> Duration {
        self.policy.next_backoff().unwrap_or(LONGEST).min(LONGEST)
    }

    /// Begins again with the first pause, after a success.
    pub fn reset(&mut self) {
        self.policy.reset();
    }
}

/// Tries until it succeeds, with growing pauses. The first failure is said at once, and after that one a
/// `LONGEST` pause or so: `what` is what is being waited for. Cancel it by dropping it.
pub async fn forever<T, E, F>(what: &str, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, E>>,
    E: Display,
{
    let mut pause = Pause::default();
    let mut failures = 0_u32;
    loop {
        match attempt().await {
            Ok(value) => {
                if failures > 0 {
                    tracing::info!(what, failures, "available again");
                }
                return value;
            }
            Err(error) => {
                failures += 1;
                let wait = pause.grow();
                // A line for the first failures, then every tenth: a long outage is no flood.
                if failures <= 5 || failures.is_multiple_of(10) {
                    tracing::warn!(what, %error, failures, retry_in = ?wait, "waiting");
                }
                tokio::time::sleep(wait).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_again_after_a_success() {
        let mut pause = Pause::default();
        let pauses: Vec<_> = (0..20).map(|_| pause.grow()).collect();
        assert!(pauses[0] < Duration::from_millis(100), "{pauses:?}");
        assert!(pauses[19] > Duration::from_millis(200), "{pauses:?}");
        assert!(pauses.iter().all(|&p| p <= LONGEST), "{pauses:?}");
        pause.reset();
        assert!(pause.grow() < Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn it_tries_until_it_succeeds() {
        let mut left = 7;
        let value = forever("test", || {
            left -= 1;
            std::future::ready(if left == 0 { Ok(5) } else { Err("not yet") })
        })
        .await;
        assert_eq!((value, left), (5, 0));
    }
}
