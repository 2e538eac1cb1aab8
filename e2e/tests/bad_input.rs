//! What is not accepted gets a clear error, in the envelope, and has no effect.

#![expect(clippy::expect_used, reason = "a test that can't go on fails with the reason")]

use std::time::{Duration, Instant};

use e2e::system::{System, unique};
use http::Method;
use serde_json::{Value, json};
use testkit::http::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const JSON: (&str, &str) = ("content-type", "application/json");

fn assert_refused(answer: &Response, status: u16, part: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.body["error"], true, "{}", answer.body);
    assert!(answer.message().contains(part), "{part:?} is not in {:?}", answer.message());
    assert!(answer.body["id"].is_string() && answer.body["trace_id"].is_string(), "{}", answer.body);
}

async fn raw(system: &System, body: impl Into<bytes::Bytes>) -> Response {
    system.send(Method::POST, "/handle", &[JSON], body).await
}

#[tokio::test]
async fn what_is_not_one_json_value_is_400() {
    let system = System::healthy().await;
    for (body, part) in [
        (&b"not json"[..], "must be one JSON value"),
        (b"{} {}", "trailing characters"),
        (b"", "the body is empty"),
        (b" \n", "the body is empty"),
        (b"{\"action\":\"log\xff\"}", "not UTF-8: byte 14"),
        (b"[1]", "must be"),
        (b"{\"action\":\"dance\"}", "must be one of auth, log, mail"),
        (b"{}", "`action` is missing"),
    ] {
        assert_refused(&raw(&system, body).await, 400, part);
    }
}

#[tokio::test]
async fn deep_nesting_is_refused_without_harm() {
    let system = System::healthy().await;
    let nested = |depth: usize| {
        let data = "[".repeat(depth) + &"]".repeat(depth);
        format!(r#"{{"action":"log","log":{{"name":"deep","data":{data}}}}}"#)
    };
    assert_refused(&raw(&system, nested(200_000)).await, 400, "recursion limit");
    assert_refused(&raw(&system, nested(100)).await, 422, "data must not nest deeper");
}

#[tokio::test]
async fn a_body_of_a_mebibyte_is_taken_and_one_byte_more_is_413() {
    let system = System::healthy().await;
    let name = unique("large");
    let body = |size: usize| {
        let frame = json!({"action": "log", "log": {"name": name, "data": ""}}).to_string();
        frame.replace(r#""data":"""#, &format!(r#""data":"{}""#, "x".repeat(size - frame.len())))
    };
    assert_eq!(body(1 << 20).len(), 1 << 20);
    assert_refused(&raw(&system, body((1 << 20) + 1)).await, 413, "1048576 bytes");
    assert!(system.entries(&name).await.unwrap().is_empty());
    let taken = raw(&system, body(1 << 20)).await;
    assert_eq!(taken.status, 202, "{}", taken.message());
    system.entry(&name).await;
}

#[tokio::test]
async fn a_mail_that_is_longer_when_it_is_written_again_is_sent() {
    let system = System::healthy().await;
    let to = format!("{}@example.com", unique("long"));
    let numbers = vec!["1e9"; 200_000].join(",");
    let context = format!(r#"{{"name":"n","numbers":[{numbers}]}}"#);
    let mail = format!(r#"{{"to":"{to}","subject":"s","template":"welcome","context":{context}}}"#);
    let sent = raw(&system, format!(r#"{{"action":"mail","mail":{mail}}}"#)).await;
    assert_eq!(sent.status, 202, "{}", sent.body);
}

#[tokio::test]
async fn another_content_type_is_415_and_another_method_405() {
    let system = System::healthy().await;
    let form = system.send(Method::POST, "/handle", &[("content-type", "text/plain")], "{}").await;
    assert_refused(&form, 415, "must be application/json, not text/plain");
    let get = system.send(Method::GET, "/handle", &[], "").await;
    assert_refused(&get, 405, "GET is not allowed at /handle");
    assert_refused(&system.send(Method::GET, "/nowhere", &[], "").await, 404, "nothing at /nowhere");
}

fn fields(answer: &Response) -> Vec<&str> {
    let fields = answer.body["data"]["fields"].as_array().expect("fields");
    fields.iter().map(|field| field["field"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn every_failing_field_is_named_with_422() {
    let system = System::healthy().await;
    let long = "x".repeat(300);
    for (action, payload, failing) in [
        ("auth", json!({}), &["email", "password"][..]),
        ("auth", json!({"email": 5, "password": ""}), &["email", "password"]),
        ("log", json!({}), &["name", "data"]),
        ("log", json!({"name": long, "data": "d", "level": "loud"}), &["name", "level"]),
        ("log", json!({"name": "a\u{0}b", "data": "d"}), &["name"]),
        ("mail", json!({}), &["to", "subject", "message"]),
        ("mail", json!({"to": "nobody", "subject": "s", "message": "m"}), &["to"]),
        ("mail", json!({"to": "a@b.c\r\nBcc: x@y.z", "subject": "s", "message": "m"}), &["to"]),
        (
            "mail",
            json!({"to": "a@b.c", "subject": "s\nX: y", "message": "m", "reply_to": 1}),
            &["reply_to", "subject"],
        ),
        ("mail", json!({"to": "a@b.c", "subject": "s", "template": "nonesuch"}), &["template"]),
        ("log", Value::Null, &["log"]),
        ("mail", json!("text"), &["mail"]),
    ] {
        let answer = system.handle(action, payload.clone()).await;
        assert_refused(&answer, 422, failing[0]);
        assert_eq!(fields(&answer), failing, "{action} {payload}");
    }
}

#[tokio::test]
async fn a_client_that_never_finishes_its_body_is_let_go() {
    let system = System::healthy().await;
    let address = system.broker.trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head =
        "POST /handle HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let started = Instant::now();
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&answer).contains("was not sent within") {
        let read =
            tokio::time::timeout(Duration::from_secs(30), stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "closed without an answer: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..read]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    assert!(started.elapsed() < Duration::from_secs(20));
}
