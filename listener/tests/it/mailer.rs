//! A mailer that does what a test tells it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::routing::post;
use chassis::http::Answer;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// What it says to a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Say {
    Sent,
    /// 422.
    Refused,
    /// 413.
    TooLarge,
    /// 503.
    NotNow,
    /// 429.
    Full,
    /// 409 with a `Retry-After`.
    UnderWay,
    /// 409.
    Conflict,
    /// Nothing: it dies.
    Die,
}

/// A call, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: Uuid,
    pub(crate) replay: Option<String>,
    pub(crate) trace: Option<String>,
    pub(crate) mail: Value,
}

#[derive(Clone)]
pub(crate) struct Mailer {
    calls: Arc<Mutex<Vec<Call>>>,
    /// What is said first, by id; then `Sent`.
    script: Arc<Mutex<HashMap<Uuid, Vec<Say>>>>,
    /// A call is answered when it gets a permit.
    gate: Arc<Semaphore>,
    /// A call for one of these mails waits for another one too.
    slow: Arc<Mutex<HashMap<Uuid, Arc<Semaphore>>>>,
    address: SocketAddr,
}

impl Mailer {
    /// One that is there.
    pub(crate) fn start() -> Self {
        let (mailer, away) = Self::away();
        mailer.comes(away);
        mailer
    }

    /// One whose address turns everybody away, until it comes.
    pub(crate) fn away() -> (Self, TcpSocket) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let (gate, address) = (Arc::new(Semaphore::new(1000)), socket.local_addr().unwrap());
        let (calls, script, slow) = (Arc::default(), Arc::default(), Arc::default());
        (Self { calls, script, gate, slow, address }, socket)
    }

    /// From now on it is there.
    pub(crate) fn comes(&self, socket: TcpSocket) {
        let routes = Router::new().route("/send", post(send)).with_state(self.clone());
        let listener = socket.listen(1024).unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it says to the first calls for this mail.
    pub(crate) fn says(&self, id: Uuid, script: &[Say]) {
        self.script.lock().unwrap().insert(id, script.iter().rev().copied().collect());
    }

    /// The calls for this mail.
    pub(crate) fn calls(&self, id: Uuid) -> Vec<Call> {
        self.calls.lock().unwrap().iter().filter(|call| call.id == id).cloned().collect()
    }

    /// How many calls wait for an answer, while it is held.
    pub(crate) fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// Answers nothing until what this gives is dropped.
    pub(crate) fn hold(&self) -> impl Drop + use<> {
        Arc::clone(&self.gate).try_acquire_many_owned(1000).unwrap()
    }

    /// Does not answer for this mail until what this gives is dropped.
    pub(crate) fn hold_mail(&self, id: Uuid) -> impl Drop + use<> {
        let gate = Arc::new(Semaphore::new(1));
        self.slow.lock().unwrap().insert(id, Arc::clone(&gate));
        gate.try_acquire_owned().unwrap()
    }
}

async fn send(
    State(mailer): State<Mailer>,
    headers: HeaderMap,
    axum::Json(mail): axum::Json<Value>,
) -> axum::response::Response {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let id: Uuid = header("idempotency-key").unwrap().parse().unwrap();
    let call = Call { id, replay: header("switchboard-replay"), trace: header("traceparent"), mail };
    mailer.calls.lock().unwrap().push(call);
    drop(mailer.gate.acquire().await);
    let slow = mailer.slow.lock().unwrap().get(&id).cloned();
    if let Some(gate) = slow {
        drop(gate.acquire().await);
    }
    let say = mailer.script.lock().unwrap().get_mut(&id).and_then(Vec::pop).unwrap_or(Say::Sent);
    match say {
        Say::Sent => Answer::ok(StatusCode::ACCEPTED, "Message sent"),
        Say::Refused => Answer::failed(StatusCode::UNPROCESSABLE_ENTITY, "to was refused: 550 nobody here"),
        Say::TooLarge => Answer::failed(StatusCode::PAYLOAD_TOO_LARGE, "the body must not be larger"),
        Say::NotNow => Answer::unavailable("the mail server"),
        Say::Full => Answer::failed(StatusCode::TOO_MANY_REQUESTS, "too many mails are in hand"),
        Say::UnderWay => Answer::under_way(Duration::from_secs(1)),
        Say::Conflict => Answer::key_conflict(),
        // The connection goes with the task.
        Say::Die => panic!("told to"),
    }
    .into_response()
}
