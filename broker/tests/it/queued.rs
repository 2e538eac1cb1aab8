//! `Prefer: respond-async`: what is answered is what RabbitMQ has confirmed.

use contracts::event::CloudEvent;
use contracts::log::LogPayload;
use http::Method;
use lapin::options::BasicGetOptions;
use lapin::{Connection, ConnectionProperties};
use serde_json::json;
use testkit::http::{Client, Response};

use crate::stand::{Broker, Stand};

pub(crate) async fn queue(broker: &Broker, name: &str) -> Response {
    let body = json!({"action": "log", "log": {"name": name, "data": [1], "level": "error"}});
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [
        ("content-type", "application/json"),
        ("prefer", "respond-async"),
        ("traceparent", trace),
        ("x-request-id", "mine"),
    ];
    let url = format!("{}/handle", broker.url);
    Client::default().send(Method::POST, &url, &headers, body.to_string()).await.unwrap()
}

#[tokio::test]
async fn a_queued_log_is_a_persistent_cloud_event() {
    let stand = Stand::empty().await;
    let broker = stand.start().await;
    let answer = queue(&broker, "queued").await;
    assert_eq!((answer.status, answer.message()), (202, "Queued: queued"), "{}", answer.body);
    assert_eq!(answer.header("preference-applied"), "respond-async");

    let connection = Connection::connect(&stand.rabbitmq, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = stand.topology.log_queue.as_str();
    let message = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
    assert_eq!(message.routing_key.as_str(), "log.error");
    assert_eq!(message.properties.delivery_mode(), &Some(2));
    let event: CloudEvent<LogPayload> = serde_json::from_slice(&message.data).unwrap();
    assert_eq!(event.id.to_string(), answer.body["id"].as_str().unwrap());
    assert_eq!((event.kind.as_str(), event.requestid.as_deref()), ("log.error", Some("mine")));
    assert!(event.traceparent.unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    assert_eq!((event.data.name.as_str(), event.data.data), ("queued", json!([1])));
    testkit::rabbitmq::clean(&stand.topology).await;
    broker.running.stop().await;
}

#[tokio::test]
async fn log_ins_are_not_queued() {
    let broker = Stand::empty().await.start().await;
    let headers = [("content-type", "application/json"), ("prefer", "respond-async")];
    let body = json!({"action": "auth", "auth": {"email": "a@b.c", "password": "p"}}).to_string();
    let url = format!("{}/handle", broker.url);
    let answer = Client::default().send(Method::POST, &url, &headers, body).await.unwrap();
    assert_eq!((answer.status, answer.header("preference-applied")), (503, ""));
}
