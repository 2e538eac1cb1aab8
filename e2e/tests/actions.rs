//! What was queued can be followed to its end, and what died can be seen, mended and sent back.

use e2e::catcher::{mail_to, mails_to};
use e2e::publisher::publish;
use e2e::system::{SOON, System, unique};
use http::Method;
use serde_json::{Value, json};
use testkit::http::Response;
use testkit::{eventually, setting};
use uuid::Uuid;

const ASYNC: (&str, &str) = ("prefer", "respond-async");

async fn get(system: &System, path: &str) -> Response {
    system.send(Method::GET, path, &[], "").await
}

async fn post(system: &System, path: &str, body: &Value) -> Response {
    system.send(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
}

/// The kinds of the steps of a trail.
fn kinds(trail: &Value) -> Vec<&str> {
    trail["steps"].as_array().into_iter().flatten().filter_map(|step| step["kind"].as_str()).collect()
}

/// What `/actions/…` says, once the action stands like that.
async fn trail(system: &System, location: &str, state: &str) -> Value {
    eventually(SOON, state, || async {
        let answer = get(system, &format!("{location}?wait=5s")).await;
        let trail = answer.body["data"].clone();
        if trail["state"] == state { Ok(trail) } else { Err(answer.body.to_string()) }
    })
    .await
}

/// The dead letter of an action, once it is there.
async fn letter(system: &System, query: &str) -> Value {
    eventually(SOON, "a dead letter", || async {
        let answer = get(system, &format!("/dead-letters?{query}")).await;
        let letter = answer.body["data"]["letters"][0].clone();
        if letter.is_object() { Ok(letter) } else { Err(answer.body.to_string()) }
    })
    .await
}

#[tokio::test]
async fn a_queued_mail_is_sent_once_and_its_trail_says_so() {
    let system = System::healthy().await;
    let to = format!("{}@example.com", unique("queued"));
    let key = unique("key");
    let body = json!({"action": "mail", "mail": {"to": to, "subject": "Queued", "message": "It works."}});
    let headers = [ASYNC, ("idempotency-key", key.as_str())];
    let answer = system.handle_with(&headers, body.clone()).await;
    assert_eq!((answer.status, answer.header("preference-applied")), (202, "respond-async"), "{answer:?}");
    let id = answer.body["id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(answer.header("location"), format!("/actions/{id}"));
    let done = trail(&system, answer.header("location"), "done").await;
    assert_eq!((&done["action"], kinds(&done)), (&json!("mail"), vec!["queued", "delivered", "done"]));
    assert!(mail_to(&to).await.message_id.contains(&id));
    // Sent again, in any form: the same answer, and no second mail.
    let again = system.handle_with(&headers, body.clone()).await;
    assert_eq!((again.status, &again.body["id"]), (202, &answer.body["id"]));
    let direct = system.handle_with(&headers[1..], body).await;
    assert_eq!((direct.status, &direct.body["id"]), (202, &answer.body["id"]));
    trail(&system, &format!("/actions/{id}"), "done").await;
    assert_eq!(mails_to(&to).await.map(|mails| mails.len()), Ok(1));
}

#[tokio::test]
async fn a_key_that_is_used_again_with_another_mail_changes_nothing_of_the_first() {
    let system = System::healthy().await;
    let (key, first, second) = (unique("key"), unique("first"), unique("second"));
    let headers = [ASYNC, ("idempotency-key", key.as_str())];
    let mail = |to: &str| {
        let mail = json!({"to": format!("{to}@example.com"), "subject": "One key", "message": "m"});
        json!({"action": "mail", "mail": mail})
    };
    let answer = system.handle_with(&headers, mail(&first)).await;
    let path = answer.header("location").to_owned();
    trail(&system, &path, "done").await;
    let again = system.handle_with(&headers, mail(&second)).await;
    assert_eq!((again.status, again.header("location")), (202, path.as_str()));
    let id = path.trim_start_matches("/actions/");
    let conflict = letter(&system, &format!("action={id}")).await;
    let reason = conflict["reason"].as_str().unwrap_or_default();
    assert!(reason.ends_with("with another payload"), "{conflict}");
    let discard = format!("/dead-letters/{}/discard", conflict["id"].as_str().unwrap_or_default());
    assert_eq!(post(&system, &discard, &json!({"reason": "a test"})).await.status, 200);
    let told = eventually(SOON, "the conflict in the trail", || async {
        let trail = trail(&system, &path, "done").await;
        if kinds(&trail).contains(&"conflict") { Ok(trail) } else { Err(trail.to_string()) }
    })
    .await;
    assert_eq!((kinds(&told).last(), &told["error"]), (Some(&"conflict"), &json!(null)), "{told}");
    let sent =
        (mails_to(&format!("{first}@example.com")).await, mails_to(&format!("{second}@example.com")).await);
    assert_eq!((sent.0.map(|mails| mails.len()), sent.1.map(|mails| mails.len())), (Ok(1), Ok(0)));
}

#[tokio::test]
async fn a_queued_log_can_be_followed_too() {
    let system = System::healthy().await;
    let name = unique("followed");
    let body = json!({"action": "log", "log": {"name": name, "data": 1}});
    let answer = system.handle_with(&[ASYNC], body).await;
    let done = trail(&system, answer.header("location"), "done").await;
    assert_eq!((&done["action"], kinds(&done)), (&json!("log"), vec!["queued", "done"]));
    system.entry(&name).await;
}

#[tokio::test]
async fn a_direct_mail_has_a_trail() {
    let system = System::healthy().await;
    let to = format!("{}@example.com", unique("direct"));
    let answer = system.handle("mail", json!({"to": to, "subject": "Direct", "message": "m"})).await;
    let id = answer.body["id"].as_str().unwrap_or_default();
    let done = trail(&system, &format!("/actions/{id}"), "done").await;
    assert_eq!((kinds(&done), &done["attempts"]), (vec!["delivered", "done"], &json!(1)));
}

#[tokio::test]
async fn what_died_can_be_mended_and_sent_back_once() {
    let system = System::healthy().await;
    let (id, name) = (Uuid::now_v7(), unique("mended"));
    let body = json!({"name": name}).to_string();
    publish("logs_topic", "log.ERROR", id, body.as_bytes()).await;

    let dead = letter(&system, &format!("action={id}")).await;
    assert_eq!((&dead["reason"], &dead["queue"]), (&json!("data is required"), &json!("switchboard.log")));
    assert_eq!(trail(&system, &format!("/actions/{id}"), "dead").await["error"], "data is required");
    let letter = format!("/dead-letters/{}", dead["id"].as_str().unwrap_or_default());
    assert_eq!(get(&system, &letter).await.body["data"]["body"], body);

    let edited = json!({"body": {"name": name, "data": "mended"}});
    let replayed = post(&system, &format!("{letter}/replay"), &edited).await;
    assert_eq!(replayed.status, 202, "{replayed:?}");
    let entry = system.entry(&name).await;
    assert_eq!(
        (&entry["id"], &entry["level"], &entry["data"]),
        (&json!(id), &json!("error"), &json!("mended"))
    );
    let done = trail(&system, &format!("/actions/{id}"), "done").await;
    assert_eq!(kinds(&done), ["queued", "dead", "replayed", "done"]);
    for (path, body) in [("replay", json!({})), ("discard", json!({"reason": "late"}))] {
        let answer = post(&system, &format!("{letter}/{path}"), &body).await;
        assert_eq!(answer.status, 409, "{answer:?}");
    }
}

#[tokio::test]
async fn the_command_mends_and_sends_back_what_is_large() {
    let system = System::healthy().await;
    let (id, name) = (Uuid::now_v7(), unique("large"));
    publish("logs_topic", "log.ERROR", id, json!({"name": name}).to_string().as_bytes()).await;
    let dead = letter(&system, &format!("action={id}")).await;
    // More than one argument of a program may have.
    let data = "x".repeat(200_000);
    let file = std::env::temp_dir().join(&name);
    std::fs::write(&file, json!({"name": name, "data": data}).to_string()).unwrap();
    let command = concat!(env!("CARGO_MANIFEST_DIR"), "/../dev/dead-letters");
    let replayed = tokio::process::Command::new(command)
        .args(["replay", dead["id"].as_str().unwrap_or_default(), "--body"])
        .arg(&file)
        .env("BROKER_URL", setting("BROKER_URL"))
        .output()
        .await
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(replayed.status.success(), "{replayed:?}");
    assert_eq!(system.entry(&name).await["data"], data);
}

#[tokio::test]
async fn a_broken_event_is_discarded_with_a_reason() {
    let system = System::healthy().await;
    let id = Uuid::now_v7();
    // For the mail queue alone: the trail queue would have a letter of its own.
    publish("", "switchboard.mail", id, b"{\"id\":1}").await;
    let dead = letter(&system, &format!("action={id}&queue=switchboard.mail")).await;
    assert!(dead["reason"].as_str().unwrap_or_default().contains("not a CloudEvent"), "{dead}");
    let path = format!("/dead-letters/{}/discard", dead["id"].as_str().unwrap_or_default());
    let answer = post(&system, &path, &json!({"reason": "a test"})).await;
    assert_eq!((answer.status, &answer.body["data"]["state"]), (200, &json!("discarded")), "{answer:?}");
    assert_eq!(kinds(&trail(&system, &format!("/actions/{id}"), "dead").await), ["dead", "discarded"]);
}

#[tokio::test]
async fn what_is_not_known_is_said() {
    let system = System::healthy().await;
    let unknown = Uuid::now_v7();
    for (path, status) in [
        ("/actions/seven".to_owned(), 400),
        (format!("/actions/{unknown}"), 404),
        (format!("/actions/{unknown}?wait=2h"), 422),
        (format!("/dead-letters/{unknown}"), 404),
        ("/dead-letters?state=alive".to_owned(), 422),
    ] {
        let answer = get(&system, &path).await;
        assert_eq!((answer.status, &answer.body["error"]), (status, &json!(true)), "{path}: {answer:?}");
    }
    let account = json!({"action": "auth", "auth": {"email": "admin@example.com", "password": "verysecret"}});
    let answer = system.handle_with(&[ASYNC], account).await;
    assert_eq!((answer.status, answer.header("preference-applied")), (202, ""));
}
