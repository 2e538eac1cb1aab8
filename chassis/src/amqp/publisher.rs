//! Publishes events: persistent, mandatory, and done only once the server has confirmed them.
//!
//! A background task keeps one pooled connection with one channel ([`super::confirm`]) and makes another when
//! it is lost. [`Publisher::publish`] hands it the message and waits; while the server is known to be away it
//! fails at once. Whoever gets an error may publish again with the same id: the message may be there twice
//! then, and its effect is there once.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use contracts::event::{CONTENT_TYPE, CloudEvent};
use contracts::topology::Topology;
use deadpool_lapin::{Config, Object, Pool, PoolConfig, Runtime, Timeouts};
use http::StatusCode;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use metrics::{Counter, counter};
use secrecy::SecretString;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::confirm::{ConfirmChannel, Ended, Message, Request};
use super::server::{self, CONNECT_TIMEOUT, ConnectError, InvalidUrl, Server, Standing, State};
use super::{NAME, topology};
use crate::crash;
use crate::http::Answer;
use crate::lifecycle::Lifecycle;
use crate::request::TRACEPARENT;
use crate::retry;

/// How long a confirm may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How much may be in flight, in KiB, so that a server that takes nothing does not fill the memory.
const ROOM: usize = 16 * 1024;
/// What a message counts for beside its body, in KiB.
const OVERHEAD: usize = 2;

/// Why an event is not known to be published.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The server is away, or the connection broke before the confirm came.
    #[error("not connected: {0}")]
    Unavailable(String),
    /// The server takes nothing: it is short of memory or disk space.
    #[error("{0}")]
    Blocked(String),
    /// No confirm came in time: the server does not answer, or has just begun to take nothing.
    #[error("no confirm within {DEADLINE:?}")]
    TooSlow,
    /// No queue takes messages with this routing key.
    #[error("the message came back: no queue is bound for it")]
    Returned,
    /// The queue refused it.
    #[error("the queue refused the message")]
    Nacked,
    /// It can't be written as a message.
    #[error("the event can't be written as a message: {0}")]
    Unwritable(String),
}

impl From<PublishError> for Answer {
    /// What a client is told: which server, and never why. The log gets the reason, here.
    fn from(error: PublishError) -> Self {
        tracing::warn!(%error, "an event was not published");
        match error {
            PublishError::Unavailable(_)
            | PublishError::Blocked(_)
            | PublishError::TooSlow
            | PublishError::Returned
            | PublishError::Nacked => Self::unavailable(NAME),
            PublishError::Unwritable(_) => {
                Self::failed(StatusCode::INTERNAL_SERVER_ERROR, "the event could not be written")
            }
        }
    }
}

impl PublishError {
    /// The name of the outcome in the metrics.
    fn label(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Blocked(_) => "blocked",
            Self::TooSlow => "too_slow",
            Self::Returned => "returned",
            Self::Nacked => "nacked",
            Self::Unwritable(_) => "unwritable",
        }
    }
}

/// An event as it is published: what the message says of it, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The id of the event, by which who consumes it knows it again.
    pub id: Uuid,
    /// What it is published with.
    pub routing_key: String,
    /// When it happened.
    pub time: DateTime<Utc>,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
    /// The event in the structured JSON form.
    pub body: Vec<u8>,
}

impl Publication {
    /// What is published of an event.
    pub fn of<T: Serialize>(routing_key: &str, event: &CloudEvent<T>) -> Result<Self, PublishError> {
        let body = serde_json::to_vec(event).map_err(|error| PublishError::Unwritable(error.to_string()))?;
        Ok(Self {
            id: event.id,
            routing_key: routing_key.to_owned(),
            time: event.time,
            traceparent: event.traceparent.clone(),
            body,
        })
    }
}

impl Publication {
    /// The message that carries it to `exchange`.
    fn message(self, exchange: &str) -> Result<Message, PublishError> {
        let short =
            |name: &str| topology::short(name).map_err(|error| PublishError::Unwritable(error.to_string()));
        let mut headers = FieldTable::default();
        if let Some(traceparent) = &self.traceparent {
            headers.insert(TRACEPARENT.as_str().into(), AMQPValue::LongString(traceparent.as_str().into()));
        }
        let properties = BasicProperties::default()
            .with_content_type(CONTENT_TYPE.into())
            .with_message_id(self.id.to_string().into())
            .with_timestamp(u64::try_from(self.time.timestamp()).unwrap_or_default())
            .with_headers(headers);
        let (exchange, routing_key) = (short(exchange)?, short(&self.routing_key)?);
        Ok(Message { exchange, routing_key, properties, body: self.body })
    }
}

/// Publishes on the exchanges of one [`Topology`]. Clones share connection and channel.
#[derive(Clone, Debug)]
pub struct Publisher {
    requests: mpsc::UnboundedSender<Request>,
    room: Arc<Semaphore>,
    standing: Standing,
    published: Counter,
}

impl Publisher {
    /// Starts to connect, in the background, and keeps the connection until the lifecycle closes. `url` is the
    /// setting `RABBITMQ_URL`. Whenever it connects it declares the topology.
    pub fn start(url: &SecretString, topology: Topology, lifecycle: &Lifecycle) -> Result<Self, InvalidUrl> {
        Ok(Self::on(&Server::parse(url)?, topology, lifecycle))
    }

    pub(super) fn on(server: &Server, topology: Topology, lifecycle: &Lifecycle) -> Self {
        let (requests, received) = mpsc::unbounded_channel();
        let (state, standing) = Standing::new();
        let keeper = Keeper {
            pool: pool(server),
            server: server.clone(),
            topology,
            requests: received,
            state,
            closing: lifecycle.closing(),
        };
        lifecycle.background("publisher", keeper.run());
        Self { requests, room: Arc::new(Semaphore::new(ROOM)), standing, published: published("confirmed") }
    }

    /// Publishes an event. `Ok` once the server has it on disk, in every queue that takes it.
    pub async fn publish<T: Serialize>(
        &self,
        exchange: &str,
        routing_key: &str,
        event: &CloudEvent<T>,
    ) -> Result<(), PublishError> {
        self.send(exchange, Publication::of(routing_key, event)?).await
    }

    /// Publishes what was made of an event before.
    pub async fn send(&self, exchange: &str, publication: Publication) -> Result<(), PublishError> {
        self.confirmed(publication.message(exchange)?).await
    }

    /// Sends a message, and waits until it is confirmed.
    pub(super) async fn confirmed(&self, mut message: Message) -> Result<(), PublishError> {
        message.properties = message.properties.with_delivery_mode(2);
        crash::point("publisher: to be sent");
        let result = tokio::time::timeout(DEADLINE, self.exchange(message))
            .await
            .unwrap_or(Err(PublishError::TooSlow));
        crash::point("publisher: confirmed");
        match &result {
            Ok(()) => self.published.increment(1),
            Err(error) => published(error.label()).increment(1),
        }
        result
    }

    async fn exchange(&self, message: Message) -> Result<(), PublishError> {
        // lapin would keep it until the server takes messages again, long after we have given up.
        self.standing.unblocked().map_err(PublishError::Blocked)?;
        let stopped = || PublishError::Unavailable("the publisher has stopped".to_owned());
        let weight = weight(message.body.len());
        let room = Arc::clone(&self.room).acquire_many_owned(weight).await.map_err(|_| stopped())?;
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { message, answer, room }).map_err(|_| stopped())?;
        let cut = || PublishError::Unavailable("the connection broke before the confirm".to_owned());
        answered.await.unwrap_or_else(|_| Err(cut()))
    }

    /// Waits until the server is there, and takes messages.
    pub(crate) async fn connected(&self) {
        self.standing.up().await;
    }

    /// Waits before what could not be published is tried again: so long, and until the server takes messages.
    pub async fn rest(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
        self.connected().await;
    }

    /// Whether the server can be published to; `Err` says why not. Publishes nothing.
    #[expect(clippy::unused_async, reason = "a check of readiness is async, like the others")]
    pub async fn check(&self) -> Result<(), String> {
        self.standing.check()
    }
}

/// What a message with a body of so many bytes counts for, in KiB: a huge one is alone in flight.
fn weight(bytes: usize) -> u32 {
    u32::try_from((bytes / 1024 + OVERHEAD).min(ROOM)).unwrap_or(u32::MAX)
}

/// The counter of messages with this outcome.
fn published(outcome: &'static str) -> Counter {
    counter!("amqp_published_total", "outcome" => outcome)
}

/// A pool of one: the channel on it is shared, so more connections would only cost memory.
fn pool(server: &Server) -> Pool {
    let timeouts = Timeouts {
        create: Some(CONNECT_TIMEOUT),
        wait: Some(CONNECT_TIMEOUT),
        recycle: Some(CONNECT_TIMEOUT),
    };
    let config =
        Config { url: Some(server.url()), pool: Some(PoolConfig { timeouts, ..PoolConfig::new(1) }) };
    match config.create_pool(|| server::properties("publisher"), Runtime::Tokio1) {
        Ok(pool) => pool,
        // The two causes are a runtime that is not compiled in and timeouts without one.
        Err(error) => unreachable!("a pool on tokio: {error}"),
    }
}

/// A connection with its channel.
struct Live {
    connection: Object,
    channel: ConfirmChannel,
}

/// The task that keeps the channel.
struct Keeper {
    server: Server,
    pool: Pool,
    topology: Topology,
    requests: mpsc::UnboundedReceiver<Request>,
    state: watch::Sender<State>,
    closing: CancellationToken,
}

impl Keeper {
    async fn run(mut self) -> anyhow::Result<()> {
        while let Some(Live { connection, channel }) = self.connect().await {
            self.state.send_replace(State::Up(connection.status().clone()));
            let ended = channel.drive(&connection, &self.topology, &mut self.requests, &self.closing).await;
            match ended {
                Ended::Finished => {
                    server::close(&connection).await;
                    break;
                }
                Ended::Broken(error) => {
                    tracing::warn!(error, "the connection of the publisher is lost");
                    self.state.send_replace(State::Connecting);
                    drop((channel, connection));
                    discard(&self.pool);
                }
            }
        }
        // Ending before that would look like a crash.
        self.closing.cancelled().await;
        Ok(())
    }

    /// A new channel, however long it takes; `None` when it is not wanted any more. The first attempt makes
    /// publishers wait; once it has failed they are answered at once.
    async fn connect(&mut self) -> Option<Live> {
        let Self { server, pool, topology, requests, state, closing } = self;
        let attempt = || async {
            let result = server.patiently(open(pool, topology)).await;
            if let Err(error) = &result {
                discard(pool);
                state.send_replace(State::Down(error.to_string().into()));
            }
            result
        };
        let mut connecting = std::pin::pin!(retry::forever(NAME, attempt));
        let mut down = state.subscribe();
        let mut known = false;
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => return None,
                live = &mut connecting => return Some(live),
                Ok(_) = down.wait_for(|state| matches!(state, State::Down(_))), if !known => known = true,
                request = requests.recv(), if known => {
                    let State::Down(why) = &*state.borrow() else { continue };
                    request?.refuse(why);
                }
            }
        }
    }
}

async fn open(pool: &Pool, names: &Topology) -> Result<Live, ConnectError> {
    let connection = pool.get().await?;
    topology::declare(&connection, names).await?;
    let channel = ConfirmChannel::open(&connection).await?;
    Ok(Live { connection, channel })
}

/// Throws away the connections that nobody holds: they are suspect, and the next one is to be new.
fn discard(pool: &Pool) {
    pool.retain(|_, _| false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_in_flight_is_bounded_by_its_size() {
        assert_eq!(weight(0), 2);
        assert_eq!(weight(10 * 1024), 12);
        // 16 MiB at most; what is larger goes alone, and does go.
        assert_eq!(weight(16 << 20), 16 << 10);
        assert_eq!(weight(usize::MAX), 16 << 10);
    }
}
