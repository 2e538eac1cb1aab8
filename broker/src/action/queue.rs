//! `Prefer: respond-async`: an action as an event on the exchange, for the listener to bring to whoever does it.
//!
//! How it goes on from there is at the answer's `Location`: [`crate::trail`].

use chassis::amqp::Publisher;
use chassis::http::Answer;
use chassis::request::RequestContext;
use chrono::Utc;
use contracts::event::CloudEvent;
use contracts::topology::Topology;
use contracts::trail::Step;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use super::PREFERENCE_APPLIED;
use crate::trail;

/// What events of the broker name as their source.
const SOURCE: &str = "switchboard/broker";

/// Publishes `payload` as the event that asks for the action, `what` for a person; the answer comes after RabbitMQ has
/// confirmed it, and with it the `first` step of the action's trail, where it has one.
pub(super) async fn queue<T: Serialize>(
    publisher: &Publisher,
    topology: &Topology,
    context: &RequestContext,
    key: &str,
    payload: T,
    what: &str,
    first: Option<Step>,
) -> Result<Answer, Answer> {
    let mut event = CloudEvent::new(context.id, SOURCE, key, Utc::now(), payload);
    event.traceparent = Some(context.trace.to_string());
    event.requestid = context.given_request_id().map(str::to_owned);
    publisher.publish(&topology.events, key, &event).await?;
    // Only what is in its queue is said to be: the one may be refused where the other is not.
    if let Some(step) = first {
        let step = step.event(event.traceparent.clone());
        publisher.publish(&topology.events, &step.kind, &step).await?;
    }
    let applied = HeaderName::from_static(PREFERENCE_APPLIED);
    Ok(Answer::ok(StatusCode::ACCEPTED, format!("Queued: {what}"))
        .with_header(applied, HeaderValue::from_static("respond-async"))
        .with_header(header::LOCATION, trail::location(context.id)))
}
