//! The clients: each sends one action after the other, and each action until it is accepted.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use contracts::idempotency::Key;
use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use crate::Chaos;
use crate::publisher::Publisher;

const BROKERS: [&str; 2] = ["broker", "broker 2"];
/// How long a client waits before it sends the same again.
const AGAIN: Duration = Duration::from_millis(200);

/// What a client sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    QueuedLog,
    QueuedMail,
    DirectLog,
    DirectMail,
    BareLog,
    Registration,
    LogIn,
}

/// How many clients of each kind there are.
pub(crate) const CLIENTS: [(Kind, usize); 7] = [
    (Kind::QueuedLog, 4),
    (Kind::QueuedMail, 3),
    (Kind::DirectLog, 2),
    (Kind::DirectMail, 2),
    (Kind::BareLog, 1),
    (Kind::Registration, 1),
    (Kind::LogIn, 1),
];

/// What the clients know.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) all: HashSet<String>,
    pub(crate) logs: HashSet<String>,
    pub(crate) mails: HashSet<String>,
    /// The addresses of new users.
    pub(crate) registered: HashSet<String>,
    /// The queued ones, whose trail is to end well.
    pub(crate) queued: Vec<String>,
}

impl Chaos {
    /// One client: sends one action after the other, each until it is accepted.
    pub(crate) async fn client(self: Arc<Self>, number: usize, kind: Kind) {
        let (mut count, mut publisher) = (0, Publisher::default());
        while !self.enough.is_cancelled() {
            count += 1;
            let key = format!("{kind:?}-{number}-{count}");
            match kind {
                Kind::Registration => self.register(&key).await,
                Kind::LogIn => self.log_in().await,
                Kind::BareLog => self.publish(&mut publisher, &key).await,
                _ => self.act(kind, &key).await,
            }
            sleep(Duration::from_millis(fastrand::u64(20..120))).await;
        }
    }

    async fn act(&self, kind: Kind, key: &str) {
        let (action, payload) = match kind {
            Kind::QueuedLog | Kind::DirectLog => ("log", json!({"name": self.name(key), "data": {"n": 1}})),
            _ => ("mail", json!({"to": "you@example.com", "subject": key, "message": "m"})),
        };
        let queued = matches!(kind, Kind::QueuedLog | Kind::QueuedMail);
        let mut headers = vec![("idempotency-key", key)];
        if queued {
            headers.push(("prefer", "respond-async"));
        }
        // As the broker derives it.
        let id = Key::parse(key.as_bytes()).unwrap().id(b"", action).to_string();
        self.asked.lock().unwrap().all.insert(id.clone());
        while !self.given_up.is_cancelled() {
            let broker = BROKERS[fastrand::usize(0..BROKERS.len())];
            let answer = self.system.handle(broker, &headers, action, &payload);
            match self.given_up.run_until_cancelled(answer).await {
                Some(Ok(answer)) if answer.status == 202 => {
                    assert_eq!(answer.body["id"], id.as_str(), "the id that comes of the key");
                    let mut asked = self.asked.lock().unwrap();
                    if queued {
                        asked.queued.push(id.clone());
                    }
                    let accepted = if action == "log" { &mut asked.logs } else { &mut asked.mails };
                    accepted.insert(id);
                    return;
                }
                Some(Ok(answer)) => {
                    let expected = matches!(answer.status, 409 | 502 | 503 | 504);
                    assert!(expected, "{key}: {} {}", answer.status, answer.body);
                }
                Some(Err(_)) | None => {}
            }
            sleep(AGAIN).await;
        }
    }

    /// What an entry is called.
    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.system.namespace)
    }

    /// Sends a log as publishers do that know nothing of brokers.
    async fn publish(&self, publisher: &mut Publisher, key: &str) {
        let id = Uuid::now_v7().to_string();
        self.asked.lock().unwrap().all.insert(id.clone());
        let body = json!({"name": self.name(key), "data": {"n": 1}}).to_string();
        while !self.given_up.is_cancelled() {
            let sent = publisher.send(&self.system, &id, body.as_bytes());
            if let Some(Ok(())) = self.given_up.run_until_cancelled(sent).await {
                let mut asked = self.asked.lock().unwrap();
                asked.queued.push(id.clone());
                asked.logs.insert(id);
                return;
            }
            sleep(AGAIN).await;
        }
    }

    async fn register(&self, key: &str) {
        let (id, address) = (Uuid::now_v7(), format!("{key}@example.com").to_lowercase());
        self.asked.lock().unwrap().all.extend([id.to_string(), address.clone()]);
        while !self.given_up.is_cancelled() {
            let mut registration = self.system.register(id, &address, &[]);
            if registration.ended().await.success() {
                let mut asked = self.asked.lock().unwrap();
                asked.queued.push(id.to_string());
                asked.mails.insert(id.to_string());
                asked.registered.insert(address);
                return;
            }
            sleep(AGAIN).await;
        }
    }

    /// A log-in has no effect; it is there to be in the way.
    async fn log_in(&self) {
        let account = json!({"email": "admin@example.com", "password": "verysecret"});
        let answer = self.system.handle(BROKERS[0], &[], "auth", &account);
        if let Some(Ok(answer)) = self.given_up.run_until_cancelled(answer).await {
            // 401: the account is not there yet, when auth has just begun.
            assert!(matches!(answer.status, 202 | 502 | 503 | 504), "{} {}", answer.status, answer.body);
        }
    }
}
