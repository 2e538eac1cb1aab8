//! The `log` action over RPC, beside bare journaled inserts.
//!
//! Two floors: a loop of `insertMany` that takes whatever 64 tasks have handed it meanwhile, which is group commit
//! in its barest form, and one `insertOne` for each. Both write documents of the logger's shape, into a collection
//! that has no index but `_id`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::raw::RawDocumentBuf;
use bson::spec::BinarySubtype;
use bson::{Binary, DateTime, rawdoc};
use contracts::log::{Entry, LogPayload};
use mongodb::options::{Acknowledgment, ClientOptions, CollectionOptions, WriteConcern};
use mongodb::{Client, Collection};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::figures::{Cost, Goal, Orientation, Outcome, Row, Unit, median};
use crate::load::{self, Load, Sample};
use crate::setup::Setup;

const CLIENTS: usize = 64;
const DURATION: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(200);
/// The entry that everyone writes.
const NAME: &str = "bench";
const DATA: &str =
    "an entry of the size that people write: a sentence or two, say 100 characters, and no more";

/// The request that logs an entry; further header lines end in CR LF each.
pub(crate) fn request(headers: &str) -> Arc<[u8]> {
    let body = format!(r#"{{"action":"log","log":{{"name":"{NAME}","data":"{DATA}"}}}}"#);
    load::post("/handle", headers, &body)
}

/// The payload that the requests carry.
pub(crate) fn payload() -> LogPayload {
    LogPayload {
        name: NAME.to_owned(),
        data: DATA.into(),
        level: contracts::log::Level::Info,
        fields: serde_json::Map::new(),
    }
}

/// An entry as the broker makes it.
fn entry() -> Entry {
    let trace_id = Some(format!("{:032x}", Uuid::now_v7().as_u128()));
    Entry::new(Uuid::now_v7(), payload(), "rpc", trace_id, chrono::Utc::now())
}

/// A document of the logger's shape, in the form that costs the driver the least.
pub(crate) fn document(entry: &Entry) -> RawDocumentBuf {
    rawdoc! {
        "_id": Binary { subtype: BinarySubtype::Uuid, bytes: entry.id.as_bytes().to_vec() },
        "at": DateTime::from_millis(entry.at.timestamp_millis()),
        "name": entry.name.as_str(),
        "level": entry.level.as_str(),
        "data": entry.data.as_str().unwrap_or_default(),
        "via": entry.via.as_str(),
        "trace_id": entry.trace_id.as_deref().unwrap_or_default(),
    }
}

/// A collection of the bench's own: the logger's write concern, a connection for each task, no index but `_id`.
pub(crate) async fn collection(setup: &Setup, name: &str) -> anyhow::Result<Collection<RawDocumentBuf>> {
    let mut options = ClientOptions::parse(&setup.mongo_url).await?;
    options.retry_writes = Some(false);
    options.max_pool_size = u32::try_from(CLIENTS).ok();
    let client = Client::with_options(options)?;
    let journaled = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
    let options = CollectionOptions::builder().write_concern(journaled).build();
    let collection = client.database(&setup.namespace).collection_with_options(name, options);
    collection.drop().await?;
    Ok(collection)
}

/// Measures it.
pub(crate) fn measure(setup: &Setup) -> anyhow::Result<Outcome> {
    let mut outcome = one_client(setup)?;
    let many = many_clients(setup)?;
    outcome.rows.extend(many.rows);
    outcome.costs.extend(many.costs);
    outcome.orientation.extend(many.orientation);
    outcome.notes.extend(many.notes);
    Ok(outcome)
}

fn one_client(setup: &Setup) -> anyhow::Result<Outcome> {
    let path = "log, 1 client, p50";
    let mut row = Row::new(path, "one journaled insertOne", Unit::Milliseconds, Goal::Plus(0.5));
    let mut cost = Cost::of(path);
    let mut outcome = Outcome::default();
    let ours =
        Load { address: setup.broker, clients: 1, request: request(""), expected: 202, duration: DURATION };
    for _ in 0..setup.rounds {
        let floor = setup.runtime.block_on(insert_one_each(setup, 1))?;
        let ours = ours.run(&setup.processes)?;
        outcome.notes.extend(ours.complaint(path));
        cost.add(f64::from(ours.count), &ours.cpu);
        row.round(floor.p50, ours.p50);
    }
    outcome.rows.push(row);
    outcome.costs.push(cost);
    Ok(outcome)
}

fn many_clients(setup: &Setup) -> anyhow::Result<Outcome> {
    let path = format!("log, {CLIENTS} clients");
    let mut grouped = Row::new(&path, "insertMany loop fed by 64 tasks", Unit::PerSecond, Goal::Times(0.5));
    let mut single = Row::new(&path, "an insertOne each, 64 tasks", Unit::PerSecond, Goal::Times(3.0));
    let (mut cost, mut floor_cost) = (Cost::of(&path), Cost::of("  its floor (insertMany)"));
    let mut outcome = Outcome::default();
    let mut p99 = Vec::new();
    let request = request("");
    let ours = Load { address: setup.broker, clients: CLIENTS, request, expected: 202, duration: DURATION };
    for _ in 0..setup.rounds {
        let group_floor = setup.runtime.block_on(insert_many_loop(setup))?;
        let ours = ours.run(&setup.processes)?;
        let single_floor = setup.runtime.block_on(insert_one_each(setup, CLIENTS))?;
        outcome.notes.extend(ours.complaint(&path));
        cost.add(f64::from(ours.count), &ours.cpu);
        floor_cost.add(f64::from(group_floor.count), &group_floor.cpu);
        grouped.round(group_floor.rate, ours.rate);
        single.round(single_floor.rate, ours.rate);
        p99.push(ours.p99);
    }
    let (rate, p99) = (median(&grouped.ours), median(&p99));
    outcome.orientation.extend([
        Orientation { what: "logs over RPC/s at 64 clients", theirs: 3270.0, times: Some(5.0), ours: rate },
        Orientation { what: "  their p99, ms (less is better)", theirs: 49.0, times: None, ours: p99 },
    ]);
    outcome.rows.extend([grouped, single]);
    outcome.costs.extend([cost, floor_cost]);
    Ok(outcome)
}

/// Tasks that each insert one document after another.
async fn insert_one_each(setup: &Setup, tasks: usize) -> anyhow::Result<Sample> {
    let collection = collection(setup, "insert_one").await?;
    let inserting = collection.clone();
    let sample = closed_loop(setup, tasks, move |entry| {
        let collection = inserting.clone();
        async move {
            collection.insert_one(document(&entry)).await.expect("insertOne");
        }
    });
    let sample = sample.await;
    collection.drop().await?;
    Ok(sample)
}

/// Tasks that each hand over one document after another, and one loop that inserts what has come meanwhile.
async fn insert_many_loop(setup: &Setup) -> anyhow::Result<Sample> {
    let collection = collection(setup, "insert_many").await?;
    let inserting = collection.clone();
    let (sender, mut receiver) = mpsc::channel::<(RawDocumentBuf, oneshot::Sender<()>)>(CLIENTS);
    let writer = tokio::spawn(async move {
        let mut waiting = Vec::new();
        while receiver.recv_many(&mut waiting, CLIENTS).await > 0 {
            let (documents, answers): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
            inserting.insert_many(documents).ordered(false).await.expect("insertMany");
            for answer in answers {
                answer.send(()).expect("a task waits");
            }
        }
    });
    let sample = closed_loop(setup, CLIENTS, move |entry| {
        let sender = sender.clone();
        async move {
            let (answer, answered) = oneshot::channel();
            sender.send((document(&entry), answer)).await.expect("the loop takes it");
            answered.await.expect("the loop answers");
        }
    });
    let sample = sample.await;
    writer.await?;
    collection.drop().await?;
    Ok(sample)
}

/// Tasks that each do one thing after another, the times that it took them, and the CPU time that all took.
async fn closed_loop<F>(
    setup: &Setup,
    tasks: usize,
    work: impl Fn(Entry) -> F + Clone + Send + 'static,
) -> Sample
where
    F: Future<Output = ()> + Send,
{
    let began = Instant::now();
    let (from, to) = (began + WARM_UP, began + WARM_UP + DURATION);
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let work = work.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                loop {
                    let started = Instant::now();
                    work(entry()).await;
                    let ended = Instant::now();
                    if ended > to {
                        return times;
                    }
                    if ended > from {
                        times.push(u32::try_from((ended - started).as_micros()).unwrap_or(u32::MAX));
                    }
                }
            })
        })
        .collect();
    drop(work);
    tokio::time::sleep_until(from.into()).await;
    let before = setup.processes.cpu();
    tokio::time::sleep_until(to.into()).await;
    let cpu = setup.processes.cpu().since(&before);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("a task of the floor"));
    }
    Sample { cpu, ..Sample::of(times, DURATION) }
}
