//! The test console in a real browser, on a system whose servers can be cut off.

use std::time::Duration;

use contracts::topology::Topology;
use e2e::browser::Browser;
use e2e::isolated::Isolated;
use e2e::publisher::publish;
use testkit::eventually;
use uuid::Uuid;

/// How long everything may take to come about.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_letter_whose_replay_failed_can_still_be_discarded() {
    let system = Isolated::prepare(&["logger", "listener", "broker", "frontend", "auth", "mailer"]).await;
    let mut running = Vec::new();
    for name in ["logger", "listener", "broker", "frontend"] {
        running.push(system.start(name, &[("CORS_ALLOWED_ORIGINS", "*")]).await);
    }
    let (id, topology) = (Uuid::now_v7(), Topology::within(&system.namespace));
    // By then the queues are there.
    eventually(SOON, "the listener", || async {
        let answer = system.get("listener", "/readyz").await?;
        if answer.status == 200 { Ok(()) } else { Err(answer.body.to_string()) }
    })
    .await;
    publish("", &topology.log_queue, id, b"no entry").await;
    eventually(SOON, "the letter", || async {
        let answer = system.get("broker", &format!("/dead-letters?action={id}")).await?;
        if answer.body["data"]["letters"][0].is_null() { Err(answer.body.to_string()) } else { Ok(()) }
    })
    .await;

    let browser = Browser::start().await;
    browser.open(&format!("{}#dead-letters/{id}", system.url("frontend"))).await;
    browser.text("#letter-state", |state| state == "dead").await;
    system.hops["rabbitmq"].cut();
    browser.click("#letter-replay").await;
    browser.text("#letter-note", |note| note.contains("RabbitMQ")).await;
    // The page has learned that the replay may have come to its end all the same.
    browser.text("#letter-replaying", |text| text.starts_with("A replay began")).await;
    browser.write("#letter-why", "a test").await;
    browser.click("#letter-discard").await;
    browser.text("#letter-state", |state| state == "discarded").await;
    browser.close().await;
    system.hops["rabbitmq"].restore();
    drop(running);
    system.remove().await;
}
