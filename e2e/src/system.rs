//! The running system, by its addresses.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use testkit::http::{Client, Response};
use testkit::{eventually, setting};

/// How long something that was queued may take to arrive.
pub const SOON: Duration = Duration::from_secs(20);

/// The system under test.
#[derive(Clone, Debug)]
pub struct System {
    /// Where the broker is.
    pub broker: String,
    /// Where the logger serves HTTP.
    pub logger: String,
    client: Client,
}

impl System {
    /// The system that is up, once all of it is healthy.
    ///
    /// # Panics
    ///
    /// Where it does not become healthy: with what is not.
    pub async fn healthy() -> Self {
        let trimmed = |name| setting(name).trim_end_matches('/').to_owned();
        let system = Self {
            broker: trimmed("BROKER_URL"),
            logger: trimmed("LOGGER_SERVICE_URL"),
            client: Client::default(),
        };
        eventually(Duration::from_secs(30), "the system is healthy", || async {
            let answer = system.client.get(&format!("{}/health", system.broker)).await?;
            if answer.status == 200 { Ok(()) } else { Err(answer.body.to_string()) }
        })
        .await;
        system
    }

    /// Sends an action with its payload.
    pub async fn handle(&self, action: &str, payload: Value) -> Response {
        self.handle_with(&[], json!({"action": action, action: payload})).await
    }

    /// Sends this body to `POST /handle` with these headers beside the content type.
    pub async fn handle_with(&self, headers: &[(&str, &str)], body: Value) -> Response {
        let mut headers = headers.to_vec();
        headers.push(("content-type", "application/json"));
        self.send(Method::POST, "/handle", &headers, body.to_string()).await
    }

    /// Sends a request to the broker, as it is.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<bytes::Bytes>,
    ) -> Response {
        let url = format!("{}{path}", self.broker);
        self.client.send(method, &url, headers, body).await.expect("the broker answers")
    }

    /// The entries with this name, newest first.
    pub async fn entries(&self, name: &str) -> Result<Vec<Value>, String> {
        let answer = self.client.get(&format!("{}/logs?name={name}", self.logger)).await?;
        let entries = answer.body["data"]["entries"].as_array().cloned();
        entries.ok_or_else(|| format!("no entries in {}", answer.body))
    }

    /// Every entry with this name, page by page.
    pub async fn all_entries(&self, name: &str) -> Result<Vec<Value>, String> {
        let (mut all, mut before) = (Vec::new(), String::new());
        loop {
            let url = format!("{}/logs?name={name}&limit=200{before}", self.logger);
            let answer = self.client.get(&url).await?;
            let data = &answer.body["data"];
            all.extend_from_slice(
                data["entries"].as_array().ok_or_else(|| format!("no entries in {}", answer.body))?,
            );
            let Some(next) = data["next"].as_str() else { return Ok(all) };
            before = format!("&before={next}");
        }
    }

    /// The one entry with this name, once it is there.
    pub async fn entry(&self, name: &str) -> Value {
        let entries = eventually(SOON, &format!("an entry {name}"), || async {
            let entries = self.entries(name).await?;
            if entries.is_empty() { Err("none yet".to_owned()) } else { Ok(entries) }
        })
        .await;
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.into_iter().next().expect("one entry")
    }
}

/// A name that nothing else has.
pub fn unique(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::now_v7().simple())
}
