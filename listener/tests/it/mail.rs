//! What asks for a mail ends as one call of the mailer that said yes, or with the dead letters.

use chrono::Utc;
use contracts::event::CloudEvent;
use contracts::topology::{MAIL_REQUESTED, USER_REGISTERED};
use contracts::trail::{State, Step, StepKind};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use testkit::eventually;
use uuid::Uuid;

use crate::mailer::{Call, Mailer, Say};
use crate::stand::{DELAYS, SOON, Stand};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

impl Stand {
    /// Publishes an event as the broker does.
    async fn request(&self, kind: &str, data: Value) -> Uuid {
        let mut event = CloudEvent::new(Uuid::now_v7(), "switchboard/broker", kind, Utc::now(), data);
        event.traceparent = Some(TRACEPARENT.to_owned());
        let properties = BasicProperties::default().with_message_id(event.id.to_string().into());
        let body = serde_json::to_vec(&event).unwrap();
        self.send(&self.topology.events, kind, &body, properties).await;
        let step = Step::queued(event.id, "broker").event(Some(TRACEPARENT.to_owned()));
        let body = serde_json::to_vec(&step).unwrap();
        self.send(&self.topology.events, &step.kind, &body, BasicProperties::default()).await;
        event.id
    }

    async fn request_mail(&self) -> Uuid {
        self.request(MAIL_REQUESTED, mail()).await
    }

    async fn calls(&self, id: Uuid, count: usize) -> Vec<Call> {
        eventually(SOON, "calls of the mailer", || async {
            let calls = self.mailer.calls(id);
            if calls.len() == count { Ok(calls) } else { Err(format!("{} of {count}", calls.len())) }
        })
        .await
    }

    /// The steps of an action, once the last is of this kind.
    async fn steps(&self, id: Uuid, last: StepKind) -> Vec<Step> {
        eventually(SOON, "the steps", || async {
            let steps = self.logger.steps(id);
            let kinds: Vec<_> = steps.iter().map(|step| step.kind).collect();
            if kinds.last() == Some(&last) { Ok(steps) } else { Err(format!("{kinds:?}")) }
        })
        .await
    }
}

fn mail() -> Value {
    json!({"to": ["ada@example.com"], "subject": "s", "message": "m"})
}

#[tokio::test]
async fn a_queued_mail_is_asked_for_once_with_its_id_and_its_trace() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let id = stand.request_mail().await;
    let calls = stand.calls(id, 1).await;
    assert_eq!(calls[0].mail, mail());
    assert_eq!(calls[0].replay, None);
    assert!(calls[0].trace.as_ref().unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    let steps = stand.steps(id, StepKind::Queued).await;
    assert_eq!(steps[0].service, "broker");
    assert_eq!(steps[0].trace_id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
    listener.stop().await;
    stand.is_done().await;
    assert_eq!(stand.mailer.calls(id).len(), 1);
    stand.clean().await;
}

#[tokio::test]
async fn a_new_user_is_welcomed() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let now = Utc::now();
    let user = json!({"id": 7, "email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace",
        "active": true, "created_at": now, "updated_at": now});
    let id = stand.request(USER_REGISTERED, user).await;
    let calls = stand.calls(id, 1).await;
    assert_eq!(calls[0].mail["to"], json!(["ada@example.com"]));
    assert_eq!(calls[0].mail["template"], "welcome");
    listener.stop().await;
    stand.clean().await;
}

#[tokio::test]
async fn what_could_not_be_sent_is_tried_again_after_each_wait_and_the_trail_says_so() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let held = stand.mailer.hold();
    let id = stand.request_mail().await;
    stand.mailer.says(id, &[Say::NotNow, Say::UnderWay, Say::Sent]);
    drop(held);
    stand.calls(id, 3).await;
    let steps = eventually(SOON, "both waits", || async {
        let steps = stand.logger.steps(id);
        if steps.len() == 3 { Ok(steps) } else { Err(format!("{steps:?}")) }
    })
    .await;
    let kinds: Vec<_> = steps.iter().map(|step| (step.kind, step.details.attempt)).collect();
    assert_eq!(
        kinds,
        [(StepKind::Queued, None), (StepKind::Retrying, Some(1)), (StepKind::Retrying, Some(2))]
    );
    for (step, delay) in steps[1..].iter().zip(DELAYS) {
        assert_eq!((step.details.due.unwrap() - step.at).to_std().unwrap(), delay);
    }
    let why = |step: &Step| step.details.why.clone().unwrap();
    assert!(why(&steps[1]).contains("the mail server is not available"));
    assert!(why(&steps[2]).contains("still worked on"));
    listener.stop().await;
    stand.is_done().await;
    assert!(stand.logger.letters().is_empty());
    stand.clean().await;
}

#[tokio::test]
async fn a_mail_that_has_had_its_attempts_is_dead() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let held = stand.mailer.hold();
    let id = stand.request_mail().await;
    stand.mailer.says(id, &[Say::NotNow; 9]);
    drop(held);
    let letter = stand.letter(&id.to_string()).await;
    assert!(letter.reason.starts_with("given up after 3 attempts: "), "{}", letter.reason);
    assert_eq!((letter.attempts, letter.action), (3, Some(id)));
    assert_eq!(letter.queue, stand.topology.mail_queue);
    assert_eq!(letter.exchange, stand.topology.events);
    assert_eq!(letter.routing_key, MAIL_REQUESTED);
    let steps = stand.steps(id, StepKind::Dead).await;
    assert_eq!(State::of(&steps), Some(State::Dead));
    assert_eq!(stand.mailer.calls(id).len(), 3);
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn a_mail_that_kills_the_mailer_each_time_is_dead_at_last_and_the_next_is_sent() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let held = stand.mailer.hold();
    let (deadly, other) = (stand.request_mail().await, stand.request_mail().await);
    stand.mailer.says(deadly, &[Say::Die; 9]);
    drop(held);
    let letter = stand.letter(&deadly.to_string()).await;
    assert!(
        letter.reason.starts_with("given up after 3 attempts: the mailer broke off"),
        "{}",
        letter.reason
    );
    stand.calls(other, 1).await;
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn what_is_refused_for_good_is_dead_at_once() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let held = stand.mailer.hold();
    let (refused, conflict) = (stand.request_mail().await, stand.request_mail().await);
    let large = stand.request_mail().await;
    stand.mailer.says(refused, &[Say::Refused]);
    stand.mailer.says(large, &[Say::TooLarge]);
    stand.mailer.says(conflict, &[Say::Conflict]);
    drop(held);
    let reasons =
        [(refused, "550 nobody here"), (large, "not be larger"), (conflict, "with another payload")];
    for (id, reason) in reasons {
        let letter = stand.letter(&id.to_string()).await;
        assert!(letter.reason.contains(reason), "{}", letter.reason);
        assert_eq!(stand.mailer.calls(id).len(), 1);
    }
    let told = stand.steps(refused, StepKind::Dead).await;
    assert_eq!(told.last().unwrap().details.attempt, Some(1));
    // Of the mail that has the key it says nothing but that.
    let told = stand.steps(conflict, StepKind::Conflict).await;
    assert_eq!(told.last().unwrap().details.attempt, None);
    assert!(told.iter().all(|step| step.kind != StepKind::Dead), "{told:?}");
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn a_broken_event_is_dead_with_the_reason_and_harms_nobody() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let properties = || BasicProperties::default().with_message_id("broken".into());
    stand.send(&stand.topology.events, MAIL_REQUESTED, b"{\"specversion\":\"0.3\"}", properties()).await;
    let nobody = stand.request(MAIL_REQUESTED, json!({"to": "nobody"})).await;
    let good = stand.request_mail().await;
    stand.calls(good, 1).await;
    assert!(stand.letter("broken").await.reason.contains("not a CloudEvent"));
    assert!(stand.letter(&nobody.to_string()).await.reason.contains("to is not a mail address"));
    listener.is_ready().await;
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn while_the_mailer_is_away_mails_are_held_and_cost_no_attempt() {
    let (mailer, away) = Mailer::away();
    let stand = Stand::with(mailer).await;
    let listener = stand.start_ready().await;
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(stand.request_mail().await);
    }
    // As many as are worked on at once are out, and nothing moves.
    stand.counts(&stand.topology.mail_queue, 40 - 16).await;
    stand.mailer.comes(away);
    for id in ids {
        stand.calls(id, 1).await;
        let steps = stand.steps(id, StepKind::Queued).await;
        assert_eq!(steps.len(), 1, "{steps:?}");
    }
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn for_a_mailer_that_has_too_much_in_hand_a_mail_is_held_too() {
    let stand = Stand::new().await;
    let gate = stand.mailer.hold();
    let listener = stand.start_ready().await;
    let id = stand.request_mail().await;
    stand.mailer.says(id, &[Say::Full, Say::Full, Say::Full]);
    drop(gate);
    stand.calls(id, 4).await;
    let steps = stand.steps(id, StepKind::Queued).await;
    assert_eq!(steps.len(), 1, "{steps:?}");
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn a_slow_mail_holds_up_no_other() {
    let mut stand = Stand::new().await;
    stand.mail_timeout = "10m";
    let listener = stand.start_ready().await;
    let held = stand.mailer.hold();
    let slow = stand.request_mail().await;
    stand.calls(slow, 1).await;
    for _ in 0..20 {
        stand.request_mail().await;
    }
    let count = async |what: &str, wanted: usize| {
        eventually(SOON, what, || async {
            match stand.mailer.count() {
                count if count == wanted => Ok(()),
                count => Err(format!("{count} calls")),
            }
        })
        .await;
    };
    count("sixteen at once", 16).await;
    // All but the first are answered: the others come and go past it.
    let held_up = stand.mailer.hold_mail(slow);
    drop(held);
    count("the rest", 21).await;
    assert_eq!(stand.mailer.calls(slow).len(), 1);
    drop(held_up);
    stand.counts(&stand.topology.mail_queue, 0).await;
    listener.stop().await;
    assert_eq!(stand.mailer.count(), 21);
    stand.is_done().await;
    stand.clean().await;
}

#[tokio::test]
async fn a_replay_is_told_to_the_mailer_also_after_a_wait() {
    let stand = Stand::new().await;
    let listener = stand.start_ready().await;
    let (id, letter) = (Uuid::now_v7(), Uuid::now_v7());
    stand.mailer.says(id, &[Say::NotNow, Say::Sent]);
    let event = CloudEvent::new(id, "switchboard/broker", MAIL_REQUESTED, Utc::now(), mail());
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("x-replay", letter.to_string()),
        ("x-exchange", stand.topology.events.clone()),
        ("x-routing-key", MAIL_REQUESTED.to_owned()),
    ] {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let properties = BasicProperties::default().with_headers(headers).with_message_id(id.to_string().into());
    let body = serde_json::to_vec(&event).unwrap();
    stand.send("", &stand.topology.mail_queue, &body, properties).await;
    for call in stand.calls(id, 2).await {
        assert_eq!(call.replay, Some(letter.to_string()));
    }
    listener.stop().await;
    stand.is_done().await;
    stand.clean().await;
}
