//! What is acknowledged is stored, once.

use contracts::logger::{AppendError, Stored};
use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

use crate::running::{Logger, context, entry, plain};

#[tokio::test]
async fn an_entry_sent_over_http_is_answered_with_its_id_and_can_be_read() {
    let logger = Logger::start().await;
    let body = json!({"name": "order", "data": {"total": 12}, "level": "warning", "fields": {"k": [1]}});
    let answer = logger.post(&body).await;
    assert_eq!((answer.status, answer.message()), (202, "Logged: order"));
    assert_eq!(answer.body["error"], json!(false));
    let id = answer.body["data"]["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.body["id"], json!(id));

    let read = logger.get(&format!("/logs/{id}")).await;
    assert_eq!(read.status, 200);
    let data = &read.body["data"];
    assert_eq!((&data["name"], &data["data"]), (&body["name"], &body["data"]));
    assert_eq!((&data["level"], &data["fields"]), (&body["level"], &body["fields"]));
    assert_eq!((&data["via"], &data["trace_id"]), (&json!("http"), &answer.body["trace_id"]));
    logger.stop().await;
}

#[tokio::test]
async fn the_same_key_twice_is_one_entry() {
    let logger = Logger::start().await;
    let (id, url) = (Uuid::now_v7().to_string(), format!("{}/log", logger.url));
    let headers = [("content-type", "application/json"), ("idempotency-key", &id)];
    for _ in 0..2 {
        let body = json!({"name": "n", "data": "d"}).to_string();
        let answer = logger.http.send(http::Method::POST, &url, &headers, body).await.unwrap();
        assert_eq!((answer.status, &answer.body["data"]["id"]), (202, &json!(id)));
    }
    assert_eq!(logger.count().await, 1);
    let wrong = [("idempotency-key", "my key")];
    let answer = logger.http.send(http::Method::POST, &url, &wrong, "{}").await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.message().contains("Idempotency-Key"), "{}", answer.message());
    logger.stop().await;
}

#[tokio::test]
async fn a_wrong_payload_is_refused_with_every_field_named_and_stores_nothing() {
    let logger = Logger::start().await;
    let answer = logger.post(&json!({"name": "", "level": "loud"})).await;
    assert_eq!(answer.status, 422);
    let fields = answer.body["data"]["fields"].as_array().unwrap();
    let named: Vec<_> = fields.iter().map(|field| field["field"].as_str().unwrap()).collect();
    assert_eq!(named, ["name", "data", "level"]);
    assert_eq!(logger.count().await, 0);
    logger.stop().await;
}

#[tokio::test]
async fn what_mongodb_could_take_amiss_is_stored_as_it_is() {
    let logger = Logger::start().await;
    let (client, context) = (logger.client(), context());
    for data in [
        json!({"$set": {"a.b": 1}, "": "empty", "$ref": 5, "_id": {"$oid": "x"}}),
        json!({"u": u64::MAX, "i": i64::MIN, "f": 1e300, "list": [[], {}, null, "\u{0}"]}),
        json!("é😀\r\n\u{7f}"),
        (0..32).fold(json!(1), |inner, _| json!({"d": [inner]})),
        json!("x".repeat(1024 * 1024)),
        json!(vec![0; 300_000]),
    ] {
        let entry = entry("odd", data);
        assert_eq!(client.append(&context, entry.clone()).await, Ok(Stored::Created));
        let read = logger.get(&format!("/logs/{}", entry.id)).await;
        assert_eq!(read.body["data"]["data"], entry.data);
    }
    logger.stop().await;
}

#[tokio::test]
async fn callers_that_share_a_write_each_get_their_own_outcome() {
    let logger = Logger::start().await;
    let (client, context) = (logger.client(), context());
    let there = plain("there");
    assert_eq!(client.append(&context, there.clone()).await, Ok(Stored::Created));
    let too_deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let calls = (0..600).map(|i| {
        let (client, context, there) = (client.clone(), context.clone(), there.clone());
        let bad = entry("bad", too_deep.clone());
        async move {
            match i % 3 {
                0 => assert_eq!(client.append(&context, plain("good")).await, Ok(Stored::Created)),
                1 => assert_eq!(client.append(&context, there).await, Ok(Stored::Already)),
                _ => {
                    let refused = client.append(&context, bad).await.unwrap_err();
                    assert!(refused.to_string().contains("nests deeper"), "{refused}");
                }
            }
        }
    });
    join_all(calls).await;
    assert_eq!(logger.count().await, 201);
    logger.stop().await;
}

#[tokio::test]
async fn a_batch_gets_an_outcome_for_each_entry_in_its_order() {
    let logger = Logger::start().await;
    let (client, context) = (logger.client(), context());
    let (one, two) = (plain("one"), plain("two"));
    let bad = entry("bad", json!({"a\0b": 1}));
    let batch = vec![one.clone(), one.clone(), bad, two.clone()];
    let outcomes = client.append_all(&context, batch).await.unwrap();
    assert_eq!(outcomes[0], Ok(Stored::Created));
    assert_eq!(outcomes[1], Ok(Stored::Already));
    assert!(matches!(&outcomes[2], Err(AppendError::Refused(why)) if why.contains("U+0000")), "{outcomes:?}");
    assert_eq!(outcomes[3], Ok(Stored::Created));
    // Sent again, as after a break.
    let outcomes = client.append_all(&context, vec![one, two]).await.unwrap();
    assert_eq!(outcomes, [Ok(Stored::Already), Ok(Stored::Already)]);

    let many: Vec<_> = (0..3500).map(|_| plain("many")).collect();
    let outcomes = client.append_all(&context, many).await.unwrap();
    assert!(outcomes.len() == 3500 && outcomes.iter().all(|outcome| *outcome == Ok(Stored::Created)));
    let heavy: Vec<_> = (0..24).map(|_| entry("heavy", json!("x".repeat(1024 * 1024)))).collect();
    let outcomes = client.append_all(&context, heavy).await.unwrap();
    assert!(outcomes.len() == 24 && outcomes.iter().all(|outcome| *outcome == Ok(Stored::Created)));
    logger.stop().await;
}

#[tokio::test]
async fn one_document_that_mongodb_refuses_costs_the_others_nothing() {
    let logger = Logger::start().await;
    let mongo = logger.mongo().await;
    let validator = bson::doc! { "collMod": "entries", "validator": { "name": { "$ne": "bad" } } };
    testkit::eventually(crate::running::SOON, "the collection is there", || async {
        mongo.database().run_command(validator.clone()).await
    })
    .await;
    let batch = ["good", "bad", "good"].map(plain).to_vec();
    let outcomes = logger.client().append_all(&context(), batch).await.unwrap();
    assert!(
        matches!(&outcomes[1], Err(AppendError::Refused(why)) if why.contains("MongoDB")),
        "{outcomes:?}"
    );
    assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(Stored::Created), &Ok(Stored::Created)));
    logger.stop().await;
}

#[tokio::test]
async fn a_trace_goes_on_into_the_entry() {
    let logger = Logger::start().await;
    let headers = [
        ("content-type", "application/json"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let body = json!({"name": "traced", "data": 1}).to_string();
    let url = format!("{}/log", logger.url);
    logger.http.send(http::Method::POST, &url, &headers, body).await.unwrap();
    let read = logger.get("/logs?trace_id=0AF7651916CD43DD8448EB211C80319C").await;
    assert_eq!(read.body["data"]["entries"][0]["name"], json!("traced"));
    logger.stop().await;
}
