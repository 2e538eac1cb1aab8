//! Consuming.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use chassis::amqp::consumer::Batch;
use chassis::amqp::{Consumer, Disposition, Flow, Onward, Standing, onward};
use lapin::BasicProperties;
use lapin::options::QueueDeleteOptions;
use testkit::{Running, eventually};
use tokio::sync::Semaphore;

use super::rabbit::{Rabbit, SOON};

const FLOW: Flow = Flow { prefetch: 30, batch: 10 };

/// How many batches may go through the gate at once: all.
const GATE: u32 = 1000;

/// A consumer that notes the bodies it was given.
pub(super) struct Reader {
    pub(super) running: Running,
    pub(super) standing: Standing,
    /// In the order in which they were read, as often as they were.
    pub(super) bodies: Arc<Mutex<Vec<String>>>,
    /// How many came together, in the order in which they were begun.
    batches: Arc<Mutex<Vec<usize>>>,
    /// A batch is done when it gets a permit.
    gate: Arc<Semaphore>,
}

impl Reader {
    pub(super) async fn start(rabbit: &Rabbit) -> Self {
        Self::taking(rabbit, FLOW).await
    }

    async fn taking(rabbit: &Rabbit, flow: Flow) -> Self {
        let gate = Arc::new(Semaphore::new(GATE as usize));
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let batches = Arc::new(Mutex::new(Vec::new()));
        let (noted, counted, gated) = (Arc::clone(&bodies), Arc::clone(&batches), Arc::clone(&gate));
        let handler = move |_, batch: Batch| {
            let (noted, counted, gated) = (Arc::clone(&noted), Arc::clone(&counted), Arc::clone(&gated));
            async move {
                counted.lock().unwrap().push(batch.len());
                let permit = gated.acquire().await;
                let mut noted = noted.lock().unwrap();
                let dispositions = batch.iter().map(|delivery| {
                    let text = String::from_utf8_lossy(delivery.body()).into_owned();
                    let disposition = match text.as_str() {
                        text if text.contains("poison") => Disposition::Dead("it is poison".to_owned()),
                        "not now" if !noted.contains(&text) => Disposition::Requeue,
                        _ => Disposition::Done,
                    };
                    noted.push(text);
                    disposition
                });
                let dispositions = dispositions.collect();
                drop((noted, permit));
                dispositions
            }
        };
        let mut standing = None;
        let running = Running::start(async |lifecycle| {
            let queue = &rabbit.topology.log_queue;
            let onward = Onward::new(&rabbit.url, rabbit.topology.clone(), &lifecycle)?;
            let consumer = Consumer::new(&rabbit.url, queue, flow, onward, &lifecycle)?;
            standing = Some(consumer.standing());
            lifecycle.spawn("consumer", consumer.run(handler));
            Ok(())
        })
        .await;
        let reader = Self { running, standing: standing.unwrap(), bodies, batches, gate };
        reader.is_consuming().await;
        reader
    }

    pub(super) async fn is_consuming(&self) {
        eventually(SOON, "the consumer", || async { self.standing.check() }).await;
    }

    pub(super) async fn has_read(&self, wanted: impl IntoIterator<Item = String>) {
        let wanted: HashSet<_> = wanted.into_iter().collect();
        eventually(SOON, "the messages", || async {
            let missing = wanted.difference(&self.read()).count();
            if missing == 0 { Ok(()) } else { Err(format!("{missing} missing")) }
        })
        .await;
    }

    async fn has_begun(&self, batches: &[usize]) {
        eventually(SOON, "the batches", || async {
            let begun = self.batches.lock().unwrap().clone();
            if begun == batches { Ok(()) } else { Err(format!("{begun:?}")) }
        })
        .await;
    }

    fn read(&self) -> HashSet<String> {
        self.bodies.lock().unwrap().iter().cloned().collect()
    }

    /// Closes the gate until what this gives is dropped.
    pub(super) fn hold(&self) -> impl Drop + use<> {
        Arc::clone(&self.gate).try_acquire_many_owned(GATE).unwrap()
    }
}

pub(super) fn texts(from: usize, to: usize) -> impl Iterator<Item = String> {
    (from..to).map(|i| format!("message {i}"))
}

pub(super) async fn fill(rabbit: &Rabbit, from: usize, to: usize) {
    for text in texts(from, to) {
        rabbit.put(&rabbit.topology.log_queue, &text, BasicProperties::default()).await;
    }
}

#[tokio::test]
async fn of_large_messages_a_few_are_in_hand_and_of_small_ones_many() {
    let rabbit = Rabbit::start().await;
    let reader = Reader::taking(&rabbit, Flow { prefetch: 1000, batch: 10 }).await;
    let held = reader.hold();
    let large = "x".repeat(1024 * 1024);
    for _ in 0..50 {
        rabbit.put(&rabbit.topology.log_queue, &large, BasicProperties::default()).await;
    }
    rabbit.counts(&rabbit.topology.log_queue, 50 - 32).await;
    drop(held);
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    eventually(SOON, "the large ones", || async {
        let read = reader.bodies.lock().unwrap().len();
        if read == 50 { Ok(()) } else { Err(read) }
    })
    .await;
    fill(&rabbit, 0, 300).await;
    reader.has_read(texts(0, 300)).await;
    let held = reader.hold();
    fill(&rabbit, 300, 600).await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    drop(held);
    reader.has_read(texts(300, 600)).await;
    reader.running.stop().await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    assert_eq!(reader.bodies.lock().unwrap().len(), 650, "each once");
    rabbit.clean().await;
}

#[tokio::test]
async fn messages_leave_the_queue_once_they_are_done() {
    let rabbit = Rabbit::start().await;
    let reader = Reader::start(&rabbit).await;
    fill(&rabbit, 0, 500).await;
    reader.has_read(texts(0, 500)).await;
    reader.running.stop().await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    assert_eq!(reader.bodies.lock().unwrap().len(), 500, "each once");
    rabbit.clean().await;
}

#[tokio::test]
async fn what_waits_is_taken_in_full_batches() {
    let rabbit = Rabbit::start().await;
    let reader = Reader::start(&rabbit).await;
    let held = reader.hold();
    fill(&rabbit, 0, 200).await;
    // All that it may have in hand is there; as many as are worked on at once came while they were put.
    rabbit.counts(&rabbit.topology.log_queue, 200 - u32::from(FLOW.prefetch)).await;
    drop(held);
    reader.has_read(texts(0, 200)).await;
    reader.running.stop().await;
    let batches = reader.batches.lock().unwrap().clone();
    assert_eq!(batches.iter().max(), Some(&FLOW.batch), "{batches:?}");
    rabbit.clean().await;
}

#[tokio::test]
async fn what_comes_while_a_batch_is_worked_on_is_the_next_batch() {
    let rabbit = Rabbit::start().await;
    let reader = Reader::start(&rabbit).await;
    let held = reader.hold();
    fill(&rabbit, 0, 1).await;
    reader.has_begun(&[1]).await;
    // Ten are a full batch, which begins beside the first; the others wait.
    fill(&rabbit, 1, 1 + 10 + 4).await;
    reader.has_begun(&[1, 10]).await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    reader.has_begun(&[1, 10]).await;
    drop(held);
    reader.has_read(texts(0, 15)).await;
    reader.running.stop().await;
    rabbit.clean().await;
}

#[tokio::test]
async fn what_is_given_back_comes_again() {
    let rabbit = Rabbit::start().await;
    let reader = Reader::start(&rabbit).await;
    let held = reader.hold();
    fill(&rabbit, 0, 5).await;
    rabbit.put(&rabbit.topology.log_queue, "not now", BasicProperties::default()).await;
    fill(&rabbit, 5, 10).await;
    drop(held);
    reader.has_read(texts(0, 10)).await;
    eventually(SOON, "the second time", || async {
        let bodies = reader.bodies.lock().unwrap();
        let times = bodies.iter().filter(|text| *text == "not now").count();
        if times == 2 { Ok(()) } else { Err(format!("read {times} times")) }
    })
    .await;
    reader.running.stop().await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    rabbit.counts(&rabbit.topology.dead_queue, 0).await;
    rabbit.clean().await;
}

#[tokio::test]
async fn it_finds_a_server_that_went_and_came_back_and_gets_everything() {
    let rabbit = Rabbit::start().await;
    let reader = Reader::start(&rabbit).await;
    for round in 0..3 {
        let held = reader.hold();
        fill(&rabbit, round * 100, round * 100 + 100).await;
        rabbit.proxy.cut();
        eventually(SOON, "readiness to fail", || async {
            reader.standing.check().err().ok_or("still ready")
        })
        .await;
        drop(held);
        rabbit.proxy.restore();
        reader.has_read(texts(round * 100, round * 100 + 100)).await;
        reader.is_consuming().await;
    }
    reader.running.stop().await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    rabbit.clean().await;
}

#[tokio::test]
async fn it_notices_a_server_that_keeps_silent() {
    let rabbit = Rabbit::with_a_quick_heartbeat().await;
    let reader = Reader::start(&rabbit).await;
    rabbit.proxy.stall();
    eventually(SOON, "readiness to fail", || async { reader.standing.check().err().ok_or("still ready") })
        .await;
    fill(&rabbit, 0, 50).await;
    rabbit.proxy.restore();
    reader.has_read(texts(0, 50)).await;
    reader.running.stop().await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    rabbit.clean().await;
}

#[tokio::test]
async fn a_queue_that_is_deleted_under_it_is_declared_and_consumed_again() {
    let rabbit = Rabbit::start().await;
    let reader = Reader::start(&rabbit).await;
    let queue = rabbit.topology.log_queue.as_str();
    rabbit.channel().await.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    // What is sent while the queue is being made goes nowhere.
    eventually(SOON, "the queue is consumed", || async {
        fill(&rabbit, 0, 1).await;
        if reader.read().is_empty() { Err("nothing is read") } else { Ok(()) }
    })
    .await;
    fill(&rabbit, 1, 20).await;
    reader.has_read(texts(0, 20)).await;
    reader.running.stop().await;
    rabbit.clean().await;
}

#[tokio::test]
async fn poison_goes_to_the_dead_letters_with_its_reason_and_its_neighbours_are_done() {
    let rabbit = Rabbit::start().await;
    let reader = Reader::start(&rabbit).await;
    let held = reader.hold();
    fill(&rabbit, 0, 5).await;
    let properties =
        BasicProperties::default().with_message_id("id-1".into()).with_expiration("60000".into());
    rabbit.put(&rabbit.topology.log_queue, "poison", properties).await;
    fill(&rabbit, 5, 10).await;
    drop(held);
    reader.has_read(texts(0, 10)).await;

    let letter = rabbit.take(&rabbit.topology.dead_queue).await.delivery;
    assert_eq!(letter.data, b"poison");
    assert_eq!(letter.properties.message_id(), &Some("id-1".into()));
    assert_eq!(letter.properties.expiration(), &None);
    let headers = letter.properties.headers().clone().unwrap();
    let text = |name: &str| headers.inner()[name].as_long_string().unwrap().to_string();
    assert_eq!(text(onward::REASON), "it is poison");
    assert_eq!(text(onward::QUEUE), rabbit.topology.log_queue);
    assert_eq!(text(onward::ROUTING_KEY), rabbit.topology.log_queue);
    assert_eq!(headers.inner()[onward::ATTEMPTS].as_long_long_int(), Some(1));

    reader.running.stop().await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    rabbit.counts(&rabbit.topology.dead_queue, 0).await;
    rabbit.clean().await;
}

#[tokio::test]
async fn an_event_whose_message_has_no_id_dies_under_its_own() {
    let rabbit = Rabbit::start().await;
    let reader = Reader::start(&rabbit).await;
    let (id, queue) = (uuid::Uuid::now_v7(), &rabbit.topology.log_queue);
    let event = serde_json::json!({"specversion": "1.0", "id": id, "data": "poison"}).to_string();
    rabbit.put(queue, &event, BasicProperties::default()).await;
    let letter = rabbit.take(&rabbit.topology.dead_queue).await.delivery;
    assert_eq!(letter.properties.message_id(), &Some(id.to_string().into()));
    // What is no event gets one.
    rabbit.put(queue, "poison", BasicProperties::default()).await;
    let letter = rabbit.take(&rabbit.topology.dead_queue).await.delivery;
    assert!(letter.properties.message_id().as_ref().unwrap().as_str().parse::<uuid::Uuid>().is_ok());
    reader.running.stop().await;
    rabbit.clean().await;
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_batch_finishes_it_and_leaves_the_rest() {
    let rabbit = Rabbit::start().await;
    let reader = Reader::start(&rabbit).await;
    let held = reader.hold();
    fill(&rabbit, 0, 300).await;
    // All that it may have in hand is there, and not done.
    rabbit.counts(&rabbit.topology.log_queue, 300 - u32::from(FLOW.prefetch)).await;
    reader.running.lifecycle().stop();
    let (bodies, running) = (Arc::clone(&reader.bodies), reader.running);
    let stopping = tokio::spawn(running.stop());
    // It knows by now, and has not given back what it has in hand.
    rabbit.counts(&rabbit.topology.log_queue, 300 - u32::from(FLOW.prefetch)).await;
    drop(held);
    stopping.await.unwrap();
    let done: Vec<_> = bodies.lock().unwrap().clone();
    assert!(!done.is_empty(), "the batches in hand were finished");
    let left = 300 - u32::try_from(done.len()).unwrap();
    rabbit.counts(&rabbit.topology.log_queue, left).await;

    let second = Reader::start(&rabbit).await;
    let rest: HashSet<_> = texts(0, 300).filter(|text| !done.contains(text)).collect();
    second.has_read(rest.clone()).await;
    assert_eq!(second.read(), rest, "and nothing twice");
    second.running.stop().await;
    rabbit.clean().await;
}
