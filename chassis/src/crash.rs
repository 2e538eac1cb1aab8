//! Crash points: places between two steps where a test can have the process die.
//!
//! Only builds with the feature `crash-points` have them, which no release has. The variable `CRASH_POINT` names the
//! place; the process is gone when it gets there, with nothing flushed, closed or said. A test finds the names in
//! the sources, so that none is forgotten.

/// A place where the process may die: `name` says what has been done by then.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn point(_name: &str) {}

/// A place where the process may die: `name` says what has been done by then.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var("CRASH_POINT").ok());
    if chosen.as_deref() == Some(name) {
        std::process::abort();
    }
}
