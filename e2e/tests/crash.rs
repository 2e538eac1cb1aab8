//! Killed between any two steps, a service that comes back has lost nothing and done nothing twice.
//!
//! Each test runs one service of a system of its own again and again, each time to die at another crash point
//! (`chassis::crash`), while every kind of action goes through it. Clients do what clients do: they send the same
//! again, with the same key, until they have an answer. Then each action has one effect.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails with the reason")]

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use e2e::isolated::{Isolated, Running};
use serde_json::{Value, json};
use testkit::eventually;
use tokio::time::timeout;
use uuid::Uuid;

/// How long everything may take to be done.
const DONE: Duration = Duration::from_mins(1);

const PROCESSES: [&str; 6] = ["sink", "logger", "mailer", "listener", "broker", "auth"];

/// The points that a service passes, each with how many times it is worth dying there: a ledger is written at the
/// claim and at the record, a consumer works off logs, mails, steps and letters.
const POINTS: [(&str, &[(&str, u32)]); 7] = [
    (
        "broker",
        &[
            ("publisher: to be sent", 4),
            ("publisher: sent", 4),
            ("publisher: confirmed", 4),
            ("replay: begun", 1),
            ("replay: published", 1),
            ("broker: to log", 1),
            ("broker: logged", 1),
            ("broker: to mail", 1),
            ("broker: mailed", 1),
        ],
    ),
    (
        "mailer",
        &[
            ("mailer: claimed", 2),
            ("transport: to be handed over", 2),
            ("mailer: handed over", 2),
            ("mailer: recorded", 1),
        ],
    ),
    (
        "mailer's ledger",
        &[
            ("ledger: to be written", 2),
            ("ledger: written", 2),
            ("ledger: settled", 1),
            ("ledger: told", 1),
            ("ledger: committed", 1),
        ],
    ),
    (
        "mailer's relay",
        &[
            ("relay: taken", 2),
            ("publisher: to be sent", 1),
            ("publisher: sent", 1),
            ("publisher: confirmed", 1),
            ("relay: confirmed", 2),
            ("relay: marked", 1),
            ("relay: committed", 1),
        ],
    ),
    (
        "listener",
        &[
            ("consumer: delivered", 4),
            ("listener: stored", 2),
            ("listener: buried", 1),
            ("listener: mail answered", 2),
            ("listener: told", 1),
            ("consumer: worked off", 4),
            ("publisher: to be sent", 2),
            ("publisher: sent", 2),
            ("publisher: confirmed", 2),
            ("consumer: passed on", 2),
            ("consumer: acknowledged", 2),
        ],
    ),
    ("logger", &[("logger: to insert", 3), ("logger: inserted", 3), ("logger: letter changed", 2)]),
    (
        "register",
        &[
            ("registration: user written", 1),
            ("registration: event written", 1),
            ("registration: committed", 1),
        ],
    ),
];

/// Where the mailer dies before any mail of the round is handed over. Anywhere else one of them may have been taken, and
/// nobody knows: four are under way at once.
const BEFORE_HAND_OVER: [(&str, u32); 3] =
    [("mailer: claimed", 1), ("ledger: to be written", 1), ("ledger: written", 1)];

/// The system, and what was asked of it.
struct Stand {
    system: Isolated,
    running: HashMap<&'static str, Running>,
    /// The names of the entries.
    logs: Vec<String>,
    /// The ids of the mails, and how often each may have been taken.
    mails: Vec<(Uuid, usize)>,
}

/// The actions of one round, by how they are asked for.
struct Round {
    name: String,
    /// Those that are known by their id: of the log, and of the mails.
    ids: [Uuid; 6],
}

impl Stand {
    async fn start() -> Self {
        let system = Isolated::prepare(&PROCESSES).await;
        let mut running = HashMap::new();
        for name in PROCESSES {
            running.insert(name, system.start(name, &[]).await);
        }
        let stand = Self { system, running, logs: Vec::new(), mails: Vec::new() };
        stand.is_healthy().await;
        stand
    }

    async fn is_healthy(&self) {
        for name in PROCESSES.iter().filter(|name| **name != "sink") {
            eventually(DONE, "readiness", || async {
                let answer = self.system.get(name, "/readyz").await?;
                if answer.status == 200 { Ok(()) } else { Err(answer.body.to_string()) }
            })
            .await;
        }
    }

    /// Sends an action until it is accepted; gives its id.
    async fn ask(&self, key: String, asynchronous: bool, action: &str, payload: Value) -> Uuid {
        let mut headers = vec![("idempotency-key", key.as_str())];
        if asynchronous {
            headers.push(("prefer", "respond-async"));
        }
        let accepted = || async {
            let answer = self.system.handle("broker", &headers, action, &payload).await?;
            match answer.status {
                202 => Ok(answer.body["id"].as_str().unwrap().parse().unwrap()),
                status => Err(format!("{status}: {}", answer.message())),
            }
        };
        eventually(DONE, &key, accepted).await
    }

    /// Asks for one of each kind, all at once.
    async fn round(&self, tag: &str) -> Round {
        let name = format!("{}{tag}", self.system.namespace);
        let key = |what: &str| format!("{tag}-{what}");
        let log = json!({"name": name.clone(), "data": {"n": 1}});
        let mail = |to: &str| json!({"to": format!("{to}@example.com"), "subject": "s", "message": "m"});
        let ids = tokio::join!(
            self.ask(key("queued-log"), true, "log", log.clone()),
            self.ask(key("direct-log"), false, "log", log.clone()),
            self.ask(key("queued-mail"), true, "mail", mail("queued")),
            self.ask(key("direct-mail"), false, "mail", mail("direct")),
            self.ask(key("deferred-mail"), true, "mail", mail(&format!("later-{tag}"))),
            self.ask(key("refused-mail"), true, "mail", mail("refused")),
        );
        let ids: [Uuid; 6] = ids.into();
        self.replay(ids[5]).await;
        Round { name, ids }
    }

    /// The dead letter of a mail that is refused for good, once it is there.
    async fn letter(&self, id: Uuid) -> Value {
        eventually(DONE, "the dead letter", || async {
            let answer = self.system.get("broker", &format!("/dead-letters?action={id}")).await?;
            let letter = answer.body["data"]["letters"][0].clone();
            if letter.is_object() { Ok(letter) } else { Err(answer.body.to_string()) }
        })
        .await
    }

    /// Waits for the dead letter of a mail, and replays it to somebody who is there.
    async fn replay(&self, id: Uuid) {
        let letter = self.letter(id).await;
        let mut event: Value = serde_json::from_str(letter["body"].as_str().unwrap()).unwrap();
        event["data"]["to"] = json!(["found@example.com"]);
        self.decide(&letter, "replay", &json!({"body": event})).await;
    }

    /// Asks for something to become of a letter until it has.
    async fn decide(&self, letter: &Value, what: &str, body: &Value) {
        let path = format!("/dead-letters/{}/{what}", letter["id"].as_str().unwrap());
        eventually(DONE, what, || async {
            let answer = self.system.post("broker", &path, body).await?;
            match answer.status {
                // 409: it was done by the call before, whose answer was lost.
                200 | 202 | 409 => Ok(()),
                status => Err(format!("{status}: {}", answer.message())),
            }
        })
        .await;
    }

    /// The trail of an action says that this became of its letter.
    async fn is_told(&self, id: Uuid, decided: &str) {
        let answer = self.system.get("broker", &format!("/actions/{id}")).await.unwrap();
        let steps = answer.body["data"]["steps"].as_array().unwrap();
        assert!(steps.iter().any(|step| step["kind"] == decided), "{}", answer.body);
    }

    /// Waits until these are done, as their trails say.
    async fn are_done(&self, ids: &[Uuid]) {
        for id in ids {
            eventually(DONE, "the end of an action", || async {
                let answer = self.system.get("broker", &format!("/actions/{id}?wait=10s")).await?;
                if answer.body["data"]["state"] == "done" { Ok(()) } else { Err(answer.body.to_string()) }
            })
            .await;
        }
    }

    /// Starts `victim` so that it dies at a point, for the so manyth time there.
    async fn dooms(&mut self, victim: &'static str, point: &str, at: u32) -> Running {
        self.running.remove(victim).unwrap().kill().await;
        self.system.start(victim, &[("CRASH_POINT", point), ("CRASH_AT", &at.to_string())]).await
    }

    /// Waits until it has died, and starts it again.
    async fn died(&self, mut doomed: Running, point: &str) -> Running {
        let status = timeout(DONE, doomed.ended()).await.unwrap_or_else(|_| {
            let name = &doomed.name;
            panic!("{name} did not get to {point:?}: is it built with --features chassis/crash-points?")
        });
        assert!(status.code().is_none(), "{} at {point:?} did not die of it: {status}", doomed.name);
        self.system.start(&doomed.name, &[]).await
    }

    /// Lets `victim` die at a point in the middle of a round.
    async fn dies_at(&mut self, victim: &'static str, point: &str, at: u32) {
        let doomed = self.dooms(victim, point, at).await;
        let tag = format!("{point} {at}").replace([' ', ':'], "-");
        let (round, again) = tokio::join!(self.round(&tag), self.died(doomed, point));
        self.running.insert(victim, again);
        self.are_done(&round.ids).await;
        self.is_told(round.ids[5], "replayed").await;
        self.logs.push(round.name);
        // Nobody can know of a mail whose sender died between its end and the record.
        let most = if victim == "mailer" && !BEFORE_HAND_OVER.contains(&(point, at)) { 2 } else { 1 };
        self.mails.extend(round.ids[2..].iter().map(|id| (*id, most)));
    }

    /// Every action has one effect. A mail whose mailer died after it was handed over may have gone out twice, which is
    /// told.
    async fn has_one_effect_each(&self) {
        let entries = self.system.entries().await.unwrap();
        for name in &self.logs {
            // One queued and one direct.
            assert_eq!(entries.iter().filter(|(_, entry)| entry == name).count(), 2, "{name}");
        }
        assert_eq!(entries.len(), self.logs.len() * 2, "entries that nobody asked for");
        let mails = self.system.mails();
        let resent = self.system.resent().await;
        for (id, most) in &self.mails {
            let id = id.to_string();
            let taken = mails.get(&id).copied().unwrap_or_default();
            assert!((1..=*most).contains(&taken), "{id} was taken {taken} times, of {most} at most");
            let again = resent.get(&id).copied().unwrap_or_default();
            assert!(taken <= 1 + again, "{id} was taken {taken} times, and told to be resent {again} times");
        }
        assert_eq!(mails.len(), self.mails.len(), "mails that nobody asked for");
    }

    async fn stop(self) {
        drop(self.running);
        self.system.remove().await;
    }
}

/// Kills `victim` at each of the points of `group`.
async fn each_point(victim: &'static str, group: &str) {
    let mut stand = Stand::start().await;
    let (_, points) = POINTS.iter().find(|(name, _)| *name == group).unwrap();
    for (point, times) in *points {
        for at in 1..=*times {
            stand.dies_at(victim, point, at).await;
        }
    }
    stand.has_one_effect_each().await;
    stand.stop().await;
}

#[tokio::test]
async fn the_broker_may_die_anywhere() {
    each_point("broker", "broker").await;
}

#[tokio::test]
async fn the_mailer_may_die_anywhere() {
    each_point("mailer", "mailer").await;
}

#[tokio::test]
async fn the_ledger_may_die_anywhere() {
    each_point("mailer", "mailer's ledger").await;
}

#[tokio::test]
async fn the_relay_may_die_anywhere() {
    each_point("mailer", "mailer's relay").await;
}

#[tokio::test]
async fn the_listener_may_die_anywhere() {
    each_point("listener", "listener").await;
}

#[tokio::test]
async fn the_logger_may_die_anywhere() {
    each_point("logger", "logger").await;
}

#[tokio::test]
async fn the_logger_may_die_while_a_letter_is_discarded() {
    let mut stand = Stand::start().await;
    let mail = json!({"to": "refused@example.com", "subject": "s", "message": "m"});
    let id = stand.ask("unwanted".to_owned(), true, "mail", mail).await;
    let letter = stand.letter(id).await;
    let point = "logger: letter changed";
    let doomed = stand.dooms("logger", point, 1).await;
    let reason = json!({"reason": "nobody is there"});
    let ((), again) = tokio::join!(stand.decide(&letter, "discard", &reason), stand.died(doomed, point));
    stand.running.insert("logger", again);
    stand.is_told(id, "discarded").await;
    let trail = stand.system.get("broker", &format!("/actions/{id}")).await.unwrap();
    let steps = trail.body["data"]["steps"].as_array().unwrap();
    assert!(steps.iter().all(|step| step["kind"] != "replayed"), "{}", trail.body);
    // Nothing was sent.
    stand.has_one_effect_each().await;
    stand.stop().await;
}

#[tokio::test]
async fn a_registration_may_die_anywhere_and_the_new_user_is_welcomed_once() {
    let mut stand = Stand::start().await;
    let (_, points) = POINTS.iter().find(|(name, _)| *name == "register").unwrap();
    for (point, _) in *points {
        let (id, email) = new_user(point);
        let status = stand.system.register(id, &email, &[("CRASH_POINT", point)]).ended().await;
        assert!(status.code().is_none(), "at {point:?}: {status}");
        assert!(stand.system.register(id, &email, &[]).ended().await.success());
        stand.are_done(&[id]).await;
        stand.mails.push((id, 1));
    }
    // The relay of auth dies too, wherever that of the mailer does.
    let (_, relay) = POINTS.iter().find(|(name, _)| *name == "mailer's relay").unwrap();
    for (point, _) in *relay {
        let doomed = stand.dooms("auth", point, 1).await;
        let (id, email) = new_user(point);
        assert!(stand.system.register(id, &email, &[]).ended().await.success());
        let again = stand.died(doomed, point).await;
        stand.running.insert("auth", again);
        stand.are_done(&[id]).await;
        stand.mails.push((id, 1));
    }
    stand.has_one_effect_each().await;
    assert_eq!(stand.system.users().await.len(), stand.mails.len());
    stand.stop().await;
}

fn new_user(of: &str) -> (Uuid, String) {
    (Uuid::now_v7(), format!("{}@example.com", of.replace([' ', ':'], "-")))
}

#[test]
fn no_crash_point_is_forgotten() {
    let mut found = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for service in ["chassis", "broker", "auth", "logger", "mailer", "listener", "frontend"] {
        points(&root.join(service).join("src"), &mut found);
    }
    let covered: BTreeSet<String> =
        POINTS.iter().flat_map(|(_, points)| points.iter().map(|(point, _)| (*point).to_owned())).collect();
    assert_eq!(
        found, covered,
        "every crash point in the sources is died at, and every one that is died at exists"
    );
}

/// The names of the crash points below a folder.
fn points(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            points(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let calls = text.split("crash::point(\"").skip(1);
            found.extend(calls.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
}
