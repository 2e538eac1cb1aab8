//! Pages: what was asked for, newest first, a part at a time.
//!
//! Pages go by keys, not by numbers: the next one begins where the last one ended, whatever was written in the
//! meantime. The order is a time and then the id, so that what is of the same millisecond keeps its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{DateTime, Document, doc};
use chrono::Utc;
use mongodb::action::Find;
use uuid::Uuid;

use crate::document::{DecodeError, binary, date, required};
use crate::read::{ReadError, all, readable};

/// How many are on a page unless told.
const LIMIT: u32 = 50;

/// Which part of what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// From this time on.
    pub since: Option<chrono::DateTime<Utc>>,
    /// Up to this time, which is not included.
    pub until: Option<chrono::DateTime<Utc>>,
    /// How many at most.
    pub limit: u32,
    /// What comes after the page that ended there.
    pub before: Option<Cursor>,
}

impl Default for Range {
    fn default() -> Self {
        Self { since: None, until: None, limit: LIMIT, before: None }
    }
}

/// Where a page ended: the last one on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    at: i64,
    id: Uuid,
}

/// One page.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// What is on it, newest first.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Cursor>,
}

impl Range {
    /// The query for this part of what `query` finds; `time` is the field to go by.
    pub fn of(&self, time: &str, mut query: Document) -> Document {
        let mut at = Document::new();
        if let Some(since) = self.since {
            at.insert("$gte", date(since));
        }
        if let Some(until) = self.until {
            at.insert("$lt", date(until));
        }
        if let Some(cursor) = self.before {
            let end = DateTime::from_millis(cursor.at);
            at.insert("$lte", end);
            let before = [doc! { time: { "$lt": end } }, doc! { "_id": { "$lt": binary(cursor.id) } }];
            query.insert("$or", before.to_vec());
        }
        if !at.is_empty() {
            query.insert(time, at);
        }
        query
    }

    /// The page of what is found by a query of [`Self::of`].
    pub async fn page<T>(
        &self,
        time: &'static str,
        found: Find<'_, RawDocumentBuf>,
        decode: impl Fn(&RawDocument) -> Result<T, DecodeError>,
    ) -> Result<Page<T>, ReadError> {
        // One more than asked for says whether there is another page.
        let take = self.limit + 1;
        let order = doc! { time: -1, "_id": -1 };
        let mut documents = all(found.sort(order).limit(i64::from(take)).batch_size(take)).await?;
        let limit = self.limit as usize;
        let more = documents.len() > limit;
        documents.truncate(limit);
        let last = || documents.iter().rev().find_map(|document| Cursor::of(time, document).ok());
        let next = if more { last() } else { None };
        Ok(Page {
            items: documents.iter().filter_map(|document| readable(document, &decode)).collect(),
            next,
        })
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

    fn of(time: &'static str, document: &RawDocument) -> Result<Self, DecodeError> {
        let at: chrono::DateTime<Utc> = required(document, time)?;
        Ok(Self { at: at.timestamp_millis(), id: required(document, "_id")? })
    }
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
}
