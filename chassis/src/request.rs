//! Who asks: the id, the request id and the trace that go with a request over every hop.
//!
//! [`RequestContext::scope`] makes a context the current one of a task, so that a log line and an answer can
//! name it without being handed it. Code that calls another service takes it as an argument.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::Uuid;

use crate::telemetry;
use crate::trace::TraceContext;

/// The header that carries a request id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header that carries the trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

tokio::task_local! {
    static CURRENT: RequestContext;
}

/// The identity of one request inside one service.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// A new UUIDv7: the id of the effect, where the request has one and no key of its own.
    pub id: Uuid,
    /// The request id as the client gave it; `None` where it gave none, and [`Self::id`] serves.
    given: Option<Arc<str>>,
    /// The place in the trace.
    pub trace: TraceContext,
    /// The caller's place in it.
    parent: Option<TraceContext>,
}

impl RequestContext {
    /// The context of a request that came with these headers. A request id is 1 to 128 visible ASCII
    /// characters; anything else is as if none was given.
    pub fn from_headers(request_id: Option<&str>, traceparent: Option<&str>) -> Self {
        Self::with_id(Uuid::now_v7(), request_id, traceparent.and_then(TraceContext::parse))
    }

    /// The context of a call from inside the system, with the id that the caller chose.
    pub fn with_id(id: Uuid, request_id: Option<&str>, parent: Option<TraceContext>) -> Self {
        let acceptable =
            |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
        Self {
            id,
            given: request_id.filter(acceptable).map(Arc::from),
            trace: parent.map_or_else(TraceContext::root, TraceContext::child),
            parent,
        }
    }

    /// The context of the same request, whose effect has the id that its key gives.
    #[must_use]
    pub fn with_effect(mut self, id: Uuid) -> Self {
        self.given.get_or_insert_with(|| Arc::from(self.id.to_string()));
        self.id = id;
        self
    }

    /// The context of the request that this task works on.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Looks at the context of the request that this task works on.
    pub fn with_current<R>(look: impl FnOnce(&Self) -> R) -> Option<R> {
        CURRENT.try_with(look).ok()
    }

    /// The request id, as it is passed on and answered.
    pub fn request_id(&self) -> String {
        self.given.as_deref().map_or_else(|| self.id.to_string(), str::to_owned)
    }

    /// The value of an `x-request-id` header.
    pub fn request_id_header(&self) -> HeaderValue {
        let mut buffer = Uuid::encode_buffer();
        let text = self.given.as_deref().unwrap_or_else(|| self.id.hyphenated().encode_lower(&mut buffer));
        // Visible ASCII, given or not.
        HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
    }

    /// The request id that the client gave.
    pub fn given_request_id(&self) -> Option<&str> {
        self.given.as_deref()
    }

    /// Runs `work` as this request: its log lines carry the ids, and where spans are exported it is one,
    /// named `name`, whose id the hops below then have as their parent.
    pub async fn scope<F: Future>(mut self, name: &str, work: impl FnOnce(Self) -> F) -> F::Output {
        if !telemetry::exports_spans() {
            return CURRENT.scope(self.clone(), work(self)).await;
        }
        let span = tracing::info_span!("request", otel.name = name, otel.kind = "server", id = %self.id);
        if let Some(parent) = self.parent {
            let context = opentelemetry::Context::new().with_remote_span_context(span_context(parent));
            // It fails only where the layer is not installed, and then there is no span to be a parent of.
            let _ = span.set_parent(context);
        }
        let context = span.context();
        let own = context.span().span_context().clone();
        let (trace_id, span_id) = (own.trace_id().to_bytes(), own.span_id().to_bytes());
        let (trace_id, span_id) = (u128::from_be_bytes(trace_id), u64::from_be_bytes(span_id));
        if let Some(trace) = TraceContext::from_parts(trace_id, span_id, own.is_sampled()) {
            self.trace = trace;
        }
        CURRENT.scope(self.clone(), work(self)).instrument(span).await
    }
}

/// A place in a trace, as OpenTelemetry has it.
pub(crate) fn span_context(trace: TraceContext) -> SpanContext {
    let flags = if trace.sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace_id, span_id) = (TraceId::from(trace.trace_id()), SpanId::from(trace.span_id()));
    SpanContext::new(trace_id, span_id, flags, true, TraceState::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_kept_and_rubbish_is_replaced() {
        let of = |id: &str| RequestContext::from_headers(Some(id), None);
        assert_eq!(of("abc-1").request_id(), "abc-1");
        for bad in ["", "a b", "é", &"x".repeat(129)] {
            let context = of(bad);
            assert_eq!(context.request_id(), context.id.to_string());
        }
    }

    #[tokio::test]
    async fn the_current_context_is_that_of_the_scope() {
        assert!(RequestContext::current().is_none());
        let context = RequestContext::from_headers(None, None);
        let id = context.id;
        context
            .scope("test", |given| async move {
                assert_eq!(given.id, id);
                assert_eq!(RequestContext::with_current(|current| current.id), Some(id));
            })
            .await;
    }
}
