//! The services that the broker calls over HTTP, as typed calls.
//!
//! Log entries do not go this way but by RPC, with `chassis::rpc::LoggerClient`, which the listener has too.

mod auth;
mod logger;
mod mailer;

pub use auth::AuthClient;
pub use logger::LoggerHttp;
pub use mailer::MailerClient;

use chassis::http::Answer;
use chassis::http::client::{PeerAnswer, PeerError};
use contracts::reply::{Invalid, Reply};
use http::{StatusCode, header};
use serde_json::Value;

/// How the broker calls itself to others.
const CALLER: &str = "broker";

/// What a client is told when a service did not do what it was asked: its own words where they are meant
/// for a client (what is wrong with the payload, which server is away), and 502 for anything else.
fn failure(service: &str, payload: &str, answer: &PeerAnswer) -> Answer {
    let reply: Reply<Value> = match answer.json() {
        Ok(reply) => reply,
        Err(error) => return error.into(),
    };
    match answer.status {
        StatusCode::UNPROCESSABLE_ENTITY => {
            let fields = reply.data.and_then(|data| serde_json::from_value::<Invalid>(data).ok());
            match fields {
                Some(Invalid { fields }) => Answer::invalid(payload, fields),
                None => Answer::failed(StatusCode::UNPROCESSABLE_ENTITY, reply.message),
            }
        }
        StatusCode::CONFLICT => {
            let refused = Answer::failed(StatusCode::CONFLICT, reply.message);
            match answer.retry_after.clone() {
                Some(seconds) => refused.with_header(header::RETRY_AFTER, seconds),
                None => refused,
            }
        }
        _ => trouble(service, answer, &reply.message),
    }
}

/// What a client is told when a service could not do what it was asked.
fn trouble(service: &str, answer: &PeerAnswer, message: &str) -> Answer {
    match answer.status {
        status @ (StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) => {
            // Its own log says why; its words may name whom a mail goes to.
            tracing::warn!(service, status = status.as_u16(), "a call failed");
            Answer::failed(status, format!("{service}: {message}"))
        }
        // Of the service, not of this client.
        StatusCode::TOO_MANY_REQUESTS => {
            Answer::failed(StatusCode::SERVICE_UNAVAILABLE, format!("{service}: {message}"))
        }
        status => {
            let error: PeerError = answer.nonsense(format!("status {status}: {message}"));
            error.into()
        }
    }
}
