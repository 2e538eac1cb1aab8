//! Connections that are there again after they broke: tarpc's own are gone for good.
//!
//! For each address a task dials, publishes the connection through a `watch` once it has answered, runs it until it
//! ends, and dials again with growing pauses. A connection that lets calls run into their deadline without a single
//! answer is given up, as one is whose other end went away without a word.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contracts::logger::{LoggerClient, LoggerRequest, LoggerResponse};
use tarpc::client::{Channel, Config};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::lifecycle::Lifecycle;
use crate::retry::Pause;
use crate::rpc::RpcFailure;
use crate::rpc::transport::wire;

/// How long a dial may take.
const DIAL: Duration = Duration::from_secs(2);
/// How long an answer to nothing but the question may take.
const CHECK_DEADLINE: Duration = Duration::from_secs(1);
/// How long a call may wait, from the moment that the last connection broke: a logger that is restarted is
/// there again by then, and one that is not is down.
const GRACE: Duration = Duration::from_secs(1);
/// How long checks may get no answer, while no call waits for one: a call has a deadline of its own.
const SILENCE: Duration = Duration::from_secs(3);
/// A connection that lived so long ended for another reason than the last.
const SETTLED: Duration = Duration::from_secs(5);

/// What makes the calls of one connection.
pub(super) type Stub = LoggerClient<Channel<LoggerRequest, LoggerResponse>>;

/// One live connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// What makes its calls.
    pub(super) stub: Stub,
    pulse: Arc<Pulse>,
}

/// Whether a connection answers.
#[derive(Debug, Default)]
struct Pulse {
    answers: AtomicU64,
    calls: AtomicUsize,
    silent_since: Mutex<Option<Instant>>,
    given_up: Notify,
}

impl Pulse {
    fn silence(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// How many answers came so far.
    pub(super) fn answers(&self) -> u64 {
        self.pulse.answers.load(Ordering::Relaxed)
    }

    /// Counts an answer.
    pub(super) fn answered(&self) {
        self.pulse.answers.fetch_add(1, Ordering::Relaxed);
        *self.pulse.silence() = None;
    }

    /// Counts a call for as long as it waits for its answer.
    pub(super) fn calling(&self) -> impl Drop + use<> {
        struct Calling(Arc<Pulse>);
        impl Drop for Calling {
            fn drop(&mut self) {
                self.0.calls.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.pulse.calls.fetch_add(1, Ordering::Relaxed);
        Calling(Arc::clone(&self.pulse))
    }

    /// A check that began at that time got no answer: where none came to anything for [`SILENCE`], and no call waits, the
    /// connection is given up.
    pub(super) fn kept_silent(&self, began: Instant) {
        let since = *self.pulse.silence().get_or_insert(began);
        if since.elapsed() >= SILENCE && self.pulse.calls.load(Ordering::Relaxed) == 0 {
            self.pulse.given_up.notify_one();
        }
    }

    /// A call that was made when there were `answers` ran into its deadline: with none since, the connection is
    /// given up.
    pub(super) fn suspect(&self, answers: u64) {
        if self.answers() == answers {
            self.pulse.given_up.notify_one();
        }
    }

    fn is(&self, other: Option<&Self>) -> bool {
        other.is_some_and(|other| Arc::ptr_eq(&self.pulse, &other.pulse))
    }
}

/// What is known of each address, in their order.
#[derive(Debug)]
struct State {
    /// A live connection, or why there is none.
    addresses: Vec<Result<Connection, String>>,
    /// Since when there is no connection at all.
    away_since: Option<Instant>,
}

/// The connections to every address.
#[derive(Debug)]
pub(super) struct Connections {
    state: watch::Sender<State>,
    turn: AtomicUsize,
}

impl Connections {
    /// Starts a task for each address. At most `in_flight` calls are made at a time.
    pub(super) fn start(addresses: Vec<String>, in_flight: usize, lifecycle: &Lifecycle) -> Arc<Self> {
        let state = State {
            addresses: addresses
                .iter()
                .map(|address| Err(format!("not connected to {address} yet")))
                .collect(),
            away_since: Some(Instant::now()),
        };
        let connections = Arc::new(Self { state: watch::Sender::new(state), turn: AtomicUsize::new(0) });
        for (place, address) in addresses.into_iter().enumerate() {
            let (connections, closing) = (Arc::clone(&connections), lifecycle.closing());
            lifecycle.background("logger connection", async move {
                tokio::select! {
                    () = closing.cancelled() => {}
                    () = connections.keep(place, &address, in_flight) => {}
                }
                Ok(())
            });
        }
        connections
    }

    /// A live connection, the next one in turn, but not `broken`, which ended under a call.
    pub(super) fn any(&self, broken: Option<&Connection>) -> Option<Connection> {
        self.pick(&self.state.borrow(), broken)
    }

    fn pick(&self, state: &State, broken: Option<&Connection>) -> Option<Connection> {
        let usable = |connection: &&Connection| !connection.is(broken);
        let count = state.addresses.len();
        // There is hardly ever more than one.
        let turn = if count > 1 { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let (later, sooner) = state.addresses.split_at(turn.checked_rem(count).unwrap_or(0));
        sooner.iter().chain(later).filter_map(|address| address.as_ref().ok()).find(usable).cloned()
    }

    /// A live connection but `broken`, waited for as long as it is worth it.
    pub(super) async fn wait(&self, broken: Option<&Connection>, deadline: Instant) -> Option<Connection> {
        if let Some(connection) = self.any(broken) {
            return Some(connection);
        }
        let mut watched = self.state.subscribe();
        loop {
            let (picked, until) = {
                let state = watched.borrow_and_update();
                // While the one that broke is still published its end is not noticed yet.
                let until = state.away_since.map_or(deadline, |since| deadline.min(since + GRACE));
                (self.pick(&state, broken), until)
            };
            if picked.is_some() {
                return picked;
            }
            match timeout_at(until, watched.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return None,
            }
        }
    }

    /// Why there is no live connection.
    pub(super) fn why(&self) -> String {
        let state = self.state.borrow();
        let reasons = state.addresses.iter().filter_map(|address| address.as_ref().err().cloned());
        reasons.collect::<Vec<_>>().join("; ")
    }

    fn publish(&self, place: usize, address: Result<Connection, String>) {
        self.state.send_modify(|state| {
            state.addresses[place] = address;
            let away = state.addresses.iter().all(Result::is_err);
            state.away_since = away.then(|| state.away_since.unwrap_or_else(Instant::now));
        });
    }

    /// Keeps one address connected, for ever.
    async fn keep(&self, place: usize, address: &str, in_flight: usize) {
        let mut pause = Pause::default();
        let mut failures = 0_u32;
        loop {
            let why = match dial(address).await {
                Ok(stream) => {
                    let connected = Instant::now();
                    let live = || tracing::info!(address, failures, "connected to the logger");
                    let why = self.run(place, stream, in_flight, live).await;
                    if connected.elapsed() >= SETTLED {
                        failures = 0;
                        pause.reset();
                    }
                    why
                }
                Err(why) => why,
            };
            let wait = if failures == 0 { Duration::ZERO } else { pause.grow() };
            failures += 1;
            // A line for the first failures, then every tenth: a long outage is no flood.
            if failures <= 5 || failures.is_multiple_of(10) {
                tracing::warn!(address, why, failures, "no connection to the logger");
            }
            self.publish(place, Err(format!("not connected to {address}: {why}")));
            sleep(wait).await;
        }
    }

    /// Runs one connection until it ends, and says why it did; `live` is told once it is one.
    async fn run(&self, place: usize, stream: TcpStream, in_flight: usize, live: impl FnOnce()) -> String {
        let mut config = Config::default();
        // The bound is ours; a call must never wait in tarpc, where its deadline does not count.
        config.max_in_flight_requests = in_flight;
        config.pending_request_buffer = in_flight;
        let new = LoggerClient::new(config, wire(stream));
        let mut dispatch = pin!(async {
            match new.dispatch.await {
                Ok(()) => "it closed the connection".to_owned(),
                Err(error) => format!("the connection broke: {}", cause(&error)),
            }
        });
        // A process that hangs is connected to all the same.
        let answered = tokio::select! {
            biased;
            why = &mut dispatch => return why,
            answered = check(&new.client) => answered,
        };
        if let Err(failure) = answered {
            return failure.to_string();
        }
        live();
        let pulse = Arc::new(Pulse::default());
        self.publish(place, Ok(Connection { stub: new.client, pulse: Arc::clone(&pulse) }));
        tokio::select! {
            biased;
            why = dispatch => why,
            () = pulse.given_up.notified() => "it does not answer".to_owned(),
        }
    }
}

/// Asks for an answer.
pub(super) async fn check(stub: &Stub) -> Result<(), RpcFailure> {
    let deadline = Instant::now() + CHECK_DEADLINE;
    let mut context = tarpc::context::current();
    context.deadline = deadline.into_std();
    match timeout_at(deadline, stub.append_all(context, Vec::new())).await {
        Ok(answer) => Ok(answer.map(drop)?),
        Err(_) => Err(RpcFailure::TooSlow),
    }
}

async fn dial(address: &str) -> Result<TcpStream, String> {
    match timeout(DIAL, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no connection within {DIAL:?}")),
    }
}

/// The first cause, which is the one that says something.
fn cause(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}
