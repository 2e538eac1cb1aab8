//! The indexes, made in the background at start: entries are taken before they are there.
//!
//! Every index costs each insert something, so there are only those without which a question would read the
//! whole collection: the pages in their order, the entries of one trace, and the retention.

use std::num::NonZeroU32;

use bson::doc;
use chassis::lifecycle::Lifecycle;
use chassis::retry;
use mongodb::IndexModel;
use mongodb::error::{Error, ErrorKind};
use mongodb::options::IndexOptions;

use crate::mongo::{ENTRIES, Mongo, describe};

/// The retention: MongoDB deletes what is older, in the background. Such an index has one field only.
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
    let named = |name: &str| IndexOptions::builder().name(name.to_owned());
    let index = |keys, options| IndexModel::builder().keys(keys).options(options).build();
    let entries = mongo.entries();
    entries
        .create_indexes([
            index(doc! { "at": 1, "_id": 1 }, named("pages").build()),
            index(doc! { "trace_id": 1 }, named("trace").build()),
        ])
        .await?;
    let keep = std::time::Duration::from_secs(u64::from(days.get()) * 86_400);
    let retention = index(doc! { "at": 1 }, named(RETENTION).expire_after(keep).build());
    match entries.create_index(retention).await {
        Err(error) if matches!(&*error.kind, ErrorKind::Command(command) if command.code == CONFLICT) => {
            let seconds = i64::from(days.get()) * 86_400;
            let change = doc! { "name": RETENTION, "expireAfterSeconds": seconds };
            mongo.database().run_command(doc! { "collMod": ENTRIES, "index": change }).await?;
            tracing::info!(days, "the retention was changed");
            Ok(())
        }
        made => made.map(drop),
    }
}
