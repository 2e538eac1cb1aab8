//! The ledger: what became of each mail, in PostgreSQL, so that none goes out twice.
//!
//! A mail is claimed before it is sent, with a lease, and its outcome is recorded after. Whoever dies in between
//! leaves a lease that runs out; the next claim takes it over and sends the mail again, with the same Message-ID:
//! nobody can know whether the mail server had it already. That is counted. A mail is forgotten after some weeks
//! ([`sweep`]).
//!
//! Claims and records that come together are written together ([`writer`]), as single ones would each wait for the
//! disk; and with them, to the outbox, the events that tell of them ([`telling`]).

mod contest;
mod sweep;
mod telling;
mod write;
mod writer;

use std::convert::Infallible;
use std::future::pending;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use chassis::lifecycle::Lifecycle;
use chassis::postgres::{Database, DatabaseError};
use chassis::retry::Pause;
use chassis::trace::TraceContext;
use chrono::{DateTime, Utc};
use contracts::validation::Violations;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, sleep_until};
use uuid::Uuid;

use self::writer::Writer;

/// How many claims and records may wait to be written.
const WAITING: usize = 1024;

/// A mail that is to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The mail.
    pub(crate) id: Uuid,
    /// Of its payload: the same id with another one is refused.
    pub(crate) digest: Uuid,
    /// The dead letter that asks for it once more: a mail that was refused for good gets another attempt, for each
    /// letter one, and may be another mail.
    pub(crate) replay: Option<Uuid>,
    /// The trace of whoever asks.
    pub(crate) trace: TraceContext,
}

/// The right to send a mail, until the lease ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lease {
    /// The mail.
    pub(crate) id: Uuid,
    /// Which claim this is: a later one has another.
    holder: Uuid,
    /// The first attempt is 1.
    pub(crate) attempt: i32,
    /// Whether the mail server may have the mail already.
    pub(crate) again: bool,
    /// When it was granted.
    began: DateTime<Utc>,
    /// Until when it is good at least, by this process' clock.
    good_until: Instant,
    /// The trace of whoever asked.
    trace: TraceContext,
}

impl Lease {
    /// Whether it is still good when what begins `now` has taken this long.
    pub(crate) fn lasts(&self, now: Instant, long: Duration) -> bool {
        now + long <= self.good_until
    }
}

/// What a claim comes to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Claim {
    /// Send it.
    Granted(Lease),
    /// It was sent before.
    Sent,
    /// It was refused for good before, with these words.
    Failed(String),
    /// Somebody is sending it, for so long at most.
    UnderWay(Duration),
    /// The id belongs to another mail.
    Conflict,
}

/// How a claim stands, or how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has not: the mail server is still to say whether it has taken the mail. The lease is good for its whole time
    /// again.
    Sending,
    /// The mail server has it.
    Sent,
    /// The mail server won't ever take it: why.
    Failed(Violations),
    /// It was not taken, and may be sent again at once: why.
    Waiting(String),
    /// Nobody knows whether it was taken: why. It is left alone until the lease runs out.
    Unknown(String),
}

/// Why the ledger gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum LedgerError {
    /// PostgreSQL is away, full or too slow: the same may succeed later.
    #[error("the ledger is not available: {0}")]
    Unavailable(String),
    /// PostgreSQL refused: a mistake in this service.
    #[error("the ledger could not be written: {0}")]
    Failed(String),
}

impl From<DatabaseError> for LedgerError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Unavailable(why) => Self::Unavailable(why),
            DatabaseError::Failed(error) => Self::Failed(error.to_string()),
        }
    }
}

/// A claim that waits to be written.
struct ClaimCall {
    wanted: Wanted,
    reply: oneshot::Sender<Result<Claim, LedgerError>>,
}

/// A record that waits to be written.
struct RecordCall {
    lease: Lease,
    end: End,
    reply: oneshot::Sender<Result<bool, LedgerError>>,
}

enum Call {
    Claim(ClaimCall),
    Record(RecordCall),
}

/// The ledger of mails. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    calls: mpsc::Sender<Call>,
    lease: Duration,
}

impl Ledger {
    /// Starts the task that writes, and one that removes what is older than so many days. A claim is good for `lease`.
    pub(crate) fn start(
        database: &Database,
        lease: Duration,
        days: NonZeroU16,
        lifecycle: &Lifecycle,
    ) -> Self {
        let (calls, received) = mpsc::channel(WAITING);
        lifecycle.background("ledger sweep", sweep::run(database.clone(), days, lifecycle.closing()));
        let writer = Writer { session: database.session().planned_once(), lease };
        lifecycle.background("ledger", writer.run(received, lifecycle.closing()));
        Self { calls, lease }
    }

    /// Asks for the right to send a mail.
    pub(crate) async fn claim(&self, wanted: Wanted) -> Result<Claim, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Call::Claim(ClaimCall { wanted, reply }), answer).await
    }

    /// Records how a claim stands. `false`: the lease had run out and somebody else has the mail now, so nothing is
    /// recorded.
    pub(crate) async fn record(&self, lease: Lease, end: End) -> Result<bool, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Call::Record(RecordCall { lease, end, reply }), answer).await
    }

    /// Waits for the end of `sending`, and has the lease last as long.
    pub(crate) async fn hold<T>(&self, lease: Lease, sending: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            ended = sending => ended,
            never = self.renew(lease) => match never {},
        }
    }

    /// Renews a lease while two thirds of it are left, so that PostgreSQL may be away for nearly as long.
    async fn renew(&self, lease: Lease) -> Infallible {
        let mut due = lease.good_until.checked_sub(self.lease * 2 / 3).unwrap_or_else(Instant::now);
        let mut pause = Pause::default();
        loop {
            sleep_until(due.into()).await;
            let asked = Instant::now();
            match self.record(lease, End::Sending).await {
                Ok(true) => {
                    due = asked + self.lease / 3;
                    pause.reset();
                }
                Ok(false) => {
                    tracing::warn!(mail = %lease.id, "somebody else has a mail that is being sent: its lease had run out");
                    return pending().await;
                }
                Err(error) => {
                    tracing::warn!(mail = %lease.id, %error, "the lease of a mail that is being sent is not renewed yet");
                    sleep(pause.grow()).await;
                }
            }
        }
    }

    async fn ask<T>(
        &self,
        call: Call,
        answer: oneshot::Receiver<Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let stopped = || LedgerError::Unavailable("it has stopped".to_owned());
        self.calls.try_send(call).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                LedgerError::Unavailable("too much waits to be written".to_owned())
            }
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_not_sent_when_the_lease_may_run_out_meanwhile() {
        let granted = Instant::now();
        let lease = Lease {
            id: Uuid::now_v7(),
            holder: Uuid::now_v7(),
            attempt: 1,
            again: false,
            began: Utc::now(),
            good_until: granted + Duration::from_secs(30),
            trace: TraceContext::root(),
        };
        let lasts =
            |stood_still| lease.lasts(granted + Duration::from_secs(stood_still), Duration::from_secs(10));
        assert!(lasts(0) && lasts(20));
        assert!(!lasts(21) && !lasts(40));
    }
}
