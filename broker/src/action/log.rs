//! The `log` action: into the logger by RPC, or onto the exchange for the listener to bring there.

use chassis::amqp::Publisher;
use chassis::http::Answer;
use chassis::request::RequestContext;
use chassis::rpc::LoggerClient;
use chrono::Utc;
use contracts::event::CloudEvent;
use contracts::log::{Entry, LogPayload};
use contracts::topology::{Topology, log_key};
use http::{HeaderName, HeaderValue, StatusCode};

use super::PREFERENCE_APPLIED;

/// What events of the broker name as their source.
const SOURCE: &str = "switchboard/broker";

/// Stores the entry; the answer comes after it is in the journal.
pub(super) async fn append(
    logger: &LoggerClient,
    context: &RequestContext,
    payload: LogPayload,
) -> Result<Answer, Answer> {
    let message = format!("Logged via RPC: {}", payload.name);
    let trace_id = Some(context.trace.trace_id_hex());
    let entry = Entry::new(context.id, payload, "rpc", trace_id, Utc::now());
    logger.append(context, entry).await?;
    Ok(Answer::ok(StatusCode::ACCEPTED, message))
}

/// Publishes the entry; the answer comes after RabbitMQ has confirmed it.
pub(super) async fn queue(
    publisher: &Publisher,
    topology: &Topology,
    context: &RequestContext,
    payload: LogPayload,
) -> Result<Answer, Answer> {
    let message = format!("Queued: {}", payload.name);
    let key = log_key(payload.level);
    let mut event = CloudEvent::new(context.id, SOURCE, key, Utc::now(), payload);
    event.traceparent = Some(context.trace.to_string());
    event.requestid = context.given_request_id().map(str::to_owned);
    publisher.publish(&topology.events, key, &event).await?;
    let applied = HeaderName::from_static(PREFERENCE_APPLIED);
    Ok(Answer::ok(StatusCode::ACCEPTED, message)
        .with_header(applied, HeaderValue::from_static("respond-async")))
}
