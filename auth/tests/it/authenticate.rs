//! `POST /authenticate` with well-formed credentials.

use auth::users::{self, NewUser};
use sqlx::Connection as _;
use testkit::postgres::TestDatabase;

use crate::service::{ADMIN, Auth, System};

/// `password`, hashed in 256 KiB.
const WEAK: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

async fn register(database: &TestDatabase, email: &str, password_hash: &str, active: bool) -> i64 {
    let new = NewUser {
        email: email.to_owned(),
        first_name: "Ada".to_owned(),
        last_name: "Lovelace".to_owned(),
        password_hash: password_hash.to_owned(),
        active,
    };
    let mut connection = database.connect().await;
    let user = users::register(&mut connection, &new).await.unwrap();
    connection.close().await.unwrap();
    user.id
}

async fn hash_of(database: &TestDatabase, email: &str) -> String {
    let mut connection = database.connect().await;
    users::find_by_email(&mut connection, email).await.unwrap().unwrap().password_hash
}

#[tokio::test]
async fn the_right_password_gives_the_user() {
    let system = System::start(&[]).await;
    let mut answer = system.auth.log_in(ADMIN).await;
    assert_eq!(answer.status, 202);
    for time in ["created_at", "updated_at"] {
        let text = answer.body["data"][time].take();
        assert!(text.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{text}");
    }
    assert_eq!(answer.body["trace_id"].take().as_str().unwrap().len(), 32);
    assert_eq!(answer.body["id"].take(), answer.header("x-request-id"));
    insta::assert_json_snapshot!(answer.body, @r#"
    {
      "data": {
        "active": true,
        "created_at": null,
        "email": "admin@example.com",
        "first_name": "Admin",
        "id": 1,
        "last_name": "User",
        "updated_at": null
      },
      "error": false,
      "id": null,
      "message": "Authenticated!",
      "trace_id": null
    }
    "#);
}

#[tokio::test]
async fn the_address_is_compared_without_regard_to_case() {
    let system = System::start(&[]).await;
    let answer = system.auth.log_in(("Admin@Example.COM", ADMIN.1)).await;
    assert_eq!((answer.status, &answer.body["data"]["email"]), (202, &ADMIN.0.into()));
}

#[tokio::test]
async fn wrong_password_unknown_address_and_inactive_account_get_the_same_answer() {
    let system = System::start(&[]).await;
    register(&system.database, "gone@example.com", WEAK, false).await;
    let refused = [
        (ADMIN.0, "verysecre"),
        (ADMIN.0, "Verysecret"),
        ("nobody@example.com", ADMIN.1),
        ("not an address", ADMIN.1),
        ("' OR 1=1 --", ADMIN.1),
        ("gone@example.com", "password"),
    ];
    for credentials in refused {
        let mut answer = system.auth.log_in(credentials).await;
        assert_eq!((answer.status, answer.message()), (401, "Invalid credentials"), "{credentials:?}");
        let body = answer.body.as_object_mut().unwrap();
        body.retain(|key, _| !["id", "trace_id"].contains(&key.as_str()));
        assert_eq!(answer.body, serde_json::json!({"error": true, "message": "Invalid credentials"}));
    }
}

#[tokio::test]
async fn an_outdated_hash_is_renewed_by_the_log_in_and_by_no_other() {
    let system = System::start(&[]).await;
    let email = "ada@example.com";
    register(&system.database, email, WEAK, true).await;
    assert_eq!(system.auth.log_in((email, "Password")).await.status, 401);
    assert_eq!(hash_of(&system.database, email).await, WEAK);
    let first = system.auth.log_in((email, "password")).await;
    assert_eq!(first.status, 202);
    let renewed = hash_of(&system.database, email).await;
    assert!(renewed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{renewed}");
    let second = system.auth.log_in((email, "password")).await;
    assert_eq!((second.status, &second.body["data"]), (202, &first.body["data"]));
    assert_eq!(hash_of(&system.database, email).await, renewed);
}

#[tokio::test]
async fn a_damaged_hash_is_this_services_mistake_and_tells_nothing() {
    let system = System::start(&[]).await;
    register(&system.database, "ada@example.com", "verysecret", true).await;
    let answer = system.auth.log_in(("ada@example.com", "verysecret")).await;
    let message = "the log-in could not be checked because of a mistake in this service";
    assert_eq!((answer.status, answer.message()), (500, message));
}

#[tokio::test]
async fn in_production_there_is_no_account_to_try() {
    let database = TestDatabase::create("DSN").await;
    let auth = Auth::start(database.dsn(), &["--environment", "production"]).await.ready().await;
    assert_eq!(auth.log_in(ADMIN).await.status, 401);
    let mut connection = database.connect().await;
    let users: i64 =
        sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(&mut connection).await.unwrap();
    assert_eq!(users, 0);
    auth.running.stop().await;
}

#[tokio::test]
async fn a_log_in_under_way_is_answered_before_the_service_stops() {
    let System { auth, database } = System::start(&["--hash-threads", "1"]).await;
    let Auth { running, client, url } = auth;
    let log_in = || {
        let (client, url) = (client.clone(), format!("{url}/authenticate"));
        let credentials = serde_json::json!({"email": ADMIN.0, "password": ADMIN.1});
        async move { client.post(&url, &credentials).await.unwrap().status }
    };
    let under_way = futures_util::future::join_all((0..4).map(|_| log_in()));
    tokio::pin!(under_way);
    // All of them are looked up or hashed once the first is done.
    let mut first = std::pin::pin!(log_in());
    let mut answered = None;
    let stopped = tokio::select! {
        status = &mut first => { assert_eq!(status, 202); running.stop() }
        statuses = &mut under_way => { answered = Some(statuses); running.stop() }
    };
    let rest = async {
        match answered {
            Some(statuses) => statuses,
            None => under_way.await,
        }
    };
    let ((), statuses) = tokio::join!(stopped, rest);
    assert_eq!(statuses, [202; 4]);
    drop(database);
}
