//! Brings events from the outbox to RabbitMQ.
//!
//! Every replica of a service runs one, two rounds at a time. A round takes the oldest events, of entities that no
//! other round has in hand (an advisory lock each, so that one entity's events stay in order), publishes them, and
//! marks those that were confirmed. All of it is one transaction, so that a relay which dies leaves its
//! events to the next as soon as PostgreSQL notices. A commit with new events wakes it; where the word is lost, it
//! looks by itself ([`turn`]).

mod turn;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use sqlx::postgres::PgListener;
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{Connection as _, FromRow, PgConnection, PgPool, Postgres, Transaction};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use self::turn::{Turn, Turns};
use super::CHANNEL;
use crate::amqp::{Publication, PublishError, Publisher};
use crate::crash;
use crate::lifecycle::Lifecycle;
use crate::postgres::{Database, Session};
use crate::retry::Pause;

/// How many events a round takes.
const BATCH: usize = 1000;
/// How long to wait for the tables, and for who tells of new events.
const SOON: Duration = Duration::from_secs(1);
/// For how long a round begins to publish: what is left goes with the next.
const BEGINS: Duration = Duration::from_secs(4);
/// How long a look may take: longer than [`STATEMENT`], and nobody else looks meanwhile.
const LOOK: Duration = Duration::from_secs(6);
/// How long a round may take: to look, to begin, to wait for a confirm that does not come (five seconds), and to mark, each at
/// its longest.
const ROUND: Duration = Duration::from_secs(25);
/// After which PostgreSQL takes the locks from a relay that it does not hear of.
const ABANDONED: &str = "20s";
/// After which it gives a statement up.
const STATEMENT: &str = "5s";
/// After how long without a word the connection that listens is made anew: it may be lost, and nobody would say so.
const SILENCE: Duration = Duration::from_mins(1);
/// How long the connections may take to close.
const CLOSE: Duration = Duration::from_secs(2);
/// How long a sent event is kept, for whoever wants to look.
const KEEP: &str = "1 hour";
/// How often the sent ones are removed.
const SWEEP: Duration = Duration::from_secs(30);
/// How many are removed at once.
const SWEPT: u64 = 5000;
/// Up to how many waiting ones are counted.
const COUNTED: i64 = 1_000_000;
/// The first part of the key of an entity's lock.
const LOCKS: i64 = 0x6f75_7462_6f78;

/// Publishes what is in the outbox of one database.
#[derive(Debug)]
pub struct Relay {
    database: Database,
    pool: PgPool,
    publisher: Publisher,
    exchange: String,
    turns: Turns,
    relayed: Counter,
    failed: Counter,
    waiting: Gauge,
    lag: Histogram,
}

#[derive(Debug, FromRow)]
struct Row {
    seq: i64,
    entity: String,
    id: Uuid,
    routing_key: String,
    happened_at: DateTime<Utc>,
    traceparent: Option<String>,
    body: Vec<u8>,
    written_at: DateTime<Utc>,
}

impl Relay {
    /// Starts to relay to `exchange`, in the background, until the service closes. The tables need not be there yet.
    pub fn start(database: &Database, publisher: Publisher, exchange: &str, lifecycle: &Lifecycle) {
        let relay = Arc::new(Self {
            database: database.clone(),
            pool: database.pool(1, STATEMENT, ABANDONED),
            publisher,
            exchange: exchange.to_owned(),
            turns: Turns::of(BATCH),
            relayed: counter!("outbox_relayed_total"),
            failed: counter!("outbox_failures_total"),
            waiting: gauge!("outbox_waiting"),
            lag: histogram!("outbox_lag_seconds"),
        });
        let closing = lifecycle.closing();
        lifecycle.background("outbox relay", async move {
            // Two rounds at a time: while one is marked, the next is published.
            let work = async { tokio::join!(relay.relay(), relay.relay(), relay.listen(), relay.sweep()) };
            closing.run_until_cancelled(Box::pin(work)).await;
            let _ = timeout(CLOSE, relay.pool.close()).await;
            Ok(())
        });
    }

    async fn relay(&self) {
        let mut session =
            Session::new(self.database.clone(), ROUND, STATEMENT, ABANDONED).planned_once().durable_later();
        let mut pause = Pause::default();
        let mut failures = 0_u32;
        loop {
            self.publisher.connected().await;
            if !self.database.is_open() {
                sleep(SOON).await;
                continue;
            }
            let turn = self.turns.wait().await;
            let why = match session.run(async |connection| self.round(connection, turn).await).await {
                Ok(None) => {
                    if failures > 0 {
                        tracing::info!(failures, "the outbox is relayed again");
                    }
                    failures = 0;
                    pause.reset();
                    continue;
                }
                Ok(Some(why)) => why.to_string(),
                Err(error) => error.to_string(),
            };
            failures += 1;
            self.failed.increment(1);
            // A line for the first failures, then every tenth: a long outage is no flood.
            if failures <= 5 || failures.is_multiple_of(10) {
                tracing::warn!(why, failures, "the outbox waits");
            }
            sleep(pause.grow()).await;
            self.turns.tell();
        }
    }

    /// Publishes and marks the oldest events that no other relay has in hand. Gives why some of them wait, where some do.
    async fn round(
        &self,
        connection: &mut PgConnection,
        turn: Turn<'_>,
    ) -> sqlx::Result<Option<PublishError>> {
        let (window, most) = (turn.window(), turn.most());
        let (mut transaction, found, rows) =
            timeout(LOOK, look(connection, window, most)).await.map_err(io::Error::from)??;
        let seen = usize::try_from(found.seen).unwrap_or_default();
        let _in_hand = turn.end(seen, found.ours.len());
        let taken = rows.len();
        if rows.is_empty() {
            transaction.rollback().await?;
            return Ok(None);
        }
        crash::point("relay: taken");
        let (sent, why) = self.publish(rows).await;
        crash::point("relay: confirmed");
        if sent.is_empty() {
            transaction.rollback().await?;
        } else {
            sqlx::query("UPDATE outbox SET sent_at = now() WHERE seq = ANY($1)")
                .bind(&sent)
                .execute(&mut *transaction)
                .await?;
            crash::point("relay: marked");
            transaction.commit().await?;
            self.relayed.increment(sent.len() as u64);
        }
        crash::point("relay: committed");
        if sent.len() < taken {
            self.turns.tell();
        }
        Ok(why)
    }

    /// Publishes all, those of one entity one after the other. An entity whose event fails keeps the rest of them.
    async fn publish(&self, rows: Vec<Row>) -> (Vec<i64>, Option<PublishError>) {
        let began = Instant::now();
        let mut entities: HashMap<String, Vec<Row>> = HashMap::new();
        for row in rows {
            entities.entry(row.entity.clone()).or_default().push(row);
        }
        let each = entities.into_values().map(|rows| async {
            let mut sent = Vec::with_capacity(rows.len());
            for row in rows.into_iter().take_while(|_| began.elapsed() < BEGINS) {
                let (seq, written_at) = (row.seq, row.written_at);
                if let Err(why) = self.publisher.send(&self.exchange, row.into()).await {
                    return (sent, Some(why));
                }
                let lag = Utc::now().signed_duration_since(written_at).to_std().unwrap_or_default();
                self.lag.record(lag.as_secs_f64());
                sent.push(seq);
            }
            (sent, None)
        });
        join_all(each).await.into_iter().fold((Vec::new(), None), |(mut all, first), (sent, why)| {
            all.extend(sent);
            (all, first.or(why))
        })
    }

    /// Wakes the relay when a transaction with new events commits.
    async fn listen(&self) {
        loop {
            // Whatever breaks is made anew, and meanwhile the relay looks by itself.
            let listened = async {
                let pool = self.database.pool(1, STATEMENT, ABANDONED);
                let mut listener = PgListener::connect_with(&pool).await?;
                listener.listen(CHANNEL).await?;
                while let Ok(told) = timeout(SILENCE, listener.recv()).await {
                    told?;
                    self.turns.tell();
                }
                Ok::<_, sqlx::Error>(())
            };
            if let Err(error) = listened.await {
                tracing::debug!(%error, "nobody wakes the relay");
                sleep(SOON).await;
            }
        }
    }

    /// Removes what was sent a while ago, and counts what waits.
    async fn sweep(&self) {
        loop {
            // Before the tables are there, soon again.
            let wait = if self.database.is_open() { SWEEP } else { SOON };
            if self.database.is_open()
                && let Err(error) = self.sweep_once().await
            {
                tracing::warn!(%error, "the outbox was not swept");
            }
            sleep(wait).await;
        }
    }

    async fn sweep_once(&self) -> sqlx::Result<()> {
        loop {
            let removed = sqlx::query(
                "DELETE FROM outbox WHERE seq IN ( \
                   SELECT seq FROM outbox WHERE sent_at < now() - $1::interval \
                   ORDER BY sent_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
            )
            .bind(KEEP)
            .bind(i64::try_from(SWEPT).unwrap_or(i64::MAX))
            .execute(&self.pool)
            .await?;
            if removed.rows_affected() < SWEPT {
                break;
            }
        }
        // Up to a number at which nobody needs the exact one.
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT FROM outbox WHERE sent_at IS NULL LIMIT $1) AS waiting",
        )
        .bind(COUNTED)
        .fetch_one(&self.pool)
        .await?;
        #[expect(clippy::cast_precision_loss, reason = "a gauge is not exact")]
        self.waiting.set(waiting as f64);
        Ok(())
    }
}

/// What a look finds.
#[derive(Debug, FromRow)]
struct Found {
    /// How many wait, of those that it was among.
    seen: i64,
    /// Those whose entities are ours now.
    ours: Vec<i64>,
}

/// Takes the oldest events that no other relay has in hand, among so many, `most` at most.
async fn look(
    connection: &mut PgConnection,
    window: usize,
    most: usize,
) -> sqlx::Result<(Transaction<'_, Postgres>, Found, Vec<Row>)> {
    let mut transaction = connection.begin().await?;
    let found = lock(&mut transaction, window, most).await?;
    let rows = take(&mut transaction, &found.ours).await?;
    Ok((transaction, found, rows))
}

/// The oldest events whose entities are now ours, until the transaction ends.
async fn lock(
    transaction: &mut Transaction<'_, Postgres>,
    window: usize,
    most: usize,
) -> sqlx::Result<Found> {
    let limit = |count| i64::try_from(count).unwrap_or(i64::MAX);
    // Row by row, the oldest first: the limit ends it before more is locked than is taken. Two entities with the same
    // hash are as one.
    sqlx::query_as(
        "WITH oldest AS MATERIALIZED ( \
           SELECT hashtextextended(entity, $2) AS entity, seq \
           FROM outbox WHERE sent_at IS NULL ORDER BY seq LIMIT $1), \
         entities AS MATERIALIZED ( \
           SELECT entity, array_agg(seq) AS seqs FROM oldest GROUP BY entity ORDER BY min(seq)), \
         ours AS MATERIALIZED ( \
           SELECT seqs FROM entities WHERE pg_try_advisory_xact_lock(entity) LIMIT $3) \
         SELECT (SELECT count(*) FROM oldest) AS seen, \
           ARRAY(SELECT seq FROM ours, unnest(seqs) AS seq ORDER BY seq LIMIT $3) AS ours",
    )
    .bind(limit(window))
    .bind(LOCKS)
    .bind(limit(most))
    .fetch_one(&mut **transaction)
    .await
}

/// Those of these that still wait: what another relay had in hand before is marked by now.
async fn take(transaction: &mut Transaction<'_, Postgres>, ours: &[i64]) -> sqlx::Result<Vec<Row>> {
    if ours.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as(
        "SELECT seq, entity, id, routing_key, happened_at, traceparent, body, written_at \
         FROM outbox WHERE seq = ANY($1) AND sent_at IS NULL ORDER BY seq FOR UPDATE SKIP LOCKED",
    )
    .bind(ours)
    .fetch_all(&mut **transaction)
    .await
}

impl From<Row> for Publication {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            routing_key: row.routing_key,
            time: row.happened_at,
            traceparent: row.traceparent,
            body: row.body,
        }
    }
}
