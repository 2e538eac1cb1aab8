//! The client and the server with each other, over the loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contracts::log::{Entry, Level, LogPayload};
use contracts::logger::{AppendError, LoggerRequest, LoggerResponse, MAX_FRAME, Stored};
use serde_json::{Map, json};
use tarpc::ServerError;
use tarpc::context::Context;
use testkit::proxy::FaultProxy;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::server::{Limits, serve};
use super::{LoggerClient, RpcFailure};
use crate::lifecycle::Lifecycle;
use crate::request::RequestContext;

/// How long anything may take to come about.
const SOON: Duration = Duration::from_secs(20);

/// What a test's server does with an entry, by its name.
#[derive(Clone, Default)]
struct Fake {
    calls: Arc<AtomicUsize>,
    trace: Arc<std::sync::Mutex<u128>>,
    release: Arc<Notify>,
}

impl Fake {
    async fn append(self, entry: Entry) -> Result<Stored, AppendError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match entry.name.as_str() {
            "panic" => panic!("a mistake"),
            "hang" => std::future::pending().await,
            "wait" => self.release.notified().await,
            "refuse" => return Err(AppendError::Refused("no".into())),
            "away" => return Err(AppendError::Unavailable("MongoDB".into())),
            _ => {}
        }
        Ok(Stored::Created)
    }

    async fn serve(self, context: Context, request: LoggerRequest) -> Result<LoggerResponse, ServerError> {
        *self.trace.lock().unwrap() = (*context.trace_id()).into();
        Ok(match request {
            LoggerRequest::Append { entry } => LoggerResponse::Append(self.append(entry).await),
            LoggerRequest::AppendAll { entries } => {
                let outcomes = entries.into_iter().map(|entry| self.clone().append(entry));
                LoggerResponse::AppendAll(futures_util::future::join_all(outcomes).await)
            }
            LoggerRequest::Record { steps } => {
                LoggerResponse::Record(steps.iter().map(|_| Ok(Stored::Created)).collect())
            }
            LoggerRequest::Bury { letters } => {
                LoggerResponse::Bury(letters.iter().map(|_| Ok(Stored::Created)).collect())
            }
        })
    }
}

struct Server {
    address: SocketAddr,
    stopping: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

async fn start(address: &str, fake: Fake, limits: Limits) -> Server {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stopping = CancellationToken::new();
    let task = tokio::spawn(serve(listener, stopping.clone(), limits, move |_, context, request| {
        fake.clone().serve(context, request)
    }));
    Server { address, stopping, task }
}

impl Server {
    fn client(&self, lifecycle: &Lifecycle) -> LoggerClient {
        LoggerClient::start(vec![self.address.to_string()], lifecycle)
    }

    async fn stop(self) -> SocketAddr {
        self.stopping.cancel();
        self.task.await.unwrap().unwrap();
        self.address
    }
}

fn context() -> RequestContext {
    RequestContext::from_headers(None, None)
}

fn entry(name: &str) -> Entry {
    let payload = LogPayload { name: name.into(), data: json!("d"), level: Level::Info, fields: Map::new() };
    Entry::new(Uuid::now_v7(), payload, "rpc", None, chrono::Utc::now())
}

#[tokio::test]
async fn a_call_is_answered_and_its_trace_arrives() {
    let (fake, lifecycle) = (Fake::default(), Lifecycle::default());
    let server = start("127.0.0.1:0", fake.clone(), Limits::default()).await;
    let (client, context) = (server.client(&lifecycle), context());
    assert_eq!(client.append(&context, entry("a")).await, Ok(Stored::Created));
    assert_eq!(*fake.trace.lock().unwrap(), context.trace.trace_id());
    client.check().await.unwrap();
    let entries = ["a", "refuse", "away"].map(entry).to_vec();
    let outcomes = client.append_all(&context, entries).await.unwrap();
    let away = Err(AppendError::Unavailable("MongoDB".into()));
    assert_eq!(outcomes, [Ok(Stored::Created), Err(AppendError::Refused("no".into())), away]);
}

#[tokio::test]
async fn every_caller_gets_its_own_answer() {
    let lifecycle = Lifecycle::default();
    let server = start("127.0.0.1:0", Fake::default(), Limits::default()).await;
    let (client, context) = (server.client(&lifecycle), context());
    let calls = (0..900).map(|i| {
        let name = ["a", "refuse", "away"][i % 3];
        let (client, context) = (client.clone(), context.clone());
        async move { (name, client.append(&context, entry(name)).await) }
    });
    for (name, outcome) in futures_util::future::join_all(calls).await {
        match name {
            "a" => assert_eq!(outcome, Ok(Stored::Created)),
            "refuse" => assert_eq!(outcome, Err(RpcFailure::Refused("no".into()))),
            _ => assert_eq!(outcome, Err(RpcFailure::Unavailable("MongoDB".into()))),
        }
    }
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_own_call_only() {
    let (fake, lifecycle) = (Fake::default(), Lifecycle::default());
    let server = start("127.0.0.1:0", fake.clone(), Limits::default()).await;
    let (client, context) = (server.client(&lifecycle), context());
    let (waiting, panicking) = tokio::join!(client.append(&context, entry("wait")), async {
        let outcome = client.append(&context, entry("panic")).await;
        fake.release.notify_one();
        outcome
    });
    assert_eq!(waiting, Ok(Stored::Created));
    assert!(matches!(panicking, Err(RpcFailure::Nonsense(_))), "{panicking:?}");
    assert_eq!(fake.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_is_in_flight_at_a_stop_is_answered() {
    let (fake, lifecycle) = (Fake::default(), Lifecycle::default());
    let server = start("127.0.0.1:0", fake.clone(), Limits::default()).await;
    let (client, context) = (server.client(&lifecycle), context());
    let (outcome, _) = tokio::join!(client.append(&context, entry("wait")), async {
        while fake.calls.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        server.stopping.cancel();
        fake.release.notify_one();
        server.stop().await
    });
    assert_eq!(outcome, Ok(Stored::Created));
    assert_eq!(fake.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_in_flight_when_the_server_dies_is_repeated_at_the_next() {
    let (fake, lifecycle) = (Fake::default(), Lifecycle::default());
    let server = start("127.0.0.1:0", fake.clone(), Limits::default()).await;
    let (client, context) = (server.client(&lifecycle), context());
    let entry = entry("wait");
    let (outcome, ()) = tokio::join!(client.append(&context, entry), async {
        while fake.calls.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // As a process dies: with everything that it had under way.
        let Server { address, task, .. } = server;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        let next = Fake::default();
        next.release.notify_one();
        let server = start(&address.to_string(), next, Limits::default()).await;
        std::mem::forget(server);
    });
    assert_eq!(outcome, Ok(Stored::Created));
}

#[tokio::test]
async fn a_server_that_hangs_is_too_slow_and_then_left_alone() {
    let lifecycle = Lifecycle::default();
    let server = start("127.0.0.1:0", Fake::default(), Limits::default()).await;
    let deadline = Duration::from_millis(100);
    let (client, context) = (server.client(&lifecycle).with_deadlines(deadline, deadline), context());
    let calls = (0..64).map(|_| client.append(&context, entry("hang")));
    let outcomes = futures_util::future::join_all(calls).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Err(RpcFailure::TooSlow)), "{outcomes:?}");
    let calls = (0..8).map(|_| client.append(&context, entry("hang")));
    let outcomes = futures_util::future::join_all(calls).await;
    assert!(outcomes.contains(&Err(RpcFailure::Open)), "{outcomes:?}");
}

#[tokio::test]
async fn a_call_whose_connection_breaks_each_time_is_made_three_times() {
    let (fake, lifecycle) = (Fake::default(), Lifecycle::default());
    let server = start("127.0.0.1:0", fake.clone(), Limits::default()).await;
    let proxy = FaultProxy::start(server.address).await;
    let (client, context) = (LoggerClient::start(vec![proxy.address().to_string()], &lifecycle), context());
    let calls = || fake.calls.load(Ordering::SeqCst);
    let breaking = async {
        for call in 1.. {
            while calls() < call {
                tokio::task::yield_now().await;
            }
            proxy.reset();
        }
    };
    let outcome = tokio::select! {
        outcome = client.append(&context, entry("hang")) => outcome,
        () = breaking => unreachable!("it goes on for ever"),
    };
    assert_eq!(outcome, Err(RpcFailure::BrokeOff));
    assert_eq!(calls(), 3);
}

#[tokio::test]
async fn without_a_server_a_call_fails_fast_and_says_so() {
    let lifecycle = Lifecycle::default();
    // Bound, so that nobody else gets the port, and not listening.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    let client = LoggerClient::start(vec![address.clone()], &lifecycle);
    assert_eq!(client.append(&context(), entry("a")).await, Err(RpcFailure::Down));
    let started = std::time::Instant::now();
    assert_eq!(client.append(&context(), entry("a")).await, Err(RpcFailure::Down));
    assert!(started.elapsed() < Duration::from_millis(500));
    let why = client.check().await.unwrap_err();
    assert!(why.contains(&address) && why.contains("refused"), "{why}");
}

#[tokio::test]
async fn a_connection_that_answers_no_check_is_given_up() {
    let lifecycle = Lifecycle::default();
    let server = start("127.0.0.1:0", Fake::default(), Limits::default()).await;
    let proxy = FaultProxy::start(server.address).await;
    let client = LoggerClient::start(vec![proxy.address().to_string()], &lifecycle);
    testkit::eventually(SOON, "a check", || client.check()).await;
    proxy.halve();
    assert!(client.check().await.is_err());
    // The next connection is one again; this one never is.
    proxy.restore();
    testkit::eventually(SOON, "another check", || client.check()).await;
}

#[tokio::test]
async fn one_that_takes_connections_and_never_answers_gets_no_calls() {
    let lifecycle = Lifecycle::default();
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = start("127.0.0.1:0", Fake::default(), Limits::default()).await;
    let addresses = vec![hangs.local_addr().unwrap().to_string(), server.address.to_string()];
    let client = LoggerClient::start(addresses, &lifecycle);
    // It is connected to, and stays so.
    let _connection = hangs.accept().await.unwrap();
    testkit::eventually(SOON, "a check", || client.check()).await;
    for _ in 0..10 {
        assert_eq!(client.append(&context(), entry("a")).await, Ok(Stored::Created));
        assert_eq!(client.check().await, Ok(()));
    }
}

#[tokio::test]
async fn with_more_than_one_address_one_that_is_away_is_passed_over() {
    let (first, second, lifecycle) = (Fake::default(), Fake::default(), Lifecycle::default());
    let one = start("127.0.0.1:0", first.clone(), Limits::default()).await;
    let two = start("127.0.0.1:0", second.clone(), Limits::default()).await;
    let addresses = vec![one.address.to_string(), two.address.to_string()];
    let client = LoggerClient::start(addresses, &lifecycle);
    while first.calls.load(Ordering::SeqCst) == 0 || second.calls.load(Ordering::SeqCst) == 0 {
        client.append(&context(), entry("a")).await.unwrap();
    }
    one.stop().await;
    let before = second.calls.load(Ordering::SeqCst);
    for _ in 0..10 {
        client.append(&context(), entry("a")).await.unwrap();
    }
    assert_eq!(second.calls.load(Ordering::SeqCst), before + 10);
}

#[tokio::test]
async fn an_entry_that_no_frame_takes_is_refused_and_the_connection_stays() {
    let (fake, lifecycle) = (Fake::default(), Lifecycle::default());
    let server = start("127.0.0.1:0", fake.clone(), Limits::default()).await;
    let (client, context) = (server.client(&lifecycle), context());
    let mut large = entry("a");
    large.data = json!("x".repeat(MAX_FRAME));
    let outcome = client.append(&context, large.clone()).await;
    assert!(matches!(outcome, Err(RpcFailure::Refused(_))), "{outcome:?}");
    let outcomes = client.append_all(&context, vec![entry("a"), large, entry("a")]).await.unwrap();
    assert_eq!((outcomes[0].is_ok(), outcomes[1].is_ok(), outcomes[2].is_ok()), (true, false, true));
    assert_eq!(fake.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn calls_beyond_the_servers_bound_are_refused_as_busy() {
    let (fake, lifecycle) = (Fake::default(), Lifecycle::default());
    let limits = Limits { calls: 2, ..Limits::default() };
    let server = start("127.0.0.1:0", fake.clone(), limits).await;
    let (client, context) = (server.client(&lifecycle), context());
    let wait = || client.append(&context, entry("wait"));
    let (one, two, busy) = tokio::join!(wait(), wait(), async {
        while fake.calls.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        let busy = client.append(&context, entry("a")).await;
        fake.release.notify_waiters();
        busy
    });
    assert_eq!((one, two, busy), (Ok(Stored::Created), Ok(Stored::Created), Err(RpcFailure::Busy)));
}

#[tokio::test]
async fn where_spans_are_exported_the_trace_goes_on_through_those_of_tarpc() {
    use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
    use tracing::Instrument as _;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _installed = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let (fake, lifecycle) = (Fake::default(), Lifecycle::default());
    let server = start("127.0.0.1:0", fake.clone(), Limits::default()).await;
    let client = server.client(&lifecycle);
    let request = tracing::info_span!("request");
    let trace_id = request.context().span().span_context().trace_id();
    client.append(&context(), entry("a")).instrument(request).await.unwrap();
    assert_eq!(*fake.trace.lock().unwrap(), u128::from_be_bytes(trace_id.to_bytes()));
}
