//! What a client is told when a service does not do what it should: the service's name, and nothing of why.

use std::time::Duration;

use axum::Router;
use axum::routing::post;
use chassis::http::Answer;
use contracts::logger::{AppendError, Stored};
use contracts::validation::Violations;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::eventually;
use testkit::http::{Client, Response};
use tokio_util::sync::CancellationToken;

use crate::stand::{Broker, Stand, logger, service};

fn auth() -> Value {
    json!({"action": "auth", "auth": {"email": "a@b.c", "password": "p"}})
}

fn log(name: &str) -> Value {
    json!({"action": "log", "log": {"name": name, "data": 1}})
}

fn mail() -> Value {
    json!({"action": "mail", "mail": {"to": "a@b.c", "subject": "s", "message": "m"}})
}

async fn handle(broker: &Broker, body: &Value) -> Response {
    testkit::http::post(&format!("{}/handle", broker.url), body).await
}

#[tokio::test]
async fn a_service_that_is_away_is_named_with_503() {
    let broker = Stand::alone().start().await;
    for (body, name) in [(auth(), "the auth service"), (log("n"), "the logger"), (mail(), "the mailer")] {
        let answer = handle(&broker, &body).await;
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert_eq!(answer.message(), format!("{name} is not available, try again shortly"));
        assert_eq!(answer.header("retry-after"), "1");
    }
    broker.running.stop().await;
}

#[tokio::test]
async fn a_service_that_is_too_slow_is_named_with_504() {
    let mut stand = Stand::alone();
    let never = || post(async || std::future::pending::<Answer>().await);
    stand.auth = service(Router::new().route("/authenticate", never())).await;
    stand.mailer = service(Router::new().route("/send", never())).await;
    let broker = stand.start().await;
    for (body, name) in [(auth(), "the auth service"), (mail(), "the mailer")] {
        let answer = handle(&broker, &body).await;
        assert_eq!(
            (answer.status, answer.message()),
            (504, format!("{name} did not answer in time").as_str())
        );
    }
}

#[tokio::test]
async fn a_service_that_answers_nonsense_is_named_with_502() {
    let mut stand = Stand::alone();
    stand.auth =
        service(Router::new().route("/authenticate", post(async || (StatusCode::ACCEPTED, "{}")))).await;
    stand.mailer =
        service(Router::new().route("/send", post(async || (StatusCode::IM_A_TEAPOT, "short")))).await;
    let broker = stand.start().await;
    for (body, name) in [(auth(), "the auth service"), (mail(), "the mailer")] {
        let answer = handle(&broker, &body).await;
        assert_eq!(answer.status, 502);
        assert_eq!(answer.message(), format!("{name} gave an answer that makes no sense"));
    }
}

#[tokio::test]
async fn what_a_service_says_of_its_own_server_and_of_the_payload_is_passed_on() {
    let mut stand = Stand::alone();
    stand.auth =
        service(Router::new().route("/authenticate", post(async || Answer::unavailable("PostgreSQL")))).await;
    let refused = async || Answer::invalid("mail", Violations::one("template", "is unknown"));
    stand.mailer = service(Router::new().route("/send", post(refused))).await;
    stand.logger = logger(Err(AppendError::Unavailable("MongoDB".to_owned()))).await.0;
    let broker = stand.start().await;
    let answer = handle(&broker, &auth()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
    assert_eq!(answer.message(), "the auth service: PostgreSQL is not available, try again shortly");
    let answer = handle(&broker, &mail()).await;
    assert_eq!((answer.status, answer.message()), (422, "mail: template is unknown"));
    assert_eq!(answer.body["data"]["fields"], json!([{"field": "template", "message": "is unknown"}]));
    let answer = handle(&broker, &log("n")).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.message().contains("MongoDB"), "{}", answer.message());
}

#[tokio::test]
async fn a_service_that_has_too_much_in_hand_is_a_503_that_names_it() {
    let mut stand = Stand::alone();
    let send = post(async || Answer::failed(StatusCode::TOO_MANY_REQUESTS, "too many mails are in hand"));
    stand.mailer = service(Router::new().route("/send", send)).await;
    let answer = handle(&stand.start().await, &mail()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
    assert_eq!(answer.message(), "the mailer: too many mails are in hand");
}

#[tokio::test]
async fn the_ids_of_a_request_reach_the_service() {
    let (seen, mut received) = tokio::sync::mpsc::unbounded_channel();
    let mut stand = Stand::alone();
    let send = post(async move |headers: http::HeaderMap| {
        let _ = seen.send(headers);
        Answer::failed(StatusCode::SERVICE_UNAVAILABLE, "not now")
    });
    stand.mailer = service(Router::new().route("/send", send)).await;
    let (address, mut entries) = logger(Ok(Stored::Created)).await;
    stand.logger = address;
    let broker = stand.start().await;
    let url = format!("{}/handle", broker.url);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let traceparent = format!("00-{trace}-b7ad6b7169203331-01");
    let headers = [
        ("content-type", "application/json"),
        ("x-request-id", "mine"),
        ("traceparent", traceparent.as_str()),
    ];
    let client = Client::default();
    let answer = client.send(Method::POST, &url, &headers, mail().to_string()).await.unwrap();
    let header = received.recv().await.unwrap();
    let text = |name: &str| header[name].to_str().unwrap().to_owned();
    assert_eq!((text("x-request-id").as_str(), answer.header("x-request-id")), ("mine", "mine"));
    assert!(text("traceparent").contains(trace));
    assert_eq!(text("idempotency-key"), answer.body["id"].as_str().unwrap());
    assert!(text("user-agent").starts_with("switchboard-broker"));

    let answer = client.send(Method::POST, &url, &headers, log("n").to_string()).await.unwrap();
    let entry = entries.recv().await.unwrap();
    assert_eq!((answer.status, entry.trace_id.as_deref()), (202, Some(trace)));
    assert_eq!(answer.body["id"], entry.id.to_string());
}

#[tokio::test]
async fn a_service_that_keeps_failing_is_left_alone_and_tried_again() {
    let broker = Stand::alone().start().await;
    for _ in 0..30 {
        assert_eq!(handle(&broker, &auth()).await.status, 503);
    }
    // Open: refused without a try. How long that takes says nothing on a busy machine, so look at the health.
    let health = testkit::http::get(&format!("{}/health", broker.url)).await;
    assert_eq!(health.status, 503);
    assert!(health.message().contains("auth"), "{}", health.message());
}

#[tokio::test]
async fn a_service_that_comes_back_is_found_without_a_restart() {
    let mut stand = Stand::alone();
    let (away, address) = crate::stand::away();
    stand.auth = address;
    let broker = stand.start().await;
    for _ in 0..30 {
        assert_eq!(handle(&broker, &auth()).await.status, 503);
    }
    let listener = away.listen(1024).unwrap();
    let denied = post(async || Answer::failed(StatusCode::UNAUTHORIZED, "Invalid credentials"));
    let routes = Router::new().route("/authenticate", denied);
    tokio::spawn(chassis::http::server::serve(listener, routes, CancellationToken::default()));
    eventually(Duration::from_secs(5), "the auth service is found again", || async {
        let answer = handle(&broker, &auth()).await;
        if answer.status == 401 { Ok(()) } else { Err(answer.body) }
    })
    .await;
}
