//! What services tell of an action is kept, each step once.

use contracts::trail::{Step, StepKind};
use lapin::BasicProperties;
use testkit::eventually;
use uuid::Uuid;

use crate::stand::{Mood, SOON, Stand};

impl Stand {
    async fn tell(&self, step: &Step) {
        let event = step.event(None);
        let body = serde_json::to_vec(&event).unwrap();
        self.send(&self.topology.events, &event.kind, &body, BasicProperties::default()).await;
    }
}

#[tokio::test]
async fn a_step_that_is_told_twice_is_kept_once() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let action = Uuid::now_v7();
    stand.logger.set(Mood::LacksMongo);
    let deferred = Step::new(action, "mail", StepKind::Deferred, 1, "mailer");
    let done = Step::new(action, "mail", StepKind::Done, 2, "mailer");
    for step in [&deferred, &done, &deferred, &done] {
        stand.tell(step).await;
    }
    stand.logger.set(Mood::Stores);
    stand.counts(&stand.topology.trail_queue, 0).await;
    eventually(SOON, "both steps", || async {
        let steps = stand.logger.steps(action);
        if steps == [deferred.clone(), done.clone()] { Ok(()) } else { Err(format!("{steps:?}")) }
    })
    .await;
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn what_tells_of_no_step_is_dead_and_its_neighbours_are_kept() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let step = Step::new(Uuid::now_v7(), "mail", StepKind::Done, 1, "mailer");
    let properties = BasicProperties::default().with_message_id("rubbish".into());
    stand.send(&stand.topology.events, "mail.sent", b"{}", properties).await;
    stand.tell(&step).await;
    assert!(stand.letter("rubbish").await.reason.contains("not a CloudEvent"));
    eventually(SOON, "the step", || async {
        if stand.logger.steps(step.action).is_empty() { Err("none") } else { Ok(()) }
    })
    .await;
    assert_eq!(stand.letter("rubbish").await.queue, stand.topology.trail_queue);
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}
