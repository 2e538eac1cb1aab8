//! The outbox, on a real PostgreSQL and a real RabbitMQ.

mod faults;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chassis::amqp::{Publication, Publisher};
use chassis::outbox::{Relay, enqueue};
use chassis::postgres::{Database, DatabaseArgs};
use contracts::event::CloudEvent;
use lapin::options::{BasicConsumeOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use sqlx::migrate::Migrator;
use sqlx::{Connection as _, PgConnection};
use testkit::postgres::TestDatabase;
use testkit::proxy::FaultProxy;
use testkit::{Running, eventually};
use uuid::Uuid;

use crate::amqp::rabbit::{Rabbit, SOON, event};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("tests/migrations");

/// A database with an outbox, and a RabbitMQ; relays reach both through proxies.
struct Stand {
    rabbit: Rabbit,
    postgres: FaultProxy,
    database: TestDatabase,
}

impl Stand {
    async fn start() -> Self {
        let database = TestDatabase::create("DSN").await;
        let postgres = FaultProxy::to(&database.server()).await;
        let rabbit = Rabbit::start().await;
        let stand = Self { rabbit, postgres, database };
        // So that events can be written before a relay is there.
        MIGRATIONS.run(&mut stand.database.connect().await).await.unwrap();
        stand
    }

    /// Starts a process with a relay.
    async fn relay(&self) -> Running {
        let dsn = self.database.dsn_through(self.postgres.address()).parse().unwrap();
        let args = DatabaseArgs { dsn, db_pool_size: 1 };
        Running::start(async |lifecycle| {
            let database = Database::new("test", &args, &MIGRATIONS);
            let publisher = Publisher::start(&self.rabbit.url, self.rabbit.topology.clone(), &lifecycle)?;
            Relay::start(&database, publisher, &self.rabbit.topology.events, &lifecycle);
            let keeping = database.keep(std::future::ready(()), lifecycle.closing());
            lifecycle.background("database", keeping);
            Ok(())
        })
        .await
    }

    /// Events of one transaction, of these entities.
    async fn write(&self, connection: &mut PgConnection, entities: &[&str]) -> Vec<Uuid> {
        let mut transaction = connection.begin().await.unwrap();
        let events: Vec<_> = entities.iter().map(|entity| publication(entity)).collect();
        let ids = events.iter().map(|(_, publication)| publication.id).collect();
        enqueue(&mut transaction, &events).await.unwrap();
        transaction.commit().await.unwrap();
        ids
    }

    /// The ids and entities of everything in the log queue, in their order.
    async fn published(&self, count: u32) -> Vec<(Uuid, String)> {
        self.rabbit.counts(&self.rabbit.topology.log_queue, count).await;
        let mut published = Vec::new();
        for _ in 0..count {
            let message = self.rabbit.take(&self.rabbit.topology.log_queue).await;
            let event: CloudEvent<String> = serde_json::from_slice(&message.delivery.data).unwrap();
            published.push((event.id, event.data));
        }
        published
    }

    async fn waiting(&self) -> i64 {
        let mut connection = self.database.connect().await;
        sqlx::query_scalar("SELECT count(*) FROM outbox WHERE sent_at IS NULL")
            .fetch_one(&mut connection)
            .await
            .unwrap()
    }

    async fn is_drained(&self) {
        eventually(SOON, "the outbox is empty", || async {
            match self.waiting().await {
                0 => Ok(()),
                waiting => Err(format!("{waiting} wait")),
            }
        })
        .await;
    }

    async fn clean(self) {
        self.rabbit.clean().await;
    }
}

fn publication(entity: &str) -> (String, Publication) {
    (entity.to_owned(), Publication::of("log.info", &event(entity)).unwrap())
}

#[tokio::test]
async fn what_commits_is_published_and_what_does_not_is_not() {
    let stand = Stand::start().await;
    let relay = stand.relay().await;
    let mut connection = stand.database.connect().await;
    let mut transaction = connection.begin().await.unwrap();
    enqueue(&mut transaction, &[publication("undone")]).await.unwrap();
    transaction.rollback().await.unwrap();
    let ids = stand.write(&mut connection, &["done"]).await;
    assert_eq!(stand.published(1).await, [(ids[0], "done".to_owned())]);
    stand.is_drained().await;
    stand.rabbit.counts(&stand.rabbit.topology.log_queue, 0).await;
    relay.stop().await;
    stand.clean().await;
}

#[tokio::test]
async fn two_relays_share_the_work_and_keep_the_order_of_each_entity() {
    let stand = Stand::start().await;
    let mut connection = stand.database.connect().await;
    let entities = ["a", "b", "c", "d", "e"];
    let mut written = Vec::new();
    let mut relays = Vec::new();
    for round in 0..60 {
        written.extend(stand.write(&mut connection, &entities).await);
        // They come while there is work, and more of it arrives.
        if round == 20 || round == 30 {
            relays.push(stand.relay().await);
        }
    }
    stand.is_drained().await;
    let published = stand.published(300).await;
    assert_eq!(
        published.iter().map(|(id, _)| *id).collect::<HashSet<_>>(),
        written.iter().copied().collect::<HashSet<_>>()
    );
    let mut order: HashMap<String, Vec<Uuid>> = HashMap::new();
    for (id, entity) in published {
        order.entry(entity).or_default().push(id);
    }
    for (at, entity) in entities.iter().enumerate() {
        let wanted: Vec<Uuid> = written.iter().skip(at).step_by(entities.len()).copied().collect();
        assert_eq!(order[*entity], wanted, "{entity}");
    }
    for relay in relays {
        relay.stop().await;
    }
    stand.clean().await;
}

#[tokio::test]
async fn the_relay_goes_on_when_rabbitmq_returns() {
    let stand = Stand::start().await;
    let relay = stand.relay().await;
    let mut connection = stand.database.connect().await;
    stand.write(&mut connection, &["before"]).await;
    stand.is_drained().await;
    for fault in [FaultProxy::cut, FaultProxy::stall] {
        fault(&stand.rabbit.proxy);
        stand.write(&mut connection, &["during", "during", "during too"]).await;
        assert_eq!(stand.waiting().await, 3);
        stand.rabbit.proxy.restore();
        stand.is_drained().await;
    }
    // An event may be there twice, and none is lost.
    let mut connection = stand.database.connect().await;
    let written: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM outbox").fetch_all(&mut connection).await.unwrap();
    let count = stand.rabbit.count(&stand.rabbit.topology.log_queue).await.unwrap();
    let published: HashSet<Uuid> = stand.published(count).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(published, written.into_iter().collect());
    relay.stop().await;
    stand.clean().await;
}

#[tokio::test]
async fn the_relay_goes_on_when_postgresql_returns() {
    let stand = Stand::start().await;
    let relay = stand.relay().await;
    let mut connection = stand.database.connect().await;
    stand.write(&mut connection, &["before"]).await;
    stand.is_drained().await;
    for fault in [FaultProxy::cut, FaultProxy::stall, FaultProxy::halve] {
        fault(&stand.postgres);
        stand.write(&mut connection, &["during"]).await;
        stand.postgres.restore();
        stand.is_drained().await;
    }
    relay.stop().await;
    stand.clean().await;
}

#[tokio::test]
async fn a_queue_that_is_deleted_holds_its_events_up_until_it_is_there_again() {
    let stand = Stand::start().await;
    let relay = stand.relay().await;
    let mut connection = stand.database.connect().await;
    stand.write(&mut connection, &["before"]).await;
    stand.is_drained().await;
    let queue = stand.rabbit.topology.log_queue.as_str();
    let options = QueueDeleteOptions::default();
    stand.rabbit.channel().await.queue_delete(queue.into(), options).await.unwrap();
    let ids = stand.write(&mut connection, &["after"]).await;
    stand.is_drained().await;
    assert_eq!(stand.published(1).await, [(ids[0], "after".to_owned())]);
    relay.stop().await;
    stand.clean().await;
}

#[tokio::test]
async fn a_relay_that_nobody_wakes_looks_by_itself() {
    let stand = Stand::start().await;
    let relay = stand.relay().await;
    let mut connection = stand.database.connect().await;
    stand.write(&mut connection, &["before"]).await;
    stand.is_drained().await;
    // Sent once more, without a word to anybody.
    sqlx::query("UPDATE outbox SET sent_at = NULL").execute(&mut connection).await.unwrap();
    stand.is_drained().await;
    stand.published(2).await;
    relay.stop().await;
    stand.clean().await;
}

#[tokio::test]
async fn what_was_sent_long_ago_is_removed_and_what_waits_is_not() {
    let stand = Stand::start().await;
    let mut connection = stand.database.connect().await;
    stand.write(&mut connection, &["old", "recent", "waiting"]).await;
    for (entity, age) in [("old", "2 hours"), ("recent", "10 minutes")] {
        sqlx::query("UPDATE outbox SET sent_at = now() - $2::interval WHERE entity = $1")
            .bind(entity)
            .bind(age)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    sqlx::query("UPDATE outbox SET written_at = now() - interval '1 day'")
        .execute(&mut connection)
        .await
        .unwrap();
    // More old ones than are removed at once.
    sqlx::query(
        "INSERT INTO outbox (entity, id, routing_key, happened_at, body, sent_at) \
         SELECT entity, id, routing_key, happened_at, body, sent_at FROM outbox, generate_series(1, 5000) \
         WHERE entity = 'old'",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let relay = stand.relay().await;
    eventually(SOON, "the old one is gone and the waiting one is sent", || async {
        let mut connection = stand.database.connect().await;
        let left: Vec<String> =
            sqlx::query_scalar("SELECT entity FROM outbox WHERE sent_at IS NOT NULL ORDER BY seq")
                .fetch_all(&mut connection)
                .await
                .unwrap();
        let old = left.iter().filter(|entity| *entity == "old").count();
        if left == ["recent", "waiting"] { Ok(()) } else { Err(format!("{old} old of {}", left.len())) }
    })
    .await;
    relay.stop().await;
    stand.clean().await;
}

#[tokio::test]
async fn what_waits_is_counted() {
    // What is recorded on this thread, which is the only one of this test.
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let stand = Stand::start().await;
    stand.rabbit.proxy.cut();
    let mut connection = stand.database.connect().await;
    stand.write(&mut connection, &["a", "b", "c"]).await;
    let relay = stand.relay().await;
    eventually(SOON, "the gauge", || async {
        let rendered = recorder.handle().render();
        let gauge = rendered.lines().find_map(|line| line.strip_prefix("outbox_waiting ")).map(str::to_owned);
        if gauge.as_deref() == Some("3") { Ok(()) } else { Err(format!("{gauge:?}")) }
    })
    .await;
    stand.rabbit.proxy.restore();
    stand.is_drained().await;
    relay.stop().await;
    stand.clean().await;
}

#[tokio::test]
async fn an_event_is_on_its_way_within_moments_of_its_commit() {
    let stand = Stand::start().await;
    let relay = stand.relay().await;
    let mut connection = stand.database.connect().await;
    stand.write(&mut connection, &["before"]).await;
    stand.is_drained().await;
    let channel = stand.rabbit.channel().await;
    let queue = stand.rabbit.topology.log_queue.as_str();
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut consumer =
        channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap();
    let next = async |consumer: &mut lapin::Consumer| {
        tokio::time::timeout(SOON, futures_util::StreamExt::next(consumer)).await.unwrap().unwrap().unwrap()
    };
    next(&mut consumer).await;
    let mut took = Vec::new();
    for _ in 0..20 {
        stand.write(&mut connection, &["now"]).await;
        let committed = std::time::Instant::now();
        next(&mut consumer).await;
        took.push(committed.elapsed());
        // The next event is to find the relay asleep.
        stand.is_drained().await;
    }
    // Polling alone would take half a second for each, or so. `make bench` has the figure.
    let mean = took.iter().sum::<Duration>() / 20;
    assert!(mean < Duration::from_millis(250), "{took:?}");
    relay.stop().await;
    stand.clean().await;
}
