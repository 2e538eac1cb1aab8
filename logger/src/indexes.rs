//! The indexes, made in the background at start: entries are taken before they are there.
//!
//! Every index costs each insert something, so there are only those without which a question would read the
//! whole collection: the pages in their order, what belongs to one trace or action, and the retention. A dead letter
//! is kept until somebody has decided about it, and as long as an entry after that.

use std::num::NonZeroU32;

use bson::{Document, doc};
use chassis::lifecycle::Lifecycle;
use chassis::retry;
use mongodb::IndexModel;
use mongodb::error::{Error, ErrorKind};
use mongodb::options::IndexOptions;

use crate::mongo::{DEAD_LETTERS, ENTRIES, Mongo, STEPS, describe};

/// The retention: MongoDB deletes what is older, in the background. Such an index has one field only, and passes over
/// what does not have it.
const RETENTION: &str = "retention";
/// `IndexOptionsConflict`: it is there, with another number of days.
const CONFLICT: i32 = 85;

/// Sees to it that the indexes are there, as often as it takes.
pub fn keep(mongo: Mongo, days: NonZeroU32, lifecycle: &Lifecycle) {
    let closing = lifecycle.closing();
    lifecycle.background("indexes", async move {
        let made = retry::forever("the indexes of MongoDB", || async {
            make(&mongo, days).await.map_err(|error| describe(&error))
        });
        tokio::select! {
            () = made => tracing::debug!(days, "the indexes are there"),
            () = closing.cancelled() => return Ok(()),
        }
        closing.cancelled().await;
        Ok(())
    });
}

/// Makes the indexes, or brings the retention up to date.
pub async fn make(mongo: &Mongo, days: NonZeroU32) -> Result<(), Error> {
    let entries = [index("pages", doc! { "at": 1, "_id": 1 }), index("trace", doc! { "trace_id": 1 })];
    mongo.entries().create_indexes(entries).await?;
    retain(mongo, ENTRIES, "at", days).await?;

    mongo.steps().create_index(index("trail", doc! { "action": 1, "at": 1 })).await?;
    retain(mongo, STEPS, "at", days).await?;

    let pages = doc! { "state": 1, "died_at": 1, "_id": 1 };
    let letters = [index("pages", pages), index("action", doc! { "action": 1 })];
    mongo.dead_letters().create_indexes(letters).await?;
    retain(mongo, DEAD_LETTERS, "decided_at", days).await
}

fn index(name: &str, keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).options(IndexOptions::builder().name(name.to_owned()).build()).build()
}

/// Keeps what is in a collection for so many days after the time in a field.
async fn retain(mongo: &Mongo, collection: &'static str, field: &str, days: NonZeroU32) -> Result<(), Error> {
    let keep = std::time::Duration::from_secs(u64::from(days.get()) * 86_400);
    let options = IndexOptions::builder().name(RETENTION.to_owned()).expire_after(keep).build();
    let retention = IndexModel::builder().keys(doc! { field: 1 }).options(options).build();
    match mongo.database().collection::<Document>(collection).create_index(retention).await {
        Err(error) if matches!(&*error.kind, ErrorKind::Command(command) if command.code == CONFLICT) => {
            let seconds = i64::from(days.get()) * 86_400;
            let change = doc! { "name": RETENTION, "expireAfterSeconds": seconds };
            mongo.database().run_command(doc! { "collMod": collection, "index": change }).await?;
            tracing::info!(days, collection, "the retention was changed");
            Ok(())
        }
        made => made.map(drop),
    }
}
