//! A whole logger inside the test, with a database of its own.

use std::net::SocketAddr;
use std::time::Duration;

use chassis::lifecycle::Lifecycle;
use chassis::request::RequestContext;
use chassis::rpc::LoggerClient;
use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser as _;
use contracts::dead_letter::{Body, Letter};
use contracts::log::{Entry, Level, LogPayload};
use contracts::logger::Stored;
use contracts::trail::{Step, StepKind};
use logger::Config;
use logger::mongo::Mongo;
use serde_json::{Map, Value, json};
use testkit::http::{Client, Response};
use testkit::{Running, eventually, setting};
use tokio::net::TcpListener;
use url::Url;
use uuid::Uuid;

/// How long a service may take to become healthy.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Logger {
    pub(crate) running: Running,
    pub(crate) url: String,
    pub(crate) rpc: SocketAddr,
    pub(crate) config: Config,
    pub(crate) http: Client,
    /// Whose connections the clients of the test are.
    clients: Lifecycle,
}

pub(crate) fn mongo_url() -> Url {
    setting("MONGO_URL").parse().expect("MONGO_URL is a URL")
}

/// The URL of the same MongoDB at another address, which is the only one that is then used.
pub(crate) fn through(proxy: SocketAddr) -> String {
    let mut url = mongo_url();
    url.set_host(Some(&proxy.ip().to_string())).expect("a host");
    url.set_port(Some(proxy.port())).expect("a port");
    let kept: Vec<_> = url
        .query_pairs()
        .filter(|(name, _)| name != "replicaSet")
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.query_pairs_mut().clear().extend_pairs(kept).append_pair("directConnection", "true");
    url.into()
}

pub(crate) fn config(mongo_url: &str, days: &str) -> Config {
    let database = testkit::namespace();
    Config::parse_from([
        "logger",
        "--mongo-url",
        mongo_url,
        "--mongo-database",
        database.trim_end_matches('-'),
        "--log-retention-days",
        days,
    ])
}

impl Logger {
    pub(crate) async fn start() -> Self {
        Self::with(config(mongo_url().as_str(), "30")).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        Self::on(config, "127.0.0.1:0").await
    }

    pub(crate) async fn on(config: Config, rpc: &str) -> Self {
        let http = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let rpc = TcpListener::bind(rpc).await.expect("a free port");
        let url = format!("http://{}", http.local_addr().expect("bound"));
        let address = rpc.local_addr().expect("bound");
        let of = config.clone();
        let running =
            Running::start(|lifecycle| async move { logger::serve(http, rpc, of, &lifecycle).await });
        let (running, http) = (running.await, Client::default());
        let logger = Self { running, url, rpc: address, config, http, clients: Lifecycle::default() };
        logger.ready().await;
        logger
    }

    pub(crate) async fn ready(&self) {
        eventually(SOON, "the logger is ready", || async {
            let answer = self.get("/readyz").await;
            if answer.status == 200 { Ok(()) } else { Err(answer.body.to_string()) }
        })
        .await;
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.http.get(&format!("{}{path}", self.url)).await.expect("an answer")
    }

    pub(crate) async fn post(&self, body: &Value) -> Response {
        self.post_to("/log", body).await
    }

    pub(crate) async fn post_to(&self, path: &str, body: &Value) -> Response {
        self.http.post(&format!("{}{path}", self.url), body).await.expect("an answer")
    }

    /// Keeps letters that are not there yet.
    pub(crate) async fn bury(&self, letters: &[Letter]) {
        let outcomes = self.client().bury(&context(), letters.to_vec()).await.expect("an answer");
        assert_eq!(outcomes, vec![Ok(Stored::Created); letters.len()]);
    }

    /// Adds steps that are not there yet.
    pub(crate) async fn record(&self, steps: &[Step]) {
        let outcomes = self.client().record(&context(), steps.to_vec()).await.expect("an answer");
        assert_eq!(outcomes, vec![Ok(Stored::Created); steps.len()]);
    }

    pub(crate) fn client(&self) -> LoggerClient {
        LoggerClient::start(vec![self.rpc.to_string()], &self.clients)
    }

    pub(crate) async fn mongo(&self) -> Mongo {
        Mongo::open(&self.config).await.expect("a driver")
    }

    /// How many entries are stored.
    pub(crate) async fn count(&self) -> u64 {
        let entries = self.mongo().await.entries();
        entries.count_documents(bson::doc! {}).await.expect("a count")
    }

    /// Stops the service, which must drain, and removes its database.
    pub(crate) async fn stop(self) {
        let config = Config { mongo_url: mongo_url().as_str().into(), ..self.config };
        self.clients.closing().cancel();
        self.running.stop().await;
        let mongo = Mongo::open(&config).await.expect("a driver");
        mongo.drop_database().await.expect("the database is dropped");
    }
}

pub(crate) fn context() -> RequestContext {
    RequestContext::from_headers(None, None)
}

pub(crate) fn entry(name: &str, data: Value) -> Entry {
    let payload = LogPayload { name: name.to_owned(), data, level: Level::Info, fields: Map::new() };
    Entry::new(Uuid::now_v7(), payload, "rpc", None, chrono::Utc::now())
}

/// To the millisecond, as it is stored.
pub(crate) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(Utc::now().timestamp_millis()).expect("a time")
}

/// A step of a mail, so many milliseconds from now.
pub(crate) fn step(action: Uuid, kind: StepKind, after: i64) -> Step {
    Step { at: now() + TimeDelta::milliseconds(after), ..Step::new(action, "mail", kind, 0, "mailer") }
}

/// A letter of its own action, that died in this queue.
pub(crate) fn letter(queue: &str) -> Letter {
    let action = Uuid::now_v7();
    Letter {
        id: Uuid::now_v7(),
        action: Some(action),
        queue: queue.to_owned(),
        exchange: "switchboard.events".to_owned(),
        routing_key: "mail.requested".to_owned(),
        reason: "no such box".to_owned(),
        attempts: 6,
        died_at: now(),
        published_at: None,
        message_id: Some(action.to_string()),
        content_type: Some("application/json".to_owned()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        body: Body::of(b"{}"),
    }
}

pub(crate) fn plain(name: &str) -> Entry {
    entry(name, json!("data"))
}
