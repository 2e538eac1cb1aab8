//! Calls another service over HTTP: pooled connections, a deadline, a breaker, and the ids of the request.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use url::Url;
use uuid::Uuid;

use super::Answer;
use super::edge::SERVICE_AGENT;
use crate::breaker::{Breaker, BreakerError};
use crate::request::{RequestContext, TRACEPARENT, X_REQUEST_ID};

/// The header that carries the id of the effect from one service to the next.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header that names the dead letter which asks for an effect once more.
pub const REPLAY: &str = "switchboard-replay";
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(20);
/// The largest answer that is read, in bytes: a dead letter of 4 MiB, of which JSON may write each byte in six.
const ANSWER_LIMIT: usize = 32 * 1024 * 1024;

/// What a call is to bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Its id.
    pub id: Uuid,
    /// The dead letter that asks for it once more.
    pub replay: Option<Uuid>,
}

/// Another service, as one that calls it sees it. Clones share connections and breaker.
#[derive(Clone, Debug)]
pub struct Peer {
    name: &'static str,
    base: Url,
    agent: String,
    timeout: Duration,
    client: Client<HttpConnector, Full<Bytes>>,
    breaker: Breaker,
}

/// Why a call gave no answer to work with. The name is the callee's.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The breaker is open after a run of failures.
    #[error("{0} keeps failing and is left alone for a moment")]
    Open(&'static str),
    /// It can't be reached, so it was asked nothing.
    #[error("{name} cannot be reached: {why}")]
    Down {
        /// The callee.
        name: &'static str,
        /// What happened, for the log.
        why: String,
    },
    /// The connection broke before the answer was there. What was asked for may have been done.
    #[error("{name} broke off: {why}")]
    Broken {
        /// The callee.
        name: &'static str,
        /// What happened, for the log.
        why: String,
    },
    /// It did not answer within the deadline.
    #[error("{0} did not answer in time")]
    TooSlow(&'static str),
    /// It answered something that can't be understood.
    #[error("{name} answered nonsense: {why}")]
    Nonsense {
        /// The callee.
        name: &'static str,
        /// What was wrong, for the log.
        why: String,
    },
}

impl PeerError {
    /// Whether this says that the callee is unwell, which is what a breaker counts.
    fn counts(&self) -> bool {
        !matches!(self, Self::Open(_))
    }
}

impl From<PeerError> for Answer {
    /// What a client is told: which service, and never why. The log gets the reason, here.
    fn from(error: PeerError) -> Self {
        tracing::warn!(%error, "a call failed");
        match error {
            PeerError::Open(name) | PeerError::Down { name, .. } | PeerError::Broken { name, .. } => {
                Self::unavailable(name)
            }
            PeerError::TooSlow(name) => Self::too_slow(name),
            PeerError::Nonsense { name, .. } => {
                Self::failed(StatusCode::BAD_GATEWAY, format!("{name} gave an answer that makes no sense"))
            }
        }
    }
}

/// What a callee answered: its status and its body, read whole.
#[derive(Debug)]
pub struct PeerAnswer {
    name: &'static str,
    /// The status.
    pub status: StatusCode,
    /// Its `Retry-After`.
    pub retry_after: Option<HeaderValue>,
    body: Bytes,
}

impl PeerAnswer {
    /// The body as `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, PeerError> {
        serde_json::from_slice(&self.body).map_err(|error| self.nonsense(format!("{}: {error}", self.status)))
    }

    /// The error for an answer that makes no sense.
    pub fn nonsense(&self, why: String) -> PeerError {
        PeerError::Nonsense { name: self.name, why }
    }
}

impl Peer {
    /// A service called `name` at `base`, for a caller that calls itself `caller`. Nothing is connected yet.
    pub fn new(name: &'static str, base: Url, caller: &str, timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        let agent = format!("{SERVICE_AGENT}{caller}");
        Self { name, base, agent, timeout, client, breaker: Breaker::default() }
    }

    /// The callee's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Posts `body`. With `effect` the callee knows the id of the effect.
    pub async fn post<T: Serialize>(
        &self,
        path: &str,
        body: &T,
        context: &RequestContext,
        effect: Option<Effect>,
    ) -> Result<PeerAnswer, PeerError> {
        let body = serde_json::to_vec(body).map_err(|error| self.unsendable(&error))?;
        let mut request =
            self.request_of(context, Method::POST, path).header(header::CONTENT_TYPE, "application/json");
        if let Some(Effect { id, replay }) = effect {
            request = request.header(IDEMPOTENCY_KEY, id.to_string());
            if let Some(letter) = replay {
                request = request.header(REPLAY, letter.to_string());
            }
        }
        self.call(request.body(Full::from(body)), self.timeout).await
    }

    /// Gets `path`, which may take `timeout`.
    pub async fn get(
        &self,
        path: &str,
        context: &RequestContext,
        timeout: Duration,
    ) -> Result<PeerAnswer, PeerError> {
        let request = self.request_of(context, Method::GET, path);
        self.call(request.body(Full::default()), timeout).await
    }

    /// Gets `path`, past the breaker: for health checks, which have no part in the traffic.
    pub async fn probe(&self, path: &str) -> Result<PeerAnswer, PeerError> {
        let request = self.request(Method::GET, path).body(Full::default());
        self.send(request.map_err(|error| self.unsendable(&error))?, self.timeout).await
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let uri = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        Request::builder().method(method).uri(uri).header(header::USER_AGENT, &self.agent)
    }

    fn request_of(&self, context: &RequestContext, method: Method, path: &str) -> http::request::Builder {
        self.request(method, path)
            .header(X_REQUEST_ID, context.request_id_header())
            .header(TRACEPARENT, context.trace.header())
    }

    fn unsendable(&self, error: &dyn std::error::Error) -> PeerError {
        PeerError::Nonsense { name: self.name, why: error.to_string() }
    }

    async fn call(
        &self,
        request: http::Result<Request<Full<Bytes>>>,
        timeout: Duration,
    ) -> Result<PeerAnswer, PeerError> {
        let request = request.map_err(|error| self.unsendable(&error))?;
        match self.breaker.call(PeerError::counts, self.send(request, timeout)).await {
            Ok(answer) => Ok(answer),
            Err(BreakerError::Open) => Err(PeerError::Open(self.name)),
            Err(BreakerError::Failed(error)) => Err(error),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>, timeout: Duration) -> Result<PeerAnswer, PeerError> {
        let name = self.name;
        let broken = |why: String| PeerError::Broken { name, why };
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| {
                let why = chain(&error);
                if error.is_connect() { PeerError::Down { name, why } } else { broken(why) }
            })?;
            let status = answer.status();
            let retry_after = answer.headers().get(header::RETRY_AFTER).cloned();
            let body = Limited::new(answer.into_body(), ANSWER_LIMIT).collect().await;
            let body = body.map_err(|error| broken(error.to_string()))?;
            Ok(PeerAnswer { name, status, retry_after, body: body.to_bytes() })
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(PeerError::TooSlow(name)),
        }
    }
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Asks the process on this machine that serves `port` whether it is ready. Blocking: for a health check.
pub fn is_ready(port: u16) -> Result<(), String> {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, SocketAddr, TcpStream};

    let patience = Duration::from_secs(3);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| format!("no answer at {address}: {error}"))?;
    if answer.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    Err(answer.split("\r\n\r\n").nth(1).unwrap_or("no answer").to_owned())
}
