//! MongoDB goes and comes back; the logger goes and comes back. Nothing acknowledged is missing, none is twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chassis::rpc::{LoggerClient, RpcFailure};
use contracts::logger::{AppendError, Stored};
use contracts::trail::StepKind;
use futures_util::future::join_all;
use serde_json::json;
use testkit::eventually;
use testkit::proxy::FaultProxy;
use uuid::Uuid;

use crate::running::{Logger, SOON, config, context, letter, mongo_url, plain, step, through};

/// Longer than the logger waits for MongoDB, and what a person waits at most.
const BOUND: Duration = Duration::from_secs(6);

async fn proxied() -> (Logger, FaultProxy) {
    let url = mongo_url();
    let upstream = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(27017));
    let proxy = FaultProxy::to(&upstream).await;
    (Logger::with(config(&through(proxy.address()), "30")).await, proxy)
}

/// While MongoDB is away: errors in time that name it. After: healthy by itself.
async fn away_and_back(logger: Logger, proxy: FaultProxy) {
    let (client, context) = (logger.client(), context());
    let entry = json!({"name": "n", "data": "d"});
    let mongodb = "MongoDB is not available, try again shortly";
    for _ in 0..2 {
        let started = Instant::now();
        let answer = logger.post(&entry).await;
        assert_eq!((answer.status, answer.message()), (503, mongodb));
        assert_eq!(answer.header("retry-after"), "1");
        let rpc = client.append(&context, plain("n")).await;
        assert_eq!(rpc, Err(RpcFailure::Unavailable("MongoDB".into())));
        assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    }
    let started = Instant::now();
    let read = logger.get("/logs").await;
    assert_eq!((read.status, read.message()), (503, mongodb));
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    let ready = logger.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.message().contains("MongoDB"), "{}", ready.message());
    assert_eq!(logger.get("/livez").await.status, 200);

    proxy.restore();
    eventually(SOON, "an entry is taken again", || async {
        let answer = logger.post(&entry).await;
        if answer.status == 202 { Ok(()) } else { Err(answer.body.to_string()) }
    })
    .await;
    assert_eq!(client.append(&context, plain("n")).await, Ok(Stored::Created));
    logger.ready().await;
    drop(proxy);
    logger.stop().await;
}

#[tokio::test]
async fn mongodb_cut_and_restored() {
    let (logger, proxy) = proxied().await;
    assert_eq!(logger.post(&json!({"name": "n", "data": "d"})).await.status, 202);
    proxy.cut();
    away_and_back(logger, proxy).await;
}

#[tokio::test]
async fn mongodb_stalled_and_restored() {
    let (logger, proxy) = proxied().await;
    assert_eq!(logger.post(&json!({"name": "n", "data": "d"})).await.status, 202);
    proxy.stall();
    away_and_back(logger, proxy).await;
}

#[tokio::test]
async fn steps_and_letters_are_refused_in_time_while_mongodb_is_away() {
    let (logger, proxy) = proxied().await;
    let (client, context, action) = (logger.client(), context(), Uuid::now_v7());
    let away = vec![Err(AppendError::Unavailable("MongoDB".into())); 2];
    let steps = [StepKind::Queued, StepKind::Done].map(|kind| step(action, kind, 0));
    let letters = ["q", "q"].map(letter);
    proxy.cut();
    let started = Instant::now();
    assert_eq!(client.record(&context, steps.to_vec()).await.unwrap(), away);
    assert_eq!(client.bury(&context, letters.to_vec()).await.unwrap(), away);
    assert!(started.elapsed() < BOUND * 2, "{:?}", started.elapsed());

    let started = Instant::now();
    let letter = format!("/dead-letters/{}", letters[0].id);
    let read = [format!("/actions/{action}?wait=30s"), "/dead-letters".to_owned(), letter.clone()];
    let mut answers = join_all(read.iter().map(|path| logger.get(path))).await;
    answers.push(logger.post_to(&format!("{letter}/replayed"), &json!({"at": "2026-01-02T03:04:05Z"})).await);
    for answer in answers {
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert_eq!(answer.message(), "MongoDB is not available, try again shortly");
    }
    assert!(started.elapsed() < BOUND * 2, "{:?}", started.elapsed());

    proxy.restore();
    logger.ready().await;
    logger.record(&steps).await;
    logger.bury(&letters).await;
    drop(proxy);
    logger.stop().await;
}

#[tokio::test]
async fn it_starts_without_mongodb_and_is_ready_once_that_is_there() {
    let upstream = format!("{}:{}", mongo_url().host_str().unwrap(), mongo_url().port().unwrap());
    let proxy = FaultProxy::to(&upstream).await;
    proxy.cut();
    let config = config(&through(proxy.address()), "30");
    let (start, cut) = tokio::join!(Logger::with(config), async {
        // Ready is waited for by the start, and it can't be before.
        tokio::task::yield_now().await;
        proxy.restore();
        proxy
    });
    assert_eq!(start.post(&json!({"name": "n", "data": "d"})).await.status, 202);
    drop(cut);
    start.stop().await;
}

/// Appends from many callers until told to stop; gives what was acknowledged.
async fn hammer(client: LoggerClient, callers: usize, stop: Arc<AtomicBool>) -> Vec<Uuid> {
    let one = |client: LoggerClient, stop: Arc<AtomicBool>| async move {
        let (context, mut acknowledged) = (context(), Vec::new());
        while !stop.load(Ordering::SeqCst) {
            let entry = plain("hammer");
            // A client repeats what failed, with the same id, until it is taken.
            while client.append(&context, entry.clone()).await.is_err() {
                tokio::task::yield_now().await;
            }
            acknowledged.push(entry.id);
        }
        acknowledged
    };
    let callers = (0..callers).map(|_| tokio::spawn(one(client.clone(), Arc::clone(&stop))));
    join_all(callers).await.into_iter().flat_map(|acknowledged| acknowledged.unwrap()).collect()
}

async fn nothing_lost_nothing_twice(logger: &Logger, acknowledged: &[Uuid]) {
    let entries = logger.mongo().await.entries();
    for ids in acknowledged.chunks(1000) {
        let ids: Vec<_> = ids.iter().map(|id| logger::document::binary(*id)).collect();
        let found = entries.count_documents(bson::doc! { "_id": { "$in": &ids } }).await.unwrap();
        assert_eq!(found, ids.len() as u64);
    }
    // Every caller repeats until it is acknowledged, so nothing else is there either.
    assert_eq!(logger.count().await, acknowledged.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_logger_dies_under_load_and_comes_back() {
    let config = config(mongo_url().as_str(), "30");
    // A runtime of its own: dropped, everything in it ends where it stands, as when a process is killed.
    let doomed = tokio::runtime::Runtime::new().unwrap();
    let of = config.clone();
    let first = doomed.spawn(async move { Logger::with(of).await }).await.unwrap();
    let (address, clients) = (first.rpc.to_string(), chassis::lifecycle::Lifecycle::default());
    let client = LoggerClient::start(vec![address.clone()], &clients);
    let stop = Arc::new(AtomicBool::new(false));
    let hammering = tokio::spawn(hammer(client.clone(), 64, Arc::clone(&stop)));
    let written = |at_least: u64| {
        let first = &first;
        eventually(SOON, "entries are written", move || async move {
            let count = first.count().await;
            if count >= at_least { Ok(()) } else { Err(format!("{count} of {at_least}")) }
        })
    };
    written(500).await;
    doomed.shutdown_background();
    let before = first.count().await;
    let second = eventually(SOON, "the port is free", || async {
        let free = tokio::net::TcpListener::bind(&address).await.map(drop);
        free.map_err(|error| error.to_string())
    });
    second.await;
    let second = Logger::on(config, &address).await;
    written(before + 500).await;
    stop.store(true, Ordering::SeqCst);
    let acknowledged = hammering.await.unwrap();
    nothing_lost_nothing_twice(&second, &acknowledged).await;
    std::mem::forget(first);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mongodb_is_cut_under_load_and_comes_back() {
    let (logger, proxy) = proxied().await;
    let stop = Arc::new(AtomicBool::new(false));
    let hammering = tokio::spawn(hammer(logger.client(), 64, Arc::clone(&stop)));
    // Around the proxy.
    let config = logger::Config { mongo_url: mongo_url().as_str().into(), ..logger.config.clone() };
    let entries = logger::mongo::Mongo::open(&config).await.unwrap().entries();
    let written = || entries.count_documents(bson::doc! { "name": "hammer" });
    for round in 1..=3_u64 {
        eventually(SOON, "entries are written", || async {
            let count = written().await.unwrap();
            if count >= round * 300 { Ok(()) } else { Err(format!("{count} in round {round}")) }
        })
        .await;
        proxy.cut();
        eventually(SOON, "the cut is noticed", || async {
            let status = logger.post(&json!({"name": "n", "data": 1})).await.status;
            if status == 503 { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
        proxy.restore();
    }
    stop.store(true, Ordering::SeqCst);
    let acknowledged = hammering.await.unwrap();
    assert_eq!(written().await.unwrap(), acknowledged.len() as u64);
    drop(proxy);
    logger.stop().await;
}

#[tokio::test]
async fn what_is_under_way_at_a_stop_is_written_and_answered() {
    let logger = Logger::start().await;
    let (client, context) = (logger.client(), context());
    client.append(&context, plain("first")).await.unwrap();
    let calls = join_all((0..200).map(|_| client.append(&context, plain("last"))));
    let mut calls = Box::pin(calls);
    // Sends them, and no more.
    assert!(futures_util::poll!(&mut calls).is_pending());
    tokio::task::yield_now().await;
    logger.running.lifecycle().stop();
    let config = logger.config.clone();
    let (outcomes, ()) = tokio::join!(calls, logger.running.stop());
    let acknowledged = outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
    let mongo = logger::mongo::Mongo::open(&config).await.unwrap();
    let stored = mongo.entries().count_documents(bson::doc! { "name": "last" }).await.unwrap();
    assert_eq!(stored, acknowledged, "{outcomes:?}");
    mongo.drop_database().await.unwrap();
}
