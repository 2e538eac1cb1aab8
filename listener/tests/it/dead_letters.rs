//! What can't be stored is kept with the reason, and harms nobody.

use chassis::amqp::dead;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};

use crate::stand::Stand;

fn header(letter: &Delivery, name: &str) -> String {
    let headers = letter.properties.headers().clone().unwrap();
    headers.inner()[name].as_long_string().unwrap().to_string()
}

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
    for _ in &poison {
        let letter = stand.dead_letter().await;
        let id = letter.properties.message_id().clone().unwrap();
        let i: usize = id.as_str().trim_start_matches("poison ").parse().unwrap();
        let (key, body, reason) = poison[i];
        assert_eq!(letter.data, body);
        assert!(header(&letter, dead::REASON).contains(reason), "{}", header(&letter, dead::REASON));
        assert_eq!(header(&letter, dead::ROUTING_KEY), key);
        assert_eq!(header(&letter, dead::EXCHANGE), stand.topology.logs_topic);
        assert_eq!(header(&letter, dead::QUEUE), stand.topology.log_queue);
    }
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
    let letter = stand.dead_letter().await;
    assert_eq!(letter.properties.message_id().as_ref().map(lapin::types::ShortString::as_str), Some("large"));
    listener.is_ready().await;
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn a_letter_whose_headers_leave_no_room_for_the_reason_is_kept_without_them() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    stand.send(&stand.topology.logs_topic, "log.INFO", b"no JSON", with_headers(7600, "full")).await;
    stand.fill(0, 5).await;
    stand.logger.has(5).await;
    let letter = stand.dead_letter().await;
    assert!(header(&letter, dead::REASON).contains("not JSON"));
    assert!(!letter.properties.headers().as_ref().unwrap().inner().contains_key("x-large"));
    listener.stop().await;
    stand.counts(&stand.topology.log_queue, 0).await;
    stand.clean().await;
}
