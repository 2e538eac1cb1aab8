//! A system of a test's own: the services as processes, with databases, queues and a mail server that nothing else uses.
//!
//! Every hop between two processes goes through a fault proxy. A process can be started with further settings, killed,
//! and started again where it was.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use contracts::topology::Topology;
use http::Method;
use serde_json::{Value, json};
use testkit::http::{Client, Response};
use testkit::postgres::TestDatabase;
use testkit::proxy::FaultProxy;
use testkit::{eventually, namespace, setting};
use tokio::process::Child;
use url::Url;
use uuid::Uuid;

use crate::process::{command, held_port, terminate};
use crate::sink;

/// How long a mail waits after each attempt, in milliseconds.
const DELAYS: [u64; 8] = [500, 1000, 2000, 4000, 8000, 8000, 8000, 8000];
/// The services that others call.
const CALLED: [&str; 4] = ["sink", "auth", "mailer", "logger"];
/// How long a process may take to be there.
const START: Duration = Duration::from_secs(30);

/// Everything of it.
#[derive(Debug)]
pub struct Isolated {
    /// In front of the names on RabbitMQ.
    pub namespace: String,
    /// The database of the users.
    pub users: TestDatabase,
    /// The database of the mails.
    pub ledger: TestDatabase,
    /// The proxies, by the server or service behind each.
    pub hops: HashMap<String, FaultProxy>,
    /// The database of the log.
    pub mongo: String,
    ports: HashMap<String, u16>,
    journal: PathBuf,
    client: Client,
}

/// A process of the system.
#[derive(Debug)]
pub struct Running {
    /// What runs.
    pub name: String,
    child: Child,
}

impl Running {
    /// Its process id; `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it as `kill -9` does.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a process of our own can be killed");
    }

    /// Sends SIGTERM and waits for the end; whether it ended well.
    pub async fn terminate(&mut self) -> bool {
        terminate(&mut self.child).await
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        self.child.wait().await.expect("a process of our own can be waited for")
    }
}

impl Isolated {
    /// The system, with nothing running yet; the replicas of a service are called `broker`, `broker 2`, ….
    pub async fn prepare(processes: &[&str]) -> Self {
        // Held until the proxies have theirs: else one of them may get the port of a process.
        let names = processes.iter().copied().chain(["rpc"]);
        let (ports, held): (HashMap<_, _>, Vec<_>) = names
            .map(|name| {
                let (port, held) = held_port();
                ((name.to_owned(), port), held)
            })
            .unzip();
        let (users, ledger) = (TestDatabase::create("DSN").await, TestDatabase::create("DSN").await);
        let namespace = namespace();
        let mut hops = HashMap::new();
        let mut hop = async |name: String, address: String| hops.insert(name, FaultProxy::to(&address).await);
        hop("postgres".to_owned(), users.server()).await;
        hop("rabbitmq".to_owned(), server("RABBITMQ_URL")).await;
        hop("mongodb".to_owned(), server("MONGO_URL")).await;
        for name in processes.iter().filter(|name| CALLED.contains(&service(name))) {
            hop((*name).to_owned(), format!("127.0.0.1:{}", ports[*name])).await;
        }
        hop("rpc".to_owned(), format!("127.0.0.1:{}", ports["rpc"])).await;
        drop(held);
        let journal = std::env::temp_dir().join(format!("switchboard-{namespace}mails"));
        let mongo = namespace.replace('-', "_");
        Self { namespace, users, ledger, hops, mongo, ports, journal, client: Client::default() }
    }

    /// Starts a process with its own settings and these, and waits until it answers.
    pub async fn start(&self, name: &str, further: &[(&str, &str)]) -> Running {
        let running = self.spawn(name, further);
        if name != "sink" {
            let url = format!("{}/livez", self.url(name));
            eventually(START, name, || async { self.client.get(&url).await }).await;
        }
        running
    }

    /// Starts a process with its own settings and these.
    pub fn spawn(&self, name: &str, further: &[(&str, &str)]) -> Running {
        let service = service(name);
        let mut settings = self.settings(name);
        settings.push(("PORT", self.ports[name].to_string()));
        let settings: Vec<(&str, &str)> = settings
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .chain(further.iter().copied())
            .collect();
        let mut command = command(service, &settings);
        let log = std::env::var_os("ISOLATED_LOG").map(PathBuf::from);
        let output = log.and_then(|path| std::fs::File::options().create(true).append(true).open(path).ok());
        let (out, err) = match output.and_then(|file| Some((file.try_clone().ok()?, file))) {
            Some((out, err)) => (Stdio::from(out), Stdio::from(err)),
            None => (Stdio::null(), Stdio::null()),
        };
        let child = command.stdout(out).stderr(err).spawn().expect("the binary can be run");
        Running { name: name.to_owned(), child }
    }

    /// Where a process serves HTTP.
    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}", self.ports[name])
    }

    fn at(&self, hop: &str) -> String {
        self.hops[hop].address().to_string()
    }

    /// What a process is told: of two replicas the second one calls the second ones.
    fn settings(&self, name: &str) -> Vec<(&'static str, String)> {
        let service = service(name);
        let http = |called: &str| {
            let replica = name.replace(service, called);
            let called = if self.hops.contains_key(&replica) { &replica } else { called };
            format!("http://{}", self.at(called))
        };
        let mut settings = match service {
            "broker" => vec![
                ("AUTH_SERVICE_URL", http("auth")),
                ("MAIL_SERVICE_URL", http("mailer")),
                ("LOGGER_SERVICE_URL", http("logger")),
                ("LOGGER_RPC_ADDR", self.at("rpc")),
            ],
            "auth" => vec![
                ("DSN", self.users.dsn_through(self.hops["postgres"].address())),
                ("ENVIRONMENT", "development".to_owned()),
            ],
            "mailer" => vec![
                ("DSN", self.ledger.dsn_through(self.hops["postgres"].address())),
                ("MAIL_HOST", "127.0.0.1".to_owned()),
                ("MAIL_PORT", self.hops["sink"].address().port().to_string()),
                ("MAIL_TIMEOUT", "2s".to_owned()),
                ("MAIL_ANSWER_TIMEOUT", "3s".to_owned()),
                ("MAIL_LEASE", "7s".to_owned()),
            ],
            "logger" => {
                let mut url = through("MONGO_URL", &self.hops["mongodb"]);
                // The members of the set have addresses of their own; this is the way through the proxy.
                url.set_query(Some("authSource=admin&directConnection=true"));
                vec![
                    ("MONGO_URL", url.to_string()),
                    ("MONGO_DATABASE", self.mongo.clone()),
                    ("RPC_PORT", self.ports["rpc"].to_string()),
                ]
            }
            "listener" => vec![
                ("LOGGER_RPC_ADDR", self.at("rpc")),
                ("MAIL_SERVICE_URL", http("mailer")),
                ("LISTENER_RETRY_DELAYS", DELAYS.map(|delay| format!("{delay}ms")).join(",")),
            ],
            "frontend" => vec![("BROKER_URL", self.url("broker"))],
            _ => vec![("JOURNAL", self.journal.display().to_string())],
        };
        if ["broker", "auth", "mailer", "listener"].contains(&service) {
            settings.push(("RABBITMQ_URL", self.rabbitmq().to_string()));
            settings.push(("RABBITMQ_NAMESPACE", self.namespace.clone()));
        }
        settings
    }

    /// Sends an action to a broker.
    pub async fn handle(
        &self,
        broker: &str,
        headers: &[(&str, &str)],
        action: &str,
        payload: &Value,
    ) -> Result<Response, String> {
        let body = json!({"action": action, action: payload}).to_string();
        let headers = [headers, &[("content-type", "application/json")]].concat();
        self.client.send(Method::POST, &format!("{}/handle", self.url(broker)), &headers, body).await
    }

    /// Gets a path of a broker.
    pub async fn get(&self, broker: &str, path: &str) -> Result<Response, String> {
        self.client.get(&format!("{}{path}", self.url(broker))).await
    }

    /// Posts to a path of a broker.
    pub async fn post(&self, broker: &str, path: &str, body: &Value) -> Result<Response, String> {
        self.client.post(&format!("{}{path}", self.url(broker)), body).await
    }

    /// A registration with this id and address, as a process with these further settings.
    pub fn register(&self, id: Uuid, email: &str, further: &[(&str, &str)]) -> Running {
        let (dsn, id) = (self.users.dsn_through(self.hops["postgres"].address()), id.to_string());
        let settings = [("DSN", dsn.as_str()), ("ID", &id), ("EMAIL", email)];
        let mut command = command("register", &[&settings, further].concat());
        let child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary can be run");
        Running { name: "register".to_owned(), child }
    }

    /// How often each mail was taken, by the id in its `Message-ID`.
    pub fn mails(&self) -> HashMap<String, usize> {
        let mut mails = HashMap::new();
        for id in sink::taken(&self.journal) {
            let id = id.trim_matches(['<', '>']).split('@').next().unwrap_or_default().to_owned();
            *mails.entry(id).or_default() += 1;
        }
        mails
    }

    /// How often each mail was sent though the mail server might have had it, as the mailer has told: in its outbox at
    /// first, and in the trails from soon after.
    pub async fn resent(&self) -> HashMap<String, usize> {
        let mut connection = self.ledger.connect().await;
        let told: Vec<(Uuid, String)> =
            sqlx::query_as("SELECT id, entity FROM outbox WHERE routing_key = 'mail.resent'")
                .fetch_all(&mut connection)
                .await
                .expect("the outbox can be read");
        let mut told: HashMap<Uuid, String> = told.into_iter().collect();
        let steps = testkit::mongodb::steps(&self.mongo, "resent").await;
        told.extend(steps.into_iter().map(|(step, mail)| (step, mail.to_string())));
        let mut resent = HashMap::new();
        for mail in told.into_values() {
            *resent.entry(mail).or_default() += 1;
        }
        resent
    }

    /// The addresses of the users who have registered.
    pub async fn users(&self) -> Vec<String> {
        let mut connection = self.users.connect().await;
        let users = sqlx::query_scalar("SELECT email FROM users WHERE NOT active").fetch_all(&mut connection);
        users.await.expect("the users can be read")
    }

    /// RabbitMQ, by the way that can be cut.
    pub fn rabbitmq(&self) -> Url {
        through("RABBITMQ_URL", &self.hops["rabbitmq"])
    }

    /// What is still under way: mails that are not at their end, and events that wait in an outbox.
    pub async fn under_way(&self) -> i64 {
        let mut under_way = 0;
        for (database, count) in [
            (&self.ledger, "SELECT count(*) FROM mails WHERE state IN ('claimed', 'waiting')"),
            (&self.ledger, "SELECT count(*) FROM outbox WHERE sent_at IS NULL"),
            (&self.users, "SELECT count(*) FROM outbox WHERE sent_at IS NULL"),
        ] {
            let mut connection = database.connect().await;
            let count: i64 =
                sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("the tables can be read");
            under_way += count;
        }
        under_way
    }

    /// The ids of every entry in the log, with the name of each.
    pub async fn entries(&self) -> Result<Vec<(String, String)>, String> {
        let (mut all, mut before) = (Vec::new(), String::new());
        loop {
            let url = format!("{}/logs?limit=200{before}", self.url("logger"));
            let answer = self.client.get(&url).await?;
            let data = &answer.body["data"];
            let entries =
                data["entries"].as_array().ok_or_else(|| format!("no entries in {}", answer.body))?;
            let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
            all.extend(entries.iter().map(|entry| (text(entry, "id"), text(entry, "name"))));
            let Some(next) = data["next"].as_str() else { return Ok(all) };
            before = format!("&before={next}");
        }
    }

    /// Removes what is left of it outside: the names on RabbitMQ, the database of the log, the journal of the mails.
    pub async fn remove(self) {
        let delays = DELAYS.map(Duration::from_millis);
        let topology = Topology::within(&self.namespace).with_delays(&self.namespace, &delays);
        testkit::rabbitmq::clean(&topology).await;
        testkit::mongodb::drop_database(&self.mongo).await;
        let _ = std::fs::remove_file(&self.journal);
    }
}

/// Of which service a process is: `broker 2` is a broker.
fn service(name: &str) -> &str {
    name.split(' ').next().unwrap_or(name)
}

/// Where the server of a setting is.
fn server(variable: &str) -> String {
    let url: Url = setting(variable).parse().expect("the setting is a URL");
    format!("{}:{}", url.host_str().expect("with a host"), url.port().expect("and a port"))
}

/// The URL of a setting by way of a proxy.
fn through(variable: &str, proxy: &FaultProxy) -> Url {
    let mut url: Url = setting(variable).parse().expect("the setting is a URL");
    url.set_host(Some("127.0.0.1")).expect("a URL with a host");
    url.set_port(Some(proxy.address().port())).expect("a URL with a host");
    url
}
