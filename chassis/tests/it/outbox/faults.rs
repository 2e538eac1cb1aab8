//! A PostgreSQL that rolls the relay back, and clocks that jump.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection as _, PgConnection};
use testkit::eventually;
use uuid::Uuid;

use super::Stand;
use crate::amqp::rabbit::SOON;

/// Whether the relay waits for a lock, to mark what is confirmed. (Its sweep may wait too.)
async fn wants_to_mark(connection: &mut PgConnection) -> bool {
    let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                   AND wait_event_type = 'Lock' AND query LIKE 'UPDATE outbox SET sent_at%')";
    sqlx::query_scalar(waiting).fetch_one(connection).await.unwrap()
}

/// How often PostgreSQL has ended a deadlock in the database of this connection (SQLSTATE 40P01).
async fn deadlocks(connection: &mut PgConnection) -> i64 {
    let counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query_scalar(counted).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn a_deadlock_costs_the_relay_a_round_and_no_event() {
    let stand = Stand::start().await;
    let mut connection = stand.database.connect().await;
    let ids = stand.write(&mut connection, &["a", "b", "a"]).await;
    // Against the order of the relay, and more patient: the relay has the rows and wants the table, and is rolled back.
    let mut other = connection.begin().await.unwrap();
    for statement in ["SET LOCAL deadlock_timeout = '1min'", "LOCK TABLE outbox IN SHARE MODE"] {
        sqlx::query(statement).execute(&mut *other).await.unwrap();
    }
    let relay = stand.relay().await;
    let watching = tokio::sync::Mutex::new(stand.database.connect().await);
    eventually(SOON, "the relay marks what is confirmed", || async {
        if wants_to_mark(&mut *watching.lock().await).await { Ok(()) } else { Err("it does not wait") }
    })
    .await;
    sqlx::query("SELECT FROM outbox FOR UPDATE").execute(&mut *other).await.unwrap();
    other.rollback().await.unwrap();
    stand.is_drained().await;
    eventually(SOON, "the deadlock is counted", || async {
        if deadlocks(&mut *watching.lock().await).await > 0 { Ok(()) } else { Err("none") }
    })
    .await;
    // Published in the round that was rolled back, and again: by their ids they are the same three.
    let count = stand.rabbit.count(&stand.rabbit.topology.log_queue).await.unwrap();
    assert!(count > 3, "{count}");
    let published: Vec<Uuid> = stand.published(count).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(published.iter().copied().collect::<HashSet<_>>(), ids.iter().copied().collect());
    let of_a: Vec<_> = published.into_iter().filter(|id| *id != ids[1]).collect();
    assert_eq!(of_a[of_a.len() - 2..], [ids[0], ids[2]], "the last word is in order");
    relay.stop().await;
    stand.clean().await;
}

#[tokio::test]
async fn what_a_clock_that_jumped_wrote_is_published_in_its_order() {
    let stand = Stand::start().await;
    let mut connection = stand.database.connect().await;
    let ids = stand.write(&mut connection, &["a", "a", "a", "a"]).await;
    // Before 1970, long ago, in some hours and as late as PostgreSQL can say.
    let times = [
        DateTime::from_timestamp(-86_400, 0).unwrap(),
        Utc::now() - TimeDelta::days(3650),
        Utc::now() + TimeDelta::hours(5),
        DateTime::from_timestamp(253_402_300_799, 0).unwrap(),
    ];
    for (id, time) in ids.iter().zip(times.iter().rev()) {
        sqlx::query("UPDATE outbox SET happened_at = $2, written_at = $2 WHERE id = $1")
            .bind(id)
            .bind(time)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    let relay = stand.relay().await;
    let published: Vec<Uuid> = stand.published(4).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(published, ids);
    stand.is_drained().await;
    relay.stop().await;
    stand.clean().await;
}
