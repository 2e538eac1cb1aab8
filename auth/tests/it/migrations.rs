//! The tables, made by the service itself.

use std::time::Duration;

use chassis::lifecycle::Drain;
use futures_util::future::join_all;
use sqlx::Connection as _;
use testkit::postgres::TestDatabase;

use crate::service::{ADMIN, Auth};

const DEVELOPMENT: &[&str] = &["--environment", "development", "--hash-threads", "1"];

async fn count(database: &TestDatabase, table: &str) -> i64 {
    let mut connection = database.connect().await;
    let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap()
}

async fn execute(database: &TestDatabase, statement: &'static str) {
    let mut connection = database.connect().await;
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn replicas_that_start_together_make_the_tables_and_the_account_once() {
    let database = TestDatabase::create("DSN").await;
    let start = || async { Auth::start(database.dsn(), DEVELOPMENT).await.ready().await };
    let replicas = join_all((0..4).map(|_| start())).await;
    for replica in &replicas {
        assert_eq!(replica.log_in(ADMIN).await.status, 202);
    }
    let migrations = i64::try_from(auth::MIGRATIONS.iter().count()).unwrap();
    assert_eq!(count(&database, "_sqlx_migrations").await, migrations);
    assert_eq!(count(&database, "users").await, 1);
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let database = TestDatabase::create("DSN").await;
    let first = Auth::start(database.dsn(), DEVELOPMENT).await.ready().await;
    let before = first.log_in(ADMIN).await;
    first.running.stop().await;
    let second = Auth::start(database.dsn(), DEVELOPMENT).await.ready().await;
    assert_eq!(second.log_in(ADMIN).await.body["data"], before.body["data"]);
}

#[tokio::test]
async fn a_replica_works_with_tables_that_a_newer_one_has_made() {
    let database = TestDatabase::create("DSN").await;
    Auth::start(database.dsn(), DEVELOPMENT).await.ready().await.running.stop().await;
    execute(
        &database,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', true, '\\x00', 1)",
    )
    .await;
    let auth = Auth::start(database.dsn(), DEVELOPMENT).await.ready().await;
    assert_eq!(auth.log_in(ADMIN).await.status, 202);
}

#[tokio::test]
async fn tables_that_do_not_fit_stop_the_service_with_the_reason() {
    let database = TestDatabase::create("DSN").await;
    Auth::start(database.dsn(), DEVELOPMENT).await.ready().await.running.stop().await;
    execute(&database, "UPDATE _sqlx_migrations SET checksum = '\\x00'").await;
    let auth = Auth::start(database.dsn(), DEVELOPMENT).await;
    let drain = Drain { delay: Duration::ZERO, timeout: Duration::from_secs(10) };
    let error = auth.running.lifecycle().clone().run(drain).await.unwrap_err().to_string();
    assert!(error.contains("the tables in the database do not fit this version"), "{error}");
}
