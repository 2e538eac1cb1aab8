//! What became of a mail is in the outbox as soon as it is in the ledger; and a dead letter gives a mail that was
//! refused another attempt.

use std::sync::Mutex;

use serde_json::{Value, json};
use testkit::postgres::TestDatabase;
use uuid::Uuid;

use crate::fake::{Act, At, Fake};
use crate::service::{Mailer, mail};

/// A mailer whose server does to each mail in turn what this says, and then takes all.
struct Stand {
    server: Fake,
    mailer: Mailer,
    database: TestDatabase,
}

impl Stand {
    async fn start(says: &[&'static str]) -> Self {
        let says = Mutex::new(says.iter().rev().copied().collect::<Vec<_>>());
        let script = move |at: At<'_>| {
            let said = if at.name == "RCPT" { says.lock().unwrap().pop() } else { None };
            said.map_or(Act::Usual, Act::Say)
        };
        let (server, database) = (Fake::start(script).await, TestDatabase::create("DSN").await);
        let mailer = Mailer::start_on(database.dsn(), "127.0.0.1", server.address().port(), &[]).await;
        mailer.has_its_ledger().await;
        Self { server, mailer, database }
    }

    /// What the outbox has of a mail: types and data, in their order.
    async fn told(&self, id: Uuid) -> Vec<(String, Value)> {
        let mut connection = self.database.connect().await;
        let bodies: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT body FROM outbox WHERE entity = $1 ORDER BY seq")
                .bind(id.to_string())
                .fetch_all(&mut connection)
                .await
                .unwrap();
        let events = bodies.iter().map(|body| serde_json::from_slice::<Value>(body).unwrap());
        events
            .map(|event| {
                assert_eq!(event["subject"], json!(id));
                assert!(event["traceparent"].is_string());
                (event["type"].as_str().unwrap().to_owned(), event["data"].clone())
            })
            .collect()
    }

    async fn types(&self, id: Uuid) -> Vec<String> {
        self.told(id).await.into_iter().map(|(kind, _)| kind).collect()
    }
}

#[tokio::test]
async fn every_end_of_an_attempt_is_told_once() {
    let stand = Stand::start(&["450 later\r\n"]).await;
    let (id, mail) = (Uuid::now_v7(), mail("you@example.com"));
    for status in [503, 202, 202] {
        assert_eq!(stand.mailer.send_as(&id.to_string(), &mail).await.status, status);
    }
    let told = stand.told(id).await;
    let kinds: Vec<_> = told.iter().map(|(kind, data)| (kind.as_str(), data["attempt"].clone())).collect();
    assert_eq!(kinds, [("mail.deferred", json!(1)), ("mail.sent", json!(2))]);
    assert!(told[0].1["why"].as_str().unwrap().contains("450"));
    assert!(told.iter().all(|(_, data)| data["began"].is_string()));
    stand.mailer.stop().await;
}

#[tokio::test]
async fn a_mail_that_may_go_out_twice_is_told_as_such() {
    let stand = Stand::start(&[]).await;
    let (id, mail) = (Uuid::now_v7(), mail("you@example.com"));
    assert_eq!(stand.mailer.send_as(&id.to_string(), &mail).await.status, 202);
    let mut connection = stand.database.connect().await;
    sqlx::query("UPDATE mails SET state = 'claimed', lease_until = now() - interval '1 s' WHERE id = $1")
        .bind(id)
        .execute(&mut connection)
        .await
        .unwrap();
    assert_eq!(stand.mailer.send_as(&id.to_string(), &mail).await.status, 202);
    assert_eq!(stand.types(id).await, ["mail.sent", "mail.resent", "mail.sent"]);
    stand.mailer.stop().await;
}

#[tokio::test]
async fn a_refused_mail_gets_one_more_attempt_a_dead_letter_and_may_be_another_mail() {
    let stand = Stand::start(&["550 no such box\r\n", "550 no such box\r\n"]).await;
    let id = Uuid::now_v7().to_string();
    let (wrong, right) = (mail("wrong@example.com"), mail("right@example.com"));
    assert_eq!(stand.mailer.send_as(&id, &wrong).await.status, 422);
    // Without a letter it stays refused, and another mail is a conflict.
    assert_eq!(stand.mailer.send_as(&id, &wrong).await.status, 422);
    assert_eq!(stand.mailer.send_as(&id, &right).await.status, 409);
    let letter = Uuid::now_v7().to_string();
    assert_eq!(stand.mailer.replay(&id, &letter, &wrong).await.status, 422);
    assert_eq!(stand.server.dialogues().concat().matches("RCPT").count(), 2);
    // The same letter once more is the same attempt.
    assert_eq!(stand.mailer.replay(&id, &letter, &wrong).await.status, 422);
    assert_eq!(stand.server.dialogues().concat().matches("RCPT").count(), 2);
    let letter = Uuid::now_v7().to_string();
    for _ in 0..2 {
        assert_eq!(stand.mailer.replay(&id, &letter, &right).await.status, 202);
    }
    // What is sent is sent, whatever a letter says.
    let letter = Uuid::now_v7().to_string();
    assert_eq!(stand.mailer.replay(&id, &letter, &wrong).await.status, 409);
    assert_eq!(stand.mailer.replay(&id, &letter, &right).await.status, 202);
    assert_eq!(stand.server.mails().len(), 1);
    assert!(stand.server.mails()[0].contains("right@example.com"));
    let id = id.parse().unwrap();
    assert_eq!(stand.types(id).await, ["mail.failed", "mail.failed", "mail.sent"]);
    stand.mailer.stop().await;
}

#[tokio::test]
async fn a_header_that_is_no_uuid_is_refused() {
    let stand = Stand::start(&[]).await;
    let id = Uuid::now_v7().to_string();
    let answer = stand.mailer.replay(&id, "again", &mail("you@example.com")).await;
    assert_eq!((answer.status, answer.message()), (400, "the header switchboard-replay must be a UUID"));
    assert!(stand.server.mails().is_empty());
    stand.mailer.stop().await;
}
