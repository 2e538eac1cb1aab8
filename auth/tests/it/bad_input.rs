//! What is no credentials gets a clear error.

use bytes::Bytes;
use http::Method;
use serde_json::json;

use crate::service::System;

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

#[tokio::test]
async fn every_bad_body_is_explained() {
    let system = System::start(&[]).await;
    let url = format!("{}/authenticate", system.auth.url);
    let over = format!(r#"{{"email":"{}"}}"#, "x".repeat(1024 * 1024));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let cases: Vec<(Bytes, u16, &str)> = vec![
        ("".into(), 400, "the body is empty: it must be one JSON value"),
        ("  \n".into(), 400, "the body is empty: it must be one JSON value"),
        ("email=a@b.c".into(), 400, "the body must be one JSON value: expected value at line 1 column 1"),
        (r#"{"email":"a@b.c""#.into(), 400, "the body must be one JSON value: EOF"),
        ("{} {}".into(), 400, "the body must be one JSON value: trailing characters"),
        (Bytes::from_static(b"{\"email\":\"\xff\"}"), 400, "the body is not UTF-8: byte 10 is wrong"),
        (deep.into(), 400, "the body must be one JSON value: recursion limit exceeded"),
        (over.into(), 413, "the body must not be larger than 1048576 bytes"),
        ("[]".into(), 422, "auth: auth must be an object, not a list"),
        ("null".into(), 422, "auth: auth must be an object, not null"),
    ];
    for (body, status, message) in cases {
        let shown = format!("{:.40}", String::from_utf8_lossy(&body));
        let answer = system.auth.client.send(Method::POST, &url, JSON, body).await.unwrap();
        assert_eq!(answer.status, status, "{shown}: {answer:?}");
        assert!(answer.message().starts_with(message), "{shown}: {}", answer.message());
        assert_eq!(answer.body["error"], true);
    }
}

#[tokio::test]
async fn every_failing_field_is_listed() {
    let system = System::start(&[]).await;
    let url = format!("{}/authenticate", system.auth.url);
    let cases = [
        (json!({}), json!([["email", "is required"], ["password", "is required"]])),
        (json!({"email": null, "password": "x"}), json!([["email", "is required"]])),
        (
            json!({"email": 1, "password": ["x"]}),
            json!([
                ["email", "must be a string, not a number"],
                ["password", "must be a string, not a list"]
            ]),
        ),
        (
            json!({"email": " ", "password": ""}),
            json!([["email", "must not be empty"], ["password", "must not be empty"]]),
        ),
        (
            json!({"email": "x".repeat(255), "password": "x".repeat(1025)}),
            json!([
                ["email", "must not be longer than 254 characters"],
                ["password", "must not be longer than 1024 characters"]
            ]),
        ),
        (
            json!({"email": "a@b.c\n", "password": "a\u{0}b"}),
            json!([
                ["email", "must not contain the control character U+000A"],
                ["password", "must not contain the control character U+0000"]
            ]),
        ),
    ];
    for (body, expected) in cases {
        let answer = system.auth.client.post(&url, &body).await.unwrap();
        assert_eq!(answer.status, 422, "{answer:?}");
        assert!(answer.message().starts_with("auth: "), "{}", answer.message());
        let fields = answer.body["data"]["fields"].as_array().unwrap();
        let fields: Vec<_> = fields.iter().map(|field| json!([field["field"], field["message"]])).collect();
        assert_eq!(json!(fields), expected);
    }
}

#[tokio::test]
async fn another_content_type_method_or_path_is_refused() {
    let system = System::start(&[]).await;
    let authenticate = format!("{}/authenticate", system.auth.url);
    let nowhere = format!("{}/users", system.auth.url);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let send = async |method, url: &str, headers: &[(&str, &str)]| {
        system.auth.client.send(method, url, headers, "{}").await.unwrap()
    };
    let answers = [
        (send(Method::POST, &authenticate, &form).await, 415),
        (send(Method::PUT, &authenticate, JSON).await, 405),
        (send(Method::POST, &nowhere, JSON).await, 404),
    ];
    for (answer, status) in answers {
        assert_eq!((answer.status, &answer.body["error"]), (status, &true.into()), "{answer:?}");
    }
}

#[tokio::test]
async fn the_longest_credentials_are_taken() {
    let system = System::start(&[]).await;
    // Characters count, not bytes.
    let (email, password) = ("é".repeat(254), "密".repeat(1024));
    assert_eq!(system.auth.log_in((&email, &password)).await.status, 401);
}
