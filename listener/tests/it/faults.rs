//! Servers that go and come back.

use lapin::options::QueueDeleteOptions;
use testkit::eventually;

use crate::stand::{Mood, PREFETCH, SOON, Stand};

#[tokio::test]
async fn rabbitmq_cut_and_restored() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    for round in 0..3 {
        stand.fill(round * 200, round * 200 + 100).await;
        stand.rabbitmq.cut();
        listener.lacks("RabbitMQ").await;
        stand.fill(round * 200 + 100, round * 200 + 200).await;
        stand.rabbitmq.restore();
        listener.is_ready().await;
        stand.logger.has(round * 200 + 200).await;
    }
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn rabbitmq_stalled_at_the_start_and_restored() {
    let stand = Stand::new().await;
    stand.rabbitmq.stall();
    let listener = stand.start().await;
    listener.lacks("RabbitMQ").await;
    stand.rabbitmq.restore();
    listener.is_ready().await;
    stand.fill(0, 10).await;
    stand.logger.has(10).await;
    listener.stop().await;
    stand.clean().await;
}

#[tokio::test]
async fn the_logger_cut_and_restored() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    stand.wire.cut();
    stand.fill(0, 300).await;
    listener.lacks("the logger").await;
    assert!(stand.logger.names().is_empty());
    stand.wire.restore();
    stand.logger.has(300).await;
    listener.is_ready().await;
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn the_logger_without_its_mongodb() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    stand.logger.set(Mood::LacksMongo);
    stand.fill(0, 300).await;
    // All that it may hold is held, and nothing is lost or dead.
    stand.counts(&stand.topology.log_queue, 300 - PREFETCH).await;
    stand.logger.set(Mood::Stores);
    stand.logger.has(300).await;
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn both_cut_while_messages_are_held() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    stand.logger.set(Mood::LacksMongo);
    stand.fill(0, 150).await;
    stand.counts(&stand.topology.log_queue, 150 - PREFETCH).await;
    stand.rabbitmq.cut();
    listener.lacks("RabbitMQ").await;
    stand.rabbitmq.restore();
    stand.logger.set(Mood::Stores);
    stand.logger.has(150).await;
    listener.stop().await;
    stand.counts(&stand.topology.log_queue, 0).await;
    stand.clean().await;
}

#[tokio::test]
async fn the_queue_deleted_under_the_listener() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let queue = stand.topology.log_queue.as_str();
    stand.channel().await.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    // What is published before the queue is bound again goes nowhere.
    eventually(SOON, "the queue", || async {
        stand.fill(0, 1).await;
        if stand.logger.names().is_empty() { Err("not stored") } else { Ok(()) }
    })
    .await;
    stand.fill(1, 50).await;
    stand.logger.has(50).await;
    listener.is_ready().await;
    listener.stop().await;
    stand.clean().await;
}
