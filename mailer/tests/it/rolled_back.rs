//! A PostgreSQL that rolls the ledger back, and one that is slow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use testkit::eventually;
use testkit::postgres::TestDatabase;
use testkit::proxy::FaultProxy;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::fake::{Act, At, Fake};
use crate::service::{Mailer, PATIENCE, mail};

/// A mailer, and a transaction against the order of its own.
struct Stand {
    server: Fake,
    mailer: Mailer,
    database: TestDatabase,
}

impl Stand {
    async fn start() -> Self {
        let (server, database) = (Fake::start(|_| Act::Usual).await, TestDatabase::create("DSN").await);
        let mailer = Mailer::start_on(database.dsn(), "127.0.0.1", server.address().port(), &[]).await;
        mailer.has_its_ledger().await;
        Self { server, mailer, database }
    }

    /// Waits until the ledger has the row of this mail and wants the outbox, which `other` [holds](hold_the_outbox), and
    /// wants the row for `other`: a deadlock. `other` is the more patient one, so the ledger is rolled back (SQLSTATE 40P01).
    async fn deadlock(&self, id: Uuid, other: &mut PgConnection) {
        let watching = tokio::sync::Mutex::new(self.database.connect().await);
        eventually(PATIENCE, "the ledger waits for the outbox", || async {
            // The sweep of the outbox may wait too.
            let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                           AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO outbox%')";
            let waits = sqlx::query_scalar(waiting).fetch_one(&mut *watching.lock().await).await.unwrap();
            if waits { Ok(()) } else { Err("it does not wait") }
        })
        .await;
        let wanted = sqlx::query("SELECT FROM mails WHERE id = $1 FOR UPDATE").bind(id);
        wanted.execute(other).await.unwrap();
    }

    /// Waits until PostgreSQL has counted a deadlock.
    async fn was_rolled_back(&self) {
        eventually(PATIENCE, "the deadlock is counted", || async {
            let counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
            let mut connection = self.database.connect().await;
            let deadlocks: i64 = sqlx::query_scalar(counted).fetch_one(&mut connection).await.unwrap();
            if deadlocks > 0 { Ok(()) } else { Err("none") }
        })
        .await;
    }

    /// How the mail stands, and the types of what is told of it.
    async fn stands(&self, id: Uuid) -> (String, i32, Vec<String>) {
        let mut connection = self.database.connect().await;
        let (state, attempts) = sqlx::query_as("SELECT state, attempts FROM mails WHERE id = $1")
            .bind(id)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        let told = sqlx::query_scalar("SELECT routing_key FROM outbox WHERE entity = $1 ORDER BY seq")
            .bind(id.to_string())
            .fetch_all(&mut connection)
            .await
            .unwrap();
        (state, attempts, told)
    }
}

/// Makes a lock that whoever writes an event waits for, after the rows that it writes before.
async fn guard_the_outbox(connection: &mut PgConnection) {
    let statements = [
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN new; END'",
        "CREATE TRIGGER wait BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION wait()",
    ];
    for statement in statements {
        sqlx::query(statement).execute(&mut *connection).await.unwrap();
    }
}

/// Holds the outbox against those who write to it.
async fn hold_the_outbox(other: &mut PgConnection) {
    for statement in ["SET LOCAL deadlock_timeout = '1min'", "SELECT pg_advisory_xact_lock(1)"] {
        sqlx::query(statement).execute(&mut *other).await.unwrap();
    }
}

#[tokio::test]
async fn a_record_that_a_deadlock_rolled_back_is_written_again_and_told_once() {
    let stand = Stand::start().await;
    let (id, mail) = (Uuid::now_v7(), mail("you@example.com"));
    let key = id.to_string();
    let mut connection = stand.database.connect().await;
    guard_the_outbox(&mut connection).await;
    let mut other = connection.begin().await.unwrap();
    hold_the_outbox(&mut other).await;
    let (answer, ()) = tokio::join!(stand.mailer.send_as(&key, &mail), async {
        stand.deadlock(id, &mut other).await;
        other.rollback().await.unwrap();
    });
    assert_eq!(answer.status, 202, "{answer:?}");
    stand.was_rolled_back().await;
    assert_eq!(stand.server.mails().len(), 1);
    assert_eq!(stand.stands(id).await, ("sent".to_owned(), 1, vec!["mail.sent".to_owned()]));
    stand.mailer.stop().await;
}

#[tokio::test]
async fn a_claim_that_a_deadlock_rolled_back_is_a_503_and_leaves_nothing() {
    let stand = Stand::start().await;
    let (id, mail) = (Uuid::now_v7(), mail("you@example.com"));
    let key = id.to_string();
    assert_eq!(stand.mailer.send_as(&key, &mail).await.status, 202);
    let mut connection = stand.database.connect().await;
    // As a mailer leaves it that died: the next claim tells that it goes out again.
    sqlx::query("UPDATE mails SET state = 'claimed', lease_until = now() - interval '1 s' WHERE id = $1")
        .bind(id)
        .execute(&mut connection)
        .await
        .unwrap();
    guard_the_outbox(&mut connection).await;
    let mut other = connection.begin().await.unwrap();
    hold_the_outbox(&mut other).await;
    let (answer, ()) = tokio::join!(stand.mailer.send_as(&key, &mail), async {
        stand.deadlock(id, &mut other).await;
    });
    assert_eq!((answer.status, answer.message()), (503, "PostgreSQL is not available, try again shortly"));
    other.rollback().await.unwrap();
    stand.was_rolled_back().await;
    let sent = "mail.sent".to_owned();
    assert_eq!(stand.stands(id).await, ("claimed".to_owned(), 1, vec![sent.clone()]));
    assert_eq!(stand.server.mails().len(), 1, "not without a claim");
    // Whoever asked asks again.
    assert_eq!(stand.mailer.send_as(&key, &mail).await.status, 202);
    assert_eq!(stand.server.mails().len(), 2);
    let told = vec![sent.clone(), "mail.resent".to_owned(), sent];
    assert_eq!(stand.stands(id).await, ("sent".to_owned(), 2, told));
    stand.mailer.stop().await;
}

#[tokio::test]
async fn a_record_that_could_not_be_serialized_is_written_again_and_told_once() {
    let says_yes = Arc::new(Notify::new());
    let held = Arc::clone(&says_yes);
    let script = move |at: At<'_>| if at.name == "." { Act::Hold(Arc::clone(&held)) } else { Act::Usual };
    let (server, database) = (Fake::start(script).await, TestDatabase::create("DSN").await);
    let mut connection = database.connect().await;
    // Whoever changes a row that somebody else has changed meanwhile is rolled back (SQLSTATE 40001).
    let strict = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L', \
                  current_database(), 'repeatable read'); END $$";
    sqlx::query(strict).execute(&mut connection).await.unwrap();
    let mailer = Mailer::start_on(database.dsn(), "127.0.0.1", server.address().port(), &[]).await;
    mailer.has_its_ledger().await;
    let stand = Stand { server, mailer, database };
    let (id, mail) = (Uuid::now_v7(), mail("you@example.com"));
    let key = id.to_string();
    let (answer, ()) = tokio::join!(stand.mailer.send_as(&key, &mail), async {
        let watching = tokio::sync::Mutex::new(stand.database.connect().await);
        let holds = async |what: &str, condition: &'static str| {
            eventually(PATIENCE, what, || async {
                let mut watching = watching.lock().await;
                let holds = sqlx::query_scalar(condition).fetch_one(&mut *watching).await.unwrap();
                if holds { Ok(()) } else { Err("not yet") }
            })
            .await;
        };
        holds("the claim", "SELECT EXISTS (SELECT FROM mails)").await;
        let mut other = connection.begin().await.unwrap();
        let touched = sqlx::query("UPDATE mails SET updated_at = now() WHERE id = $1").bind(id);
        touched.execute(&mut *other).await.unwrap();
        says_yes.notify_one();
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                     AND wait_event_type = 'Lock' AND query LIKE '%UPDATE mails%')";
        holds("the record waits for the row", waits).await;
        other.commit().await.unwrap();
    });
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(stand.server.mails().len(), 1);
    assert_eq!(stand.stands(id).await, ("sent".to_owned(), 1, vec!["mail.sent".to_owned()]));
    stand.mailer.stop().await;
}

#[tokio::test]
async fn through_a_slow_wire_to_the_ledger_a_mail_is_answered_in_time_and_sent_once() {
    let (server, database) = (Fake::start(|_| Act::Usual).await, TestDatabase::create("DSN").await);
    let proxy = FaultProxy::to(&database.server()).await;
    let (dsn, port) = (database.dsn_through(proxy.address()), server.address().port());
    // The shortest lease that there is: of a claim that came through, and whose answer did not.
    let flags = ["--mail-timeout=1s", "--mail-lease=6s"];
    let mailer = Mailer::start_on(&dsn, "127.0.0.1", port, &flags).await;
    mailer.readiness(200).await;
    // Slow, and yet fast enough.
    proxy.trickle(128, Duration::from_millis(5));
    let slow = Uuid::now_v7().to_string();
    let answer = mailer.send_as(&slow, &mail("slow@example.com")).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    // Too slow.
    proxy.trickle(4, Duration::from_millis(20));
    let (id, mail) = (Uuid::now_v7().to_string(), mail("you@example.com"));
    for _ in 0..3 {
        let started = Instant::now();
        let answer = mailer.send_as(&id, &mail).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
    assert!(mailer.readiness(503).await.message().contains("PostgreSQL"));
    assert_eq!(server.mails().len(), 1, "nothing is sent without a claim");
    proxy.restore();
    mailer.readiness(200).await;
    eventually(PATIENCE, "the mail is sent", || async {
        let answer = mailer.send_as(&id, &mail).await;
        if answer.status == 202 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!(mailer.send_as(&id, &mail).await.status, 202);
    assert_eq!(server.mails().len(), 2);
    mailer.stop().await;
}
