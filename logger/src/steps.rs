//! The steps of every trail: each kept once, however often it is told.

use bson::doc;
use bson::raw::RawDocumentBuf;
use contracts::trail::Step;
use mongodb::Collection;
use uuid::Uuid;

use crate::document::binary;
use crate::document::step::{decode, encode};
use crate::insert::{Insert, Outcome};
use crate::mongo::Mongo;
use crate::read::{self, ReadError, readable};

/// How many steps of one action are read: several times as many as one with all its attempts and replays has.
const MOST: i64 = 1000;

/// The steps. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Steps {
    steps: Collection<RawDocumentBuf>,
    insert: Insert,
}

impl Steps {
    /// The steps in this database.
    pub fn new(mongo: &Mongo) -> Self {
        Self { steps: mongo.steps(), insert: Insert::new(mongo, mongo.steps()) }
    }

    /// Keeps steps that came together: an outcome for each, in their order.
    pub async fn record(&self, steps: &[Step]) -> Vec<Outcome> {
        let documents: Vec<_> = steps.iter().map(encode).collect();
        self.insert.write_all(&documents).await
    }

    /// The steps of an action, the newest first.
    pub async fn of(&self, action: Uuid) -> Result<Vec<Step>, ReadError> {
        let found = self.steps.find(doc! { "action": binary(action) }).sort(doc! { "at": -1 }).limit(MOST);
        Ok(read::all(found).await?.iter().filter_map(|document| readable(document, decode)).collect())
    }
}
