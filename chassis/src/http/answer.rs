//! What a handler gives back: a status and the envelope, completed with the ids of the request.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use contracts::idempotency::KEY_CONFLICT;
use contracts::reply::{Invalid, Reply};
use contracts::validation::Violations;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use crate::request::RequestContext;

/// How long a client should wait before it tries again, in seconds: about as long as a server that was
/// restarted takes to be found again.
const RETRY_AFTER: &str = "1";

/// One answer, good or bad. `Result<Answer, Answer>` lets a handler leave early with `?`.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    reply: Reply<Box<RawValue>>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Answer {
    /// A success.
    pub fn ok(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, reply: Reply::ok(message), headers: Vec::new() }
    }

    /// A failure. With 503 and 429 comes a `Retry-After`.
    pub fn failed(status: StatusCode, message: impl Into<String>) -> Self {
        let answer = Self { status, reply: Reply::failed(message), headers: Vec::new() };
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            answer.with_header(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER))
        } else {
            answer
        }
    }

    /// 422 for the payload called `name`, every failing field in `data.fields`.
    pub fn invalid(name: &str, violations: Violations) -> Self {
        let message = format!("{name}: {violations}");
        Self::failed(StatusCode::UNPROCESSABLE_ENTITY, message).with_data(&Invalid { fields: violations })
    }

    /// 503 that names what is away.
    pub fn unavailable(what: &str) -> Self {
        Self::failed(StatusCode::SERVICE_UNAVAILABLE, format!("{what} is not available, try again shortly"))
    }

    /// 409 for a request that carries the key of another one.
    pub fn key_conflict() -> Self {
        Self::failed(StatusCode::CONFLICT, KEY_CONFLICT)
    }

    /// 409 for a request that is sent again while the first one is worked on, for so long at most.
    pub fn under_way(longest: Duration) -> Self {
        let seconds = longest.as_secs() + u64::from(longest.subsec_nanos() > 0);
        let answer =
            Self::failed(StatusCode::CONFLICT, "the request with this Idempotency-Key is still worked on");
        answer.with_header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// 504 that names what is too slow.
    pub fn too_slow(what: &str) -> Self {
        Self::failed(StatusCode::GATEWAY_TIMEOUT, format!("{what} did not answer in time"))
    }

    /// The same answer with `data`.
    #[must_use]
    pub fn with_data<T: Serialize + ?Sized>(mut self, data: &T) -> Self {
        match to_raw_value(data) {
            Ok(data) => self.reply.data = Some(data),
            Err(error) => {
                tracing::error!(%error, "an answer's data can't be JSON");
                self = Self::failed(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written");
            }
        }
        self
    }

    /// The same answer, as that to the request with this id.
    #[must_use]
    pub fn with_id(mut self, id: Uuid) -> Self {
        self.reply.id = Some(id);
        self
    }

    /// The same answer with a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence for a person.
    pub fn message(&self) -> &str {
        &self.reply.message
    }
}

impl IntoResponse for Answer {
    fn into_response(mut self) -> Response {
        RequestContext::with_current(|context| {
            self.reply.id.get_or_insert(context.id);
            self.reply.trace_id = Some(context.trace.trace_id_hex());
        });
        let mut body = Vec::with_capacity(256);
        if let Err(error) = serde_json::to_writer(&mut body, &self.reply) {
            tracing::error!(%error, "an answer can't be JSON");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        // Those of the edge and of HTTP itself are still to come.
        headers.reserve(self.headers.len() + 4);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.headers);
        response
    }
}
