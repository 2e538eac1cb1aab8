//! What is counted: mails by outcome, how long a send took, connections.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// How a mail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The mail server took it.
    Sent,
    /// It could not be made, or the mail server refused it for good.
    Refused,
    /// It was not taken, and may be the next time.
    NotTaken,
    /// The mail server had it and did not say whether it took it.
    Unknown,
}

impl Outcome {
    /// The label of the series, and the word in the log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Refused => "refused",
            Self::NotTaken => "not_taken",
            Self::Unknown => "unknown",
        }
    }
}

/// The series of the mails.
pub(crate) struct MailMetrics {
    sent: Counter,
    refused: Counter,
    not_taken: Counter,
    unknown: Counter,
    resent: Counter,
    duration: Histogram,
}

impl Default for MailMetrics {
    fn default() -> Self {
        let of = |outcome: Outcome| counter!("mails_total", "outcome" => outcome.as_str());
        Self {
            sent: of(Outcome::Sent),
            refused: of(Outcome::Refused),
            not_taken: of(Outcome::NotTaken),
            unknown: of(Outcome::Unknown),
            resent: counter!("mail_resent_total"),
            duration: histogram!("mail_send_duration_seconds"),
        }
    }
}

impl MailMetrics {
    /// Counts a mail that is sent though the mail server may have it already.
    pub(crate) fn resent(&self) {
        self.resent.increment(1);
    }

    /// Counts one mail.
    pub(crate) fn record(&self, outcome: Outcome, took: Duration) {
        let count = match outcome {
            Outcome::Sent => &self.sent,
            Outcome::Refused => &self.refused,
            Outcome::NotTaken => &self.not_taken,
            Outcome::Unknown => &self.unknown,
        };
        count.increment(1);
        self.duration.record(took.as_secs_f64());
    }
}

/// The series of the connections to the mail server.
pub(crate) struct PoolMetrics {
    opened: Counter,
    open: Gauge,
    idle: Gauge,
}

impl Default for PoolMetrics {
    fn default() -> Self {
        Self {
            opened: counter!("smtp_connections_opened_total"),
            open: gauge!("smtp_connections", "state" => "open"),
            idle: gauge!("smtp_connections", "state" => "idle"),
        }
    }
}

impl PoolMetrics {
    /// Counts a connection that was made.
    pub(crate) fn opened(&self) {
        self.opened.increment(1);
    }

    /// Takes down how many connections there are, and how many of them wait for work.
    pub(crate) fn size(&self, open: usize, idle: usize) {
        // No pool comes near the 2^32 where this loses anything.
        self.open.set(f64::from(u32::try_from(open).unwrap_or(u32::MAX)));
        self.idle.set(f64::from(u32::try_from(idle).unwrap_or(u32::MAX)));
    }
}
