//! RabbitMQ away: the 503 that names it, and all well again without a restart.

use std::time::{Duration, Instant};

use testkit::eventually;
use testkit::proxy::FaultProxy;

use crate::queued::{queue, queue_mail};
use crate::stand::{Broker, Stand};

/// A broker whose RabbitMQ is behind a proxy.
async fn behind_proxy() -> (Stand, FaultProxy, Broker) {
    let (stand, proxy) = Stand::behind_proxy().await;
    let broker = stand.start().await;
    (stand, proxy, broker)
}

async fn heals(broker: &Broker) {
    eventually(Duration::from_secs(10), "publishing works again", || async {
        let answer = queue(broker, "again").await;
        if answer.status == 202 { Ok(()) } else { Err(answer.body) }
    })
    .await;
}

#[tokio::test]
async fn rabbitmq_cut_and_restored() {
    let (stand, proxy, broker) = behind_proxy().await;
    heals(&broker).await;
    proxy.cut();
    let answer = queue(&broker, "lost").await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.message().contains("RabbitMQ"), "{}", answer.message());
    let answer = queue_mail(&broker, &[]).await;
    assert_eq!(
        (answer.status, answer.message(), answer.header("location")),
        (503, "RabbitMQ is not available, try again shortly", "")
    );
    let ready = testkit::http::get(&format!("{}/readyz", broker.url)).await;
    assert_eq!(ready.status, 200, "log-ins and mails need no RabbitMQ: {}", ready.body);
    assert!(
        ready.body["data"].as_array().unwrap().iter().any(|c| c["name"] == "RabbitMQ" && c["ok"] == false)
    );
    proxy.restore();
    heals(&broker).await;
    testkit::rabbitmq::clean(&stand.topology).await;
}

#[tokio::test]
async fn a_rabbitmq_that_does_not_answer_holds_no_request_up() {
    let (stand, proxy, broker) = behind_proxy().await;
    heals(&broker).await;
    proxy.stall();
    let started = Instant::now();
    let answer = queue(&broker, "stalled").await;
    assert!(matches!(answer.status, 503 | 504), "{}", answer.body);
    assert!(answer.message().contains("RabbitMQ"), "{}", answer.message());
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    proxy.restore();
    heals(&broker).await;
    testkit::rabbitmq::clean(&stand.topology).await;
}
