//! Messages that end with the dead letters, to the very edge of it: the delivery limit, a consumer that dies of a message,
//! and a dead queue that is not there.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Stdio;

use chassis::amqp::consumer::Batch;
use chassis::amqp::{Consumer, Disposition, Flow, Onward};
use contracts::topology::Topology;
use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicRejectOptions, QueueDeleteOptions};
use secrecy::SecretString;
use testkit::{Running, eventually, namespace, setting};
use tokio::process::{Child, Command};

use super::consumer::{Reader, fill, texts};
use super::rabbit::{Rabbit, SOON};

/// How often a message may be delivered again: `x-delivery-limit`, as the topology declares it.
const LIMIT: u32 = 20;

/// Takes the first message so many times, and never acknowledges it.
async fn give_back(rabbit: &Rabbit, times: u32) {
    let channel = rabbit.channel().await;
    let queue = rabbit.topology.log_queue.as_str();
    for _ in 0..times {
        eventually(SOON, "the message", || async {
            let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap();
            let got = got.ok_or("the queue is empty")?;
            got.delivery.acker.reject(BasicRejectOptions { requeue: true }).await.unwrap();
            Ok::<_, &str>(())
        })
        .await;
    }
}

/// Declares everything, as whoever connects does.
async fn declare(rabbit: &Rabbit) {
    Reader::start(rabbit).await.running.stop().await;
}

#[tokio::test]
async fn a_message_at_the_delivery_limit_is_still_worked_on_and_one_beyond_it_is_dead() {
    let rabbit = Rabbit::start().await;
    declare(&rabbit).await;
    rabbit.put(&rabbit.topology.log_queue, "at the limit", BasicProperties::default()).await;
    give_back(&rabbit, LIMIT).await;
    rabbit.counts(&rabbit.topology.log_queue, 1).await;
    let reader = Reader::start(&rabbit).await;
    reader.has_read(["at the limit".to_owned()]).await;
    reader.running.stop().await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    rabbit.counts(&rabbit.topology.dead_queue, 0).await;

    rabbit.put(&rabbit.topology.log_queue, "beyond it", BasicProperties::default()).await;
    give_back(&rabbit, LIMIT + 1).await;
    let letter = rabbit.take(&rabbit.topology.dead_queue).await.delivery;
    assert_eq!(letter.data, b"beyond it");
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    rabbit.clean().await;
}

#[tokio::test]
async fn a_message_that_dies_while_the_dead_queue_is_deleted_waits_until_it_is_there_again() {
    let rabbit = Rabbit::start().await;
    let reader = Reader::start(&rabbit).await;
    let dead = rabbit.topology.dead_queue.as_str();
    for round in 0..2 {
        rabbit.channel().await.queue_delete(dead.into(), QueueDeleteOptions::default()).await.unwrap();
        let held = reader.hold();
        fill(&rabbit, round * 10, round * 10 + 5).await;
        rabbit.put(&rabbit.topology.log_queue, "poison", BasicProperties::default()).await;
        fill(&rabbit, round * 10 + 5, round * 10 + 10).await;
        drop(held);
        reader.has_read(texts(round * 10, round * 10 + 10)).await;
        // Nobody but the consumer declares it again.
        rabbit.counts(dead, 1).await;
        assert_eq!(rabbit.take(dead).await.delivery.data, b"poison");
    }
    reader.running.stop().await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    rabbit.counts(dead, 0).await;
    rabbit.clean().await;
}

/// The setting that makes the next test a process that consumes and dies: its namespace.
const NAMESPACE: &str = "DEADLY_NAMESPACE";
/// The setting with the file in which it notes what it has done.
const JOURNAL: &str = "DEADLY_JOURNAL";
/// The name of the next test.
const DEADLY: &str =
    "amqp::dying::a_message_that_kills_its_process_is_dead_at_last_and_takes_no_neighbour_along";

/// Consumes, notes what it is given, and dies of a message.
async fn consume_and_die(namespace: &str) {
    let journal = PathBuf::from(std::env::var_os(JOURNAL).unwrap());
    let (url, topology) = (SecretString::from(setting("RABBITMQ_URL")), Topology::within(namespace));
    let handler = move |_, batch: Batch| {
        let done: Vec<_> = batch
            .iter()
            .map(|delivery| {
                if delivery.body() == b"deadly" {
                    std::process::abort();
                }
                format!("{}\n", String::from_utf8_lossy(delivery.body()))
            })
            .collect();
        let mut file = std::fs::File::options().create(true).append(true).open(&journal).unwrap();
        std::io::Write::write_all(&mut file, done.concat().as_bytes()).unwrap();
        std::future::ready(vec![Disposition::Done; batch.len()])
    };
    let running = Running::start(async |lifecycle| {
        let onward = Onward::new(&url, topology.clone(), &lifecycle)?;
        let flow = Flow { prefetch: 40, batch: 10 };
        let consumer = Consumer::new(&url, &topology.log_queue, flow, onward, &lifecycle)?;
        lifecycle.spawn("consumer", consumer.run(handler));
        Ok(())
    });
    let _running = running.await;
    // Until it dies of the message, or is killed.
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_message_that_kills_its_process_is_dead_at_last_and_takes_no_neighbour_along() {
    if let Ok(namespace) = std::env::var(NAMESPACE) {
        return consume_and_die(&namespace).await;
    }
    let namespace = namespace();
    let journal = std::env::temp_dir().join(format!("{namespace}journal"));
    let mut rabbit = Rabbit::start().await;
    rabbit.topology = Topology::within(&namespace);
    declare(&rabbit).await;
    fill(&rabbit, 0, 50).await;
    rabbit.put(&rabbit.topology.log_queue, "deadly", BasicProperties::default()).await;
    fill(&rabbit, 50, 100).await;

    // As a supervisor does: whenever it dies, it is started again.
    let start = || -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", DEADLY, "--nocapture"])
            .envs([(NAMESPACE, namespace.as_str()), (JOURNAL, journal.to_str().unwrap())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    let (mut process, mut deaths) = (start(), 0);
    let dead = rabbit.topology.dead_queue.as_str();
    while rabbit.count(dead).await == Ok(0) {
        if let Ok(status) = tokio::time::timeout(SOON / 100, process.wait()).await {
            assert_eq!(status.unwrap().code(), None, "it dies of a signal");
            deaths += 1;
            assert!(deaths <= LIMIT + 1, "it dies for ever");
            process = start();
        }
    }
    let done = || -> HashSet<String> {
        std::fs::read_to_string(&journal).unwrap_or_default().lines().map(str::to_owned).collect()
    };
    eventually(SOON, "the neighbours are done", || async {
        let missing: Vec<_> = texts(0, 100).filter(|text| !done().contains(text)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} after {deaths} deaths")) }
    })
    .await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    process.kill().await.unwrap();
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    assert!(deaths > 1, "{deaths}");
    let letter = rabbit.take(dead).await.delivery;
    assert_eq!(letter.data, b"deadly");
    rabbit.counts(dead, 0).await;
    std::fs::remove_file(&journal).unwrap();
    rabbit.clean().await;
}
