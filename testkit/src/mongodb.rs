//! Databases on MongoDB that a test leaves nothing of.

use mongodb::Client;

use crate::setting;

/// Removes a database.
pub async fn drop_database(name: &str) {
    let client = Client::with_uri_str(setting("MONGO_URL")).await.expect("MONGO_URL is a connection string");
    client.database(name).drop().await.expect("the database can be removed");
}
