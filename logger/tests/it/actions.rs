//! `GET /actions/{id}`: what became of an action, and waiting for it.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta};
use contracts::dead_letter::Letter;
use contracts::log::Entry;
use contracts::trail::{Details, State, Step, StepKind, Trail};
use futures_util::future::join_all;
use serde_json::json;
use testkit::http::Response;
use tokio::time::timeout;
use uuid::Uuid;

use crate::running::{Logger, context, letter, now, plain, step};

/// How long somebody is seen to wait.
const A_WHILE: Duration = Duration::from_millis(300);
/// Sooner than any wait in these tests is over.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn ask(logger: &Logger, id: Uuid, query: &str) -> Response {
    logger.get(&format!("/actions/{id}{query}")).await
}

async fn trail(logger: &Logger, id: Uuid) -> Trail {
    read(&ask(logger, id, "").await)
}

fn read(answer: &Response) -> Trail {
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_value(answer.body["data"].clone()).unwrap()
}

fn kinds(trail: &Trail) -> Vec<(StepKind, &str)> {
    trail.steps.iter().map(|step| (step.kind, step.service.as_str())).collect()
}

#[tokio::test]
async fn a_mail_has_the_steps_that_were_told_in_their_order() {
    let logger = Logger::start().await;
    let id = Uuid::now_v7();
    let failed = |kind, after, attempt| {
        let details =
            Details { attempt: Some(attempt), why: Some("it is busy".into()), ..Details::default() };
        Step { details, ..step(id, kind, after) }
    };
    let retrying = step(id, StepKind::Retrying, 10);
    let deferred = Step { at: retrying.at, ..failed(StepKind::Deferred, 10, 1) };
    let queued = step(id, StepKind::Queued, -10);
    // Of another mail.
    let other = step(Uuid::now_v7(), StepKind::Done, 99);
    logger.record(&[retrying.clone(), other, deferred.clone(), queued.clone()]).await;
    let answer = ask(&logger, id, "").await;
    assert_eq!(answer.message(), "mail: retrying");
    let expected = Trail {
        id,
        action: "mail".into(),
        state: State::Retrying,
        attempts: 1,
        error: Some("it is busy".into()),
        steps: vec![queued, deferred, retrying],
    };
    assert_eq!(read(&answer), expected);

    let details = Details { attempt: Some(2), ..Details::default() };
    logger.record(&[Step { details, ..step(id, StepKind::Done, 20) }]).await;
    let done = ask(&logger, id, "").await;
    assert_eq!((&done.body["data"]["state"], &done.body["data"]["error"]), (&json!("done"), &json!(null)));
    assert_eq!(read(&done).attempts, 2);
    logger.stop().await;
}

#[tokio::test]
async fn a_log_is_tried_again_until_it_is_stored_or_dead() {
    use StepKind::*;
    let logger = Logger::start().await;
    let retrying = |id, after| Step { name: "log".into(), ..step(id, Retrying, after) };
    let (stored, dead) = (Entry { via: "queue".into(), ..plain("late") }, letter("t-switchboard.log"));
    let action = dead.action.unwrap();
    let steps = [retrying(stored.id, -5), retrying(action, -5)];
    logger.record(&steps).await;
    for id in [stored.id, action] {
        let trail = trail(&logger, id).await;
        assert_eq!(
            (trail.action.as_str(), trail.state, kinds(&trail)),
            ("log", State::Retrying, vec![(Retrying, "mailer")])
        );
    }
    logger.client().append(&context(), stored.clone()).await.unwrap();
    let of_stored = trail(&logger, stored.id).await;
    assert_eq!(of_stored.state, State::Done);
    assert!(
        kinds(&of_stored).contains(&(Retrying, "mailer")) && kinds(&of_stored).contains(&(Done, "logger"))
    );
    logger.bury(&[dead]).await;
    let of_dead = trail(&logger, action).await;
    assert_eq!(
        (of_dead.state, kinds(&of_dead)),
        (State::Dead, vec![(Retrying, "mailer"), (Dead, "listener")])
    );
    logger.stop().await;
}

#[tokio::test]
async fn a_log_that_is_stored_is_done() {
    let logger = Logger::start().await;
    let (client, context) = (logger.client(), context());
    let accepted = now() - TimeDelta::seconds(30);
    let trace_id = Some("0af7651916cd43dd8448eb211c80319c".to_owned());
    let queued = Entry { via: "queue".into(), at: accepted, trace_id: trace_id.clone(), ..plain("queued") };
    let direct = Entry { at: accepted, ..plain("direct") };
    let before = now();
    client.append_all(&context, vec![queued.clone(), direct.clone()]).await.unwrap();

    let trail_of_queued = trail(&logger, queued.id).await;
    assert_eq!(kinds(&trail_of_queued), [(StepKind::Queued, "broker"), (StepKind::Done, "logger")]);
    let [first, last] = trail_of_queued.steps.as_slice() else { panic!("{trail_of_queued:?}") };
    assert_eq!((first.at, &first.trace_id, &last.trace_id), (accepted, &trace_id, &trace_id));
    assert!((before..=now()).contains(&last.at), "{last:?}");
    let said = (trail_of_queued.action.as_str(), trail_of_queued.state, trail_of_queued.error);
    assert_eq!(said, ("log", State::Done, None));
    assert_eq!(kinds(&trail(&logger, direct.id).await), [(StepKind::Done, "logger")]);
    // Stored again, it was stored then.
    client.append(&context, queued.clone()).await.unwrap();
    assert_eq!(trail(&logger, queued.id).await.steps[1], *last);
    logger.stop().await;
}

#[tokio::test]
async fn what_died_and_was_replayed_is_told_also_when_it_is_stored() {
    let logger = Logger::start().await;
    let newest = Letter { reason: "it was too large".into(), attempts: 2, ..letter("t-switchboard.log") };
    let id = newest.action.unwrap();
    let older = Letter {
        action: newest.action,
        reason: "older".into(),
        attempts: 1,
        died_at: newest.died_at - TimeDelta::seconds(9),
        ..letter("t-switchboard.log")
    };
    logger.bury(&[newest.clone(), older.clone()]).await;
    let dead = trail(&logger, id).await;
    assert_eq!((dead.action.as_str(), dead.state, dead.attempts), ("log", State::Dead, 2));
    assert_eq!(dead.error.as_deref(), Some("it was too large"));
    let died = (StepKind::Dead, "listener");
    assert_eq!(kinds(&dead), [died, died]);
    assert_eq!([dead.steps[0].at, dead.steps[1].at], [older.died_at, newest.died_at]);

    let path = format!("/dead-letters/{}/replayed", newest.id);
    assert_eq!(logger.post_to(&path, &json!({"at": now()})).await.status, 200);
    let again = trail(&logger, id).await;
    assert_eq!((again.state, again.error.as_deref()), (State::Queued, Some("it was too large")));
    let replayed = (StepKind::Replayed, "logger");
    assert_eq!(kinds(&again), [died, died, replayed]);

    // The replay succeeds.
    let entry =
        Entry { id, via: "queue".into(), at: older.died_at - TimeDelta::seconds(1), ..plain("replayed") };
    logger.client().append(&context(), entry).await.unwrap();
    let done = trail(&logger, id).await;
    assert_eq!((done.state, &done.error), (State::Done, &None));
    assert_eq!(
        kinds(&done),
        [(StepKind::Queued, "broker"), died, died, replayed, (StepKind::Done, "logger")]
    );
    logger.stop().await;
}

#[tokio::test]
async fn what_is_done_is_done_whatever_the_clocks_of_those_who_tell_it_say() {
    let logger = Logger::start().await;
    // Younger than the retention, which goes by these times too; and a year with five digits.
    let (past, future) = (now() - TimeDelta::days(20), DateTime::from_timestamp(253_402_300_800, 0).unwrap());
    let id = Uuid::now_v7();
    let done = Step { at: past, ..step(id, StepKind::Done, 0) };
    let retrying = Step { at: future, ..step(id, StepKind::Retrying, 0) };
    logger.record(&[step(id, StepKind::Queued, 0), retrying, done]).await;
    let trail_of_mail = trail(&logger, id).await;
    assert_eq!((trail_of_mail.state, trail_of_mail.steps.len()), (State::Done, 3));
    assert_eq!(trail_of_mail.steps[2].at, future);

    let entries = [past, future].map(|at| Entry { at, via: "queue".into(), ..plain("jumped") });
    let ids = entries.clone().map(|entry| entry.id);
    let stored = logger.client().append_all(&context(), entries.to_vec()).await.unwrap();
    assert!(stored.iter().all(Result::is_ok), "{stored:?}");
    for (id, at) in ids.into_iter().zip([past, future]) {
        let trail = trail(&logger, id).await;
        let queued = trail.steps.iter().find(|step| step.kind == StepKind::Queued).unwrap();
        assert_eq!((trail.state, queued.at), (State::Done, at));
    }
    let page = logger.get("/logs").await;
    let times: Vec<_> = page.body["data"]["entries"].as_array().unwrap().iter().map(|e| &e["id"]).collect();
    assert_eq!(times, [&json!(ids[1]), &json!(ids[0])], "the newest first");
    logger.stop().await;
}

#[tokio::test]
async fn a_letter_of_the_mail_queue_is_of_a_mail_and_one_of_the_trail_queue_says_nothing_of_its_action() {
    let logger = Logger::start().await;
    let (mail, of_trail) = (letter("switchboard.mail"), letter("switchboard.trail"));
    logger.bury(&[mail.clone(), of_trail.clone()]).await;
    let dead = trail(&logger, mail.action.unwrap()).await;
    assert_eq!((dead.action.as_str(), dead.state), ("mail", State::Dead));
    assert_eq!(ask(&logger, of_trail.action.unwrap(), "").await.status, 404);
    // Discarded, it is dead for the reason that it died of.
    let path = format!("/dead-letters/{}/discard", mail.id);
    assert_eq!(logger.post_to(&path, &json!({"reason": "not needed"})).await.status, 200);
    let discarded = trail(&logger, mail.action.unwrap()).await;
    assert_eq!((discarded.action.as_str(), discarded.state), ("mail", State::Dead));
    logger.stop().await;
}

#[tokio::test]
async fn a_wait_ends_as_soon_as_the_action_does() {
    let logger = Logger::start().await;
    let (mail, stored, letter) = (Uuid::now_v7(), plain("late"), letter("switchboard.log"));
    logger.record(&[step(mail, StepKind::Queued, 0)]).await;
    let ids = [mail, stored.id, letter.action.unwrap()];
    let mut asked = Box::pin(join_all(ids.map(|id| ask(&logger, id, "?wait=30s"))));
    assert!(timeout(A_WHILE, &mut asked).await.is_err(), "nobody waits");
    let ended = Instant::now();
    logger.record(&[step(mail, StepKind::Done, 1)]).await;
    logger.client().append(&context(), stored).await.unwrap();
    logger.bury(&[letter]).await;
    let states: Vec<_> = asked.await.iter().map(|answer| read(answer).state).collect();
    assert!(ended.elapsed() < AT_ONCE, "{:?}", ended.elapsed());
    assert_eq!(states, [State::Done, State::Done, State::Dead]);
    // What is at its end already is not waited for.
    let started = Instant::now();
    assert_eq!(read(&ask(&logger, mail, "?wait=30s").await).state, State::Done);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    logger.stop().await;
}

#[tokio::test]
async fn a_wait_that_is_over_is_answered_with_what_there_is_then() {
    let logger = Logger::start().await;
    let (queued, unknown) = (Uuid::now_v7(), Uuid::now_v7());
    let started = Instant::now();
    let mut asked = Box::pin(join_all([queued, unknown].map(|id| ask(&logger, id, "?wait=1s"))));
    assert!(timeout(A_WHILE, &mut asked).await.is_err(), "nobody waits");
    logger.record(&[step(queued, StepKind::Queued, 0)]).await;
    let answers = asked.await;
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(read(&answers[0]).state, State::Queued);
    let message = format!("nothing is known of {unknown}");
    assert_eq!((answers[1].status, answers[1].message()), (404, message.as_str()));
    logger.stop().await;
}

#[tokio::test]
async fn a_stop_ends_every_wait() {
    let logger = Logger::start().await;
    let id = Uuid::now_v7();
    logger.record(&[step(id, StepKind::Queued, 0)]).await;
    let mut asked = Box::pin(ask(&logger, id, "?wait=30s"));
    assert!(timeout(A_WHILE, &mut asked).await.is_err(), "nobody waits");
    let stopped = Instant::now();
    logger.running.lifecycle().stop();
    assert_eq!(read(&asked.await).state, State::Queued);
    assert!(stopped.elapsed() < AT_ONCE, "{:?}", stopped.elapsed());
    logger.stop().await;
}

#[tokio::test]
async fn a_wrong_question_is_refused() {
    let logger = Logger::start().await;
    assert_eq!(logger.get("/actions/seven").await.status, 400);
    let answer = ask(&logger, Uuid::nil(), "?wait=2m&colour=red").await;
    assert_eq!(answer.status, 422);
    let fields = answer.body["data"]["fields"].as_array().unwrap();
    let named: Vec<_> = fields.iter().map(|field| field["field"].as_str().unwrap()).collect();
    assert_eq!(named, ["wait", "colour"]);
    let unknown = ask(&logger, Uuid::nil(), "").await;
    assert_eq!(unknown.status, 404);
    logger.stop().await;
}
