//! Reading: entries by what is known of them, newest first, a page at a time.
//!
//! Pages go by keys, not by numbers: the next one begins where the last one ended, whatever was written in the
//! meantime. The order is the time and then the id, so that entries of the same millisecond keep theirs.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bson::raw::RawDocumentBuf;
use bson::{DateTime, Document, doc};
use chassis::http::Answer;
use chrono::Utc;
use contracts::log::{Entry, Level};
use futures_util::TryStreamExt as _;
use http::StatusCode;
use mongodb::Collection;
use mongodb::error::{Error, ErrorKind};
use thiserror::Error;
use uuid::Uuid;

use crate::document::{binary, date, decode};
use crate::mongo::{Mongo, NAME, describe};

/// How long MongoDB may search.
const SEARCH: Duration = Duration::from_secs(3);
/// How long the whole may take; a MongoDB that hangs does not keep time.
const PATIENCE: Duration = Duration::from_secs(5);
/// `MaxTimeMSExpired`.
const EXPIRED: i32 = 50;

/// Which entries. All of it must hold; nothing set means all entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The whole name.
    pub name: Option<String>,
    /// The level.
    pub level: Option<Level>,
    /// From this time on.
    pub since: Option<chrono::DateTime<Utc>>,
    /// Up to this time, which is not included.
    pub until: Option<chrono::DateTime<Utc>>,
    /// The one with this id.
    pub id: Option<Uuid>,
    /// Those of this trace.
    pub trace_id: Option<String>,
    /// Those with this text in their name or anywhere in their data, in any case.
    pub text: Option<String>,
}

/// Where a page ended: the last entry on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    at: i64,
    id: Uuid,
}

/// One page.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The entries, newest first.
    pub entries: Vec<Entry>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Cursor>,
}

/// Why there is no page.
#[derive(Debug, Error)]
pub enum SearchError {
    /// MongoDB gave up after [`SEARCH`].
    #[error("the search took too long")]
    TooSlow,
    /// MongoDB is away, or does not answer.
    #[error("{NAME} is away: {0}")]
    Away(String),
}

impl From<Error> for SearchError {
    fn from(error: Error) -> Self {
        match &*error.kind {
            ErrorKind::Command(command) if command.code == EXPIRED => Self::TooSlow,
            _ => Self::Away(describe(&error)),
        }
    }
}

/// The one place where a failed search is logged.
impl From<SearchError> for Answer {
    fn from(error: SearchError) -> Self {
        tracing::warn!(%error, "a search failed");
        match error {
            SearchError::TooSlow => Self::failed(
                StatusCode::GATEWAY_TIMEOUT,
                "the search took too long: narrow it with name, trace_id, since or until",
            ),
            SearchError::Away(_) => Self::unavailable(NAME),
        }
    }
}

impl Cursor {
    /// Reads what [`Self::text`] wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 24] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (at, id) = bytes.split_at(8);
        Some(Self { at: i64::from_be_bytes(at.try_into().ok()?), id: Uuid::from_slice(id).ok()? })
    }

    /// The cursor as a client hands it back. What is in it is not for clients to read.
    pub fn text(self) -> String {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.at.to_be_bytes());
        bytes[8..].copy_from_slice(self.id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn of(entry: &Entry) -> Self {
        Self { at: entry.at.timestamp_millis(), id: entry.id }
    }
}

/// Reads the entries. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Search {
    entries: Collection<RawDocumentBuf>,
}

impl Search {
    /// Reads from this database.
    pub fn new(mongo: &Mongo) -> Self {
        Self { entries: mongo.entries() }
    }

    /// The entries that match, newest first, at most `limit`, after those of the page that ended at `before`.
    pub async fn page(
        &self,
        filter: &Filter,
        limit: u32,
        before: Option<Cursor>,
    ) -> Result<Page, SearchError> {
        // One more than asked for says whether there is another page.
        let take = limit + 1;
        let found = self
            .entries
            .find(query(filter, before))
            .sort(doc! { "at": -1, "_id": -1 })
            .limit(i64::from(take))
            .batch_size(take)
            .max_time(SEARCH);
        let documents: Vec<_> = patiently(async { found.await?.try_collect().await }).await?;
        let mut entries: Vec<_> = documents.iter().filter_map(readable).collect();
        let limit = limit as usize;
        let next = if documents.len() > limit {
            entries.truncate(limit);
            entries.last().map(Cursor::of)
        } else {
            None
        };
        Ok(Page { entries, next })
    }

    /// The entry with this id.
    pub async fn one(&self, id: Uuid) -> Result<Option<Entry>, SearchError> {
        let found = self.entries.find_one(doc! { "_id": binary(id) }).max_time(SEARCH);
        let document = patiently(async { found.await }).await?;
        Ok(document.as_ref().and_then(readable))
    }
}

async fn patiently<T>(read: impl Future<Output = Result<T, Error>>) -> Result<T, SearchError> {
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(SearchError::Away(format!("no answer within {PATIENCE:?}"))),
    }
}

/// The entry of a document; one that another program put there is left out, and said.
fn readable(document: &RawDocumentBuf) -> Option<Entry> {
    decode(document).inspect_err(|error| tracing::warn!(%error, "a document is left out")).ok()
}

/// The filter in MongoDB's words.
fn query(filter: &Filter, before: Option<Cursor>) -> Document {
    let mut query = Document::new();
    let mut at = Document::new();
    if let Some(id) = filter.id {
        query.insert("_id", binary(id));
    }
    if let Some(trace_id) = &filter.trace_id {
        query.insert("trace_id", trace_id);
    }
    if let Some(name) = &filter.name {
        query.insert("name", name);
    }
    if let Some(level) = filter.level {
        query.insert("level", level.as_str());
    }
    if let Some(since) = filter.since {
        at.insert("$gte", date(since));
    }
    if let Some(until) = filter.until {
        at.insert("$lt", date(until));
    }
    let mut all = Vec::new();
    if let Some(cursor) = before {
        let end = DateTime::from_millis(cursor.at);
        at.insert("$lte", end);
        all.push(doc! { "$or": [{ "at": { "$lt": end } }, { "_id": { "$lt": binary(cursor.id) } }] });
    }
    if let Some(text) = &filter.text {
        let text = doc! { "$regex": escape(text), "$options": "i" };
        all.push(doc! { "$or": [{ "name": &text }, { "data": &text }, { "text": &text }] });
    }
    if !at.is_empty() {
        query.insert("at", at);
    }
    if !all.is_empty() {
        query.insert("$and", all);
    }
    query
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
    fn a_cursor_survives_the_way_to_the_client() {
        let cursor = Cursor { at: 1_767_323_045_007, id: Uuid::now_v7() };
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        assert!(cursor.text().bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for wrong in ["", "x", "!!!!", "AAAA", &"A".repeat(31), &"A".repeat(33), "é"] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_text_is_searched_as_it_is() {
        assert_eq!(escape(r"a.b*(c)\d é"), r"a\.b\*\(c\)\\d é");
    }
}
