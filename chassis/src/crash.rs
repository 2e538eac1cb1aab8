//! Crash points: places between two steps where a test can have the process die.
//!
//! Only builds with the feature `crash-points` have them, which no release has. `CRASH_POINT` names the place, and
//! `CRASH_AT` the how manyth time there, the first unless told: the process is gone when it gets there, with nothing
//! flushed, closed or said. A test finds the names in the sources, so that none is forgotten.

/// A place where the process may die: `name` says what has been done by then.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn point(_name: &str) {}

/// A place where the process may die: `name` says what has been done by then.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static CHOSEN: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("CRASH_POINT").ok()?;
        let at = std::env::var("CRASH_AT").ok().and_then(|at| at.parse().ok()).unwrap_or(1);
        Some((name, AtomicU32::new(at)))
    });
    if let Some((chosen, left)) = chosen
        && chosen == name
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}
