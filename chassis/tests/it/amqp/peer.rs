//! A server that is slow, and one that is gone without a word.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chassis::amqp::PublishError;
use chassis::http::Answer;
use futures_util::future::join_all;
use testkit::eventually;

use super::consumer::{Reader, fill, texts};
use super::publisher::publisher;
use super::rabbit::{Rabbit, SOON, event};

/// About 6 KiB a second.
const SLOW: (usize, Duration) = (32, Duration::from_millis(5));
/// Too slow for a handshake.
const TOO_SLOW: (usize, Duration) = (1, Duration::from_millis(20));
/// Longer than a publisher waits for a confirm.
const IN_TIME: Duration = Duration::from_secs(7);

#[tokio::test]
async fn through_a_slow_wire_a_publisher_is_confirmed_or_answered_in_time_and_nothing_is_there_twice() {
    let rabbit = Rabbit::start().await;
    let (running, publisher) = publisher(&rabbit).await;
    rabbit.publishes(&publisher).await;
    let publish = async |event| publisher.publish(&rabbit.topology.events, "log.info", event).await;
    rabbit.proxy.trickle(SLOW.0, SLOW.1);
    let small: Vec<_> = (0..10).map(|_| event("x")).collect();
    for result in join_all(small.iter().map(publish)).await {
        result.unwrap();
    }
    let (large, started) = (event(&"x".repeat(64 * 1024)), Instant::now());
    let error = publish(&large).await.unwrap_err();
    assert!(matches!(error, PublishError::TooSlow), "{error:?}");
    assert!(started.elapsed() < IN_TIME, "{:?}", started.elapsed());

    rabbit.proxy.restore();
    // On the same channel: when this is confirmed, all before it has arrived.
    let last = event("x");
    publish(&last).await.unwrap();
    let mut there = HashMap::new();
    for _ in 0..rabbit.count(&rabbit.topology.log_queue).await.unwrap() {
        let message = rabbit.take(&rabbit.topology.log_queue).await.delivery;
        *there.entry(message.properties.message_id().clone().unwrap().to_string()).or_insert(0) += 1;
    }
    for event in small.iter().chain([&large, &last]) {
        assert_eq!(there.get(&event.id.to_string()), Some(&1), "{there:?}");
    }
    running.stop().await;
    rabbit.clean().await;
}

#[tokio::test]
async fn through_a_slow_wire_a_consumer_gets_everything_once_and_acknowledges_it() {
    let rabbit = Rabbit::start().await;
    let reader = Reader::start(&rabbit).await;
    rabbit.proxy.trickle(SLOW.0, SLOW.1);
    fill(&rabbit, 0, 60).await;
    reader.has_read(texts(0, 60)).await;
    reader.running.stop().await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    assert_eq!(reader.bodies.lock().unwrap().len(), 60, "each once");
    rabbit.clean().await;
}

#[tokio::test]
async fn a_consumer_whose_server_is_too_slow_to_connect_to_says_so_and_goes_on_when_it_is_faster() {
    let rabbit = Rabbit::start().await;
    let reader = Reader::start(&rabbit).await;
    rabbit.proxy.cut();
    eventually(SOON, "readiness to fail", || async { reader.standing.check().err().ok_or("still ready") })
        .await;
    rabbit.proxy.trickle(TOO_SLOW.0, TOO_SLOW.1);
    eventually(SOON, "the reason", || async {
        match reader.standing.check() {
            Err(why) if why.contains("no answer within") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    fill(&rabbit, 0, 60).await;
    rabbit.proxy.restore();
    reader.has_read(texts(0, 60)).await;
    reader.running.stop().await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    assert_eq!(reader.bodies.lock().unwrap().len(), 60, "each once");
    rabbit.clean().await;
}

#[tokio::test]
async fn a_publisher_on_a_half_open_connection_is_answered_in_time_and_publishes_on_a_new_one() {
    let rabbit = Rabbit::with_a_quick_heartbeat().await;
    let (running, publisher) = publisher(&rabbit).await;
    rabbit.publishes(&publisher).await;
    let before = rabbit.count(&rabbit.topology.log_queue).await.unwrap();
    rabbit.proxy.halve();
    let started = Instant::now();
    for result in join_all((0..10).map(|_| rabbit.publish(&publisher))).await {
        let answer = Answer::from(result.unwrap_err());
        assert!(matches!(answer.status().as_u16(), 503 | 504), "{}", answer.message());
    }
    assert!(started.elapsed() < IN_TIME, "{:?}", started.elapsed());
    rabbit.counts(&rabbit.topology.log_queue, before).await;
    eventually(SOON, "readiness to fail", || async { publisher.check().await.err().ok_or("still ready") })
        .await;
    rabbit.proxy.restore();
    rabbit.publishes(&publisher).await;
    running.stop().await;
    rabbit.clean().await;
}

#[tokio::test]
async fn what_a_consumer_had_in_hand_on_a_half_open_connection_comes_again_and_is_done() {
    let rabbit = Rabbit::with_a_quick_heartbeat().await;
    let reader = Reader::start(&rabbit).await;
    let held = reader.hold();
    fill(&rabbit, 0, 30).await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    rabbit.proxy.halve();
    // The server has them back; the consumer does not know.
    rabbit.counts(&rabbit.topology.log_queue, 30).await;
    // What it acknowledges now, nobody hears.
    drop(held);
    eventually(SOON, "readiness to fail", || async { reader.standing.check().err().ok_or("still ready") })
        .await;
    rabbit.counts(&rabbit.topology.log_queue, 30).await;
    reader.bodies.lock().unwrap().clear();
    rabbit.proxy.restore();
    reader.is_consuming().await;
    reader.has_read(texts(0, 30)).await;
    reader.running.stop().await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    rabbit.counts(&rabbit.topology.dead_queue, 0).await;
    rabbit.clean().await;
}
