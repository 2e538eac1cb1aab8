//! Databases on MongoDB that a test leaves nothing of.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Document, doc};
use mongodb::{Client, Collection};
use uuid::Uuid;

use crate::setting;

/// Removes a database.
pub async fn drop_database(name: &str) {
    let client = Client::with_uri_str(setting("MONGO_URL")).await.expect("MONGO_URL is a connection string");
    client.database(name).drop().await.expect("the database can be removed");
}

/// The member of a replica set that the settings name, which is alone in it.
#[derive(Debug)]
pub struct Member(Client);

impl Member {
    /// That of the running stack.
    pub async fn connect() -> Self {
        // Also while it is no primary.
        let url = setting("MONGO_URL").replace("replicaSet=rs0", "directConnection=true");
        Self(Client::with_uri_str(url).await.expect("MONGO_URL is a connection string"))
    }

    /// Has it step down, and be nothing else for so many seconds. Then it is elected again: there is nobody else.
    pub async fn step_down(&self, seconds: u32) {
        let step_down = doc! { "replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 0, "force": true };
        self.0.database("admin").run_command(step_down).await.expect("a primary can step down");
    }

    /// Whether it is the primary.
    pub async fn is_primary(&self) -> bool {
        let hello = self.0.database("admin").run_command(doc! { "hello": 1 }).await.expect("it runs");
        hello.get_bool("isWritablePrimary").expect("it says what it is")
    }
}

/// The steps of this kind in the trails of a database: the id of each, and of its action.
pub async fn steps(database: &str, kind: &str) -> Vec<(Uuid, Uuid)> {
    let client = Client::with_uri_str(setting("MONGO_URL")).await.expect("MONGO_URL is a connection string");
    let steps: Collection<Document> = client.database(database).collection("steps");
    let mut found = steps.find(doc! { "kind": kind }).await.expect("the steps can be read");
    let mut ids = Vec::new();
    while found.advance().await.expect("the steps can be read") {
        let step = found.current();
        let id = |field| {
            let id = step.get_binary(field).expect("an id");
            Uuid::from_slice(id.bytes).expect("an id")
        };
        ids.push((id("_id"), id("action")));
    }
    ids
}

/// The entries of a log, to be tampered with.
#[derive(Debug)]
pub struct Entries(Collection<Document>);

impl Entries {
    /// Those of this database.
    pub async fn of(database: &str) -> Self {
        let client =
            Client::with_uri_str(setting("MONGO_URL")).await.expect("MONGO_URL is a connection string");
        Self(client.database(database).collection("entries"))
    }

    /// Takes one away.
    pub async fn remove(&self, id: Uuid) {
        let removed = self.0.delete_one(doc! { "_id": binary(id) }).await.expect("it can be removed");
        assert_eq!(removed.deleted_count, 1, "{id} was there");
    }

    /// Adds one.
    pub async fn add(&self, id: Uuid, name: &str) {
        let entry = doc! {
            "_id": binary(id), "name": name, "level": "info", "via": "test", "data": 1, "at": DateTime::now(),
        };
        self.0.insert_one(entry).await.expect("it can be added");
    }
}

fn binary(id: Uuid) -> Binary {
    Binary { subtype: BinarySubtype::Uuid, bytes: id.as_bytes().to_vec() }
}
