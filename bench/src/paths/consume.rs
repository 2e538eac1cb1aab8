//! From the queue into the log: the listener and the logger, beside bare lapin and a bare `insertMany`.
//!
//! So many events wait in a queue that nobody consumes; then the floor, or a listener that the bench starts on that
//! queue, takes them all, and the time is from the first document to the last. The floor takes what is there up to a
//! batch, inserts it journaled into a collection without an index but `_id`, and acknowledges it as one.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bson::raw::RawDocumentBuf;
use contracts::event::CloudEvent;
use contracts::log::{Entry, LogPayload};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::Consumer;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use mongodb::{Client, Collection};

use super::log::{collection, document};
use super::publish::{Bare, Chassis, event};
use crate::figures::{Cost, Goal, Orientation, Outcome, Row, Unit, median};
use crate::process::{Memory, Peak, Processes};
use crate::setup::{Setup, Started, free_port, until};

/// How many wait.
const EVENTS: u32 = 50_000;
/// How many wait with `--large`.
const MANY: u32 = 1_000_000;
/// Who fills the queue.
const FILLERS: u32 = 250;
/// The floor's flow: two batches, so that one is on its way while the other is inserted.
const BATCH: usize = 500;
const PREFETCH: u16 = 1000;
const PATIENCE: Duration = Duration::from_mins(5);

/// Measures it.
pub(crate) fn measure(setup: &Setup) -> anyhow::Result<Outcome> {
    setup.runtime.block_on(async {
        let declared = Chassis::start(setup).await?;
        drop(declared);
        let bare = Arc::new(Bare::connect(setup).await?);
        let mut outcome = rounds(setup, &bare, EVENTS, setup.rounds).await;
        if setup.large
            && let Ok(outcome) = &mut outcome
        {
            let many = rounds(setup, &bare, MANY, 1).await?;
            outcome.rows.extend(many.rows);
            outcome.notes.extend(many.notes);
        }
        if let Some(bare) = Arc::into_inner(bare) {
            bare.remove(setup).await?;
        }
        outcome
    })
}

async fn rounds(setup: &Setup, bare: &Arc<Bare>, events: u32, rounds: usize) -> anyhow::Result<Outcome> {
    let path = format!("consume and store {}k", events / 1000);
    let mut row = Row::new(&path, "bare lapin + insertMany", Unit::PerSecond, Goal::Times(0.7));
    let mut cost = Cost::of(&path);
    let mut most = Memory::default();
    let logs = Client::with_uri_str(&setup.mongo_url).await?;
    let logs = logs.default_database().context("MONGO_URL names no database")?.collection(ENTRIES);
    for _ in 0..rounds {
        fill(bare, events).await?;
        let own = collection(setup, "consume").await?;
        let floor =
            tokio::spawn(consume(bare.clone(), setup.topology.log_queue.clone(), own.clone(), events));
        let floor_rate = drain(&own, 0, events).await?;
        floor.await??;
        own.drop().await?;

        fill(bare, events).await?;
        let stored = logs.estimated_document_count().await?;
        let listener = listener(setup)?;
        let processes = setup.processes.with("listener", listener.pid());
        let (before, peak) = (processes.cpu(), Peak::watch(listener_and_logger(&processes)));
        let ours = drain(&logs, stored, events).await?;
        cost.add(f64::from(events), &processes.cpu().since(&before));
        for (name, size) in peak.seen().0.0 {
            let most = most.0.entry(name).or_default();
            *most = most.max(size);
        }
        drop(listener);
        row.round(floor_rate, ours);
    }
    let memory = |name: &str| most.0.get(name).copied().unwrap_or(f64::NAN);
    let note = format!(
        "{path}: the most resident memory meanwhile was {:.1} MiB of the listener and {:.1} MiB of the logger",
        memory("listener"),
        memory("logger")
    );
    let orientation = [
        Orientation {
            what: "drain of the queue, events/s",
            theirs: 2350.0,
            times: Some(10.0),
            ours: median(&row.ours),
        },
        Orientation {
            what: "  their memory at 50,000 waiting, MB (less is better)",
            theirs: 1300.0,
            times: None,
            ours: (memory("listener") + memory("logger")) * 1.048_576,
        },
    ];
    Ok(Outcome { rows: vec![row], costs: vec![cost], orientation: orientation.into(), notes: vec![note] })
}

/// The collection of the logger.
const ENTRIES: &str = "entries";

fn listener_and_logger(processes: &Processes) -> Processes {
    let pid = |name| processes.pid(name).unwrap_or_default();
    Processes::default().with("listener", pid("listener")).with("logger", pid("logger"))
}

/// A listener on the queue of the bench, whose logger is that of the stack.
fn listener(setup: &Setup) -> anyhow::Result<Started> {
    let mut command = Command::new(setup.binaries.join("listener"));
    command.env("PORT", free_port()?.to_string()).env("RABBITMQ_NAMESPACE", &setup.namespace);
    Started::start(command.stdout(Stdio::null()))
}

/// Puts the events into the queue, confirmed.
async fn fill(bare: &Arc<Bare>, events: u32) -> anyhow::Result<()> {
    let fillers = (0..FILLERS).map(|_| {
        let bare = bare.clone();
        tokio::spawn(async move {
            for _ in 0..events / FILLERS {
                bare.publish(&event()).await.expect("a confirm");
            }
        })
    });
    for filler in fillers.collect::<Vec<_>>() {
        filler.await?;
    }
    Ok(())
}

/// Waits until all events are documents, of which there were `before`; gives documents a second.
async fn drain(collection: &Collection<RawDocumentBuf>, before: u64, events: u32) -> anyhow::Result<f64> {
    let count = async || {
        let count = collection.estimated_document_count().await.ok()?.saturating_sub(before);
        u32::try_from(count).ok()
    };
    let first =
        until("the first document", PATIENCE, async || count().await.filter(|count| *count > 0)).await?;
    let began = Instant::now();
    until("the last document", PATIENCE, async || count().await.filter(|count| *count >= events)).await?;
    Ok(f64::from(events - first) / began.elapsed().as_secs_f64())
}

/// The floor: until it has stored and acknowledged all of them.
async fn consume(
    bare: Arc<Bare>,
    queue: String,
    into: Collection<RawDocumentBuf>,
    events: u32,
) -> anyhow::Result<()> {
    let channel = bare.channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = channel.basic_consume(queue.into(), "floor".into(), options, arguments).await?;
    let mut left = events as usize;
    while left > 0 {
        let batch = batch(&mut consumer).await?;
        let last = batch.last().context("an empty batch")?.delivery_tag;
        into.insert_many(batch.iter().map(stored)).ordered(false).await?;
        channel.basic_ack(last, BasicAckOptions { multiple: true }).await?;
        left = left.saturating_sub(batch.len());
    }
    Ok(channel.close(200, "done".into()).await?)
}

/// What is there, up to a batch.
async fn batch(consumer: &mut Consumer) -> anyhow::Result<Vec<Delivery>> {
    let mut batch = vec![consumer.next().await.context("the consumer ended")??];
    while batch.len() < BATCH {
        let Some(Some(delivery)) = consumer.next().now_or_never() else { break };
        batch.push(delivery?);
    }
    Ok(batch)
}

/// The document of an event.
fn stored(delivery: &Delivery) -> RawDocumentBuf {
    let event: CloudEvent<LogPayload> = serde_json::from_slice(&delivery.data).expect("an event of ours");
    let trace_id = event.traceparent.as_deref().and_then(|parent| parent.get(3..35)).map(str::to_owned);
    document(&Entry::new(event.id, event.data, "queue", trace_id, event.time))
}
