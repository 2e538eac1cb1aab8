//! Reads the body of a request: JSON, of bounded size, within a bounded time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::Value;

use super::Answer;

/// The largest body, in bytes.
pub const LIMIT: usize = 1024 * 1024;
/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of a body that is refused is read all the same, in bytes. A client that is still sending when its
/// connection ends may lose the answer (RFC 9112, section 9.6).
const REST: usize = 8 * LIMIT;
/// For how long.
const REST_PATIENCE: Duration = Duration::from_secs(2);

/// The largest body of what the broker has read, and has written again for another service: it grows by what its writer left
/// out, and by numbers that are longer in full.
pub const HANDED_ON: usize = 4 * LIMIT;

/// A whole body of at most `MOST` bytes that says that it is JSON; not parsed yet.
#[derive(Debug)]
pub struct JsonBody<const MOST: usize = LIMIT>(pub Bytes);

impl<const MOST: usize> JsonBody<MOST> {
    /// The one JSON value that the body must be, as `T`, which may borrow from it.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Answer> {
        parse(&self.0)
    }

    /// The one JSON value that the body must be.
    pub fn value(&self) -> Result<Value, Answer> {
        self.parse()
    }
}

/// Parses one JSON value, and nothing after it; 400 says where it went wrong.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Answer> {
    let bad = |message| Answer::failed(StatusCode::BAD_REQUEST, message);
    let text = std::str::from_utf8(body)
        .map_err(|error| bad(format!("the body is not UTF-8: byte {} is wrong", error.valid_up_to())))?;
    if text.trim_ascii().is_empty() {
        return Err(bad("the body is empty: it must be one JSON value".to_owned()));
    }
    serde_json::from_str(text).map_err(|error| bad(format!("the body must be one JSON value: {error}")))
}

impl<S: Sync, const MOST: usize> FromRequest<S> for JsonBody<MOST> {
    type Rejection = Answer;

    async fn from_request(request: Request, _: &S) -> Result<Self, Answer> {
        let (head, mut body) = request.into_parts();
        let read = read(&head.headers, &mut body, MOST).await;
        // Whoever asks first has not sent anything yet.
        let sends = !head.headers.contains_key(header::EXPECT);
        if let Err(refusal) = &read
            && sends
            && matches!(refusal.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNSUPPORTED_MEDIA_TYPE)
        {
            discard(body).await;
        }
        read.map(Self)
    }
}

async fn read(headers: &HeaderMap, body: &mut Body, most: usize) -> Result<Bytes, Answer> {
    check_content_type(headers)?;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > most as u64) {
        return Err(too_large(most));
    }
    match tokio::time::timeout(PATIENCE, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large(most)),
        Ok(Err(_)) => Err(Answer::failed(StatusCode::BAD_REQUEST, "the body broke off before its end")),
        Err(_) => {
            let message = format!("the body was not sent within {} s", PATIENCE.as_secs());
            Err(Answer::failed(StatusCode::REQUEST_TIMEOUT, message))
        }
    }
}

/// Reads what is left of a body, within bounds.
async fn discard(body: Body) {
    let mut rest = Limited::new(body, REST);
    let whole = async { while let Some(Ok(_)) = rest.frame().await {} };
    let _ = tokio::time::timeout(REST_PATIENCE, whole).await;
}

fn too_large(most: usize) -> Answer {
    Answer::failed(StatusCode::PAYLOAD_TOO_LARGE, format!("the body must not be larger than {most} bytes"))
}

/// `application/json` or `…+json`, with any parameters; a request that names no type is taken at its word.
fn check_content_type(headers: &HeaderMap) -> Result<(), Answer> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let text = value.to_str().unwrap_or("…");
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    let message = format!("the content type must be application/json, not {text}");
    Err(Answer::failed(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}
