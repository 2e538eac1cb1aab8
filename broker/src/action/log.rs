//! The `log` action: into the logger by RPC, or onto the exchange for the listener to bring there.

use chassis::amqp::Publisher;
use chassis::crash;
use chassis::http::Answer;
use chassis::request::RequestContext;
use chassis::rpc::LoggerClient;
use chrono::Utc;
use contracts::log::{Entry, LogPayload};
use contracts::topology::{Topology, log_key};
use http::StatusCode;

use super::queue;

/// Stores the entry; the answer comes after it is in the journal.
pub(super) async fn append(
    logger: &LoggerClient,
    context: &RequestContext,
    payload: LogPayload,
) -> Result<Answer, Answer> {
    let message = format!("Logged via RPC: {}", payload.name);
    let trace_id = Some(context.trace.trace_id_hex());
    let entry = Entry::new(context.id, payload, "rpc", trace_id, Utc::now());
    crash::point("broker: to log");
    logger.append(context, entry).await?;
    crash::point("broker: logged");
    Ok(Answer::ok(StatusCode::ACCEPTED, message))
}

/// Queues the entry; the listener brings it to the logger.
pub(super) async fn queue(
    publisher: &Publisher,
    topology: &Topology,
    context: &RequestContext,
    payload: LogPayload,
) -> Result<Answer, Answer> {
    let what = payload.name.clone();
    let key = log_key(payload.level);
    // What became of an entry is seen in the log itself.
    queue::queue(publisher, topology, context, key, payload, &what, None).await
}
