//! What becomes of a dead letter: decided once, kept, and told to the trail of a mail.

use bson::doc;
use contracts::dead_letter::{Kept, Letter, LetterState};
use contracts::idempotency::KEY_CONFLICT;
use contracts::logger::Stored;
use contracts::trail::{Step, StepKind, step_id};
use futures_util::future::join_all;
use logger::document::{binary, step};
use serde_json::json;
use testkit::http::Response;
use uuid::Uuid;

use crate::running::{Logger, context, letter, now};

const MAIL: &str = "switchboard.mail";
const LOG: &str = "switchboard.log";

async fn replayed(logger: &Logger, id: Uuid) -> Response {
    logger.post_to(&format!("/dead-letters/{id}/replayed"), &json!({ "at": now() })).await
}

async fn discard(logger: &Logger, id: Uuid, reason: &str) -> Response {
    logger.post_to(&format!("/dead-letters/{id}/discard"), &json!({ "reason": reason })).await
}

async fn buried(logger: &Logger, queue: &str) -> Letter {
    let letter = letter(queue);
    logger.bury(std::slice::from_ref(&letter)).await;
    letter
}

fn kept(answer: &Response) -> Kept {
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_value(answer.body["data"].clone()).unwrap()
}

async fn one(logger: &Logger, id: Uuid) -> Kept {
    kept(&logger.get(&format!("/dead-letters/{id}")).await)
}

/// Every step that is stored.
async fn steps(logger: &Logger) -> Vec<Step> {
    use futures_util::TryStreamExt as _;
    let found = logger.mongo().await.steps().find(doc! {}).await.unwrap();
    let found: Vec<_> = found.try_collect().await.unwrap();
    found.iter().map(|document| step::decode(document).unwrap()).collect()
}

#[tokio::test]
async fn a_letter_is_replayed_once_and_the_second_time_is_told_so() {
    let logger = Logger::start().await;
    let (letter, before) = (buried(&logger, LOG).await, now());
    let path = format!("/dead-letters/{}/replayed", letter.id);
    assert_eq!(logger.post_to(&path, &json!({})).await.status, 400);
    let first = kept(&logger.post_to(&path, &json!({ "at": before })).await);
    assert_eq!((&first.letter, first.state), (&letter, LetterState::Replayed));
    assert_eq!((first.decided_at, &first.decided_why), (Some(before), &None));
    for again in [replayed(&logger, letter.id).await, discard(&logger, letter.id, "late").await] {
        assert_eq!((again.status, again.message()), (409, "the letter is replayed already"));
    }
    assert_eq!(one(&logger, letter.id).await, first);
    logger.stop().await;
}

#[tokio::test]
async fn a_letter_is_discarded_once_with_its_reason() {
    let logger = Logger::start().await;
    let letter = buried(&logger, LOG).await;
    let first = kept(&discard(&logger, letter.id, "a test").await);
    assert_eq!((first.state, first.decided_why.as_deref()), (LetterState::Discarded, Some("a test")));
    for again in [replayed(&logger, letter.id).await, discard(&logger, letter.id, "late").await] {
        assert_eq!((again.status, again.message()), (409, "the letter is discarded already"));
    }
    assert_eq!(one(&logger, letter.id).await, first);
    logger.stop().await;
}

#[tokio::test]
async fn a_letter_whose_replay_has_begun_is_not_discarded_and_may_be_replayed_to_its_end() {
    let logger = Logger::start().await;
    let letter = buried(&logger, MAIL).await;
    let path = format!("/dead-letters/{}/replaying", letter.id);
    for _ in 0..2 {
        let begun = kept(&logger.post_to(&path, &json!(null)).await);
        assert_eq!((begun.state, begun.replaying_at.is_some()), (LetterState::Dead, true));
    }
    let refused = discard(&logger, letter.id, "late").await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert!(refused.message().starts_with("a replay of the letter has begun"), "{}", refused.message());
    assert_eq!(steps(&logger).await, []);
    assert_eq!(kept(&replayed(&logger, letter.id).await).state, LetterState::Replayed);
    let again = logger.post_to(&path, &json!(null)).await;
    assert_eq!((again.status, again.message()), (409, "the letter is replayed already"));
    let other = buried(&logger, LOG).await;
    assert_eq!(
        logger.post_to(&format!("/dead-letters/{}/replaying", other.id), &json!(null)).await.status,
        200
    );
    let anyway = json!({"reason": "it is not there", "anyway": true});
    let discarded = logger.post_to(&format!("/dead-letters/{}/discard", other.id), &anyway).await;
    assert_eq!(kept(&discarded).state, LetterState::Discarded);
    let unknown = logger.post_to(&format!("/dead-letters/{}/replaying", Uuid::nil()), &json!(null)).await;
    assert_eq!(unknown.status, 404);
    logger.stop().await;
}

#[tokio::test]
async fn that_a_conflict_is_discarded_says_nothing_of_the_action_that_has_the_key_and_its_replay_does() {
    let logger = Logger::start().await;
    let conflict = || Letter { reason: KEY_CONFLICT.to_owned(), ..letter(MAIL) };
    let letters = [conflict(), conflict()];
    logger.bury(&letters).await;
    assert_eq!(discard(&logger, letters[0].id, "a test").await.status, 200);
    assert_eq!(steps(&logger).await, []);
    assert_eq!(replayed(&logger, letters[1].id).await.status, 200);
    assert_eq!(steps(&logger).await[0].kind, StepKind::Replayed);
    logger.stop().await;
}

#[tokio::test]
async fn what_is_decided_stays_so_when_the_letter_is_buried_again() {
    let logger = Logger::start().await;
    let letter = buried(&logger, MAIL).await;
    let decided = kept(&replayed(&logger, letter.id).await);
    let again = logger.client().bury(&context(), vec![letter.clone()]).await.unwrap();
    assert_eq!(again, [Ok(Stored::Already)]);
    assert_eq!(one(&logger, letter.id).await, decided);
    logger.stop().await;
}

#[tokio::test]
async fn of_many_decisions_at_a_time_exactly_one_is_made() {
    let logger = Logger::start().await;
    for _ in 0..5 {
        let letter = buried(&logger, MAIL).await;
        let calls = (0..12).map(|i| {
            let logger = &logger;
            async move {
                let why = format!("call {i}");
                if i % 2 == 0 {
                    replayed(logger, letter.id).await
                } else {
                    discard(logger, letter.id, &why).await
                }
            }
        });
        let answers = join_all(calls).await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
        assert_eq!((won.len(), lost.len()), (1, 11));
        assert!(lost.iter().all(|answer| answer.status == 409));
        assert_eq!(kept(won[0]), one(&logger, letter.id).await);
    }
    assert_eq!(steps(&logger).await.len(), 5);
    logger.stop().await;
}

#[tokio::test]
async fn what_is_decided_about_a_mail_is_a_step_of_its_trail() {
    let logger = Logger::start().await;
    for (decide, kind, why) in
        [("replayed", StepKind::Replayed, None), ("discard", StepKind::Discarded, Some("a test".to_owned()))]
    {
        let letter = buried(&logger, MAIL).await;
        let (path, body) =
            (format!("/dead-letters/{}/{decide}", letter.id), json!({"reason": "a test", "at": now()}));
        let decided = kept(&logger.post_to(&path, &body).await);
        let action = letter.action.unwrap();
        let mut told = steps(&logger).await;
        told.retain(|step| step.action == action);
        let [step] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(step.id, step_id(action, kind, letter.id.as_u128()));
        assert_eq!((step.kind, step.name.as_str(), step.service.as_str()), (kind, "mail", "logger"));
        assert_eq!((Some(step.at), &step.details.why), (decided.decided_at, &why));
        assert_eq!(step.trace_id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
    }
    logger.stop().await;
}

#[tokio::test]
async fn a_step_that_was_missed_is_told_when_the_same_call_comes_again() {
    let logger = Logger::start().await;
    let letter = buried(&logger, MAIL).await;
    assert_eq!(replayed(&logger, letter.id).await.status, 200);
    let first = steps(&logger).await;
    assert_eq!(first.len(), 1);
    // As if the logger had died between the two writes.
    logger.mongo().await.steps().delete_many(doc! {}).await.unwrap();
    for _ in 0..2 {
        assert_eq!(replayed(&logger, letter.id).await.status, 409);
        assert_eq!(steps(&logger).await, first);
    }
    logger.stop().await;
}

#[tokio::test]
async fn other_letters_have_no_steps() {
    let logger = Logger::start().await;
    let nameless = Letter { action: None, ..letter(MAIL) };
    logger.bury(std::slice::from_ref(&nameless)).await;
    for id in [nameless.id, buried(&logger, LOG).await.id, buried(&logger, "switchboard.trail").await.id] {
        assert_eq!(discard(&logger, id, "a test").await.status, 200);
    }
    assert_eq!(steps(&logger).await, []);
    logger.stop().await;
}

#[tokio::test]
async fn a_decision_that_makes_no_sense_is_refused_and_changes_nothing() {
    let logger = Logger::start().await;
    let letter = buried(&logger, MAIL).await;
    let path = format!("/dead-letters/{}/discard", letter.id);
    for body in
        [json!({}), json!({"reason": ""}), json!({"reason": "a\nb"}), json!({"reason": "x".repeat(256)})]
    {
        let answer = logger.post_to(&path, &body).await;
        assert_eq!((answer.status, &answer.body["data"]["fields"][0]["field"]), (422, &json!("reason")));
    }
    assert_eq!(
        logger.http.send(http::Method::POST, &format!("{}{path}", logger.url), &[], "").await.unwrap().status,
        400
    );
    for of in ["replayed", "discard"] {
        let body = json!({"reason": "a test", "at": now()});
        assert_eq!(logger.post_to(&format!("/dead-letters/seven/{of}"), &body).await.status, 400);
        let unknown = logger.post_to(&format!("/dead-letters/{}/{of}", Uuid::nil()), &body).await;
        assert_eq!(unknown.status, 404, "{}", unknown.body);
    }
    assert_eq!(one(&logger, letter.id).await.state, LetterState::Dead);
    let stored = logger.mongo().await.dead_letters();
    let undecided = doc! { "_id": binary(letter.id), "decided_at": { "$exists": false } };
    assert_eq!(stored.count_documents(undecided).await.unwrap(), 1);
    logger.stop().await;
}
