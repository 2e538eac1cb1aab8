//! The indexes, and how long what is kept is kept.

use std::collections::BTreeMap;

use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use logger::mongo::{DEAD_LETTERS, ENTRIES, STEPS};
use testkit::eventually;

use crate::running::{Logger, SOON, config, mongo_url};

/// The keys of every index of a collection by its name, and after how many days each deletes.
type Indexes = BTreeMap<String, (Document, Option<u64>)>;

async fn indexes(logger: &Logger, collection: &str) -> Option<Indexes> {
    let mongo = logger.mongo().await;
    let collection = mongo.database().collection::<Document>(collection);
    let indexes: Vec<_> = collection.list_indexes().await.ok()?.try_collect().await.ok()?;
    let described = indexes.into_iter().map(|index| {
        let options = index.options.unwrap_or_default();
        let days = options.expire_after.map(|keep| keep.as_secs() / 86_400);
        (options.name.unwrap_or_default(), (index.keys, days))
    });
    Some(described.collect())
}

/// Every collection's indexes, with this retention.
fn wanted(days: u64) -> [(&'static str, Indexes); 3] {
    let made = |indexes: &[(&str, Document, Option<u64>)]| {
        let id = ("_id_".to_owned(), (doc! { "_id": 1 }, None));
        let indexes = indexes.iter().map(|(name, keys, days)| ((*name).to_owned(), (keys.clone(), *days)));
        indexes.chain([id]).collect()
    };
    let entries = [
        ("pages", doc! { "at": 1, "_id": 1 }, None),
        ("trace", doc! { "trace_id": 1 }, None),
        ("retention", doc! { "at": 1 }, Some(days)),
    ];
    let steps = [("trail", doc! { "action": 1, "at": 1 }, None), ("retention", doc! { "at": 1 }, Some(days))];
    let letters = [
        ("pages", doc! { "state": 1, "died_at": 1, "_id": 1 }, None),
        ("action", doc! { "action": 1 }, None),
        ("retention", doc! { "decided_at": 1 }, Some(days)),
    ];
    [(ENTRIES, made(&entries)), (STEPS, made(&steps)), (DEAD_LETTERS, made(&letters))]
}

#[tokio::test]
async fn every_collection_has_its_indexes_and_the_retention_follows_the_setting() {
    let first = config(mongo_url().as_str(), "30");
    let again = logger::Config { log_retention_days: 7.try_into().unwrap(), ..first.clone() };
    for (config, days) in [(first, 30), (again, 7)] {
        let logger = Logger::with(config).await;
        for (collection, wanted) in wanted(days) {
            eventually(SOON, "the indexes are there", || async {
                let found = indexes(&logger, collection).await;
                if found.as_ref() == Some(&wanted) { Ok(()) } else { Err(format!("{collection}: {found:?}")) }
            })
            .await;
        }
        if days == 7 {
            logger.stop().await;
        } else {
            logger.running.stop().await;
        }
    }
}
