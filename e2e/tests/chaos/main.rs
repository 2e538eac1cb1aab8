//! Everything dies, all the time, and every action that was accepted has its one effect.
//!
//! A system of its own, with two brokers, two mailers and two listeners, on servers of its own. While clients send
//! actions of every kind, one process after the other is killed, paused or cut off, the servers included. `CHAOS_MINUTES`
//! says for how long, `CHAOS_SEED` what happens when. The last line is the count.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails with the reason")]

mod clients;
mod faults;
mod publisher;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::isolated::{Isolated, Running};
use e2e::servers::Servers;
use e2e::tally::{Books, Tally};
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use testkit::eventually;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::clients::{Asked, CLIENTS};

/// What runs: the names of the replicas too.
const PROCESSES: [&str; 10] = [
    "sink",
    "logger",
    "auth",
    "mailer",
    "mailer 2",
    "listener",
    "listener 2",
    "broker",
    "broker 2",
    "frontend",
];
/// How long the system may take to be done after the last fault.
const DRAIN: Duration = Duration::from_secs(30);
/// How many trails are asked for at a time: half an hour of chaos has tens of thousands.
const TOGETHER: usize = 32;

/// The system, its processes' ids, and what is going on.
struct Chaos {
    system: Isolated,
    servers: Servers,
    pids: Mutex<HashMap<&'static str, u32>>,
    asked: Mutex<Asked>,
    /// What ended though nobody killed it.
    ended: Mutex<Vec<String>>,
    /// No new actions are begun.
    enough: CancellationToken,
    /// What has not been accepted is given up.
    given_up: CancellationToken,
    /// No process is started again.
    over: CancellationToken,
}

impl Chaos {
    /// Keeps a process running, as a supervisor does.
    async fn keep(self: Arc<Self>, name: &'static str) {
        while !self.over.is_cancelled() {
            let mut running: Running = self.system.spawn(name, &[]);
            self.pids.lock().unwrap().insert(name, running.pid().unwrap());
            tokio::select! {
                status = running.ended() => {
                    // Whoever is killed has no exit code.
                    if status.code().is_some() {
                        self.ended.lock().unwrap().push(format!("{name}: {status}"));
                    }
                    sleep(Duration::from_millis(100)).await;
                }
                () = self.over.cancelled() => running.kill().await,
            }
        }
    }

    /// What was asked for, and what is there by now.
    async fn books(&self) -> Result<Books, String> {
        let entries = self.system.entries().await?;
        let resent = self.system.resent().await;
        let users = self.system.users().await;
        let asked = self.asked.lock().unwrap();
        Ok(Books {
            asked: asked.all.clone(),
            logs: asked.logs.clone(),
            mails: asked.mails.clone(),
            registered: asked.registered.clone(),
            entries,
            users,
            taken: self.system.mails(),
            resent,
        })
    }

    /// Waits until nothing is lost and nothing is under way; gives the count.
    async fn drained(&self) -> Tally {
        let began = Instant::now();
        loop {
            let tally = self.books().await.map(|books| books.tally());
            let late = began.elapsed() > DRAIN * 4;
            match tally {
                Ok(tally) if late || tally.lost.is_empty() && self.system.under_way().await == 0 => {
                    return tally;
                }
                Ok(_) => {}
                Err(error) => assert!(!late, "{error}"),
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// A number from the environment.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_action_that_was_accepted_has_one_effect_whatever_dies() {
    let minutes = number("CHAOS_MINUTES").unwrap_or(2);
    let seed = number("CHAOS_SEED").unwrap_or_else(|| fastrand::u64(0..1_000_000));
    fastrand::seed(seed);
    let servers = Servers::start();

    let chaos = Arc::new(Chaos {
        system: Isolated::prepare(&PROCESSES).await,
        servers,
        pids: Mutex::default(),
        asked: Mutex::default(),
        ended: Mutex::default(),
        enough: CancellationToken::new(),
        given_up: CancellationToken::new(),
        over: CancellationToken::new(),
    });
    let mut processes = JoinSet::new();
    for name in PROCESSES {
        processes.spawn(Arc::clone(&chaos).keep(name));
    }
    eventually(Duration::from_mins(1), "the system is there", || async {
        for name in PROCESSES.into_iter().filter(|name| *name != "sink") {
            let answer = chaos.system.get(name, "/readyz").await?;
            if answer.status != 200 {
                return Err(format!("{name}: {}", answer.body));
            }
        }
        Ok(())
    })
    .await;

    let mut clients = JoinSet::new();
    for (kind, count) in CLIENTS {
        for number in 0..count {
            clients.spawn(Arc::clone(&chaos).client(number, kind));
        }
    }
    let end = Instant::now() + Duration::from_secs(minutes * 60);
    let (mut faults, mut kills) = (0, 0);
    while Instant::now() < end {
        sleep(Duration::from_millis(fastrand::u64(1000..3500))).await;
        let fault = chaos.fault().await;
        println!("{fault}");
        faults += 1;
        kills += u32::from(fault.starts_with("kill"));
    }
    chaos.enough.cancel();
    // What is under way may still be accepted.
    let last = Instant::now();
    let finishing = async { while clients.join_next().await.transpose().expect("a client").is_some() {} };
    if tokio::time::timeout(DRAIN, finishing).await.is_err() {
        chaos.given_up.cancel();
        while clients.join_next().await.transpose().expect("a client").is_some() {}
    }
    let tally = chaos.drained().await;
    let drained = last.elapsed();
    let drain = drained.as_secs_f64();
    let line =
        format!("chaos: {tally}, {kills} kills of {faults} faults, {drain:.1} s to drain (seed {seed})");
    println!("{line}");
    assert!(tally.is_right(), "{line}: {tally:?}");
    assert!(drained <= DRAIN, "{line}");
    assert!(tally.accepted > 100, "{line}");

    trails_end_well(&chaos).await;
    // Nothing came after the count.
    let after = chaos.books().await.unwrap().tally();
    assert_eq!(after, tally, "{line}");
    let dead = chaos.system.get("broker", "/dead-letters").await.unwrap();
    assert_eq!(dead.body["data"]["letters"], json!([]), "nothing is dead");
    let ended = chaos.ended.lock().unwrap().clone();
    assert!(ended.is_empty(), "processes that ended by themselves: {ended:?}");
    the_count_can_fail(&chaos).await;

    chaos.over.cancel();
    while processes.join_next().await.is_some() {}
    if let Ok(chaos) = Arc::try_unwrap(chaos) {
        chaos.system.remove().await;
    }
}

/// The trail of everything that was queued says that it is done.
async fn trails_end_well(chaos: &Chaos) {
    let queued = chaos.asked.lock().unwrap().queued.clone();
    let trails = stream::iter(queued).for_each_concurrent(TOGETHER, async |id| {
        eventually(DRAIN, "the trail ends", || async {
            let answer = chaos.system.get("broker", &format!("/actions/{id}?wait=5s")).await?;
            let trail: &Value = &answer.body["data"];
            if trail["state"] == "done" { Ok(()) } else { Err(answer.body.to_string()) }
        })
        .await;
    });
    trails.await;
}

/// With a document taken away and one added, the count is not right any more.
async fn the_count_can_fail(chaos: &Chaos) {
    let id = chaos.asked.lock().unwrap().logs.iter().next().unwrap().clone();
    let entries = testkit::mongodb::Entries::of(&chaos.system.mongo).await;
    entries.remove(id.parse().unwrap()).await;
    let tally = chaos.books().await.unwrap().tally();
    assert_eq!((tally.lost, tally.phantom), (vec![id], Vec::<String>::new()));
    let phantom = Uuid::now_v7();
    entries.add(phantom, "nobody asked for this").await;
    let tally = chaos.books().await.unwrap().tally();
    assert_eq!(tally.phantom, [phantom.to_string()]);
}
