//! Requests of a test: whatever the status, the answer comes back whole.

use std::time::Duration;

use ::http::{HeaderMap, Method, Request};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// How long an answer may take: longer than any timeout of a service, so that the service's own is seen.
const PATIENCE: Duration = Duration::from_secs(40);

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; a string where it is something else.
    pub body: Value,
}

impl Response {
    /// The text of a header, or an empty one.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The envelope's message.
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

/// A client that keeps its connections.
#[derive(Clone, Debug)]
pub struct Client {
    hyper: Hyper<HttpConnector, Full<Bytes>>,
}

impl Default for Client {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { hyper: Hyper::builder(TokioExecutor::new()).build(connector) }
    }
}

impl Client {
    /// Sends a request with these headers; `Err` says why there was no answer.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Response, String> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a well-formed request");
        let exchange = async {
            let answer = self.hyper.request(request).await.map_err(|error| format!("{url}: {error:?}"))?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| format!("{url}: {error}"))?.to_bytes();
            let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
            let body = serde_json::from_slice(&body).unwrap_or_else(|_| text());
            Ok(Response { status: head.status.as_u16(), headers: head.headers, body })
        };
        let late = || format!("{url}: no answer within {PATIENCE:?}");
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(late()))
    }

    /// Gets `url`.
    pub async fn get(&self, url: &str) -> Result<Response, String> {
        self.send(Method::GET, url, &[], Bytes::new()).await
    }

    /// Posts JSON to `url`.
    pub async fn post(&self, url: &str, body: &Value) -> Result<Response, String> {
        self.send(Method::POST, url, &[("content-type", "application/json")], body.to_string()).await
    }
}

/// Gets `url` over a new connection.
///
/// # Panics
///
/// When there is no answer.
pub async fn get(url: &str) -> Response {
    Client::default().get(url).await.expect("an answer")
}

/// Posts JSON to `url` over a new connection.
///
/// # Panics
///
/// When there is no answer.
pub async fn post(url: &str, body: &Value) -> Response {
    Client::default().post(url, body).await.expect("an answer")
}
