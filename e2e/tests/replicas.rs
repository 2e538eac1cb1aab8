//! One replica of several dies while requests come in: the others serve, and what was accepted is there once.
//!
//! Only for a system in containers, with several brokers and listeners: `make test-compose` runs it.

#![cfg(feature = "compose")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails with the reason")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use e2e::containers;
use e2e::system::{System, unique};
use serde_json::{Value, json};
use testkit::eventually;

/// How many requests are under way at a time.
const CLIENTS: usize = 16;
/// How many are accepted before and after the fault.
const BEFORE: usize = 300;
const AFTER: usize = 1000;

/// Logs, numbered from 0, one half directly and one half through RabbitMQ, from several clients.
struct Load {
    system: System,
    name: String,
    next: AtomicU64,
    over: AtomicBool,
    accepted: Mutex<BTreeSet<u64>>,
    refused: Mutex<Vec<String>>,
}

impl Load {
    fn new(system: System) -> Self {
        let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
        Self {
            system,
            name: unique("load"),
            next,
            over,
            accepted: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    async fn client(&self) {
        while !self.over.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let prefer = if number.is_multiple_of(2) { "respond-async" } else { "" };
            let body = json!({"action": "log", "log": {"name": self.name, "data": number}});
            let answer = self.system.handle_with(&[("prefer", prefer)], body).await;
            if answer.status == 202 {
                self.accepted.lock().unwrap().insert(number);
            } else {
                self.refused.lock().unwrap().push(format!("{}: {}", answer.status, answer.body));
            }
        }
    }

    async fn until_accepted(&self, more: usize) {
        let goal = self.accepted.lock().unwrap().len() + more;
        eventually(Duration::from_mins(1), &format!("{goal} logs are accepted"), || async {
            let (accepted, refused) = (self.accepted.lock().unwrap().len(), self.refused.lock().unwrap());
            if accepted >= goal { Ok(()) } else { Err(format!("{accepted}, and refused {refused:?}")) }
        })
        .await;
    }

    /// Runs the load, the fault in the midst of it.
    async fn during(&self, fault: impl Future<Output = ()>) {
        let clients = async {
            tokio::join!(futures_util::future::join_all((0..CLIENTS).map(|_| self.client())), async {
                self.until_accepted(BEFORE).await;
                fault.await;
                self.until_accepted(AFTER).await;
                self.over.store(true, Ordering::Relaxed);
            })
        };
        clients.await;
    }

    /// Asserts that every accepted log is stored, and none twice.
    async fn assert_each_is_there_once(&self) {
        let accepted = self.accepted.lock().unwrap().clone();
        let stored = eventually(Duration::from_mins(1), "every accepted log is stored", || async {
            let mut stored = BTreeMap::<u64, u32>::new();
            for entry in self.system.all_entries(&self.name).await? {
                *stored.entry(entry["data"].as_u64().unwrap()).or_default() += 1;
            }
            let missing = accepted.iter().filter(|number| !stored.contains_key(number)).count();
            if missing == 0 {
                Ok(stored)
            } else {
                Err(format!("{missing} of {} are missing", accepted.len()))
            }
        })
        .await;
        let twice: Vec<_> = stored.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "stored more than once: {twice:?}");
    }
}

#[tokio::test]
async fn brokers_go_on_when_one_of_them_is_killed() {
    let load = Load::new(System::healthy().await);
    let brokers = containers::of("broker").await;
    assert!(brokers.len() > 1, "one broker only: {brokers:?}");
    load.during(brokers[0].kill()).await;
    load.assert_each_is_there_once().await;
    // What the dead one had in hand, and no more.
    let refused = load.refused.lock().unwrap().clone();
    assert!(refused.len() <= CLIENTS, "{} refused: {refused:?}", refused.len());
    for answer in refused {
        let body: Value = serde_json::from_str(answer.split_once(": ").unwrap().1).unwrap();
        assert_eq!(body["error"], true, "{answer}");
    }
    brokers[0].start().await;
}

#[tokio::test]
async fn listeners_go_on_when_one_of_them_is_killed() {
    let load = Load::new(System::healthy().await);
    let listeners = containers::of("listener").await;
    assert!(listeners.len() > 1, "one listener only: {listeners:?}");
    load.during(listeners[0].kill()).await;
    load.assert_each_is_there_once().await;
    let refused = load.refused.lock().unwrap().clone();
    assert!(refused.is_empty(), "{refused:?}");
    listeners[0].start().await;
}
