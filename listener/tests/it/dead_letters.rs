//! What can't be stored is kept with the reason, and harms nobody.

use contracts::dead_letter::{Body, Encoding};
use contracts::trail::StepKind;
use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicRejectOptions};
use lapin::types::{AMQPValue, FieldTable};
use testkit::eventually;
use uuid::Uuid;

use crate::stand::{DELAYS, FATAL, FATAL_AFTER, MISTAKE, Mood, SOON, Stand};

#[tokio::test]
async fn poison_in_a_batch_is_kept_and_its_neighbours_are_stored() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let poison: [(&str, &[u8], &str); 4] = [
        ("log.INFO", b"no JSON", "the body is not JSON"),
        ("log.INFO", b"\xff\xfe", "the body is not JSON"),
        ("log.INFO", br#"{"name":"","data":null}"#, "name must not be empty; data is required"),
        ("log.INFO", br#"{"name":"refused","data":1}"#, "not this one"),
    ];
    let held = stand.logger.hold();
    for (i, (key, body, _)) in poison.iter().enumerate() {
        stand.fill(i * 10, i * 10 + 10).await;
        let properties = BasicProperties::default().with_message_id(format!("poison {i}").into());
        stand.send(&stand.topology.logs_topic, key, body, properties).await;
    }
    drop(held);
    stand.logger.has(40).await;
    for (i, (key, body, reason)) in poison.into_iter().enumerate() {
        let letter = stand.letter(&format!("poison {i}")).await;
        assert_eq!(letter.body, Body::of(body));
        assert!(letter.reason.contains(reason), "{}", letter.reason);
        assert_eq!((letter.routing_key.as_str(), letter.attempts), (key, 1));
        assert_eq!(letter.exchange, stand.topology.logs_topic);
        assert_eq!(letter.queue, stand.topology.log_queue);
    }
    assert_eq!(stand.logger.letters().len(), poison.len());
    listener.is_ready().await;
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

/// Headers of so many bytes.
fn with_headers(bytes: usize, id: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("x-large".into(), AMQPValue::LongString("h".repeat(bytes).into()));
    BasicProperties::default().with_message_id(id.into()).with_headers(headers)
}

#[tokio::test]
async fn headers_larger_than_a_frame_cost_their_neighbours_nothing() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let held = stand.logger.hold();
    stand.fill(0, 30).await;
    let large = with_headers(12 * 1024, "large");
    stand.send(&stand.topology.logs_topic, "log.INFO", br#"{"name":"large","data":1}"#, large).await;
    stand.fill(30, 60).await;
    drop(held);
    stand.logger.has(60).await;
    // The letter can't be read either: it ends where nobody tries to.
    stand.counts(&stand.topology.unreadable_queue, 1).await;
    stand.counts(&stand.topology.dead_queue, 0).await;
    listener.is_ready().await;
    listener.stop().await;
    assert!(stand.logger.letters().is_empty());
    stand.clean().await;
}

#[tokio::test]
async fn a_letter_whose_headers_leave_no_room_for_the_reason_is_kept_without_them() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    stand.send(&stand.topology.logs_topic, "log.INFO", b"no JSON", with_headers(7600, "full")).await;
    stand.fill(0, 5).await;
    stand.logger.has(5).await;
    assert!(stand.letter("full").await.reason.contains("not JSON"));
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn a_letter_waits_for_the_logger_and_is_kept_once() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    stand.logger.set(Mood::LacksMongo);
    let properties = BasicProperties::default().with_message_id("poison".into());
    stand.send(&stand.topology.logs_topic, "log.INFO", b"\xff", properties).await;
    listener.running.stop().await;
    stand.logger.set(Mood::Stores);
    let listener = stand.start_ready().await;
    let letter = stand.letter("poison").await;
    assert_eq!((letter.body.encoding, letter.body.body.as_str()), (Encoding::Base64, "/w=="));
    listener.stop().await;
    stand.is_done().await;
    assert_eq!(stand.logger.letters().len(), 1);
    stand.clean().await;
}

#[tokio::test]
async fn what_ends_its_consumer_again_and_again_is_kept_with_what_the_server_says() {
    let stand = Stand::new().await;
    // The server counts what nobody acknowledges, as with a consumer that dies.
    let listener = stand.start_ready().await;
    listener.stop().await;
    let properties = BasicProperties::default().with_message_id("deadly".into());
    stand.send(&stand.topology.logs_topic, "log.INFO", br#"{"name":"deadly","data":1}"#, properties).await;
    let channel = stand.channel().await;
    eventually(SOON, "the delivery limit", || async {
        let queue = stand.topology.log_queue.as_str();
        let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await;
        if let Some(got) = got.map_err(|error| error.to_string())? {
            let requeue = BasicRejectOptions { requeue: true };
            got.delivery.acker.reject(requeue).await.map_err(|error| error.to_string())?;
        }
        match stand.count(&stand.topology.dead_queue).await? {
            1 => Ok(()),
            _ => Err("not dead yet".to_owned()),
        }
    })
    .await;
    let listener = stand.start_ready().await;
    let letter = stand.letter("deadly").await;
    assert!(letter.reason.contains("never acknowledged"), "{}", letter.reason);
    assert_eq!(letter.queue, stand.topology.log_queue);
    assert_eq!(letter.exchange, stand.topology.logs_topic);
    assert_eq!(letter.routing_key, "log.INFO");
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn a_message_that_came_again_and_again_takes_no_neighbour_along() {
    let stand = Stand::new().await;
    stand.start_ready().await.stop().await;
    let properties = BasicProperties::default().with_message_id("suspect".into());
    stand.send(&stand.topology.logs_topic, "log.INFO", br#"{"name":"suspect","data":1}"#, properties).await;
    stand.fill(0, 50).await;
    let channel = stand.channel().await;
    for _ in 0..6 {
        let queue = stand.topology.log_queue.as_str();
        // What was given back is there again a moment later, at the head.
        let got = eventually(SOON, "the suspect", || async {
            let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await;
            got.map_err(|error| error.to_string())?.ok_or_else(|| "the queue is empty".to_owned())
        })
        .await;
        assert_eq!(got.delivery.properties.message_id().as_ref().unwrap().as_str(), "suspect");
        got.delivery.acker.reject(BasicRejectOptions { requeue: true }).await.unwrap();
    }
    let held = stand.logger.hold();
    let listener = stand.start().await;
    // Only the suspect is out.
    stand.counts(&stand.topology.log_queue, 50).await;
    drop(held);
    stand.logger.has(51).await;
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn an_entry_at_which_the_logger_fails_each_time_is_dead_at_last_and_its_neighbours_are_stored() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let held = stand.logger.hold();
    stand.fill(0, 20).await;
    let fails = [(FATAL, "the logger broke off"), (MISTAKE, "the logger answered nonsense: ")];
    let fails = fails.map(|(name, why)| (Uuid::now_v7(), name, why));
    for (id, name, _) in fails {
        let properties = BasicProperties::default().with_message_id(id.to_string().into());
        let body = format!(r#"{{"name":"{name}","data":1}}"#);
        stand.send(&stand.topology.logs_topic, "log.ERROR", body.as_bytes(), properties).await;
    }
    stand.fill(20, 40).await;
    drop(held);
    for (id, _, why) in fails {
        // The logger dies some thirty times.
        let letter = stand.letter_within(SOON * 2, &id.to_string()).await;
        let attempts = DELAYS.len() + 1;
        let reason = format!("given up after {attempts} attempts: {why}");
        assert!(letter.reason.starts_with(&reason), "{}", letter.reason);
        assert_eq!((letter.attempts as usize, letter.action), (attempts, Some(id)));
        assert_eq!(
            (letter.queue, letter.routing_key),
            (stand.topology.log_queue.clone(), "log.ERROR".to_owned())
        );
        let steps = stand.logger.steps(id);
        let steps: Vec<_> =
            steps.iter().map(|step| (step.name.as_str(), step.kind, step.details.attempt)).collect();
        assert_eq!(steps, [("log", StepKind::Retrying, Some(1)), ("log", StepKind::Retrying, Some(2))]);
    }
    stand.logger.has(40).await;
    listener.stop().await;
    stand.is_done().await;
    assert_eq!(stand.logger.letters().len(), 2);
    stand.clean().await;
}

#[tokio::test]
async fn that_an_entry_waits_is_told_also_where_the_logger_lacks_its_mongodb_at_first() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    stand.logger.set(Mood::LacksMongo);
    let id = Uuid::now_v7();
    let properties = BasicProperties::default().with_message_id(id.to_string().into());
    let body = format!(r#"{{"name":"{FATAL}","data":1}}"#);
    stand.send(&stand.topology.logs_topic, "log.ERROR", body.as_bytes(), properties).await;
    stand.logger.is_told().await;
    stand.logger.set(Mood::Stores);
    stand.letter(&id.to_string()).await;
    let attempts: Vec<_> = stand.logger.steps(id).iter().map(|step| step.details.attempt).collect();
    assert_eq!(attempts, [Some(1), Some(2)]);
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn an_entry_without_an_id_keeps_the_one_that_it_was_given() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    stand.publish("log.INFO", &format!(r#"{{"name":"{FATAL_AFTER}","data":1}}"#)).await;
    let letter =
        eventually(SOON, "the letter", || async { stand.logger.letters().pop().ok_or("it is not dead") })
            .await;
    assert_eq!(letter.attempts as usize, DELAYS.len() + 1);
    // Each time it was stored, as the same.
    assert_eq!(Some(stand.logger.entry(FATAL_AFTER).await.id), letter.action);
    stand.logger.has(1).await;
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn a_letter_at_which_the_logger_failed_for_a_while_is_kept() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    // A call is made three times.
    stand.logger.dies(3 * 3);
    let properties = BasicProperties::default().with_message_id(FATAL.into());
    stand.send(&stand.topology.logs_topic, "log.INFO", b"no JSON", properties).await;
    stand.letter(FATAL).await;
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn a_letter_that_kills_the_logger_each_time_ends_where_nobody_reads_it_and_the_others_are_kept() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let held = stand.logger.hold();
    for id in ["before", FATAL, "after"] {
        let properties = BasicProperties::default().with_message_id(id.into());
        stand.send(&stand.topology.logs_topic, "log.INFO", b"no JSON", properties).await;
    }
    drop(held);
    stand.counts(&stand.topology.unreadable_queue, 1).await;
    stand.letter("before").await;
    stand.letter("after").await;
    listener.stop().await;
    stand.counts(&stand.topology.dead_queue, 0).await;
    assert_eq!(stand.logger.letters().len(), 2);
    stand.clean().await;
}
