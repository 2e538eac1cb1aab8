//! The names of exchanges and queues, and the routing keys between them. `chassis::amqp` declares them.

use std::time::Duration;

use crate::log::Level;

/// Every name on the message server. A namespace in front of each keeps tests apart from each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Topic exchange for every event of the system.
    pub events: String,
    /// Topic exchange that existing publishers send `{"name","data"}` to, with keys `log.INFO`, ….
    pub logs_topic: String,
    /// Work queue of the log entries, bound to both exchanges.
    pub log_queue: String,
    /// Work queue of the mails that are asked for.
    pub mail_queue: String,
    /// Work queue of the steps of every trail.
    pub trail_queue: String,
    /// Where a message ends that can't be handled, until it is kept as a dead letter.
    pub dead_queue: String,
    /// Where a dead letter ends that nobody can read: for a person with the server's own page.
    pub unreadable_queue: String,
    /// Where a message waits for its next attempt, the shortest wait first. The same name for the exchange, which takes
    /// the name of the queue that it returns to as the routing key, and for the queue behind it.
    pub retries: Vec<Retry>,
}

/// A place to wait for the next attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The name of the exchange and of the queue.
    pub name: String,
    /// How long a message stays.
    pub delay: Duration,
}

/// The binding of the log queue: `log.info` on the events exchange, `log.INFO` on `logs_topic`.
pub const LOG_BINDING: &str = "log.*";
/// The routing key, and CloudEvents type, of a mail that is asked for.
pub const MAIL_REQUESTED: &str = "mail.requested";
/// The routing key, and CloudEvents type, of a new user, who gets a mail.
pub const USER_REGISTERED: &str = "auth.user.registered";
/// The bindings of the mail queue.
pub const MAIL_BINDINGS: [&str; 2] = [MAIL_REQUESTED, USER_REGISTERED];
/// The bindings of the trail queue: the steps of mails, one by one. What asks for a mail is not among them: it is
/// returned to its publisher when the mail queue is not there to take it. What became of a log entry is seen in the
/// log itself.
pub const TRAIL_BINDINGS: [&str; 10] = [
    "mail.queued",
    "mail.deferred",
    "mail.retrying",
    "mail.resent",
    "mail.sent",
    "mail.failed",
    "mail.dead",
    "mail.replayed",
    "mail.discarded",
    "mail.conflict",
];
/// How long a message waits after each failed attempt, unless told; after the last it is dead.
pub const RETRY_DELAYS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_mins(1),
    Duration::from_mins(10),
    Duration::from_hours(1),
];

impl Topology {
    /// The names with `namespace` in front; an empty one gives the names of the running system.
    pub fn within(namespace: &str) -> Self {
        let name = |name: &str| format!("{namespace}{name}");
        Self {
            events: name("switchboard.events"),
            logs_topic: name("logs_topic"),
            log_queue: name("switchboard.log"),
            mail_queue: name("switchboard.mail"),
            trail_queue: name("switchboard.trail"),
            dead_queue: name("switchboard.dead"),
            unreadable_queue: name("switchboard.unreadable"),
            retries: Vec::new(),
        }
    }

    /// The same with these waits: whoever lets messages wait has them.
    #[must_use]
    pub fn with_delays(self, namespace: &str, delays: &[Duration]) -> Self {
        Self { retries: delays.iter().map(|delay| Retry::within(namespace, *delay)).collect(), ..self }
    }
}

impl Retry {
    fn within(namespace: &str, delay: Duration) -> Self {
        // To the millisecond, as the server counts.
        Self { name: format!("{namespace}switchboard.retry.{}ms", delay.as_millis()), delay }
    }
}

impl Default for Topology {
    fn default() -> Self {
        Self::within("")
    }
}

/// The routing key, and CloudEvents type, of a log entry: `log.info`.
pub fn log_key(level: Level) -> &'static str {
    match level {
        Level::Info => "log.info",
        Level::Warning => "log.warning",
        Level::Error => "log.error",
    }
}
