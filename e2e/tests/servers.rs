//! What the servers do by themselves: RabbitMQ takes nothing since it is short of memory or disk space, MongoDB steps
//! down, a dead letter has no queue to go to. Each for the whole server, so on servers of these tests' own.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails with the reason")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use contracts::topology::Topology;
use e2e::isolated::{Isolated, Running};
use e2e::servers::Servers;
use futures_util::future::join_all;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, BasicRejectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use testkit::http::Response;
use testkit::mongodb::Member;
use testkit::{eventually, setting};
use tokio::task::JoinSet;
use uuid::Uuid;

/// How long everything may take to be done.
const DONE: Duration = Duration::from_mins(1);
/// Longer than a publisher waits for a confirm, and what a person waits at most.
const IN_TIME: Duration = Duration::from_secs(7);

/// How often a message may be delivered again: `x-delivery-limit`, as the topology declares it.
const DELIVERY_LIMIT: u32 = 20;

const PROCESSES: [&str; 6] = ["sink", "logger", "mailer", "listener", "broker", "auth"];

/// A system on servers of its own. What is last is dropped last.
struct Stand {
    system: Isolated,
    running: HashMap<&'static str, Running>,
    servers: Servers,
}

impl Stand {
    async fn start(logger: &[(&str, &str)]) -> Self {
        Self::on(Servers::start(), logger).await
    }

    async fn on(servers: Servers, logger: &[(&str, &str)]) -> Self {
        let system = Isolated::prepare(&PROCESSES).await;
        let mut running = HashMap::new();
        for name in PROCESSES {
            running.insert(name, system.start(name, if name == "logger" { logger } else { &[] }).await);
        }
        let stand = Self { system, running, servers };
        for name in &PROCESSES[1..] {
            stand.is_ready(name).await;
        }
        stand
    }

    async fn is_ready(&self, name: &str) {
        eventually(DONE, "readiness", || async {
            let answer = self.system.get(name, "/readyz").await?;
            if answer.status == 200 { Ok(()) } else { Err(answer.body.to_string()) }
        })
        .await;
    }

    /// Asks for an action once.
    async fn ask(&self, key: &str, queued: bool, action: &str, payload: &Value) -> Result<Response, String> {
        let mut headers = vec![("idempotency-key", key)];
        if queued {
            headers.push(("prefer", "respond-async"));
        }
        self.system.handle("broker", &headers, action, payload).await
    }

    /// Asks until it is accepted; gives its id.
    async fn is_accepted(&self, key: &str, queued: bool, action: &str, payload: &Value) -> Uuid {
        eventually(DONE, key, || async {
            let answer = self.ask(key, queued, action, payload).await?;
            match answer.status {
                202 => Ok(answer.body["id"].as_str().unwrap().parse().unwrap()),
                status => Err(format!("{status}: {}", answer.message())),
            }
        })
        .await
    }

    /// Waits until this is done, as its trail says.
    async fn is_done(&self, id: Uuid) {
        eventually(DONE, "the end of an action", || async {
            let answer = self.system.get("broker", &format!("/actions/{id}?wait=5s")).await?;
            if answer.body["data"]["state"] == "done" { Ok(()) } else { Err(answer.body.to_string()) }
        })
        .await;
    }

    /// How many events wait in the mailer's outbox.
    async fn waiting(&self) -> i64 {
        let mut connection = self.system.ledger.connect().await;
        let waiting = sqlx::query_scalar("SELECT count(*) FROM outbox WHERE sent_at IS NULL");
        waiting.fetch_one(&mut connection).await.unwrap()
    }

    /// Nothing is lost, nothing is there twice, nothing is dead: one entry of each name and none beside them.
    async fn has_once(&self, names: &[String]) {
        let mut found: Vec<_> =
            self.system.entries().await.unwrap().into_iter().map(|(_, name)| name).collect();
        let mut wanted = names.to_vec();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);
        assert_eq!(self.letters().await.unwrap(), json!([]));
    }

    async fn letters(&self) -> Result<Value, String> {
        let answer = self.system.get("logger", "/dead-letters").await?;
        if answer.status == 200 {
            Ok(answer.body["data"]["letters"].clone())
        } else {
            Err(answer.body.to_string())
        }
    }

    async fn stop(self) {
        let Self { system, running, servers } = self;
        drop(running);
        system.remove().await;
        drop(servers);
    }
}

/// What RabbitMQ says of itself to whoever publishes.
fn of_rabbitmq(answer: &Response) -> Value {
    let checks = answer.body["data"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == "RabbitMQ").unwrap().clone()
}

/// With `raise` RabbitMQ takes nothing more, and with `clear` it does again.
async fn a_server_that_takes_nothing(raise: &[&str], clear: &[&str]) {
    let mut stand = Stand::start(&[]).await;
    let log = |name: &str| json!({"name": name, "data": 1});
    let mail = json!({"to": "you@example.com", "subject": "s", "message": "m"});
    let before = stand.is_accepted("before", true, "log", &log("before")).await;
    stand.is_done(before).await;
    assert_eq!(of_rabbitmq(&stand.system.get("broker", "/readyz").await.unwrap())["ok"], true);

    stand.servers.rabbitmqctl(raise);
    // What goes by the outbox is held there: the mail itself is sent.
    let sent = stand.is_accepted("mail", false, "mail", &mail).await;
    let keys: Vec<_> = (0..5).map(|i| format!("blocked-{i}")).collect();
    let started = Instant::now();
    for answer in join_all(keys.iter().map(async |key| stand.ask(key, true, "log", &log(key)).await)).await {
        let answer = answer.unwrap();
        assert!(matches!(answer.status, 503 | 504), "{} {}", answer.status, answer.body);
        assert!(answer.message().contains("RabbitMQ"), "{}", answer.message());
    }
    assert!(started.elapsed() < IN_TIME, "{:?}", started.elapsed());
    // RabbitMQ says so to whoever has published since. What needs no queue is still done.
    let answer = stand.system.get("broker", "/readyz").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let said = of_rabbitmq(&answer);
    assert!(said["error"].as_str().unwrap().contains("short of memory or disk space"), "{said}");
    let direct = stand.is_accepted("direct", false, "log", &log("direct")).await;
    assert_eq!(stand.waiting().await, 1);
    assert_eq!(stand.system.mails(), HashMap::from([(sent.to_string(), 1)]));
    // Known to take nothing, it is not given more: what lapin keeps is sent long after everybody has given up.
    let started = Instant::now();
    for _ in 0..5 {
        assert_eq!(stand.ask(&keys[0], true, "log", &log(&keys[0])).await.unwrap().status, 503);
    }
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    // Nor does what it never settled keep anybody from ending.
    for name in ["broker", "mailer"] {
        assert!(stand.running.get_mut(name).unwrap().terminate().await, "{name} does not end well");
        stand.running.insert(name, stand.system.start(name, &[]).await);
    }

    stand.servers.rabbitmqctl(clear);
    // Under the same keys: what arrived all the same is no second entry.
    for key in &keys {
        let id = stand.is_accepted(key, true, "log", &log(key)).await;
        stand.is_done(id).await;
    }
    for id in [sent, direct] {
        stand.is_done(id).await;
    }
    // An event is marked a moment after it is there.
    eventually(DONE, "the outbox is empty", || async {
        let waiting = stand.waiting().await;
        if waiting == 0 { Ok(()) } else { Err(waiting) }
    })
    .await;
    assert_eq!(of_rabbitmq(&stand.system.get("broker", "/readyz").await.unwrap())["ok"], true);
    stand.has_once(&[keys, vec!["before".to_owned(), "direct".to_owned()]].concat()).await;
    assert_eq!(stand.system.mails(), HashMap::from([(sent.to_string(), 1)]));
    stand.stop().await;
}

#[tokio::test]
async fn rabbitmq_with_a_memory_alarm() {
    let watermark = "set_vm_memory_high_watermark";
    a_server_that_takes_nothing(&[watermark, "0.0001"], &[watermark, "0.4"]).await;
}

#[tokio::test]
async fn rabbitmq_with_a_disk_alarm() {
    let limit = "set_disk_free_limit";
    a_server_that_takes_nothing(&[limit, "1000000GB"], &[limit, "50MB"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_steps_down_under_load_and_is_elected_again() {
    let servers = Servers::start();
    // As a service is told in operation: the whole set, not one member by way of a proxy.
    let url = setting("MONGO_URL");
    let stand = Arc::new(Stand::on(servers, &[("MONGO_URL", &url)]).await);
    let member = Member::connect().await;
    let (enough, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for client in 0..8 {
        let (stand, enough, refused) = (Arc::clone(&stand), Arc::clone(&enough), Arc::clone(&refused));
        clients.spawn(async move {
            let mut accepted = Vec::new();
            while !enough.load(Ordering::SeqCst) {
                let key = format!("{client}-{}", accepted.len());
                let queued = client % 2 == 0;
                let id = eventually(DONE, &key, || async {
                    let payload = json!({"name": key, "data": 1});
                    let answer = stand.ask(&key, queued, "log", &payload).await?;
                    match answer.status {
                        202 => Ok(answer.body["id"].as_str().unwrap().parse::<Uuid>().unwrap()),
                        status => {
                            assert!(!queued && matches!(status, 503 | 504), "{status} {}", answer.body);
                            refused.fetch_add(1, Ordering::SeqCst);
                            Err(status.to_string())
                        }
                    }
                })
                .await;
                accepted.push((key, id));
            }
            accepted
        });
    }
    for _ in 0..2 {
        member.step_down(3).await;
        assert!(!member.is_primary().await);
        eventually(DONE, "the logger names it", || async {
            let answer = stand.system.get("logger", "/readyz").await?;
            let named = answer.status == 503 && answer.message().contains("MongoDB");
            if named { Ok(()) } else { Err(answer.body.to_string()) }
        })
        .await;
        eventually(DONE, "the election", || async {
            if member.is_primary().await { Ok(()) } else { Err("no primary") }
        })
        .await;
        stand.is_ready("logger").await;
    }
    enough.store(true, Ordering::SeqCst);
    let accepted: Vec<_> = clients.join_all().await.concat();
    assert!(refused.load(Ordering::SeqCst) > 0, "nobody noticed");
    for (_, id) in &accepted {
        stand.is_done(*id).await;
    }
    stand.has_once(&accepted.into_iter().map(|(name, _)| name).collect::<Vec<_>>()).await;
    Arc::into_inner(stand).unwrap().stop().await;
}

async fn messages(channel: &Channel, queue: &str) -> u32 {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap().message_count()
}

#[tokio::test]
async fn what_dies_by_the_delivery_limit_while_the_dead_queue_is_deleted_arrives_when_it_is_there_again() {
    let servers = Servers::start();
    // After which RabbitMQ tries again to bring a dead letter to where it belongs: three minutes unless told.
    let patience = "application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 1000).";
    servers.rabbitmqctl(&["eval", patience]);
    let mut stand = Stand::on(servers, &[]).await;
    let topology = Topology::within(&stand.system.namespace);
    // Whoever comes next declares everything again; until then nobody may.
    for name in ["listener", "broker", "mailer", "auth"] {
        stand.running.remove(name).unwrap().kill().await;
    }
    let url = setting("RABBITMQ_URL");
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let (queue, dead) = (topology.log_queue.as_str(), topology.dead_queue.as_str());
    channel.queue_delete(dead.into(), QueueDeleteOptions::default()).await.unwrap();
    let body = br#"{"name":"deadly","data":1}"#;
    let properties = BasicProperties::default().with_message_id("deadly".into()).with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("".into(), queue.into(), options, body, properties).await;
    sent.unwrap().await.unwrap();
    // Once more than it may be delivered again; what is given back is there again a moment later.
    for _ in 0..=DELIVERY_LIMIT {
        eventually(DONE, "the next delivery", || async {
            let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap();
            let got = got.ok_or("there is none")?;
            got.delivery.acker.reject(BasicRejectOptions { requeue: true }).await.unwrap();
            Ok::<_, &str>(())
        })
        .await;
    }
    eventually(DONE, "it is not there to be delivered any more", || async {
        match messages(&channel, queue).await {
            0 => Ok(()),
            count => Err(format!("{count} are")),
        }
    })
    .await;

    let again = stand.system.start("listener", &[]).await;
    stand.running.insert("listener", again);
    let letters = eventually(DONE, "the dead letter", || async {
        let letters = stand.letters().await?;
        if letters == json!([]) { Err("none".to_owned()) } else { Ok(letters) }
    })
    .await;
    assert_eq!(letters.as_array().unwrap().len(), 1, "{letters}");
    assert_eq!(letters[0]["message_id"], "deadly", "{letters}");
    assert_eq!(letters[0]["queue"], queue, "{letters}");
    connection.close(200, "".into()).await.unwrap();
    stand.stop().await;
}
