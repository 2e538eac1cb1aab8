//! The logger's RPC: a tarpc service over TCP, MessagePack on the wire.
//!
//! The client is `chassis::rpc`; the server is the `logger` crate. Every call may be repeated: an entry, a
//! step or a letter whose id is there already is not written again.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::dead_letter::Letter;
use crate::log::Entry;
use crate::trail::Step;

/// The largest frame on the wire, in bytes: a body of 1 MiB with room for what surrounds it, several times
/// over for a batch.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;

/// The service.
#[tarpc::service]
pub trait Logger {
    /// Stores one entry. The answer comes after the entry is in the journal.
    async fn append(entry: Entry) -> Result<Stored, AppendError>;

    /// Stores entries that came together; one answer for each, in their order.
    async fn append_all(entries: Vec<Entry>) -> Vec<Result<Stored, AppendError>>;

    /// Adds steps to the trails of their actions; one answer for each, in their order.
    async fn record(steps: Vec<Step>) -> Vec<Result<Stored, AppendError>>;

    /// Keeps dead letters; one answer for each, in their order.
    async fn bury(letters: Vec<Letter>) -> Vec<Result<Stored, AppendError>>;
}

/// How an entry came to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stored {
    /// By this call.
    Created,
    /// By an earlier one with the same id.
    Already,
}

/// Why an entry was not stored.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum AppendError {
    /// The logger's own server is away, full or too slow: the same call may succeed later.
    #[error("{0} is not available")]
    Unavailable(String),
    /// The id belongs to an entry with another content.
    #[error("the id belongs to another entry")]
    Conflict,
    /// This entry can't be stored, now or later.
    #[error("the entry was refused: {0}")]
    Refused(String),
}
