//! The mailer's routes: `POST /send`, and what every service has.
//!
//! A mail goes on to [`crate::delivery`].

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use chassis::health::Health;
use chassis::http::Answer;
use chassis::http::body::{HANDED_ON, JsonBody};
use chassis::http::client::{IDEMPOTENCY_KEY, REPLAY};
use chassis::postgres;
use chassis::request::RequestContext;
use contracts::mail::MailPayload;
use http::{HeaderMap, StatusCode};
use uuid::Uuid;

use crate::MAIL_SERVER;
use crate::delivery::{Delivery, DeliveryError, refusal};
use crate::ledger::LedgerError;
use crate::transport::SendError;

/// The routes over `delivery`.
pub(crate) fn routes(delivery: Arc<Delivery>, health: Health) -> Router {
    Router::new().route("/send", post(send)).with_state(delivery).merge(health.routes())
}

async fn send(
    State(delivery): State<Arc<Delivery>>,
    context: RequestContext,
    headers: HeaderMap,
    body: JsonBody<HANDED_ON>,
) -> Result<Answer, Answer> {
    let payload = MailPayload::parse(body.value()?).map_err(|wrong| Answer::invalid("mail", wrong))?;
    drop(body);
    let id = uuid(&headers, IDEMPOTENCY_KEY)?.unwrap_or(context.id);
    let replay = uuid(&headers, REPLAY)?;
    let message = format!("Message sent to {}", payload.to.join(", "));
    let receipt = delivery.deliver(id, replay, payload, context).await?;
    Ok(Answer::ok(StatusCode::ACCEPTED, message).with_data(&receipt))
}

/// A header of the caller: the id that it has given the mail, or the dead letter that asks for it once more.
fn uuid(headers: &HeaderMap, name: &'static str) -> Result<Option<Uuid>, Answer> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|value| Uuid::try_parse(value).ok());
    let refused = || Answer::failed(StatusCode::BAD_REQUEST, format!("the header {name} must be a UUID"));
    id.map(Some).ok_or_else(refused)
}

impl From<DeliveryError> for Answer {
    /// What a client is told; [`crate::delivery`] has logged the rest.
    fn from(error: DeliveryError) -> Self {
        match error {
            DeliveryError::Invalid(violations) | DeliveryError::Failed(violations) => {
                Self::invalid("mail", violations)
            }
            DeliveryError::Full => {
                let message = "too many mails are in hand, try again shortly";
                Self::failed(StatusCode::TOO_MANY_REQUESTS, message)
            }
            DeliveryError::Send(error) => error.into(),
            DeliveryError::UnderWay(longest) => Self::under_way(longest),
            DeliveryError::Conflict => Self::key_conflict(),
            DeliveryError::Ledger(LedgerError::Unavailable(_)) => Self::unavailable(postgres::NAME),
            DeliveryError::Ledger(LedgerError::Failed(_))
            | DeliveryError::Unrecorded(LedgerError::Failed(_)) => {
                Self::failed(StatusCode::INTERNAL_SERVER_ERROR, "the ledger of mails could not be written")
            }
            DeliveryError::Unrecorded(LedgerError::Unavailable(_)) => {
                let message = format!("{} is not available, and the mail may have been sent", postgres::NAME);
                Self::failed(StatusCode::SERVICE_UNAVAILABLE, message)
            }
            DeliveryError::Lost => {
                let message = "the mail was lost because of a mistake in this service";
                Self::failed(StatusCode::INTERNAL_SERVER_ERROR, message)
            }
        }
    }
}

impl From<SendError> for Answer {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Unreachable(_) | SendError::Broken(_) => Self::unavailable(MAIL_SERVER),
            SendError::TooSlow { handed_over: false } => Self::too_slow(MAIL_SERVER),
            SendError::TooSlow { handed_over: true } => Self::failed(
                StatusCode::GATEWAY_TIMEOUT,
                format!("{MAIL_SERVER} did not answer in time and may have taken the mail"),
            ),
            SendError::Unconfirmed(_) => Self::failed(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{MAIL_SERVER} went away at the end of the mail and may have taken it"),
            ),
            SendError::Nonsense { .. } => Self::failed(
                StatusCode::BAD_GATEWAY,
                format!("{MAIL_SERVER} gave an answer that makes no sense"),
            ),
            SendError::Refused { place, code, text } => Self::invalid("mail", refusal(place, code, &text)),
            SendError::Deferred { place, code, text } => Self::failed(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{MAIL_SERVER} does not take {place} now: {code} {text}"),
            ),
        }
    }
}
