//! A connection to PostgreSQL that a task keeps for itself.

use std::time::Duration;

use chassis::postgres::{Database, DatabaseArgs, DatabaseError, Session};
use sqlx::Connection as _;
use testkit::postgres::TestDatabase;
use testkit::proxy::FaultProxy;
use testkit::{Running, eventually};

use crate::amqp::rabbit::SOON;
use crate::outbox::MIGRATIONS;

/// Longer than a connection that nobody uses is taken to be alive.
const UNUSED: Duration = Duration::from_millis(1100);

async fn one(session: &mut Session) -> Result<i32, DatabaseError> {
    session.run(async |connection| sqlx::query_scalar("SELECT 1").fetch_one(connection).await).await
}

#[tokio::test]
async fn a_connection_that_went_while_nobody_used_it_costs_nobody_anything() {
    let test = TestDatabase::create("DSN").await;
    let proxy = FaultProxy::to(&test.server()).await;
    let dsn = test.dsn_through(proxy.address()).parse().unwrap();
    let database = Database::new("test", &DatabaseArgs { dsn, db_pool_size: 1 }, &MIGRATIONS);
    let running = Running::start(async |lifecycle| {
        let keeping = database.clone().keep(std::future::ready(()), lifecycle.closing());
        lifecycle.background("database", keeping);
        Ok(())
    })
    .await;
    eventually(SOON, "the tables", || database.check()).await;
    let mut session = database.session();
    assert_eq!(one(&mut session).await.unwrap(), 1);

    proxy.reset();
    tokio::time::sleep(UNUSED).await;
    assert_eq!(one(&mut session).await.unwrap(), 1);

    // One that was used just now is taken to be alive: what it is used for fails, and the next has another.
    proxy.reset();
    assert!(matches!(one(&mut session).await, Err(DatabaseError::Unavailable(_))));
    assert_eq!(one(&mut session).await.unwrap(), 1);

    // What PostgreSQL says of a mistake is for whoever reads the log.
    let mistake =
        session.run(async |connection| sqlx::query("SELECT nothing").execute(connection).await).await;
    let why = mistake.unwrap_err().to_string();
    assert!(why.contains("column \"nothing\" does not exist"), "{why}");

    // Who stood still in a transaction finds it gone, and may try again.
    let stood_still = session.run(async |connection| {
        let mut transaction = connection.begin().await?;
        sqlx::query("SET idle_in_transaction_session_timeout = 50").execute(&mut *transaction).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        sqlx::query("SELECT 1").execute(&mut *transaction).await?;
        transaction.commit().await
    });
    let why = stood_still.await.unwrap_err();
    assert!(matches!(why, DatabaseError::Unavailable(_)), "{why:?}");
    running.stop().await;
}
