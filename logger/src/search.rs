//! Reading the log: entries by what is known of them, in [`crate::page`]s.

use bson::raw::RawDocumentBuf;
use bson::{Document, doc};
use contracts::log::{Entry, Level};
use mongodb::Collection;
use uuid::Uuid;

use crate::document::binary;
use crate::document::entry::decode;
use crate::mongo::Mongo;
use crate::page::{Page, Range};
use crate::read::{self, ReadError, readable};

/// What pages go by.
const AT: &str = "at";

/// Which entries. All of it must hold; nothing set means all entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The whole name.
    pub name: Option<String>,
    /// The level.
    pub level: Option<Level>,
    /// The one with this id.
    pub id: Option<Uuid>,
    /// Those of this trace.
    pub trace_id: Option<String>,
    /// Those with this text in their name or anywhere in their data, in any case.
    pub text: Option<String>,
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

    /// The entries that match.
    pub async fn page(&self, filter: &Filter, range: &Range) -> Result<Page<Entry>, ReadError> {
        range.page(AT, self.entries.find(range.of(AT, query(filter))), decode).await
    }

    /// The entry with this id.
    pub async fn one(&self, id: Uuid) -> Result<Option<Entry>, ReadError> {
        let document = read::one(&self.entries, id).await?;
        Ok(document.and_then(|document| readable(&document, decode)))
    }
}

/// The filter in MongoDB's words.
fn query(filter: &Filter) -> Document {
    let mut query = Document::new();
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
    if let Some(text) = &filter.text {
        let text = read::containing(text);
        // `$or` itself is the page's.
        query.insert(
            "$and",
            [doc! { "$or": [{ "name": &text }, { "data": &text }, { "text": &text }] }].to_vec(),
        );
    }
    query
}
