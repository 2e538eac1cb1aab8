//! The logger's RPC, as `contracts::logger` has it. From here an entry goes to [`crate::group_commit`], steps go to
//! [`crate::steps`] and dead letters to [`crate::dead_letters`].

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use chassis::request::RequestContext;
use chassis::telemetry::line;
use chassis::trace::TraceContext;
use contracts::dead_letter::Letter;
use contracts::log::Entry;
use contracts::logger::{AppendError, Logger, LoggerRequest, LoggerResponse, Stored};
use contracts::trail::Step;
use http::StatusCode;
use tarpc::ServerError;
use tarpc::context::Context;
use tarpc::server::Serve as _;
use tarpc::trace::SamplingDecision;
use uuid::Uuid;

use crate::dead_letters::DeadLetters;
use crate::group_commit::GroupCommit;
use crate::insert::Outcome;
use crate::steps::Steps;

/// What answers the calls of `chassis::rpc::server`.
pub fn handler(
    log: GroupCommit,
    steps: Steps,
    letters: DeadLetters,
) -> impl Fn(SocketAddr, Context, LoggerRequest) -> HandlerFuture + Clone + Send + 'static {
    move |peer, context, request| {
        let (log, steps, letters) = (log.clone(), steps.clone(), letters.clone());
        let server = Server { log, steps, letters, caller: peer.ip() };
        Box::pin(server.serve().serve(context, request))
    }
}

type HandlerFuture = std::pin::Pin<Box<dyn Future<Output = Result<LoggerResponse, ServerError>> + Send>>;

/// One call's server.
#[derive(Clone, Debug)]
struct Server {
    log: GroupCommit,
    steps: Steps,
    letters: DeadLetters,
    caller: IpAddr,
}

impl Logger for Server {
    async fn append(self, context: Context, entry: Entry) -> Result<Stored, AppendError> {
        let started = Instant::now();
        let outcome = self.log.append(&entry).await;
        self.line("append", entry.id, context, started, status([&outcome]));
        outcome
    }

    async fn append_all(self, context: Context, entries: Vec<Entry>) -> Vec<Result<Stored, AppendError>> {
        // The client's check of readiness.
        let Some(first) = entries.first().map(|entry| entry.id) else { return Vec::new() };
        let started = Instant::now();
        let outcomes = self.log.append_all(&entries).await;
        self.line("append_all", first, context, started, status(&outcomes));
        outcomes
    }

    async fn record(self, context: Context, steps: Vec<Step>) -> Vec<Result<Stored, AppendError>> {
        let Some(first) = steps.first().map(|step| step.action) else { return Vec::new() };
        let started = Instant::now();
        let outcomes = self.steps.record(&steps).await;
        self.line("record", first, context, started, status(&outcomes));
        outcomes
    }

    async fn bury(self, context: Context, letters: Vec<Letter>) -> Vec<Result<Stored, AppendError>> {
        let Some(first) = letters.first().map(|letter| letter.id) else { return Vec::new() };
        let started = Instant::now();
        let outcomes = self.letters.bury(&letters).await;
        self.line("bury", first, context, started, status(&outcomes));
        outcomes
    }
}

impl Server {
    /// The line of a call: by the id of its entry or letter, or of its step's action; of many, of the first.
    fn line(&self, route: &str, id: Uuid, context: Context, started: Instant, status: StatusCode) {
        let line = line::Request {
            method: "RPC",
            route,
            status: status.as_u16(),
            duration: started.elapsed(),
            caller: &self.caller.to_string(),
        };
        line::request(&RequestContext::with_id(id, None, trace(&context)), &line);
    }
}

fn trace(context: &Context) -> Option<TraceContext> {
    let sampled = context.trace_context.sampling_decision == SamplingDecision::Sampled;
    TraceContext::from_parts(
        context.trace_context.trace_id.into(),
        context.trace_context.span_id.into(),
        sampled,
    )
}

/// What HTTP would call it: the worst of the outcomes.
fn status<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> StatusCode {
    let status = |outcome: &Outcome| match outcome {
        Ok(Stored::Created | Stored::Already) => StatusCode::ACCEPTED,
        Err(AppendError::Conflict) => StatusCode::CONFLICT,
        Err(AppendError::Refused(_)) => StatusCode::UNPROCESSABLE_ENTITY,
        Err(AppendError::Unavailable(_)) => StatusCode::SERVICE_UNAVAILABLE,
    };
    outcomes.into_iter().map(status).max().unwrap_or(StatusCode::ACCEPTED)
}
