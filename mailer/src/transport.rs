//! The way to the mail server: a bounded pool of connections that are kept open, and the rules for using one.
//!
//! [`connection`] speaks SMTP over a [`wire`], encrypted by [`tls`] where that is asked for. A connection
//! that may have gone stale is looked at before it is used, and what fails on one before the message was
//! handed over is tried again on another. After that point nothing is ever sent twice.

mod connection;
mod hand_over;
mod reply;
mod tls;
mod wire;

use std::pin::pin;
use std::sync::{Mutex as SyncMutex, MutexGuard, PoisonError};
use std::time::Duration;

use chassis::retry;
use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;
use secrecy::ExposeSecret as _;
use thiserror::Error;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::MAIL_SERVER;
use crate::config::{Config, Encryption};
use crate::message::{Message, Place};
use crate::metrics::PoolMetrics;

use connection::{Connection, Security, Target};
use hand_over::HandOver;
use tls::Tls;

/// A connection that was idle for longer is asked for a sign of life first.
const IDLE_CHECK: Duration = Duration::from_secs(15);
/// How long that may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that was idle for longer is closed.
const IDLE_LIMIT: Duration = Duration::from_mins(1);
/// How often connections are looked through.
const UPKEEP: Duration = Duration::from_secs(5);
/// How many connections may turn out stale for one mail.
const TRIES: u32 = 3;
/// How long a good-bye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long the outcome of a readiness check is good for.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Why a mail was not sent, or may not have been.
#[derive(Clone, Debug, Error)]
pub(crate) enum SendError {
    /// There is no connection to be had. The mail was not taken.
    #[error("the mail server is out of reach: {0}")]
    Unreachable(String),
    /// The connection broke before the message was handed over. The mail was not taken.
    #[error("the mail server broke off: {0}")]
    Broken(String),
    /// It took longer than it may. The mail was not taken unless it was handed over.
    #[error("the mail server was too slow; message handed over: {handed_over}")]
    TooSlow {
        /// Whether the server got the message.
        handed_over: bool,
    },
    /// The connection broke after the message was handed over. The mail may have been taken.
    #[error("the mail server broke off without a word on the message: {0}")]
    Unconfirmed(String),
    /// What came back is not SMTP, or no answer to what was asked. The mail was not taken unless it was handed over.
    #[error("the mail server answered nonsense: {why}; message handed over: {handed_over}")]
    Nonsense {
        /// What is wrong with it.
        why: String,
        /// Whether the server got the message.
        handed_over: bool,
    },
    /// The server refused the mail for good. The server's text is not part of the error's, which is logged:
    /// servers like to repeat the address.
    #[error("the mail server refused {place} for good ({code})")]
    Refused {
        /// What of it was refused.
        place: Place,
        /// The server's code.
        code: u16,
        /// The server's words.
        text: String,
    },
    /// The server did not take the mail this time.
    #[error("the mail server does not take {place} now ({code})")]
    Deferred {
        /// What of it was not taken.
        place: Place,
        /// The server's code.
        code: u16,
        /// The server's words.
        text: String,
    },
}

/// The way to the mail server.
pub(crate) struct Transport {
    pool: Pool<Dialer>,
    timeout: Duration,
    answer_timeout: Duration,
    metrics: PoolMetrics,
    probed: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Transport {
    /// Prepares the pool; nothing is connected yet.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let tls = || Tls::new(&config.mail_host, config.mail_tls_ca.as_deref());
        let security = match config.mail_encryption {
            Encryption::None => Security::None,
            Encryption::StartTls => Security::StartTls(tls()?),
            Encryption::Tls => Security::Tls(tls()?),
        };
        let credentials = config.mail_username.as_ref().zip(config.mail_password.as_ref());
        let credentials = credentials.map(|(username, password)| {
            Credentials::new(username.clone(), password.expose_secret().to_owned())
        });
        if credentials.is_some() && config.mail_encryption == Encryption::None {
            tracing::warn!("the password for the mail server goes over the wire in clear (MAIL_ENCRYPTION)");
        }
        let target = Target {
            host: config.mail_host.clone(),
            port: config.mail_port,
            security,
            credentials,
            hello: ClientId::default(),
        };
        let dialer = Dialer { target, distrusted: SyncMutex::default(), metrics: PoolMetrics::default() };
        let pool = Pool::builder(dialer)
            .max_size(usize::from(config.mail_pool_size))
            // The last used first: what is not needed stays idle, and is closed.
            .queue_mode(QueueMode::Lifo)
            .build()?;
        Ok(Self {
            pool,
            timeout: config.mail_timeout,
            answer_timeout: config.mail_answer_timeout,
            metrics: PoolMetrics::default(),
            probed: Mutex::default(),
        })
    }

    /// How long a mail may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends one mail. It is given up after the time that a mail may take, unless it was handed over by then: only
    /// the server's answer says what became of it then, and `late` says that this is being waited for. Run it in a
    /// task of its own: whoever drops it half-way never learns.
    pub(crate) async fn send(&self, mail: &Message, late: oneshot::Sender<()>) -> Result<(), SendError> {
        let hand_over = HandOver::until(Instant::now() + self.timeout);
        let mut sending = pin!(self.try_to_send(mail, &hand_over));
        if let Ok(result) = timeout(self.timeout, &mut sending).await {
            return result;
        }
        if !hand_over.has_begun() {
            return Err(SendError::TooSlow { handed_over: false });
        }
        // Nobody may be there any more to hear it.
        let _ = late.send(());
        let answered = timeout(self.answer_timeout, sending).await;
        answered.unwrap_or(Err(SendError::TooSlow { handed_over: true }))
    }

    async fn try_to_send(&self, mail: &Message, hand_over: &HandOver) -> Result<(), SendError> {
        let mut tries = 1;
        loop {
            let mut lease = self.lease().await?;
            let connection = lease.connection()?;
            let was_used = connection.is_used();
            match connection.send(mail, hand_over).await {
                Err(SendError::Broken(why)) if was_used && tries < TRIES => {
                    tracing::debug!(why, "a connection to the mail server had gone stale");
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    async fn lease(&self) -> Result<Lease, SendError> {
        match self.pool.get().await {
            Ok(object) => Ok(Lease(Some(object))),
            Err(PoolError::Backend(error)) => Err(error),
            Err(other) => Err(SendError::Unreachable(other.to_string())),
        }
    }

    /// Whether the mail server is there, in a few words where it is not. Asks at most once a second, however
    /// often it is asked, and with no effect on the server.
    pub(crate) async fn probe(&self) -> Result<(), String> {
        let mut probed = self.probed.lock().await;
        if let Some((at, result)) = &*probed
            && at.elapsed() < PROBE_EVERY
        {
            return result.clone();
        }
        let result = self.check().await.map_err(|error| brief(&error).to_owned());
        *probed = Some((Instant::now(), result.clone()));
        result
    }

    async fn check(&self) -> Result<(), SendError> {
        let mut lease = self.lease().await?;
        lease.connection()?.noop().await
    }

    /// Waits for the mail server at the start, saying so, and then looks after idle connections until
    /// `closing`.
    pub(crate) async fn keep_up(&self, closing: CancellationToken) {
        let found = retry::forever(MAIL_SERVER, || async {
            let late = SendError::TooSlow { handed_over: false };
            timeout(self.timeout, self.check()).await.unwrap_or(Err(late))
        });
        tokio::select! {
            () = closing.cancelled() => {}
            () = found => {
                let mut tick = interval(UPKEEP);
                tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        () = closing.cancelled() => break,
                        _ = tick.tick() => self.close_idle(IDLE_LIMIT).await,
                    }
                }
            }
        }
        self.close_idle(Duration::ZERO).await;
        self.pool.close();
    }

    /// Says good-bye on each connection that was idle for `limit`.
    async fn close_idle(&self, limit: Duration) {
        let stays =
            |connection: &Connection, metrics: Metrics| connection.is_ready() && metrics.last_used() < limit;
        let mut leaving = JoinSet::new();
        for connection in self.pool.retain(stays).removed {
            if connection.is_ready() {
                leaving.spawn(connection.quit());
            }
        }
        // A server that does not answer is left without a good-bye.
        let _ = timeout(GOODBYE, leaving.join_all()).await;
        let status = self.pool.status();
        self.metrics.size(status.size, status.available.min(status.size));
    }
}

/// What `/readyz` says of a mail server that is not there.
fn brief(error: &SendError) -> &'static str {
    match error {
        SendError::Unreachable(_) => "out of reach, or it turns us away",
        SendError::Broken(_) | SendError::Unconfirmed(_) => "it broke off",
        SendError::TooSlow { .. } => "it does not answer",
        SendError::Nonsense { .. } | SendError::Refused { .. } | SendError::Deferred { .. } => {
            "it answers nonsense"
        }
    }
}

/// Makes connections for the pool, and looks at one before it is used again.
struct Dialer {
    target: Target,
    /// When a connection last gave no sign of life: what was idle then is not worth the wait either.
    distrusted: SyncMutex<Option<Instant>>,
    metrics: PoolMetrics,
}

impl Dialer {
    fn distrusted(&self) -> MutexGuard<'_, Option<Instant>> {
        self.distrusted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Manager for Dialer {
    type Type = Connection;
    type Error = SendError;

    async fn create(&self) -> Result<Connection, SendError> {
        let connection = Connection::open(&self.target).await?;
        self.metrics.opened();
        Ok(connection)
    }

    async fn recycle(&self, connection: &mut Connection, metrics: &Metrics) -> RecycleResult<SendError> {
        if !connection.is_ready() {
            return Err(RecycleError::message("stale"));
        }
        let idle = metrics.last_used();
        if idle <= IDLE_CHECK {
            return Ok(());
        }
        if self.distrusted().is_some_and(|at| at.elapsed() < idle) {
            return Err(RecycleError::message("as stale as another"));
        }
        if let Ok(Ok(())) = timeout(CHECK_TIMEOUT, connection.noop()).await {
            return Ok(());
        }
        *self.distrusted() = Some(Instant::now());
        Err(RecycleError::message("no sign of life"))
    }
}

/// A connection in use. It goes back to the pool only between two mails: dropped in the middle of one, by a
/// timeout or an error, it is closed.
struct Lease(Option<Object<Dialer>>);

impl Lease {
    fn connection(&mut self) -> Result<&mut Connection, SendError> {
        // It is there until the lease is dropped.
        self.0.as_deref_mut().ok_or_else(|| SendError::Unreachable("no connection".to_owned()))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.0.take_if(|object| !object.is_ready()) {
            drop(Object::take(object));
        }
    }
}
