//! The names of exchanges and queues, and the routing keys between them. `chassis::amqp` declares them.

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
    /// Where a message ends that can't be handled.
    pub dead_queue: String,
}

/// The binding of the log queue: `log.info` on the events exchange, `log.INFO` on `logs_topic`.
pub const LOG_BINDING: &str = "log.*";

impl Topology {
    /// The names with `namespace` in front; an empty one gives the names of the running system.
    pub fn within(namespace: &str) -> Self {
        let name = |name: &str| format!("{namespace}{name}");
        Self {
            events: name("switchboard.events"),
            logs_topic: name("logs_topic"),
            log_queue: name("switchboard.log"),
            dead_queue: name("switchboard.dead"),
        }
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
