//! `Prefer: respond-async`: what is answered is what RabbitMQ has confirmed.

use std::time::Duration;

use contracts::event::CloudEvent;
use contracts::log::LogPayload;
use contracts::mail::MailPayload;
use contracts::trail::{Step, StepKind};
use http::Method;
use serde_json::json;
use testkit::eventually;
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
    let stand = Stand::empty();
    let broker = stand.start().await;
    let answer = queue(&broker, "queued").await;
    assert_eq!((answer.status, answer.message()), (202, "Queued: queued"), "{}", answer.body);
    assert_eq!(answer.header("preference-applied"), "respond-async");
    assert_eq!(answer.header("location"), format!("/actions/{}", answer.body["id"].as_str().unwrap()));

    let message = stand.only(&stand.topology.log_queue).await;
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

pub(crate) async fn queue_mail(broker: &Broker, more: &[(&str, &str)]) -> Response {
    let mail = json!({"to": ["a@b.c", "Ada <ada@b.c>"], "subject": "s", "message": "m"});
    let body = json!({"action": "mail", "mail": mail});
    let headers = [("content-type", "application/json"), ("prefer", "respond-async")];
    let url = format!("{}/handle", broker.url);
    Client::default().send(Method::POST, &url, &[&headers, more].concat(), body.to_string()).await.unwrap()
}

#[tokio::test]
async fn a_queued_mail_is_on_its_way_and_in_its_trail_under_the_same_id() {
    let stand = Stand::empty();
    let broker = stand.start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let keyed = [("idempotency-key", "order-17"), ("traceparent", trace), ("x-request-id", "mine")];
    let answer = queue_mail(&broker, &keyed).await;
    let message = "Queued: mail to a@b.c, Ada <ada@b.c>";
    assert_eq!((answer.status, answer.message()), (202, message), "{}", answer.body);
    assert_eq!(answer.header("preference-applied"), "respond-async");
    let id = answer.body["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/actions/{id}"));

    let message = stand.only(&stand.topology.mail_queue).await;
    assert_eq!(message.routing_key.as_str(), "mail.requested");
    let properties = &message.properties;
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), id);
    assert_eq!(properties.delivery_mode(), &Some(2));
    let event: CloudEvent<MailPayload> = serde_json::from_slice(&message.data).unwrap();
    assert_eq!((event.id.to_string().as_str(), event.source.as_str()), (id, "switchboard/broker"));
    assert_eq!((event.kind.as_str(), event.requestid.as_deref()), ("mail.requested", Some("mine")));
    assert!(event.traceparent.unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    assert_eq!(event.data.to, ["a@b.c", "Ada <ada@b.c>"]);
    let told = stand.only(&stand.topology.trail_queue).await;
    let step = Step::told_by(serde_json::from_slice(&told.data).unwrap()).unwrap();
    assert_eq!((step.kind, step.action.to_string().as_str()), (StepKind::Queued, id));
    assert_eq!(step.trace_id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
    let again = queue_mail(&broker, &keyed).await;
    assert_eq!((again.status, again.body["id"].as_str().unwrap()), (202, id));
    let other = queue_mail(&broker, &[]).await;
    assert_ne!(other.body["id"], answer.body["id"]);
    testkit::rabbitmq::clean(&stand.topology).await;
    broker.running.stop().await;
}

#[tokio::test]
async fn a_mail_that_no_queue_takes_is_not_accepted_and_the_queue_is_made_again() {
    let stand = Stand::empty();
    let broker = stand.start().await;
    assert_eq!(queue_mail(&broker, &[]).await.status, 202);
    stand.delete(&stand.topology.mail_queue).await;
    // Not the 202 of a mail that is nowhere: either it is said, or the queue is there again and has it.
    eventually(Duration::from_secs(10), "a mail is taken again", || async {
        let answer = queue_mail(&broker, &[]).await;
        if answer.status == 202 { Ok(()) } else { Err(format!("{}: {}", answer.status, answer.body)) }
    })
    .await;
    assert_eq!(stand.drain(&stand.topology.mail_queue).await.len(), 1);
    // And the trail tells of no other one.
    assert_eq!(stand.drain(&stand.topology.trail_queue).await.len(), 2);
    testkit::rabbitmq::clean(&stand.topology).await;
    broker.running.stop().await;
}

#[tokio::test]
async fn a_key_that_is_there_twice_is_refused() {
    let broker = Stand::alone().start().await;
    let answer = queue_mail(&broker, &[("idempotency-key", "a")]).await;
    assert_eq!(answer.status, 503);
    let twice = queue_mail(&broker, &[("idempotency-key", "a"), ("idempotency-key", "b")]).await;
    assert_eq!((twice.status, twice.message()), (400, "the header Idempotency-Key must be there only once"));
}

#[tokio::test]
async fn log_ins_are_not_queued() {
    let broker = Stand::alone().start().await;
    let headers = [("content-type", "application/json"), ("prefer", "respond-async")];
    let body = json!({"action": "auth", "auth": {"email": "a@b.c", "password": "p"}}).to_string();
    let url = format!("{}/handle", broker.url);
    let answer = Client::default().send(Method::POST, &url, &headers, body).await.unwrap();
    assert_eq!((answer.status, answer.header("preference-applied")), (503, ""));
}
