//! Publishing with confirms through the chassis, beside the same loop in bare lapin; and the `log` action with
//! `Prefer: respond-async` through the broker, which has no floor.
//!
//! Both publish the same events on the same exchange, into one quorum queue: persistent, mandatory, confirmed, by
//! 64 tasks that each wait for their confirm, over one channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use chassis::amqp::Publisher;
use chassis::lifecycle::Lifecycle;
use chrono::Utc;
use contracts::event::{CONTENT_TYPE, CloudEvent};
use contracts::log::LogPayload;
use contracts::topology::log_key;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use uuid::Uuid;

use super::log::{payload, request};
use crate::figures::{Cost, Goal, Orientation, Outcome, Row, Unit, median};
use crate::load::Load;
use crate::setup::{Setup, until};

const IN_FLIGHT: usize = 64;
const CLIENTS: usize = 64;
const WARM_UP: Duration = Duration::from_millis(300);
const DURATION: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection with a channel of the bare crate, in confirm mode.
pub(crate) struct Bare {
    connection: Connection,
    channel: Channel,
    exchange: String,
    queue: String,
}

impl Bare {
    /// Connects.
    pub(crate) async fn connect(setup: &Setup) -> anyhow::Result<Self> {
        let connection = Connection::connect(&setup.rabbitmq_url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let (exchange, queue) = (setup.topology.events.clone(), setup.topology.log_queue.clone());
        Ok(Self { connection, channel, exchange, queue })
    }

    /// Another channel.
    pub(crate) async fn channel(&self) -> anyhow::Result<Channel> {
        Ok(self.connection.create_channel().await?)
    }

    /// Publishes one event and waits for its confirm.
    pub(crate) async fn publish(&self, event: &CloudEvent<LogPayload>) -> anyhow::Result<()> {
        let body = serde_json::to_vec(event)?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type(CONTENT_TYPE.into())
            .with_message_id(event.id.to_string().into());
        let exchange = self.exchange.as_str().into();
        let key = event.kind.as_str().into();
        let confirm = self.channel.basic_publish(exchange, key, options, &body, properties).await?.await?;
        anyhow::ensure!(confirm == Confirmation::Ack(None), "the event is in no queue: {confirm:?}");
        Ok(())
    }

    /// Throws away what is in the queue.
    pub(crate) async fn purge(&self) -> anyhow::Result<()> {
        let queue = self.queue.as_str().into();
        self.channel.queue_purge(queue, QueuePurgeOptions::default()).await?;
        Ok(())
    }

    /// Removes the names of the bench from the server, and closes.
    pub(crate) async fn remove(self, setup: &Setup) -> anyhow::Result<()> {
        let names = &setup.topology;
        let retries = names.retries.iter().map(|retry| &retry.name);
        let queues = [&names.log_queue, &names.mail_queue, &names.trail_queue, &names.dead_queue];
        for queue in queues.into_iter().chain([&names.unreadable_queue]).chain(retries.clone()) {
            self.channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
        }
        for exchange in [&names.events, &names.logs_topic].into_iter().chain(retries) {
            self.channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await?;
        }
        Ok(self.connection.close(200, "done".into()).await?)
    }
}

/// The topology of the bench, as the chassis declares it, and a publisher on it.
pub(crate) struct Chassis {
    pub(crate) publisher: Publisher,
    lifecycle: Lifecycle,
}

impl Chassis {
    /// Starts the publisher, and waits until it has declared the topology.
    pub(crate) async fn start(setup: &Setup) -> anyhow::Result<Self> {
        let lifecycle = Lifecycle::default();
        let url = setup.rabbitmq_url.as_str().into();
        let publisher = Publisher::start(&url, setup.topology.clone(), &lifecycle)?;
        until("the publisher connects", PATIENCE, async || publisher.check().await.ok()).await?;
        Ok(Self { publisher, lifecycle })
    }
}

impl Drop for Chassis {
    fn drop(&mut self) {
        self.lifecycle.stop();
    }
}

/// An event as the broker makes it.
pub(crate) fn event() -> CloudEvent<LogPayload> {
    let payload = payload();
    let key = log_key(payload.level);
    let mut event = CloudEvent::new(Uuid::now_v7(), "switchboard/broker", key, Utc::now(), payload);
    event.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    event
}

/// Measures it.
pub(crate) fn measure(setup: &Setup) -> anyhow::Result<Outcome> {
    let mut outcome = setup.runtime.block_on(publish(setup))?;
    let through_broker = respond_async(setup)?;
    outcome.costs.extend(through_broker.costs);
    outcome.orientation.extend(through_broker.orientation);
    outcome.notes.extend(through_broker.notes);
    Ok(outcome)
}

async fn publish(setup: &Setup) -> anyhow::Result<Outcome> {
    let path = format!("publish, {IN_FLIGHT} in flight");
    let mut row = Row::new(&path, "bare lapin", Unit::PerSecond, Goal::Times(0.8));
    let ours = Arc::new(Chassis::start(setup).await?);
    let bare = Arc::new(Bare::connect(setup).await?);
    let exchange: Arc<str> = setup.topology.events.as_str().into();
    for _ in 0..setup.rounds {
        let publishing = bare.clone();
        let floor = in_flight(move || {
            let bare = publishing.clone();
            async move { bare.publish(&event()).await.expect("a confirm") }
        });
        let floor = floor.await;
        bare.purge().await?;
        let (publishing, exchange) = (ours.clone(), exchange.clone());
        let measured = in_flight(move || {
            let (ours, exchange, event) = (publishing.clone(), exchange.clone(), event());
            async move { ours.publisher.publish(&exchange, &event.kind, &event).await.expect("a confirm") }
        });
        let measured = measured.await;
        bare.purge().await?;
        row.round(floor, measured);
    }
    drop(ours);
    if let Some(bare) = Arc::into_inner(bare) {
        bare.remove(setup).await?;
    }
    Ok(Outcome { rows: vec![row], ..Outcome::default() })
}

/// How often a second `work` ends, done by so many tasks.
async fn in_flight<F: Future<Output = ()> + Send>(work: impl Fn() -> F + Clone + Send + 'static) -> f64 {
    let count = Arc::new(AtomicU32::new(0));
    let until = Instant::now() + WARM_UP + DURATION;
    let tasks: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let (work, count) = (work.clone(), count.clone());
            tokio::spawn(async move {
                while Instant::now() < until {
                    work().await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    tokio::time::sleep(WARM_UP).await;
    let (before, began) = (count.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(DURATION).await;
    let rate = f64::from(count.load(Ordering::Relaxed) - before) / began.elapsed().as_secs_f64();
    for task in tasks {
        task.await.expect("a task that publishes");
    }
    rate
}

/// The `log` action through RabbitMQ, with the listener of the stack at work.
fn respond_async(setup: &Setup) -> anyhow::Result<Outcome> {
    let path = format!("log respond-async, {CLIENTS} clients");
    let (mut cost, mut rates) = (Cost::of(&path), Vec::new());
    let mut outcome = Outcome::default();
    let request = request("prefer: respond-async\r\n");
    let load = Load { address: setup.broker, clients: CLIENTS, request, expected: 202, duration: DURATION };
    for _ in 0..setup.rounds {
        let sample = load.run(&setup.processes)?;
        outcome.notes.extend(sample.complaint(&path));
        cost.add(f64::from(sample.count), &sample.cpu);
        rates.push(sample.rate);
    }
    outcome.costs.push(cost);
    outcome.orientation.push(Orientation {
        what: "logs through RabbitMQ/s at 64 clients",
        theirs: 1100.0,
        times: Some(8.0),
        ours: median(&rates),
    });
    Ok(outcome)
}
