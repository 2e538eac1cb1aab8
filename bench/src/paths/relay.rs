//! The relay of the outbox, beside a bare lapin loop that gives the same guarantees: every event persistent, mandatory
//! and confirmed; and how long an event waits that is written while nothing else is.
//!
//! So many events are there at once, by the commit of one transaction; then the relay takes them all. With `--large` the same once more beside five million
//! that were sent before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chassis::amqp::{Publication, Publisher};
use chassis::lifecycle::Lifecycle;
use chassis::outbox::{Relay, enqueue};
use chassis::postgres::{Database, DatabaseArgs, Dsn};
use futures_util::StreamExt as _;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::publish::{Bare, event};
use crate::figures::{Goal, Outcome, Row, Unit, median};
use crate::setup::{Setup, until};

static MIGRATIONS: Migrator = sqlx::migrate!("../chassis/tests/migrations");

/// How many wait.
pub(super) const EVENTS: u32 = 20_000;
/// How many a statement writes.
const TOGETHER: usize = 500;
/// How many the floor has in flight: as many as a round of the relay.
const IN_FLIGHT: u32 = 500;
/// How many were sent before, with `--large`.
const SENT: u32 = 5_000_000;
/// How many are timed alone.
const ALONE: usize = 101;
const PATIENCE: Duration = Duration::from_mins(2);

/// Measures it.
pub(crate) fn measure(setup: &Setup) -> anyhow::Result<Outcome> {
    setup.runtime.block_on(in_a_database(setup, "outbox", async |dsn| with_database(setup, dsn).await))
}

/// Does something with an empty database of the bench's own, by its DSN.
pub(super) async fn in_a_database(
    setup: &Setup,
    purpose: &str,
    work: impl AsyncFnOnce(&str) -> anyhow::Result<Outcome>,
) -> anyhow::Result<Outcome> {
    let name = setup.namespace.replace('-', "_") + purpose;
    let mut server = PgConnection::connect(&setup.mailer_dsn).await?;
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE template0")))
        .execute(&mut server)
        .await?;
    let (base, _) = setup.mailer_dsn.rsplit_once('/').context("MAILER_DSN names a database")?;
    let outcome = work(&format!("{base}/{name}")).await;
    sqlx::query(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).execute(&mut server).await?;
    outcome
}

async fn with_database(setup: &Setup, dsn: &str) -> anyhow::Result<Outcome> {
    let stand = Stand::start(setup, dsn).await?;
    let row = rounds(&stand, setup.rounds, "relay", Goal::Times(0.7)).await?;
    let mut rows = vec![row];
    if setup.large {
        let mut connection = PgConnection::connect(dsn).await?;
        sqlx::query(
            "INSERT INTO outbox (entity, id, routing_key, happened_at, body, sent_at) \
             SELECT 'entity ' || n, gen_random_uuid(), 'log.info', now(), repeat('x', 200)::bytea, now() \
             FROM generate_series(1, $1) AS n",
        )
        .bind(i64::from(SENT))
        .execute(&mut connection)
        .await?;
        sqlx::query("ANALYZE outbox").execute(&mut connection).await?;
        let path = format!("relay beside {} M sent", SENT / 1_000_000);
        let beside = rounds(&stand, setup.rounds, &path, Goal::Times(0.7)).await?;
        // Five million can't come and go between two rounds, and the machine's speed changes meanwhile, as the floor says.
        let mut slower = Row::new(&path, "without them, by the floor", Unit::PerSecond, Goal::Times(0.9));
        let by_floor = median(&rows[0].ratios());
        for (floor, ours) in std::iter::zip(&beside.floor, &beside.ours) {
            slower.round(floor * by_floor, *ours);
        }
        rows.extend([beside, slower]);
    }
    let mut alone = alone(&stand).await?;
    alone.sort_by(f64::total_cmp);
    let note = format!(
        "relay: an event that is written alone is in its queue {:.1} ms after the commit (median of {ALONE}; 99 %: {:.1} ms)",
        median(&alone),
        alone[ALONE * 99 / 100]
    );
    if let Some(bare) = Arc::into_inner(stand.bare) {
        bare.remove(setup).await?;
    }
    Ok(Outcome { rows, notes: vec![note], ..Outcome::default() })
}

/// The outbox, a publisher that has declared the topology, and the bare crate beside it.
pub(super) struct Stand {
    args: DatabaseArgs,
    url: secrecy::SecretString,
    topology: contracts::topology::Topology,
    pub(super) bare: Arc<Bare>,
    dsn: String,
}

impl Stand {
    /// Makes the table and the topology.
    pub(super) async fn start(setup: &Setup, dsn: &str) -> anyhow::Result<Self> {
        let parsed: Dsn = dsn.parse().map_err(anyhow::Error::msg)?;
        let args = DatabaseArgs { dsn: parsed, db_pool_size: 1 };
        MIGRATIONS.run(&mut PgConnection::connect(dsn).await?).await?;
        let declared = super::publish::Chassis::start(setup).await?;
        drop(declared);
        let (url, topology) = (setup.rabbitmq_url.as_str().into(), setup.topology.clone());
        Ok(Self { args, url, topology, bare: Arc::new(Bare::connect(setup).await?), dsn: dsn.to_owned() })
    }

    /// Starts a relay; it ends with what this gives.
    pub(super) fn relay(&self) -> anyhow::Result<Lifecycle> {
        let lifecycle = Lifecycle::default();
        let database = Database::new("bench", &self.args, &MIGRATIONS);
        let publisher = Publisher::start(&self.url, self.topology.clone(), &lifecycle)?;
        Relay::start(&database, publisher, &self.topology.events, &lifecycle);
        lifecycle.background("database", database.keep(std::future::ready(()), lifecycle.closing()));
        Ok(lifecycle)
    }

    /// Writes the events, in one transaction.
    pub(super) async fn fill(&self) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.dsn).await?;
        let mut transaction = connection.begin().await?;
        for _ in 0..EVENTS as usize / TOGETHER {
            write(&mut transaction, TOGETHER).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// How many events a second go out, from the first of those that wait to the last.
    pub(super) async fn rate(&self) -> anyhow::Result<f64> {
        let mut connection = PgConnection::connect(&self.dsn).await?;
        // Numbered one after the other, and sent in this order, or nearly. To count them would be work beside the relay's.
        let mut left = async || {
            let numbers = "SELECT coalesce((SELECT max(seq) FROM outbox) + 1 - min(seq), 0) FROM outbox WHERE sent_at IS NULL";
            let left: i64 = sqlx::query_scalar(numbers).fetch_one(&mut connection).await.ok()?;
            u32::try_from(left).ok()
        };
        let waiting = until("the first event", PATIENCE, async || left().await.filter(|left| *left < EVENTS));
        let waiting = waiting.await?;
        let began = Instant::now();
        until("the last event", PATIENCE, async || left().await.filter(|left| *left == 0)).await?;
        Ok(f64::from(waiting) / began.elapsed().as_secs_f64())
    }
}

/// Writes events, each about something of its own.
async fn write(transaction: &mut PgConnection, count: usize) -> anyhow::Result<()> {
    let events: Result<Vec<_>, _> = (0..count)
        .map(|_| {
            let event = event();
            Ok::<_, chassis::amqp::PublishError>((
                event.id.to_string(),
                Publication::of(&event.kind, &event)?,
            ))
        })
        .collect();
    Ok(enqueue(transaction, &events?).await?)
}

async fn rounds(stand: &Stand, rounds: usize, path: &str, goal: Goal) -> anyhow::Result<Row> {
    let path = format!("{path}, {}k waiting", EVENTS / 1000);
    let mut row = Row::new(&path, "bare lapin loop", Unit::PerSecond, goal);
    let relay = stand.relay()?;
    for _ in 0..rounds {
        let began = Instant::now();
        let tasks = (0..IN_FLIGHT).map(|_| {
            let bare = Arc::clone(&stand.bare);
            tokio::spawn(async move {
                for _ in 0..EVENTS / IN_FLIGHT {
                    bare.publish(&event()).await.expect("a confirm");
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await?;
        }
        let floor = f64::from(EVENTS) / began.elapsed().as_secs_f64();
        stand.bare.purge().await?;

        stand.fill().await?;
        let ours = stand.rate().await?;
        stand.bare.purge().await?;
        row.round(floor, ours);
    }
    end(relay);
    Ok(row)
}

/// How long each of some events takes from its commit into its queue, in milliseconds, one after the other.
async fn alone(stand: &Stand) -> anyhow::Result<Vec<f64>> {
    let relay = stand.relay()?;
    let channel = stand.bare.channel().await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let queue = stand.topology.log_queue.as_str().into();
    let mut consumer = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
    let mut connection = PgConnection::connect(&stand.dsn).await?;
    let mut took = Vec::new();
    for at in 0..=ALONE {
        let mut transaction = connection.begin().await?;
        write(&mut transaction, 1).await?;
        transaction.commit().await?;
        let committed = Instant::now();
        let next = tokio::time::timeout(PATIENCE, consumer.next()).await?;
        next.context("the consumer ended")??;
        // The first one waits for the relay to connect.
        if at > 0 {
            took.push(committed.elapsed().as_secs_f64() * 1000.0);
        }
    }
    end(relay);
    channel.close(200, "done".into()).await?;
    Ok(took)
}

/// Ends a relay.
pub(super) fn end(relay: Lifecycle) {
    relay.stopping().cancel();
    relay.closing().cancel();
    drop(relay);
}
