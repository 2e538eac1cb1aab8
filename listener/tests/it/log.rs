//! What is published ends as an entry.

use chassis::amqp::Publisher;
use chrono::{DateTime, TimeDelta, Utc};
use contracts::event::CloudEvent;
use contracts::log::{Level, LogPayload};
use lapin::BasicProperties;
use secrecy::SecretString;
use serde_json::json;
use testkit::{eventually, setting};
use uuid::Uuid;

use crate::stand::{SOON, Stand};

#[tokio::test]
async fn what_an_existing_publisher_sends_is_stored() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    stand.publish("log.ERROR", r#"{"name":"bare","data":{"a":[1]}}"#).await;
    let entry = stand.logger.entry("bare").await;
    assert_eq!((entry.level, entry.data, entry.via.as_str()), (Level::Error, json!({"a": [1]}), "queue"));
    assert!((Utc::now() - entry.at).abs() < TimeDelta::minutes(1));
    listener.stop().await;
    stand.counts(&stand.topology.log_queue, 0).await;
    stand.clean().await;
}

#[tokio::test]
async fn what_the_broker_publishes_is_stored_under_its_id() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let url = SecretString::from(setting("RABBITMQ_URL"));
    let publisher = Publisher::start(&url, stand.topology.clone(), listener.running.lifecycle()).unwrap();
    let payload =
        LogPayload::parse(json!({"name": "event", "data": "d", "level": "warning", "fields": {"k": 1}}))
            .unwrap();
    let mut event = CloudEvent::new(Uuid::now_v7(), "switchboard/test", "log.warning", Utc::now(), payload);
    event.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    for _ in 0..2 {
        publisher.publish(&stand.topology.events, "log.warning", &event).await.unwrap();
    }
    let entry = stand.logger.entry("event").await;
    assert_eq!((entry.id, entry.at, entry.level), (event.id, event.time, Level::Warning));
    assert_eq!(entry.trace_id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
    assert_eq!(entry.fields["k"], 1);
    listener.stop().await;
    assert_eq!(stand.logger.names(), ["event"], "published twice, stored once");
    stand.clean().await;
}

#[tokio::test]
async fn what_waited_before_the_start_is_stored_with_few_calls() {
    let stand = Stand::new().await;
    stand.start_ready().await.stop().await;
    stand.fill(0, 1000).await;
    let listener = stand.start().await;
    stand.logger.has(1000).await;
    listener.stop().await;
    stand.counts(&stand.topology.log_queue, 0).await;
    stand.clean().await;
}

#[tokio::test]
async fn a_message_that_comes_again_is_stored_once() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let properties = BasicProperties::default().with_message_id("7".into());
    for _ in 0..3 {
        let body = br#"{"name":"again","data":"d"}"#;
        stand.send(&stand.topology.logs_topic, "log.INFO", body, properties.clone()).await;
    }
    stand.publish("log.INFO", r#"{"name":"last","data":"d"}"#).await;
    stand.logger.entry("last").await;
    eventually(SOON, "one of each", || async {
        let names = stand.logger.names();
        if names == ["again", "last"] { Ok(()) } else { Err(names.join(", ")) }
    })
    .await;
    listener.stop().await;
    stand.clean().await;
}

#[tokio::test]
async fn an_event_of_a_clock_that_jumped_is_stored_with_its_own_time_and_harms_no_neighbour() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let held = stand.logger.hold();
    stand.fill(0, 10).await;
    // Before our era, 1970, a year with five digits, and the first and the last that there are.
    let seconds = [-70_000_000_000, 0, 253_402_300_800, -8_334_601_228_800, 8_210_266_876_799];
    for second in seconds {
        let time = DateTime::from_timestamp(second, 0).unwrap();
        let data = json!({"name": format!("at {second}"), "data": 1});
        let event = CloudEvent::new(Uuid::now_v7(), "switchboard/test", "log.info", time, data);
        let body = serde_json::to_vec(&event).unwrap();
        stand.send(&stand.topology.events, "log.info", &body, BasicProperties::default()).await;
    }
    // Of a bare message it is in a property: 1970, and what is no time at all.
    for second in [0, u64::MAX] {
        let properties = BasicProperties::default().with_timestamp(second);
        let body = format!(r#"{{"name":"bare {second}","data":1}}"#);
        stand.send(&stand.topology.logs_topic, "log.INFO", body.as_bytes(), properties).await;
    }
    stand.fill(10, 20).await;
    drop(held);
    stand.logger.has(20 + seconds.len() + 2).await;
    for second in seconds {
        let stored = stand.logger.entry(&format!("at {second}")).await;
        assert_eq!(stored.at.timestamp(), second);
    }
    assert_eq!(stand.logger.entry("bare 0").await.at.timestamp(), 0);
    let nonsense = stand.logger.entry(&format!("bare {}", u64::MAX)).await;
    assert!((Utc::now() - nonsense.at).abs() < TimeDelta::minutes(1));
    listener.stop().await;
    stand.is_done().await;
    assert!(stand.logger.letters().is_empty());
    stand.clean().await;
}
