//! Calls to the logger.
//!
//! [`LoggerClient`] bounds the calls in flight, gives each a deadline, and repeats what a broken connection left
//! in doubt, which is safe because an entry, a step and a letter are stored once by their ids. The connections are kept by
//! [`connections`]; the other end is the `rpc` module of the logger.

mod connections;
mod weight;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use contracts::dead_letter::Letter;
use contracts::log::Entry;
use contracts::logger::{AppendError, MAX_FRAME, Stored};
use contracts::trail::Step;
use tarpc::client::RpcError;
use tarpc::trace::SamplingDecision;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use self::connections::{Connection, Connections, Stub};
use self::weight::Weighed;
use super::RpcFailure;
use crate::breaker::Breaker;
use crate::lifecycle::Lifecycle;
use crate::request::RequestContext;
use crate::settings::parse_host_port;

/// How long one entry may take. Longer than the logger waits for its own server, so that its answer is seen.
const APPEND_DEADLINE: Duration = Duration::from_secs(5);
/// How long a batch may take.
const BATCH_DEADLINE: Duration = Duration::from_secs(15);
/// Calls in flight.
const IN_FLIGHT: usize = 1024;
/// How long a call may wait for a place among them.
const PATIENCE: Duration = Duration::from_millis(250);
/// How often a call is made when its connection breaks.
const ATTEMPTS: usize = 3;
/// A batch is sent in pieces of about this many bytes.
const PIECE: usize = MAX_FRAME / 4;

/// What became of one of many.
type Outcome = Result<Stored, AppendError>;

/// Where the logger is: a part of a service's settings.
#[derive(Args, Clone, Debug)]
pub struct LoggerArgs {
    /// Where the logger serves RPC; several addresses with commas between them.
    #[arg(
        long,
        env = "LOGGER_RPC_ADDR",
        value_parser = parse_host_port,
        value_name = "logger:5001",
        default_value = "127.0.0.1:5001",
        value_delimiter = ','
    )]
    pub logger_rpc_addr: Vec<String>,
}

/// A client of the logger. Clones share their connections.
#[derive(Clone, Debug)]
pub struct LoggerClient {
    connections: Arc<Connections>,
    breaker: Breaker,
    places: Arc<Semaphore>,
    append_deadline: Duration,
    batch_deadline: Duration,
}

impl LoggerClient {
    /// Starts to connect to the logger at each of these addresses (`host:port`; a name is looked up at each dial)
    /// and stays connected until the service closes. Calls go round them.
    pub fn start(addresses: Vec<String>, lifecycle: &Lifecycle) -> Self {
        Self {
            connections: Connections::start(addresses, IN_FLIGHT, lifecycle),
            breaker: Breaker::default(),
            places: Arc::new(Semaphore::new(IN_FLIGHT)),
            append_deadline: APPEND_DEADLINE,
            batch_deadline: BATCH_DEADLINE,
        }
    }

    /// The same client with another deadline for each entry and for each batch.
    #[must_use]
    pub fn with_deadlines(self, append: Duration, batch: Duration) -> Self {
        Self { append_deadline: append, batch_deadline: batch, ..self }
    }

    /// Stores one entry. `Ok` comes after it is in the logger's journal. May be called again with the same
    /// entry.
    pub async fn append(&self, context: &RequestContext, entry: Entry) -> Result<Stored, RpcFailure> {
        let call = |stub: Stub, context| {
            let entry = entry.clone();
            async move { stub.append(context, entry).await }
        };
        Ok(self.call(context, self.append_deadline, call).await??)
    }

    /// Stores entries that came together: one outcome for each, in their order. Where the call fails some may
    /// be stored nonetheless; the same batch may be sent again.
    pub async fn append_all(
        &self,
        context: &RequestContext,
        entries: Vec<Entry>,
    ) -> Result<Vec<Outcome>, RpcFailure> {
        self.all(context, entries, async |stub, context, piece| stub.append_all(context, piece).await).await
    }

    /// Adds steps to their trails, as [`Self::append_all`] stores entries.
    pub async fn record(
        &self,
        context: &RequestContext,
        steps: Vec<Step>,
    ) -> Result<Vec<Outcome>, RpcFailure> {
        self.all(context, steps, async |stub, context, piece| stub.record(context, piece).await).await
    }

    /// Keeps dead letters, as [`Self::append_all`] stores entries.
    pub async fn bury(
        &self,
        context: &RequestContext,
        letters: Vec<Letter>,
    ) -> Result<Vec<Outcome>, RpcFailure> {
        self.all(context, letters, async |stub, context, piece| stub.bury(context, piece).await).await
    }

    /// Sends many in pieces that fit into a frame.
    async fn all<T: Weighed>(
        &self,
        context: &RequestContext,
        items: Vec<T>,
        send: impl AsyncFn(Stub, tarpc::context::Context, Vec<T>) -> Result<Vec<Outcome>, RpcError>,
    ) -> Result<Vec<Outcome>, RpcFailure> {
        let mut outcomes = Vec::with_capacity(items.len());
        for piece in weight::pieces(items, PIECE) {
            let call = |stub: Stub, context| send(stub, context, piece.clone());
            match self.call(context, self.batch_deadline, call).await {
                Ok(of_piece) if of_piece.len() == piece.len() => outcomes.extend(of_piece),
                Ok(of_piece) => {
                    let why = format!("{} outcomes for {} items", of_piece.len(), piece.len());
                    return Err(RpcFailure::Nonsense(why));
                }
                // No frame takes it, so it is an item of its own; the others have nothing to do with that.
                Err(RpcFailure::Refused(why)) => {
                    outcomes.extend(piece.iter().map(|_| Err(AppendError::Refused(why.clone()))));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(outcomes)
    }

    /// Whether the logger answers; `Err` says in a few words why not.
    pub async fn check(&self) -> Result<(), String> {
        let connection = self.connections.any(None).ok_or_else(|| self.connections.why())?;
        let began = Instant::now();
        let answered = connections::check(&connection.stub).await;
        match &answered {
            Ok(()) => connection.answered(),
            // Who waits for it to be there again makes no other call.
            Err(RpcFailure::TooSlow) => connection.kept_silent(began),
            Err(_) => {}
        }
        answered.map_err(|failure| failure.to_string())
    }

    /// Makes a call with everything that bounds it.
    async fn call<T, F>(
        &self,
        context: &RequestContext,
        within: Duration,
        call: impl Fn(Stub, tarpc::context::Context) -> F,
    ) -> Result<T, RpcFailure>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        let deadline = Instant::now() + within;
        let _place = match self.places.try_acquire() {
            Ok(place) => place,
            Err(_) => match tokio::time::timeout(PATIENCE, self.places.acquire()).await {
                Ok(Ok(place)) => place,
                Ok(Err(_)) | Err(_) => return Err(RpcFailure::Busy),
            },
        };
        let attempts = self.attempts(context, deadline, call);
        Ok(self.breaker.call(RpcFailure::is_slowness, attempts).await?)
    }

    /// Makes a call, again where the connection breaks under it.
    async fn attempts<T, F>(
        &self,
        context: &RequestContext,
        deadline: Instant,
        call: impl Fn(Stub, tarpc::context::Context) -> F,
    ) -> Result<T, RpcFailure>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        let mut broken: Option<Connection> = None;
        for _ in 0..ATTEMPTS {
            let Some(connection) = self.connections.wait(broken.as_ref(), deadline).await else {
                return Err(match broken {
                    // Given up because it answered nothing, and not there again before the deadline.
                    _ if Instant::now() >= deadline => RpcFailure::TooSlow,
                    Some(_) => RpcFailure::BrokeOff,
                    None => RpcFailure::Down,
                });
            };
            let (answers, _calling) = (connection.answers(), connection.calling());
            let made = call(connection.stub.clone(), rpc_context(context, deadline));
            let failure = match timeout_at(deadline, made).await {
                Ok(Ok(answer)) => {
                    connection.answered();
                    return Ok(answer);
                }
                Ok(Err(error)) => {
                    if matches!(error, RpcError::Server(_)) {
                        connection.answered();
                    }
                    RpcFailure::from(error)
                }
                Err(_) => RpcFailure::TooSlow,
            };
            match failure {
                RpcFailure::Down => broken = Some(connection),
                RpcFailure::TooSlow => {
                    connection.suspect(answers);
                    return Err(failure);
                }
                failure => return Err(failure),
            }
        }
        Err(RpcFailure::BrokeOff)
    }
}

/// The deadline and the trace as tarpc carries them. Where spans are exported tarpc makes one of its own, a child
/// of the span that is current, and sends that instead.
fn rpc_context(context: &RequestContext, deadline: Instant) -> tarpc::context::Context {
    let mut rpc = tarpc::context::current();
    rpc.deadline = deadline.into_std();
    rpc.trace_context.trace_id = context.trace.trace_id().into();
    rpc.trace_context.span_id = context.trace.span_id().into();
    rpc.trace_context.sampling_decision =
        if context.trace.sampled() { SamplingDecision::Sampled } else { SamplingDecision::Unsampled };
    rpc
}
