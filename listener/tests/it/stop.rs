//! A stop loses nothing.

use crate::stand::{Mood, PREFETCH, Stand};

#[tokio::test]
async fn a_stop_in_the_middle_of_a_batch_finishes_it_and_leaves_the_rest() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let held = stand.logger.hold();
    stand.fill(0, 400).await;
    stand.counts(&stand.topology.log_queue, 400 - PREFETCH).await;
    listener.running.lifecycle().stop();
    let stopping = tokio::spawn(listener.stop());
    drop(held);
    stopping.await.unwrap();
    let stored = stand.logger.names().len();
    assert!(stored > 0, "the batches in hand were stored");
    stand.counts(&stand.topology.log_queue, 400 - u32::try_from(stored).unwrap()).await;
    let listener = stand.start().await;
    stand.logger.has(400).await;
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn a_stop_while_the_logger_is_away_gives_everything_back() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    stand.logger.set(Mood::LacksMongo);
    stand.fill(0, 30).await;
    stand.counts(&stand.topology.log_queue, 0).await;
    listener.stop().await;
    stand.counts(&stand.topology.log_queue, 30).await;
    stand.logger.set(Mood::Stores);
    let listener = stand.start().await;
    stand.logger.has(30).await;
    listener.stop().await;
    stand.clean().await;
}

#[tokio::test]
async fn a_stop_before_anything_was_there_is_clean() {
    let stand = Stand::new().await;
    stand.rabbitmq.cut();
    stand.wire.cut();
    let listener = stand.start().await;
    listener.stop().await;
}
