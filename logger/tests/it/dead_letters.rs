//! Dead letters: each is kept once, and found by what is known of it.

use chrono::{DateTime, TimeDelta, Utc};
use contracts::dead_letter::{Body, Kept, Letter, LetterState};
use contracts::logger::{AppendError, Stored};
use serde_json::{Value, json};
use testkit::eventually;
use uuid::Uuid;

use crate::running::{Logger, SOON, context, letter, now};

const QUEUE: &str = "switchboard.mail";

/// The page that a query gives, and its `next`.
async fn page(logger: &Logger, query: &str) -> (Vec<Kept>, Option<String>) {
    let answer = logger.get(&format!("/dead-letters?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    let data = &answer.body["data"];
    let letters = serde_json::from_value(data["letters"].clone()).unwrap();
    (letters, serde_json::from_value(data["next"].clone()).unwrap())
}

async fn ids(logger: &Logger, query: &str) -> Vec<Uuid> {
    page(logger, query).await.0.iter().map(|kept| kept.letter.id).collect()
}

async fn one(logger: &Logger, id: Uuid) -> Kept {
    let answer = logger.get(&format!("/dead-letters/{id}")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_value(answer.body["data"].clone()).unwrap()
}

fn dead(letter: &Letter) -> Kept {
    Kept {
        letter: letter.clone(),
        state: LetterState::Dead,
        replaying_at: None,
        decided_at: None,
        decided_why: None,
    }
}

fn query_time(at: DateTime<Utc>) -> String {
    at.to_rfc3339().replace('+', "%2B")
}

#[tokio::test]
async fn a_letter_is_kept_once_and_whole() {
    let logger = Logger::start().await;
    let (client, context) = (logger.client(), context());
    let text = Letter { body: Body::of("é".repeat(4000).as_bytes()), ..letter(QUEUE) };
    let binary = Letter { action: None, message_id: None, body: Body::of(&[0xff; 9]), ..letter(QUEUE) };
    let batch = vec![text.clone(), text.clone(), binary.clone()];
    let outcomes = client.bury(&context, batch).await.unwrap();
    assert_eq!(outcomes, [Ok(Stored::Created), Ok(Stored::Already), Ok(Stored::Created)]);
    let outcomes = client.bury(&context, vec![binary.clone(), text.clone()]).await.unwrap();
    assert_eq!(outcomes, [Ok(Stored::Already), Ok(Stored::Already)]);
    assert_eq!(client.bury(&context, Vec::new()).await, Ok(Vec::new()));
    assert_eq!(one(&logger, text.id).await, dead(&text));
    assert_eq!(one(&logger, binary.id).await, dead(&binary));
    assert_eq!(page(&logger, "").await.0.len(), 2);
    logger.stop().await;
}

#[tokio::test]
async fn those_that_wait_for_a_decision_are_counted() {
    // What is recorded on this thread, which is the only one of this test.
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let first = Logger::start().await;
    let letters = vec![letter(QUEUE), letter(QUEUE), letter(QUEUE)];
    let discarded = letters[0].id;
    assert_eq!(first.client().bury(&context(), letters).await.unwrap().len(), 3);
    let path = format!("/dead-letters/{discarded}/discard");
    assert_eq!(first.post_to(&path, &json!({"reason": "a test"})).await.status, 200);
    // Each counts them when it starts, and then now and again.
    let second = Logger::with(first.config.clone()).await;
    eventually(SOON, "the gauge", || async {
        let rendered = recorder.handle().render();
        let gauge = rendered.lines().find_map(|line| line.strip_prefix("dead_letters_waiting "));
        if gauge == Some("2") { Ok(()) } else { Err(format!("{gauge:?}")) }
    })
    .await;
    second.running.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn the_largest_letter_is_kept_and_one_that_mongodb_refuses_costs_the_others_nothing() {
    let logger = Logger::start().await;
    let mongo = logger.mongo().await;
    let validator = bson::doc! { "collMod": "dead_letters", "validator": { "reason": { "$ne": "poison" } } };
    eventually(SOON, "the collection is there", || async {
        mongo.database().run_command(validator.clone()).await
    })
    .await;
    let largest = Letter { body: Body::of(&vec![0xff; 5 * 1024 * 1024]), ..letter(QUEUE) };
    assert!(largest.body.truncated);
    let poison = Letter { reason: "poison".to_owned(), ..letter(QUEUE) };
    let batch = vec![letter(QUEUE), poison, largest.clone(), letter(QUEUE)];
    let outcomes = logger.client().bury(&context(), batch).await.unwrap();
    assert!(matches!(&outcomes[1], Err(AppendError::Refused(_))), "{outcomes:?}");
    assert!([0, 2, 3].iter().all(|at| outcomes[*at] == Ok(Stored::Created)), "{outcomes:?}");
    assert_eq!(one(&logger, largest.id).await, dead(&largest));
    logger.stop().await;
}

#[tokio::test]
async fn every_filter_finds_what_it_names_and_nothing_else() {
    let logger = Logger::start().await;
    let at = |seconds| now() + TimeDelta::seconds(seconds);
    let first = Letter { died_at: at(1), ..letter("switchboard.log") };
    let second = Letter { died_at: at(2), reason: "550 (No) such.box".to_owned(), ..letter(QUEUE) };
    let third = Letter { died_at: at(3), ..letter(QUEUE) };
    logger.bury(&[first.clone(), second.clone(), third.clone()]).await;
    let discarded = letter(QUEUE);
    logger.bury(std::slice::from_ref(&discarded)).await;
    let path = format!("/dead-letters/{}/discard", discarded.id);
    assert_eq!(logger.post_to(&path, &json!({"reason": "old"})).await.status, 200);

    assert_eq!(ids(&logger, "").await, [third.id, second.id, first.id]);
    assert_eq!(ids(&logger, "state=discarded").await, [discarded.id]);
    assert!(ids(&logger, "state=replayed").await.is_empty());
    assert_eq!(ids(&logger, "queue=switchboard.mail").await, [third.id, second.id]);
    assert!(ids(&logger, "queue=mail").await.is_empty());
    assert_eq!(ids(&logger, "reason=(NO)%20SUCH.").await, [second.id]);
    assert_eq!(ids(&logger, "reason=such%20box").await, [third.id, first.id]);
    assert_eq!(ids(&logger, &format!("action={}", first.action.unwrap())).await, [first.id]);
    let (two, three) = (query_time(second.died_at), query_time(third.died_at));
    assert_eq!(ids(&logger, &format!("since={two}")).await, [third.id, second.id]);
    assert_eq!(ids(&logger, &format!("until={two}")).await, [first.id]);
    assert_eq!(ids(&logger, &format!("since={two}&until={three}")).await, [second.id]);
    logger.stop().await;
}

#[tokio::test]
async fn pages_show_every_letter_once_also_where_times_are_equal_and_more_come() {
    let logger = Logger::start().await;
    let start = now();
    let letters: Vec<_> =
        (0..25).map(|i| Letter { died_at: start + TimeDelta::seconds(i / 10), ..letter(QUEUE) }).collect();
    logger.bury(&letters).await;
    let (mut seen, mut sizes, mut query) = (Vec::new(), Vec::new(), "limit=10".to_owned());
    loop {
        let (letters, next) = page(&logger, &query).await;
        sizes.push(letters.len());
        seen.extend(letters.into_iter().map(|kept| (kept.letter.died_at, kept.letter.id)));
        logger.bury(&[Letter { died_at: start + TimeDelta::seconds(100), ..letter(QUEUE) }]).await;
        let Some(next) = next else { break };
        query = format!("limit=10&before={next}");
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
    assert!(seen.iter().all(|(_, id)| letters.iter().any(|letter| letter.id == *id)));
    logger.stop().await;
}

#[tokio::test]
async fn a_list_shows_the_beginning_of_a_long_body_and_everything_else() {
    let logger = Logger::start().await;
    let short = Letter { body: Body::of("é".repeat(1024).as_bytes()), ..letter(QUEUE) };
    let long = Letter { body: Body::of(format!("x{}", "é".repeat(1024)).as_bytes()), ..letter(QUEUE) };
    let huge = Letter { body: Body::of(&vec![0xff; 3 * 1024 * 1024]), ..letter(QUEUE) };
    let all = [short.clone(), long.clone(), huge.clone()];
    logger.bury(&all).await;
    let (shown, _) = page(&logger, "").await;
    let shown = |letter: &Letter| shown.iter().find(|kept| kept.letter.id == letter.id).unwrap().clone();
    assert_eq!(shown(&short), dead(&short));
    let cut = |letter: &Letter, bytes: usize| {
        let body = letter.body.body[..bytes].to_owned();
        let body = Body { body, truncated: true, ..letter.body.clone() };
        dead(&Letter { body, ..letter.clone() })
    };
    assert_eq!(shown(&long), cut(&long, 2047));
    assert_eq!(shown(&huge), cut(&huge, 2048));
    assert_eq!(one(&logger, huge.id).await, dead(&huge));
    logger.stop().await;
}

#[tokio::test]
async fn a_wrong_question_is_refused_with_the_parameter_named() {
    let logger = Logger::start().await;
    let answer = logger.get("/dead-letters?state=alive&limit=0&before=x&colour=red").await;
    assert_eq!(answer.status, 422);
    let fields = answer.body["data"]["fields"].as_array().unwrap();
    let named: Vec<_> = fields.iter().map(|field| field["field"].as_str().unwrap()).collect();
    assert_eq!(named, ["state", "limit", "before", "colour"]);
    assert_eq!(logger.get("/dead-letters/seven").await.status, 400);
    let unknown = logger.get("/dead-letters/01890000-0000-7000-8000-000000000000").await;
    assert_eq!((unknown.status, &unknown.body["error"]), (404, &Value::Bool(true)));
    assert!(unknown.message().contains("01890000"), "{}", unknown.message());
    logger.stop().await;
}
