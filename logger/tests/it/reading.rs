//! `GET /logs`: filters, pages, and what is wrong with a question.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use contracts::log::{Entry, Level};
use serde_json::{Value, json};

use crate::running::{Logger, context, entry, plain};

async fn store(logger: &Logger, entries: Vec<Entry>) {
    let outcomes = logger.client().append_all(&context(), entries).await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

async fn names(logger: &Logger, query: &str) -> Vec<String> {
    let answer = logger.get(&format!("/logs?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    let entries = answer.body["data"]["entries"].as_array().unwrap();
    entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_323_000 + seconds, 0).unwrap()
}

#[tokio::test]
async fn every_filter_finds_what_it_names_and_nothing_else() {
    let logger = Logger::start().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let first = Entry { at: at(1), trace_id: Some(trace.into()), ..plain("first") };
    let second = Entry { at: at(2), level: Level::Error, ..plain("second") };
    let third = Entry { at: at(3), ..entry("third", json!({"user": {"names": ["Ada", "Émile"]}, "n": 42})) };
    let id = second.id;
    store(&logger, vec![first, second, third]).await;

    assert_eq!(names(&logger, "").await, ["third", "second", "first"]);
    assert_eq!(names(&logger, "name=first").await, ["first"]);
    assert_eq!(names(&logger, "name=fir").await, [""; 0]);
    assert_eq!(names(&logger, "level=error").await, ["second"]);
    assert_eq!(names(&logger, "level=INFO&name=third").await, ["third"]);
    assert_eq!(names(&logger, &format!("trace_id={trace}")).await, ["first"]);
    assert_eq!(names(&logger, &format!("id={id}")).await, ["second"]);
    let (two, three) = (at(2).to_rfc3339(), at(3).to_rfc3339());
    let (two, three) = (two.replace('+', "%2B"), three.replace('+', "%2B"));
    assert_eq!(names(&logger, &format!("since={two}")).await, ["third", "second"]);
    assert_eq!(names(&logger, &format!("until={two}")).await, ["first"]);
    assert_eq!(names(&logger, &format!("since={two}&until={three}")).await, ["second"]);
    logger.stop().await;
}

#[tokio::test]
async fn a_text_is_found_in_the_name_and_anywhere_in_the_data_in_any_case() {
    let logger = Logger::start().await;
    store(
        &logger,
        vec![
            entry("nested", json!({"user": {"names": ["Ada", "Émile"]}, "n": 4711, "ok": true})),
            entry("string", json!("The 100% (exact) text.")),
            entry("list", json!(["a", ["needle"]])),
        ],
    )
    .await;
    for (text, name) in [
        ("NESTED", "nested"),
        ("ada", "nested"),
        ("%C3%A9mile", "nested"),
        ("USER", "nested"),
        ("4711", "nested"),
        ("100%25+(EXACT)", "string"),
        ("text.", "string"),
        ("eedl", "list"),
    ] {
        assert_eq!(names(&logger, &format!("text={text}")).await, [name], "{text}");
    }
    for nothing in ["t.xt", ".*", "exact$", "%5B"] {
        assert_eq!(names(&logger, &format!("text={nothing}")).await, [""; 0], "{nothing}");
    }
    logger.stop().await;
}

#[tokio::test]
async fn pages_show_every_entry_once_also_where_times_are_equal_and_more_comes() {
    let logger = Logger::start().await;
    let entries: Vec<_> =
        (0..75).map(|i| Entry { at: at(i64::from(i / 30)), ..plain(&format!("e{i}")) }).collect();
    store(&logger, entries).await;
    let (mut seen, mut sizes) = (Vec::new(), Vec::new());
    let mut query = "limit=20".to_owned();
    loop {
        let answer = logger.get(&format!("/logs?{query}")).await;
        let page = answer.body["data"]["entries"].as_array().unwrap().clone();
        sizes.push(page.len());
        seen.extend(page);
        // What is new comes before the first page, so it moves nothing.
        store(&logger, vec![Entry { at: at(100), ..plain("new") }]).await;
        match &answer.body["data"]["next"] {
            Value::String(next) => query = format!("limit=20&before={next}"),
            end => {
                assert_eq!(end, &Value::Null);
                break;
            }
        }
    }
    assert_eq!(sizes, [20, 20, 20, 15]);
    let ids: HashSet<_> = seen.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 75);
    let order: Vec<_> = seen.iter().map(|entry| (entry["at"].as_str(), entry["id"].as_str())).collect();
    assert!(order.is_sorted_by(|a, b| a > b), "{order:?}");
    logger.stop().await;
}

#[tokio::test]
async fn a_page_that_is_just_full_is_the_last() {
    let logger = Logger::start().await;
    store(&logger, vec![plain("a"), plain("b")]).await;
    let answer = logger.get("/logs?limit=2").await;
    assert_eq!((answer.message(), &answer.body["data"]["next"]), ("2 entries", &Value::Null));
    logger.stop().await;
}

#[tokio::test]
async fn a_wrong_question_is_refused_with_the_parameter_named() {
    let logger = Logger::start().await;
    let answer = logger.get("/logs?level=loud&limit=1000&colour=red").await;
    assert_eq!(answer.status, 422);
    let fields = answer.body["data"]["fields"].as_array().unwrap();
    let named: Vec<_> = fields.iter().map(|field| field["field"].as_str().unwrap()).collect();
    assert_eq!(named, ["level", "limit", "colour"]);
    assert_eq!(logger.get("/logs/seven").await.status, 400);
    let unknown = logger.get("/logs/01890000-0000-7000-8000-000000000000").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.message().contains("01890000"), "{}", unknown.message());
    logger.stop().await;
}

#[tokio::test]
async fn a_document_of_another_program_hides_no_entry() {
    let logger = Logger::start().await;
    store(&logger, vec![plain("ours")]).await;
    let foreign = bson::rawdoc! { "at": bson::DateTime::now(), "who": "another" };
    logger.mongo().await.entries().insert_one(foreign).await.unwrap();
    assert_eq!(names(&logger, "").await, ["ours"]);
    logger.stop().await;
}
