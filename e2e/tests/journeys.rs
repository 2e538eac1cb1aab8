//! What people do with the system, through its ports.

use e2e::catcher::mail_to;
use e2e::system::{System, unique};
use http::Method;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::json;
use testkit::setting;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

#[tokio::test]
async fn the_broker_says_hello() {
    let system = System::healthy().await;
    let hello = system.send(Method::POST, "/", &[], "").await;
    assert_eq!((hello.status, &hello.body["error"]), (200, &json!(false)));
    assert_eq!(hello.message(), "Hit the Broker");
    for method in [Method::GET, Method::HEAD] {
        assert_eq!(system.send(method, "/ping", &[], "").await.status, 200);
    }
}

#[tokio::test]
async fn the_account_of_the_development_stack_logs_in() {
    let system = System::healthy().await;
    let account = json!({"email": "admin@example.com", "password": "verysecret"});
    let answer = system.handle("auth", account).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(answer.message(), "Authenticated!");
    let user = &answer.body["data"];
    assert_eq!((&user["email"], &user["active"]), (&json!("admin@example.com"), &json!(true)));
    for field in ["id", "first_name", "last_name", "created_at", "updated_at"] {
        assert!(!user[field].is_null(), "{field} is missing in {user}");
    }
    assert!(user.get("password").is_none() && user.get("password_hash").is_none());
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_get_one_answer() {
    let system = System::healthy().await;
    for email in ["admin@example.com".to_owned(), format!("{}@example.com", unique("nobody"))] {
        let answer = system.handle("auth", json!({"email": email, "password": "wrong"})).await;
        assert_eq!(answer.status, 401);
        assert_eq!((&answer.body["error"], answer.message()), (&json!(true), "Invalid credentials"));
    }
}

#[tokio::test]
async fn a_log_is_stored_with_its_id_and_trace() {
    let system = System::healthy().await;
    let name = unique("direct");
    let payload =
        json!({"name": name, "data": {"a": [1, 2.5, null, "é"]}, "level": "warning", "fields": {"k": 1}});
    let answer = system
        .handle_with(
            &[("traceparent", TRACEPARENT), ("x-request-id", "mine-1")],
            json!({"action": "log", "log": payload.clone()}),
        )
        .await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(answer.message(), format!("Logged via RPC: {name}"));
    assert_eq!(answer.body["trace_id"], TRACE_ID);
    assert_eq!(answer.header("x-request-id"), "mine-1");
    assert!(answer.header("traceparent").starts_with(&format!("00-{TRACE_ID}-")));
    let entry = system.entry(&name).await;
    assert_eq!((&entry["id"], &entry["trace_id"]), (&answer.body["id"], &json!(TRACE_ID)));
    for field in ["data", "level", "fields"] {
        assert_eq!(entry[field], payload[field], "{field}");
    }
}

#[tokio::test]
async fn a_queued_log_ends_as_an_entry_of_the_same_id_and_trace() {
    let system = System::healthy().await;
    let name = unique("queued");
    let body = json!({"action": "log", "log": {"name": name, "data": "d", "level": "error"}});
    let headers = [("prefer", "respond-async"), ("traceparent", TRACEPARENT)];
    let answer = system.handle_with(&headers, body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(answer.header("preference-applied"), "respond-async");
    let entry = system.entry(&name).await;
    assert_eq!((&entry["id"], &entry["trace_id"]), (&answer.body["id"], &json!(TRACE_ID)));
    assert_eq!((&entry["level"], &entry["via"]), (&json!("error"), &json!("queue")));
}

#[tokio::test]
async fn a_message_of_an_existing_publisher_ends_as_an_entry() {
    let system = System::healthy().await;
    let connection =
        Connection::connect(&setting("RABBITMQ_URL"), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for (key, level) in [("log.INFO", "info"), ("log.WARNING", "warning"), ("log.ERROR", "error")] {
        let name = unique("legacy");
        let body = json!({"name": name, "data": "from an existing publisher"}).to_string();
        let confirm = channel
            .basic_publish(
                "logs_topic".into(),
                key.into(),
                BasicPublishOptions { mandatory: true, ..Default::default() },
                body.as_bytes(),
                BasicProperties::default(),
            )
            .await
            .unwrap()
            .await
            .unwrap();
        assert!(confirm.is_ack(), "{confirm:?}");
        let entry = system.entry(&name).await;
        assert_eq!((&entry["level"], &entry["data"]), (&json!(level), &json!("from an existing publisher")));
    }
}

#[tokio::test]
async fn a_mail_arrives_with_text_and_html() {
    let system = System::healthy().await;
    let to = format!("{}@example.com", unique("to"));
    let mail = json!({"from": "me@example.com", "to": to, "subject": "Grüße", "message": "Hello <you>\nsecond line"});
    let answer = system.handle("mail", mail).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(answer.message(), format!("Message sent to {to}"));
    let mail = mail_to(&to).await;
    assert_eq!(mail.subject, "Grüße");
    assert!(mail.text.contains("Hello <you>") && mail.text.contains("second line"), "{}", mail.text);
    assert!(mail.html.contains("Hello &lt;you&gt;") && mail.html.contains("style="), "{}", mail.html);
    assert!(mail.message_id.contains(answer.body["id"].as_str().unwrap()), "{}", mail.message_id);
}

#[tokio::test]
async fn a_page_of_another_origin_may_call() {
    let system = System::healthy().await;
    let origin = setting("FRONTEND_URL").trim_end_matches('/').to_owned();
    let preflight = system
        .send(
            Method::OPTIONS,
            "/handle",
            &[
                ("origin", &origin),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "content-type,prefer,traceparent,x-request-id"),
            ],
            "",
        )
        .await;
    assert_eq!(preflight.status, 200);
    assert_eq!(preflight.header("access-control-allow-origin"), origin);
    let strange = system.send(Method::POST, "/", &[("origin", "https://evil.example")], "").await;
    assert_eq!(strange.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn every_service_is_live_ready_and_measured() {
    System::healthy().await;
    for service in [
        "BROKER_URL",
        "FRONTEND_URL",
        "AUTH_SERVICE_URL",
        "MAIL_SERVICE_URL",
        "LOGGER_SERVICE_URL",
        "LISTENER_SERVICE_URL",
    ] {
        let base = setting(service);
        let base = base.trim_end_matches('/');
        for path in ["/livez", "/readyz"] {
            let answer = testkit::http::get(&format!("{base}{path}")).await;
            assert_eq!(answer.status, 200, "{service} {path}: {}", answer.body);
        }
        let metrics = testkit::http::get(&format!("{base}/metrics")).await;
        let text = metrics.body.as_str().unwrap();
        assert!(text.contains("http_requests_total{"), "{service}: {text}");
    }
}
