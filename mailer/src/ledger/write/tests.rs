//! What two replicas may do to each other, on a real PostgreSQL.

use std::num::NonZeroU16;

use chassis::postgres::{Database, DatabaseArgs};
use chassis::trace::TraceContext;
use sqlx::Connection as _;
use testkit::postgres::TestDatabase;
use testkit::{Running, eventually};
use tokio::sync::oneshot;

use super::super::{Claim, Ledger, Wanted};
use super::*;
use crate::MIGRATIONS;

const LEASE: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(10);

async fn ledger() -> TestDatabase {
    let database = TestDatabase::create("DSN").await;
    MIGRATIONS.run(&mut database.connect().await).await.unwrap();
    database
}

fn claim(id: Uuid) -> ClaimCall {
    let wanted = Wanted { id, digest: Uuid::nil(), replay: None, trace: TraceContext::root() };
    ClaimCall { wanted, reply: oneshot::channel().0 }
}

fn record(lease: Lease, end: End) -> RecordCall {
    RecordCall { lease, end, reply: oneshot::channel().0 }
}

async fn granted(connection: &mut PgConnection, id: Uuid) -> Lease {
    let written = write(connection, &[claim(id)], &[], LEASE).await.unwrap();
    written.granted[0].unwrap()
}

/// How the mail stands, whose it is, and the types of what is told of it.
async fn stands(connection: &mut PgConnection, id: Uuid) -> (String, Uuid, Vec<String>) {
    let mail = sqlx::query_as("SELECT state, holder FROM mails WHERE id = $1").bind(id);
    let (state, holder) = mail.fetch_one(&mut *connection).await.unwrap();
    let told = sqlx::query_scalar("SELECT routing_key FROM outbox WHERE entity = $1 ORDER BY seq");
    let told = told.bind(id.to_string()).fetch_all(connection).await.unwrap();
    (state, holder, told)
}

#[tokio::test]
async fn a_renewal_that_comes_after_the_end_changes_nothing() {
    let database = ledger().await;
    let mut connection = database.connect().await;
    let id = Uuid::now_v7();
    let lease = granted(&mut connection, id).await;
    let mut written = async |end| {
        let written = write(&mut connection, &[], &[record(lease, end)], LEASE).await.unwrap();
        !written.recorded.is_empty()
    };
    assert!(written(End::Sending).await);
    assert!(written(End::Sent).await);
    assert!(!written(End::Sending).await);
    // An end whose answer was lost is written again.
    assert!(written(End::Sent).await);
    let sent = "mail.sent".to_owned();
    let stands = stands(&mut connection, id).await;
    assert_eq!(stands, ("sent".to_owned(), lease.holder, vec![sent.clone(), sent]));
}

#[tokio::test]
async fn a_record_that_waits_for_a_takeover_is_none_and_tells_nothing() {
    let database = ledger().await;
    let (mut connection, mut other) = (database.connect().await, database.connect().await);
    let (id, next) = (Uuid::now_v7(), Uuid::now_v7());
    let lease = granted(&mut connection, id).await;
    let mut takeover = other.begin().await.unwrap();
    let taken = sqlx::query("UPDATE mails SET holder = $2 WHERE id = $1").bind(id).bind(next);
    taken.execute(&mut *takeover).await.unwrap();
    let late = [record(lease, End::Sent)];
    let (written, ()) = tokio::join!(write(&mut connection, &[], &late, LEASE), async {
        eventually(SOON, "the record waits", || async {
            let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                           AND wait_event_type = 'Lock' AND query LIKE 'WITH held%')";
            let mut watching = database.connect().await;
            let waits = sqlx::query_scalar(waiting).fetch_one(&mut watching).await.unwrap();
            if waits { Ok(()) } else { Err("it does not") }
        })
        .await;
        takeover.commit().await.unwrap();
    });
    assert!(written.unwrap().recorded.is_empty());
    assert_eq!(stands(&mut connection, id).await, ("claimed".to_owned(), next, vec![]));
}

#[tokio::test]
async fn replicas_that_record_and_claim_the_same_mails_crosswise_never_wait_for_each_other_for_ever() {
    let database = ledger().await;
    let mut connection = database.connect().await;
    let replicas = [database.connect().await, database.connect().await, database.connect().await];
    let mut leases = Vec::new();
    for _ in 0..40 {
        leases.push(granted(&mut connection, Uuid::now_v7()).await);
    }
    let leases = &leases;
    let working = replicas.into_iter().zip(0_u32..).map(|(mut replica, at)| async move {
        for round in 0..100_u32 {
            // Each has its own order, and its own half of the others' to claim; and new ones that they claim too.
            let turned = |step: u32| leases[(at * 13 + round + step * (at + 1)) as usize % leases.len()];
            let records: Vec<_> = (0..7).map(turned).map(|lease| record(lease, End::Sent)).collect();
            let known = (7..14).map(|step| turned(step).id);
            let new = (0..7).map(|n| Uuid::from_u128((round * 7 + (n * (at + 2)) % 7).into()));
            let mut ids: Vec<_> = known.chain(new).collect();
            ids.sort_unstable_by_key(|id| id.as_u128().rotate_left(at * 31));
            ids.dedup();
            let claims: Vec<_> = ids.into_iter().map(claim).collect();
            write(&mut replica, &claims, &records, LEASE).await.unwrap();
        }
    });
    futures_util::future::join_all(working).await;
    let claimed: i64 = sqlx::query_scalar("SELECT count(*) FROM mails WHERE id < $1")
        .bind(Uuid::from_u128(700))
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(claimed, 700, "each once");
}

#[tokio::test]
async fn the_end_of_a_mail_that_comes_with_a_renewal_of_its_lease_is_not_lost() {
    let test = TestDatabase::create("DSN").await;
    let args = DatabaseArgs { dsn: test.dsn().parse().unwrap(), db_pool_size: 1 };
    let database = Database::new("test", &args, &MIGRATIONS);
    let mut ledger = None;
    let running = Running::start(async |lifecycle| {
        let days = NonZeroU16::new(30).unwrap();
        ledger = Some(Ledger::start(&database, LEASE, days, &lifecycle));
        let keeping = database.clone().keep(std::future::ready(()), lifecycle.closing());
        lifecycle.background("database", keeping);
        Ok(())
    })
    .await;
    let ledger = ledger.unwrap();
    eventually(SOON, "the tables", || database.check()).await;
    let wanted =
        Wanted { id: Uuid::now_v7(), digest: Uuid::nil(), replay: None, trace: TraceContext::root() };
    let Claim::Granted(lease) = ledger.claim(wanted).await.unwrap() else { panic!("it is the first") };
    // Asked at once, so that they would go into one statement.
    let (renewal, end) = tokio::join!(ledger.record(lease, End::Sending), ledger.record(lease, End::Sent));
    assert_eq!((renewal, end), (Ok(true), Ok(true)));
    let state = sqlx::query_scalar("SELECT state FROM mails WHERE id = $1").bind(lease.id);
    let state: String = state.fetch_one(&mut test.connect().await).await.unwrap();
    assert_eq!(state, "sent");
    drop(ledger);
    running.stop().await;
}
