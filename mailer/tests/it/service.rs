//! A mailer inside the test's process.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Parser as _;
use http::Method;
use mailer::Config;
use serde_json::{Value, json};
use testkit::Running;
use testkit::http::{Client, Response};
use testkit::postgres::TestDatabase;
use tokio::net::TcpListener;

/// How long anything may take to come about.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running mailer and a client of it.
pub(crate) struct Mailer {
    running: Running,
    base: String,
    client: Client,
    /// Its ledger's, where it is its alone; dropped last.
    database: Option<TestDatabase>,
}

impl Mailer {
    /// Starts one that sends through `server`, with more settings as flags.
    pub(crate) async fn start(server: SocketAddr, flags: &[&str]) -> Self {
        Self::start_to(&server.ip().to_string(), server.port(), flags).await
    }

    /// Starts one that sends through `host`.
    pub(crate) async fn start_to(host: &str, port: u16, flags: &[&str]) -> Self {
        let database = TestDatabase::create("DSN").await;
        let mut mailer = Self::start_on(database.dsn(), host, port, flags).await;
        mailer.has_its_ledger().await;
        mailer.database = Some(database);
        mailer
    }

    /// Starts one whose ledger is in this database.
    pub(crate) async fn start_on(dsn: &str, host: &str, port: u16, flags: &[&str]) -> Self {
        let (host, port) = (format!("--mail-host={host}"), format!("--mail-port={port}"));
        let dsn = format!("--dsn={dsn}");
        // A RabbitMQ that is not there, unless a test has one: most do not wait for what is published.
        let fixed = [
            "mailer",
            &host,
            &port,
            &dsn,
            "--rabbitmq-url=amqp://nobody:secret@127.0.0.1:1/",
            "--from-address=box@example.com",
            "--from-name=Switchboard",
        ];
        let config = Config::parse_from(fixed.into_iter().chain(flags.iter().copied()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let running =
            Running::start(|lifecycle| async move { mailer::serve(listener, config, &lifecycle).await });
        Self { running: running.await, base, client: Client::default(), database: None }
    }

    /// Waits until mails can be claimed, wherever the mail server is.
    pub(crate) async fn has_its_ledger(&self) {
        testkit::eventually(PATIENCE, "the ledger is there", || async {
            let answer = self.get("/readyz").await;
            if answer.message().contains("PostgreSQL") { Err(format!("{answer:?}")) } else { Ok(()) }
        })
        .await;
    }

    /// Posts a mail.
    pub(crate) async fn send(&self, mail: &Value) -> Response {
        self.client.post(&format!("{}/send", self.base), mail).await.unwrap()
    }

    /// Posts a mail with an id.
    pub(crate) async fn send_as(&self, key: &str, mail: &Value) -> Response {
        self.send_with(&[("idempotency-key", key)], mail).await
    }

    /// Posts a mail with an id, for a dead letter.
    pub(crate) async fn replay(&self, key: &str, letter: &str, mail: &Value) -> Response {
        self.send_with(&[("idempotency-key", key), ("switchboard-replay", letter)], mail).await
    }

    async fn send_with(&self, headers: &[(&str, &str)], mail: &Value) -> Response {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.client
            .send(Method::POST, &format!("{}/send", self.base), &headers, mail.to_string())
            .await
            .unwrap()
    }

    /// Gets a path.
    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client.get(&format!("{}{path}", self.base)).await.unwrap()
    }

    /// Waits until `/readyz` answers `status`, and gives that answer.
    pub(crate) async fn readiness(&self, status: u16) -> Response {
        testkit::eventually(PATIENCE, &format!("/readyz answers {status}"), || async {
            let answer = self.get("/readyz").await;
            if answer.status == status { Ok(answer) } else { Err(format!("{answer:?}")) }
        })
        .await
    }

    /// Where it serves HTTP.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Stops it; the test fails where it does not drain.
    pub(crate) async fn stop(self) {
        self.running.stop().await;
        drop(self.database);
    }
}

/// A mail to `to`.
pub(crate) fn mail(to: &str) -> Value {
    json!({"from": "Me <me@example.com>", "to": to, "subject": "Hi", "message": "Hello"})
}
