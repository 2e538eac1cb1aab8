//! Consumes a queue in batches, with manual acknowledgements.
//!
//! A batch is whatever has come, up to a maximum ([`gathering`]): one message on a quiet queue, without a delay, and
//! hundreds on a busy one, fewer where they are large ([`weight`]). While one is worked on ([`batch`]) the next is
//! gathered, with a look each millisecond, and begins when it is full or the other is done. They are acknowledged in
//! order, each with one acknowledgement for all of it, after every message of it is done or elsewhere. Where a batch is a
//! single message, each is acknowledged as it ends.
//!
//! When the connection, the channel, the consumer or the queue is lost, this makes all of them anew rather
//! than let lapin recover: a deleted queue and a consumer that the server cancelled are healed the same way as a
//! lost connection. What was unacknowledged comes again, so what a handler does must be safe to repeat.

mod batch;
mod gathering;
mod in_hand;
mod session;
mod weight;

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::batch::Work;
use self::session::{Ended, Session, Taking, is_unreadable};
use self::weight::Weight;
use super::server::{ConnectError, InvalidUrl, Server, Standing, State};
use super::{Delivery, Disposition, NAME, Onward};
use crate::lifecycle::Lifecycle;
use crate::request::RequestContext;
use crate::retry::{Pause, forever};

/// A session that lasted this long was a good one.
const GOOD_SESSION: Duration = Duration::from_secs(5);

/// Before the next try at a message that can't be read: it ends with the queue's delivery limit.
const UNREADABLE_PAUSE: Duration = Duration::from_millis(20);

/// The deliveries of one batch, oldest first.
pub type Batch = Arc<[Delivery]>;

/// How much a consumer takes at once.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// How many messages may be unacknowledged; fewer where they are large.
    pub prefetch: u16,
    /// How many messages at most make a batch. As many batches are worked on at once as the prefetch fills.
    pub batch: usize,
}

impl Flow {
    /// Whether batches end in the order in which they began: not where each is a single message.
    fn in_order(self) -> bool {
        self.batch > 1
    }

    /// How many batches may be worked on at once.
    fn concurrent(self) -> usize {
        usize::from(self.prefetch).div_ceil(self.batch.max(1)).max(1)
    }
}

/// Consumes one queue.
#[derive(Debug)]
pub struct Consumer {
    server: Server,
    queue: String,
    flow: Flow,
    onward: Onward,
    stopping: CancellationToken,
    state: watch::Sender<State>,
    standing: Standing,
}

impl Consumer {
    /// A consumer of `queue`, one of the queues of the topology. `url` is the setting `RABBITMQ_URL`. What can't be
    /// worked on goes `onward`. Nothing is connected before [`Self::run`].
    pub fn new(
        url: &SecretString,
        queue: &str,
        flow: Flow,
        onward: Onward,
        lifecycle: &Lifecycle,
    ) -> Result<Self, InvalidUrl> {
        let server = Server::parse(url)?;
        let (state, standing) = Standing::new();
        let (queue, stopping) = (queue.to_owned(), lifecycle.stopping());
        Ok(Self { server, queue, flow, onward, stopping, state, standing })
    }

    /// Whether it is consuming, for readiness.
    pub fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Consumes until the lifecycle stops; then it takes nothing more, finishes what it has and
    /// acknowledges it. `handler` gives a disposition for each delivery of a batch, in order; those that it
    /// leaves out are done again. Hand the future to [`Lifecycle::spawn`].
    pub async fn run<H, F>(self, handler: H) -> anyhow::Result<()>
    where
        H: Fn(RequestContext, Batch) -> F + Send + Sync + 'static,
        F: Future<Output = Vec<Disposition>> + Send + 'static,
    {
        let work = Work::new(&self.queue, handler, self.onward.clone(), self.stopping.clone());
        let mut pause = Pause::default();
        // How many messages are to be taken one by one: see `Ended::Unreadable` and `Ended::Suspect`.
        let mut careful = 0;
        let mut weight = Weight::default();
        loop {
            let flow = match careful {
                0 => Flow { prefetch: weight.prefetch(self.flow.prefetch), ..self.flow },
                _ => Flow { prefetch: 1, batch: 1 },
            };
            let opening = forever(NAME, || self.open(flow));
            let Some(opened) = self.stopping.run_until_cancelled(opening).await else { return Ok(()) };
            let started = Instant::now();
            let (ended, settled) = match opened {
                Ok(session) => {
                    tracing::info!(queue = self.queue, prefetch = flow.prefetch, "consuming");
                    self.state.send_replace(State::Up(session.status()));
                    let most = if careful > 0 { 1 } else { self.flow.prefetch };
                    let taking = Taking { flow, most, careful, weight: &mut weight };
                    session.consume(&work, taking, &self.stopping).await
                }
                Err(ended) => (ended, 0),
            };
            careful = careful.saturating_sub(settled);
            let (why, wait) = match ended {
                Ended::Stopped => return Ok(()),
                Ended::PastIt => continue,
                Ended::Lost(why) => (why, pause.grow()),
                Ended::Cancelled => {
                    let why = "the server cancelled the consumer, as it does when the queue is deleted";
                    (why.to_owned(), pause.grow())
                }
                Ended::Unreadable(why) => {
                    careful = usize::from(self.flow.prefetch);
                    (why, UNREADABLE_PAUSE)
                }
                Ended::Suspect(deliveries) => {
                    careful = usize::from(self.flow.prefetch);
                    tracing::warn!(
                        queue = self.queue,
                        deliveries,
                        "a message comes again and again: they are taken one by one"
                    );
                    continue;
                }
            };
            tracing::warn!(queue = self.queue, error = why, "the consumer is lost");
            self.state.send_replace(State::Down(why.into()));
            if started.elapsed() > GOOD_SESSION {
                pause.reset();
            }
            let waiting = tokio::time::sleep(wait);
            if self.stopping.run_until_cancelled(waiting).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Opens a session. A message that can't be read may end it while it is being opened: that is no reason to
    /// wait longer and longer.
    async fn open(&self, flow: Flow) -> Result<Result<Session, Ended>, ConnectError> {
        let result = Session::open(&self.server, self.onward.topology(), &self.queue, flow).await;
        match result {
            Ok(session) => Ok(Ok(session)),
            Err(ConnectError::Server(error)) if is_unreadable(&error) => {
                Ok(Err(Ended::Unreadable(error.to_string())))
            }
            Err(error) => {
                self.state.send_replace(State::Down(error.to_string().into()));
                Err(error)
            }
        }
    }
}
