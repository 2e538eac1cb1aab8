//! One key, one effect: whatever is sent again.

use e2e::catcher::{mail_to, mails_to};
use e2e::system::{System, unique};
use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::http::Response;

const CONFLICT: &str = "the Idempotency-Key was used before with another payload";

async fn keyed(system: &System, key: &str, body: &Value) -> Response {
    system.handle_with(&[("idempotency-key", key)], body.clone()).await
}

#[tokio::test]
async fn a_log_that_is_sent_again_in_any_form_is_one_entry() {
    let system = System::healthy().await;
    let (key, name) = (unique("key"), unique("keyed"));
    let body = json!({"action": "log", "log": {"name": name, "data": {"number": 17, "price": 1.5}}});
    let first = keyed(&system, &key, &body).await;
    assert_eq!(first.status, 202, "{}", first.body);
    let again = join_all((0..8).map(|_| keyed(&system, &key, &body))).await;
    for answer in &again {
        assert_eq!((answer.status, &answer.body["id"]), (202, &first.body["id"]));
        assert_eq!(answer.message(), first.message());
    }
    let queued = [("idempotency-key", key.as_str()), ("prefer", "respond-async")];
    let answer = system.handle_with(&queued, body.clone()).await;
    assert_eq!((answer.status, &answer.body["id"]), (202, &first.body["id"]));

    let other = json!({"action": "log", "log": {"name": name, "data": {"number": 18}}});
    let answer = keyed(&system, &key, &other).await;
    assert_eq!((answer.status, answer.message()), (409, CONFLICT));

    // What was queued after it is stored after it.
    let marker = unique("marker");
    let last = json!({"action": "log", "log": {"name": marker, "data": 1}});
    assert_eq!(system.handle_with(&[("prefer", "respond-async")], last).await.status, 202);
    system.entry(&marker).await;
    let entries = system.entries(&name).await.unwrap();
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!((&entries[0]["id"], &entries[0]["data"]), (&first.body["id"], &body["log"]["data"]));
}

#[tokio::test]
async fn a_mail_that_is_sent_again_goes_out_once() {
    let system = System::healthy().await;
    let (key, to) = (unique("key"), format!("{}@example.com", unique("once")));
    let body = json!({"action": "mail", "mail": {"to": to, "subject": "s", "message": "m"}});
    let answers = join_all((0..8).map(|_| keyed(&system, &key, &body))).await;
    assert!(answers.iter().all(|answer| matches!(answer.status, 202 | 409)), "{answers:?}");
    for refused in answers.iter().filter(|answer| answer.status == 409) {
        assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
    }
    let last = keyed(&system, &key, &body).await;
    assert_eq!(last.status, 202, "{}", last.body);
    let other = json!({"action": "mail", "mail": {"to": to, "subject": "another", "message": "m"}});
    let answer = keyed(&system, &key, &other).await;
    assert_eq!((answer.status, answer.message()), (409, CONFLICT));

    mail_to(&to).await;
    assert_eq!(mails_to(&to).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_action_and_a_caller_have_keys_of_their_own() {
    let system = System::healthy().await;
    let key = unique("key");
    let log = json!({"action": "log", "log": {"name": unique("own"), "data": 1}});
    let to = format!("{}@example.com", unique("own"));
    let mail = json!({"action": "mail", "mail": {"to": to, "subject": "s", "message": "m"}});
    let of_ada = [("idempotency-key", key.as_str()), ("authorization", "Bearer ada")];
    let ids = [
        keyed(&system, &key, &log).await,
        keyed(&system, &key, &mail).await,
        system.handle_with(&of_ada, log.clone()).await,
    ]
    .map(|answer| {
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.body["id"].clone()
    });
    assert!(ids[0] != ids[1] && ids[0] != ids[2], "{ids:?}");
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_and_has_no_effect() {
    let system = System::healthy().await;
    let name = unique("no-key");
    let body = json!({"action": "log", "log": {"name": name, "data": 1}});
    for bad in ["", "two words", &"x".repeat(256)] {
        let answer = keyed(&system, bad, &body).await;
        assert_eq!(answer.status, 400, "{bad}: {}", answer.body);
        assert!(
            answer.message().contains("Idempotency-Key must be 1 to 255 visible ASCII"),
            "{}",
            answer.message()
        );
    }
    assert!(system.entries(&name).await.unwrap().is_empty());
}
