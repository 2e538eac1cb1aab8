//! `GET /actions/{id}`: what the logger says, asked for as long as the client would wait.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::routing::get;
use chassis::http::Answer;
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;
use testkit::http::Client;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::stand::{Broker, Stand, service};

const ID: &str = "0199c0de-0000-7000-8000-000000000001";

/// A broker whose logger answers with `status`, and what that was asked.
async fn with_logger(status: StatusCode) -> (Broker, UnboundedReceiver<(String, HeaderMap)>) {
    let (seen, asked) = unbounded_channel();
    let show = async move |Path(id): Path<String>, RawQuery(query): RawQuery, headers: HeaderMap| {
        let _ = seen.send((format!("{id}?{}", query.unwrap_or_default()), headers));
        if status.is_success() {
            let data =
                json!({"id": id, "action": "mail", "state": "done", "attempts": 1, "steps": [{"a": 1.50}]});
            Answer::ok(status, "done").with_data(&data)
        } else {
            Answer::failed(status, format!("the logger's words about {id}"))
        }
    };
    let mut stand = Stand::alone();
    stand.logger_http = service(Router::new().route("/actions/{id}", get(show))).await;
    (stand.start().await, asked)
}

#[tokio::test]
async fn what_the_logger_knows_of_an_action_is_passed_on() {
    let (broker, mut asked) = with_logger(StatusCode::OK).await;
    let url = format!("{}/actions/{}", broker.url, ID.to_uppercase());
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("traceparent", trace), ("x-request-id", "mine"), ("origin", "http://page.example")];
    let answer = Client::default().send(Method::GET, &url, &headers, "").await.unwrap();
    assert_eq!((answer.status, answer.message()), (200, "done"));
    let data = json!({"id": ID, "action": "mail", "state": "done", "attempts": 1, "steps": [{"a": 1.5}]});
    assert_eq!(answer.body["data"], data);
    assert!(answer.header("access-control-expose-headers").to_lowercase().contains("location"));
    let (path, headers) = asked.recv().await.unwrap();
    assert_eq!(path, format!("{ID}?wait=1s"));
    assert_eq!(headers["x-request-id"], "mine");
    assert!(headers["traceparent"].to_str().unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    assert!(headers["user-agent"].to_str().unwrap().starts_with("switchboard-broker"));
}

#[tokio::test]
async fn the_wait_is_passed_on() {
    let (broker, mut asked) = with_logger(StatusCode::OK).await;
    for (query, expected) in [
        ("wait=30s", "wait=30s"),
        ("wait=1m", "wait=1m"),
        ("wait=2500ms", "wait=2s500ms"),
        ("wait=0s", "wait=1s"),
    ] {
        assert_eq!(testkit::http::get(&format!("{}/actions/{ID}?{query}", broker.url)).await.status, 200);
        assert_eq!(asked.recv().await.unwrap().0, format!("{ID}?{expected}"));
    }
}

#[tokio::test]
async fn what_is_no_question_is_answered_here() {
    let (broker, mut asked) = with_logger(StatusCode::OK).await;
    for (path, status, message) in [
        ("7", 400, "the id in the path must be a UUID"),
        ("%ff", 400, "the id in the path must be a UUID"),
        (&format!("{ID}?wait=61s"), 422, "query: wait must be a time of at most 60s, such as 10s"),
        (&format!("{ID}?wait=soon"), 422, "query: wait must be a time of at most 60s, such as 10s"),
        (&format!("{ID}?limit=1"), 422, "query: limit is not a parameter: there is wait"),
    ] {
        let answer = testkit::http::get(&format!("{}/actions/{path}", broker.url)).await;
        assert_eq!((answer.status, answer.message()), (status, message), "{path}");
    }
    assert!(asked.try_recv().is_err());
    let answer = testkit::http::post(&format!("{}/actions/{ID}", broker.url), &json!({})).await;
    assert_eq!(answer.status, 405);
}

#[tokio::test]
async fn what_the_logger_refuses_is_passed_on_and_its_trouble_is_named() {
    let words = format!("the logger's words about {ID}");
    for (theirs, ours, message) in [
        (StatusCode::NOT_FOUND, 404, words.clone()),
        (StatusCode::BAD_REQUEST, 400, words.clone()),
        (StatusCode::UNPROCESSABLE_ENTITY, 422, words.clone()),
        (StatusCode::SERVICE_UNAVAILABLE, 503, format!("the logger: {words}")),
        (StatusCode::GATEWAY_TIMEOUT, 504, format!("the logger: {words}")),
        (StatusCode::IM_A_TEAPOT, 502, "the logger gave an answer that makes no sense".to_owned()),
    ] {
        let (broker, _asked) = with_logger(theirs).await;
        let answer = testkit::http::get(&format!("{}/actions/{ID}", broker.url)).await;
        assert_eq!((answer.status, answer.message()), (ours, message.as_str()));
    }
}

#[tokio::test]
async fn a_logger_that_is_away_is_named() {
    let broker = Stand::alone().start().await;
    let answer = testkit::http::get(&format!("{}/actions/{ID}?wait=20s", broker.url)).await;
    assert_eq!(
        (answer.status, answer.message(), answer.header("retry-after")),
        (503, "the logger is not available, try again shortly", "1")
    );
}

#[tokio::test]
async fn who_waits_when_the_broker_stops_is_told_how_it_stands() {
    let (seen, mut asked) = unbounded_channel();
    let show = async move |RawQuery(query): RawQuery| {
        let patient = query.as_deref() == Some("wait=1m");
        let _ = seen.send(());
        if patient {
            std::future::pending::<()>().await;
        }
        Answer::ok(StatusCode::OK, "queued")
    };
    let mut stand = Stand::alone();
    stand.logger_http = service(Router::new().route("/actions/{id}", get(show))).await;
    let broker = stand.start().await;
    let url = format!("{}/actions/{ID}?wait=60s", broker.url);
    let waiting = tokio::spawn(async move { testkit::http::get(&url).await });
    asked.recv().await.unwrap();
    let started = Instant::now();
    broker.running.stop().await;
    let answer = waiting.await.unwrap();
    assert_eq!((answer.status, answer.message()), (200, "queued"));
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}
