//! Waiting for a condition, never for a time.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How often to look.
const EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` succeeds. After `deadline` it panics with `what` was waited for and the last reason
/// why it was not there.
pub async fn eventually<T, E: Display, F>(deadline: Duration, what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, E>>,
{
    let started = Instant::now();
    let mut last = "it never answered".to_owned();
    while let Some(left) = deadline.checked_sub(started.elapsed()) {
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => break,
        }
        tokio::time::sleep(EVERY).await;
    }
    panic!("{what}: not within {deadline:?}; last: {last}");
}
