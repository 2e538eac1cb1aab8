//! The outermost layer of every route: a request gets its context, and leaves a log line and metrics.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::response::{IntoResponse as _, Response};
use axum::{Router, routing::Route};
use futures_util::FutureExt as _;
use futures_util::future::Either;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts};
use tower::{Layer, Service};
use tower_http::cors::CorsLayer;

use super::Answer;
use crate::request::{RequestContext, TRACEPARENT, X_REQUEST_ID};
use crate::telemetry::{line, metrics};

/// What the `User-Agent` of a call from one service to another begins with.
pub const SERVICE_AGENT: &str = "switchboard-";

/// The whole of a service's routes, with answers for what is not among them, behind the edge. With `cors`, pages
/// of other origins are answered by its rules.
pub fn wrap(routes: Router, cors: Option<CorsLayer>) -> Router {
    routes
        .merge(metrics::routes())
        .fallback(async |uri: Uri| {
            Answer::failed(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            let message = format!("{method} is not allowed at {}", uri.path());
            Answer::failed(StatusCode::METHOD_NOT_ALLOWED, message)
        })
        .layer(EdgeLayer { cors: cors.map(Arc::new) })
}

/// Makes an [`Edge`] of a route.
#[derive(Clone, Debug)]
struct EdgeLayer {
    cors: Option<Arc<CorsLayer>>,
}

impl Layer<Route> for EdgeLayer {
    type Service = Edge;

    fn layer(&self, inner: Route) -> Edge {
        Edge { inner, cors: self.cors.clone() }
    }
}

/// One route with its edge.
#[derive(Clone, Debug)]
struct Edge {
    inner: Route,
    cors: Option<Arc<CorsLayer>>,
}

impl Service<Request> for Edge {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let started = Instant::now();
        let headers = request.headers();
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let context = RequestContext::from_headers(text(X_REQUEST_ID), text(TRACEPARENT));
        let caller = Caller::of(headers, request.extensions().get());
        let matched = request.extensions().get::<MatchedPath>().cloned();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        // A browser names the origin of the page; other clients are spared the rules. What is called here begins
        // to work when it is polled, in the scope of the context.
        // What a cache keeps of a GET must not be given to a page that would get other headers.
        let varies =
            self.cors.is_some() && request.method() == Method::GET && !headers.contains_key(header::ORIGIN);
        let called = match &self.cors {
            Some(cors) if headers.contains_key(header::ORIGIN) => {
                Either::Left(cors.layer(Unpanicking(self.inner.clone())).call(request))
            }
            _ => Either::Right(unpanicking(self.inner.call(request))),
        };
        Box::pin(async move {
            let matched = matched.as_ref().map(MatchedPath::as_str);
            let route = matched.unwrap_or("unmatched");
            let work = |context: RequestContext| async move {
                let Ok(mut response) = called.await;
                let headers = response.headers_mut();
                headers.insert(X_REQUEST_ID, context.request_id_header());
                headers.insert(TRACEPARENT, context.trace.header());
                if varies {
                    headers.insert(header::VARY, HeaderValue::from_static("origin"));
                }
                let (status, duration) = (response.status(), started.elapsed());
                metrics::request(&method, route, status, duration);
                line::request(
                    &context,
                    &line::Request {
                        method: method.as_str(),
                        route: matched.unwrap_or(bounded(uri.path())),
                        status: status.as_u16(),
                        duration,
                        caller: caller.as_str(),
                    },
                );
                response
            };
            Ok(context.scope(route, work).await)
        })
    }
}

/// As much of a text that a client chose as a log line takes.
fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(256)]
}

/// A route that answers 500 where it panics.
#[derive(Clone, Debug)]
struct Unpanicking(Route);

async fn unpanicking(
    called: impl Future<Output = Result<Response, Infallible>>,
) -> Result<Response, Infallible> {
    // The hook has logged the panic.
    AssertUnwindSafe(called).catch_unwind().await.unwrap_or_else(|_| {
        let message = "the request failed because of a mistake in this service";
        Ok(Answer::failed(StatusCode::INTERNAL_SERVER_ERROR, message).into_response())
    })
}

impl Service<Request> for Unpanicking {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Box::pin(unpanicking(self.0.call(request)))
    }
}

/// The address of whoever opened a connection, as text; the server puts it into the extensions of each request.
#[derive(Clone, Debug)]
pub(super) struct Peer(pub(super) Arc<str>);

/// Who sent a request.
#[derive(Debug)]
enum Caller {
    /// Another service of the system, by the name that it gives.
    Service(HeaderValue),
    /// Anyone else, by address.
    Client(Peer),
    /// A request that did not come over a connection, as in a test.
    Unknown,
}

impl Caller {
    fn of(headers: &HeaderMap, peer: Option<&Peer>) -> Self {
        match (headers.get(header::USER_AGENT), peer) {
            (Some(agent), _) if agent.as_bytes().starts_with(SERVICE_AGENT.as_bytes()) => {
                Self::Service(agent.clone())
            }
            (_, Some(peer)) => Self::Client(peer.clone()),
            (_, None) => Self::Unknown,
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Service(agent) => bounded(agent.to_str().unwrap_or("?")),
            Self::Client(Peer(address)) => address,
            Self::Unknown => "?",
        }
    }
}

/// A handler takes the context of its request as an argument.
impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Answer;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Answer> {
        Self::current()
            .ok_or_else(|| Answer::failed(StatusCode::INTERNAL_SERVER_ERROR, "a route without its edge"))
    }
}
