//! Reading: what every question to MongoDB has in common.

use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Document, doc};
use chassis::http::Answer;
use futures_util::TryStreamExt as _;
use http::StatusCode;
use mongodb::Collection;
use mongodb::action::Find;
use mongodb::error::{Error, ErrorKind};
use thiserror::Error;
use uuid::Uuid;

use crate::document::{DecodeError, binary};
use crate::mongo::{NAME, describe};

/// How long MongoDB may work on a question.
pub const WORK: Duration = Duration::from_secs(3);
/// How long the whole may take; a MongoDB that hangs does not keep time.
const PATIENCE: Duration = Duration::from_secs(5);
/// `MaxTimeMSExpired`.
const EXPIRED: i32 = 50;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ReadError {
    /// MongoDB gave up after [`WORK`].
    #[error("the search took too long")]
    TooSlow,
    /// MongoDB is away, or does not answer.
    #[error("{NAME} is away: {0}")]
    Away(String),
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        match &*error.kind {
            ErrorKind::Command(command) if command.code == EXPIRED => Self::TooSlow,
            _ => Self::Away(describe(&error)),
        }
    }
}

/// The one place where a question that failed is logged.
impl From<ReadError> for Answer {
    fn from(error: ReadError) -> Self {
        tracing::warn!(%error, "a search failed");
        match error {
            ReadError::TooSlow => Self::failed(
                StatusCode::GATEWAY_TIMEOUT,
                "the search took too long: narrow it with since, until or the other parameters",
            ),
            ReadError::Away(_) => Self::unavailable(NAME),
        }
    }
}

/// Waits for MongoDB, not for ever.
pub async fn patiently<T>(read: impl Future<Output = Result<T, Error>>) -> Result<T, ReadError> {
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(ReadError::Away(format!("no answer within {PATIENCE:?}"))),
    }
}

/// The document with this id.
pub async fn one(
    collection: &Collection<RawDocumentBuf>,
    id: Uuid,
) -> Result<Option<RawDocumentBuf>, ReadError> {
    let found = collection.find_one(doc! { "_id": binary(id) }).max_time(WORK);
    patiently(async { found.await }).await
}

/// Every document that is found.
pub async fn all(found: Find<'_, RawDocumentBuf>) -> Result<Vec<RawDocumentBuf>, ReadError> {
    patiently(async { found.max_time(WORK).await?.try_collect().await }).await
}

/// What a document says; one that another program put there is left out, and said.
pub fn readable<T>(
    document: &RawDocumentBuf,
    decode: impl Fn(&RawDocument) -> Result<T, DecodeError>,
) -> Option<T> {
    decode(document).inspect_err(|error| tracing::warn!(%error, "a document is left out")).ok()
}

/// What matches a field with this text in it, in any case.
pub fn containing(text: &str) -> Document {
    doc! { "$regex": escape(text), "$options": "i" }
}

/// The text as a regular expression that matches just it (PCRE: any mark of ASCII may have a backslash).
fn escape(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_searched_as_it_is() {
        assert_eq!(escape(r"a.b*(c)\d é"), r"a\.b\*\(c\)\\d é");
    }
}
