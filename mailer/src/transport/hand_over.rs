//! The moment from which nobody can know whether the mail server has a mail.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

/// Whether the hand-over of a mail has begun, and until when it may: a process that stood still meanwhile is no longer
/// the one to send it.
#[derive(Debug)]
pub(super) struct HandOver {
    until: Instant,
    begun: AtomicBool,
}

impl HandOver {
    /// Not yet; it may begin until then.
    pub(super) fn until(until: Instant) -> Self {
        Self { until, begun: AtomicBool::new(false) }
    }

    /// It begins, unless it is too late.
    pub(super) fn begin(&self) -> bool {
        let in_time = Instant::now() <= self.until;
        self.begun.fetch_or(in_time, Ordering::Relaxed);
        in_time
    }

    /// Whether it has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_too_late_is_not_handed_over() {
        let now = Instant::now();
        let in_time = HandOver::until(now + Duration::from_mins(1));
        assert!(!in_time.has_begun());
        assert!(in_time.begin() && in_time.has_begun());
        let late = HandOver::until(now.checked_sub(Duration::from_secs(1)).unwrap());
        assert!(!late.begin() && !late.has_begun());
    }
}
