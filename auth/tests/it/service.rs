//! The whole service, on a database and a port of its own.

use std::net::SocketAddr;
use std::time::Duration;

use auth::config::Config;
use chassis::lifecycle::Lifecycle;
use clap::Parser as _;
use futures_util::future::join_all;
use serde_json::json;
use testkit::http::{Client, Response};
use testkit::postgres::TestDatabase;
use testkit::{Running, eventually};
use tokio::net::TcpListener;

/// How long something that heals by itself may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// A RabbitMQ that is not there: nothing in these tests waits for what is published.
const NOWHERE: &str = "amqp://nobody:secret@127.0.0.1:1/";
/// The account of a development system.
pub(crate) const ADMIN: (&str, &str) = ("admin@example.com", "verysecret");

/// One replica. Dropped, it stops.
pub(crate) struct Auth {
    pub(crate) running: Running,
    pub(crate) client: Client,
    pub(crate) url: String,
}

impl Auth {
    /// Starts a replica on the database at `dsn`; it may not be there.
    pub(crate) async fn start(dsn: &str, flags: &[&str]) -> Self {
        // To connect costs a debug build fifty milliseconds of a core: two connections are enough for a test.
        let fixed = ["auth", "--dsn", dsn, "--db-pool-size", "2", "--rabbitmq-url", NOWHERE];
        let config = Config::parse_from([&fixed, flags].concat());
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = async |lifecycle: Lifecycle| auth::serve(listener, config, &lifecycle).await;
        Self { running: Running::start(serve).await, client: Client::default(), url }
    }

    /// Waits until the service says that it can do its work.
    pub(crate) async fn ready(self) -> Self {
        eventually(SOON, "the auth service is ready", || async {
            let answer = self.get("/readyz").await;
            if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
        self
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client.get(&format!("{}{path}", self.url)).await.unwrap()
    }

    pub(crate) async fn log_in(&self, (email, password): (&str, &str)) -> Response {
        let credentials = json!({"email": email, "password": password});
        self.client.post(&format!("{}/authenticate", self.url), &credentials).await.unwrap()
    }

    /// The statuses of that many log-ins at the same time.
    pub(crate) async fn log_in_together(&self, count: usize) -> Vec<u16> {
        join_all((0..count).map(|_| async { self.log_in(ADMIN).await.status })).await
    }

    /// Waits until the account of a development system can log in.
    pub(crate) async fn admin_logs_in(&self) {
        eventually(SOON, "the log-in succeeds", || async {
            let answer = self.log_in(ADMIN).await;
            if answer.status == 202 { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }
}

/// A replica in development on a new database, ready. It stops before its database goes.
pub(crate) struct System {
    pub(crate) auth: Auth,
    pub(crate) database: TestDatabase,
}

impl System {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let database = TestDatabase::create("DSN").await;
        let flags = [&["--environment", "development"], flags].concat();
        let auth = Auth::start(database.dsn(), &flags).await.ready().await;
        Self { auth, database }
    }
}
