//! Registering users.

use auth::MIGRATIONS;
use auth::registration::{RegistrationError, register};
use auth::users::{self, NewUser, RegisterError};
use chassis::postgres::{Database, DatabaseArgs};
use contracts::auth::User;
use contracts::event::CloudEvent;
use futures_util::future::join_all;
use sqlx::{Connection as _, PgPool};
use testkit::postgres::TestDatabase;
use uuid::Uuid;

async fn tables() -> TestDatabase {
    let database = TestDatabase::create("DSN").await;
    let args = DatabaseArgs { dsn: database.dsn().parse().unwrap(), db_pool_size: 1 };
    Database::new("auth", &args, &MIGRATIONS).migrate().await.unwrap();
    database
}

fn ada(email: &str) -> NewUser {
    NewUser {
        email: email.to_owned(),
        first_name: "Ada".to_owned(),
        last_name: "Lovelace".to_owned(),
        password_hash: "$argon2id$".to_owned(),
        active: true,
    }
}

#[tokio::test]
async fn of_concurrent_registrations_of_one_address_exactly_one_succeeds() {
    let database = tables().await;
    let pool = PgPool::connect(database.dsn()).await.unwrap();
    let emails = ["ada@example.com", "Ada@example.com", "ADA@EXAMPLE.COM", "ada@Example.com"];
    let results = join_all(emails.iter().cycle().take(12).map(|email| {
        let pool = &pool;
        async move { users::register(pool, &ada(email)).await }
    }))
    .await;
    let taken = results.iter().filter(|result| matches!(result, Err(RegisterError::EmailTaken))).count();
    let made: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    assert_eq!((made.len(), taken), (1, 11), "{results:?}");
    let found = users::find_by_email(&pool, "aDa@eXample.com").await.unwrap().unwrap();
    assert_eq!(&found.user, made[0]);
    pool.close().await;
}

#[tokio::test]
async fn a_registration_is_part_of_the_transaction_that_it_is_made_in() {
    let database = tables().await;
    let mut connection = database.connect().await;
    let mut transaction = connection.begin().await.unwrap();
    users::register(&mut *transaction, &ada("ada@example.com")).await.unwrap();
    transaction.rollback().await.unwrap();
    assert!(users::find_by_email(&mut connection, "ada@example.com").await.unwrap().is_none());
    users::register(&mut connection, &ada("ada@example.com")).await.unwrap();
    let again = users::register(&mut connection, &ada("ada@example.com")).await;
    assert!(matches!(again, Err(RegisterError::EmailTaken)), "{again:?}");
}

#[tokio::test]
async fn a_new_user_and_the_event_that_tells_of_it_are_there_together() {
    let database = tables().await;
    let mut connection = database.connect().await;
    let (id, new) = (Uuid::now_v7(), ada("ada@example.com"));
    let user = register(&mut connection, id, &new).await.unwrap();
    let again = register(&mut connection, Uuid::now_v7(), &new).await;
    assert!(matches!(again, Err(RegistrationError::User(RegisterError::EmailTaken))), "{again:?}");
    let events: Vec<(Uuid, String, Vec<u8>, Option<String>)> =
        sqlx::query_as("SELECT id, routing_key, body, traceparent FROM outbox ORDER BY seq")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    let [(event, key, body, trace), (_, step, _, same)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*event, key.as_str(), step.as_str()), (id, "auth.user.registered", "mail.queued"));
    let body: CloudEvent<User> = serde_json::from_slice(body).unwrap();
    assert_eq!(body.data, user);
    // The trail has one trace from here on.
    assert!(trace.is_some(), "{events:?}");
    assert_eq!((&body.traceparent, same), (trace, trace));
}
