//! The outermost layer of every route: a request gets its context, and leaves a log line and metrics.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request};
use axum::response::{IntoResponse as _, Response};
use axum::{Router, routing::Route};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts};
use tower::{Layer, Service};

use super::Answer;
use crate::request::{RequestContext, TRACEPARENT, X_REQUEST_ID};
use crate::telemetry::{line, metrics};

/// What the `User-Agent` of a call from one service to another begins with.
pub const SERVICE_AGENT: &str = "switchboard-";

/// The whole of a service's routes, with answers for what is not among them, behind the edge.
pub fn wrap(routes: Router) -> Router {
    complete(routes.merge(metrics::routes())).layer(EdgeLayer)
}

/// Routes with answers for what is not among them. A service that has a layer of its own, which is to see those
/// answers too, completes its routes before it adds the layer.
pub fn complete(routes: Router) -> Router {
    routes
        .fallback(async |uri: Uri| {
            Answer::failed(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            let message = format!("{method} is not allowed at {}", uri.path());
            Answer::failed(StatusCode::METHOD_NOT_ALLOWED, message)
        })
}

/// Makes an [`Edge`] of a route.
#[derive(Clone, Copy, Debug)]
struct EdgeLayer;

impl Layer<Route> for EdgeLayer {
    type Service = Edge;

    fn layer(&self, inner: Route) -> Edge {
        Edge { inner }
    }
}

/// One route with its edge.
#[derive(Clone, Debug)]
struct Edge {
    inner: Route,
}

impl Service<Request> for Edge {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let started = Instant::now();
        let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let context = RequestContext::from_headers(text(X_REQUEST_ID), text(TRACEPARENT));
        let caller = Caller::of(request.headers(), request.extensions().get());
        let matched = request.extensions().get::<MatchedPath>().cloned();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let mut inner = self.inner.clone();
        Box::pin(async move {
            let matched = matched.as_ref().map(MatchedPath::as_str);
            let route = matched.unwrap_or("unmatched");
            let work = |context: RequestContext| async move {
                request.extensions_mut().insert(context.clone());
                let called = AssertUnwindSafe(inner.call(request)).catch_unwind().await;
                // The hook has logged the panic.
                let Ok(mut response) = called.unwrap_or_else(|_| {
                    let message = "the request failed because of a mistake in this service";
                    Ok(Answer::failed(StatusCode::INTERNAL_SERVER_ERROR, message).into_response())
                });
                answer_ids(response.headers_mut(), &context);
                let (status, duration) = (response.status(), started.elapsed());
                metrics::request(&method, route, status, duration);
                line::request(
                    &context,
                    &line::Request {
                        method: method.as_str(),
                        route: matched.unwrap_or(uri.path()),
                        status: status.as_u16(),
                        duration,
                        caller: &caller,
                    },
                );
                response
            };
            Ok(context.scope(route, work).await)
        })
    }
}

fn answer_ids(headers: &mut HeaderMap, context: &RequestContext) {
    let mut set = |name, text: String| {
        // Both are ASCII by their making.
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set(X_REQUEST_ID, context.request_id());
    set(TRACEPARENT, context.trace.to_string());
}

/// Who sent a request.
#[derive(Debug)]
enum Caller {
    /// Another service of the system, by the name that it gives.
    Service(HeaderValue),
    /// Anyone else, by address.
    Address(std::net::IpAddr),
    /// A request that did not come over a connection, as in a test.
    Unknown,
}

impl Caller {
    fn of(headers: &HeaderMap, connection: Option<&ConnectInfo<SocketAddr>>) -> Self {
        match (headers.get(header::USER_AGENT), connection) {
            (Some(agent), _) if agent.as_bytes().starts_with(SERVICE_AGENT.as_bytes()) => {
                Self::Service(agent.clone())
            }
            (_, Some(ConnectInfo(address))) => Self::Address(address.ip()),
            (_, None) => Self::Unknown,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(agent) => f.write_str(agent.to_str().unwrap_or("?")),
            Self::Address(address) => write!(f, "{address}"),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// A handler takes the context of its request as an argument.
impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Answer> {
        let context = parts.extensions.get::<Self>().cloned();
        context.ok_or_else(|| Answer::failed(StatusCode::INTERNAL_SERVER_ERROR, "a route without its edge"))
    }
}
