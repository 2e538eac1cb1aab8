//! The way of one mail: made, handed over, counted and logged.
//!
//! It is claimed in the [`ledger`](crate::ledger), handed over, and recorded there: a mail that is asked for again is
//! not sent again. All of that is in a task of its own, which goes on when the client that asked for it has left:
//! nobody would learn otherwise whether the mail was sent. [`crate::transport`] is next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis::crash;
use chassis::request::RequestContext;
use chassis::retry::Pause;
use contracts::idempotency::digest;
use contracts::mail::{MailPayload, Receipt};
use contracts::validation::Violations;
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::MAIL_SERVER;
use crate::ledger::{Claim, End, Lease, Ledger, LedgerError, Wanted};
use crate::message::{Message, Place, Sender};
use crate::metrics::{MailMetrics, Outcome};
use crate::templates::Templates;
use crate::transport::{SendError, Transport};

/// What a mail counts for beside its text, in KiB.
const OVERHEAD: usize = 4;

/// Why there is no receipt for a mail.
#[derive(Debug, Error)]
pub(crate) enum DeliveryError {
    /// It can't be made of this payload.
    #[error("the payload makes no mail: {0}")]
    Invalid(Violations),
    /// Too many are in hand. It was not sent by this.
    #[error("too many mails are in hand")]
    Full,
    /// The mail server did not take it, or did not say that it did.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The mail server refused it for good, now or before.
    #[error("refused: {0}")]
    Failed(Violations),
    /// Somebody is sending it, for so long at most.
    #[error("it is being sent")]
    UnderWay(Duration),
    /// The id belongs to another mail.
    #[error("the id belongs to another mail")]
    Conflict,
    /// It could not be claimed, and was not sent.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It may have been sent, and what became of it can't be recorded now.
    #[error("what became of it is not recorded: {0}")]
    Unrecorded(LedgerError),
    /// The task that sent it has died.
    #[error("the sending of a mail ended without an outcome")]
    Lost,
}

/// Makes mails and sends them.
pub(crate) struct Delivery {
    templates: Templates,
    sender: Sender,
    ledger: Ledger,
    transport: Arc<Transport>,
    metrics: Arc<MailMetrics>,
    under_way: TaskTracker,
    /// How much of mails may be in hand, in KiB: a mail server that is slow with each does not fill the memory.
    room: Arc<Semaphore>,
    most: usize,
}

impl Delivery {
    /// Mails without a sender come from `sender`. `most` KiB of mails may be in hand.
    pub(crate) fn new(
        templates: Templates,
        sender: Sender,
        ledger: Ledger,
        transport: Arc<Transport>,
        most: usize,
    ) -> Self {
        let (metrics, under_way, room) = (Arc::default(), TaskTracker::new(), Arc::new(Semaphore::new(most)));
        Self { templates, sender, ledger, transport, metrics, under_way, room, most }
    }

    /// The mails that are being handed over.
    pub(crate) fn under_way(&self) -> TaskTracker {
        self.under_way.clone()
    }

    /// Sends the mail with this id, unless that was done before. A receipt means that the mail server has taken it,
    /// and that the ledger knows. `replay` is the dead letter that asks for it once more.
    pub(crate) async fn deliver(
        &self,
        id: Uuid,
        replay: Option<Uuid>,
        payload: MailPayload,
        context: RequestContext,
    ) -> Result<Receipt, DeliveryError> {
        let started = Instant::now();
        let wanted = Wanted { id, digest: digest(&payload), replay, trace: context.trace };
        let message = Message::build(id, payload, &self.sender, &self.templates).map_err(|violations| {
            self.metrics.record(Outcome::Refused, started.elapsed());
            DeliveryError::Invalid(violations)
        })?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(weight(message.bytes().len(), self.most));
        let room = room.map_err(|_| {
            self.metrics.record(Outcome::NotTaken, started.elapsed());
            tracing::warn!(mail = %id, "a mail is turned away: too many are in hand (MAIL_ROOM_MIB)");
            DeliveryError::Full
        })?;
        let (ledger, transport) = (self.ledger.clone(), Arc::clone(&self.transport));
        let metrics = Arc::clone(&self.metrics);
        let (late, is_late) = oneshot::channel();
        let (unrecorded, is_unrecorded) = oneshot::channel();
        let sending = self.under_way.spawn(context.scope("send mail", move |_| async move {
            let _room = room;
            let receipt = Receipt { id, message_id: message.message_id().to_owned() };
            let lease = match ledger.claim(wanted).await? {
                Claim::Granted(lease) => lease,
                Claim::Sent => return Ok(receipt),
                Claim::Failed(why) => return Err(DeliveryError::Failed(read(&why))),
                Claim::UnderWay(longest) => return Err(DeliveryError::UnderWay(longest)),
                Claim::Conflict => return Err(DeliveryError::Conflict),
            };
            crash::point("mailer: claimed");
            if lease.again {
                metrics.resent();
                let attempt = lease.attempt;
                tracing::warn!(mail = %id, attempt, "a mail is sent again: nobody knows whether it was taken");
            }
            let result = if lease.lasts(Instant::now(), transport.timeout()) {
                ledger.hold(lease, transport.send(&message, late)).await
            } else {
                // This process stood still. Somebody else may have the mail by the time that it is sent.
                Err(SendError::TooSlow { handed_over: false })
            };
            crash::point("mailer: handed over");
            let outcome = outcome(&result);
            metrics.record(outcome, started.elapsed());
            note(id, &message, outcome, started, result.as_ref().err());
            record(&ledger, lease, end(&result, outcome), transport.timeout(), unrecorded).await;
            crash::point("mailer: recorded");
            match result {
                Ok(()) => Ok(receipt),
                Err(SendError::Refused { place, code, text }) => {
                    Err(DeliveryError::Failed(refusal(place, code, &text)))
                }
                Err(error) => Err(error.into()),
            }
        }));
        tokio::select! {
            biased;
            delivered = sending => delivered.unwrap_or(Err(DeliveryError::Lost)),
            // The task goes on. Who asks again is told how it ended, or to wait.
            Ok(()) = is_late => Err(SendError::TooSlow { handed_over: true }.into()),
            Ok(error) = is_unrecorded => Err(DeliveryError::Unrecorded(error)),
        }
    }
}

/// What a mail of so many bytes counts for, in KiB: the largest goes alone.
fn weight(bytes: usize, most: usize) -> u32 {
    u32::try_from((bytes / 1024 + OVERHEAD).min(most)).unwrap_or(u32::MAX)
}

/// Records how a mail ended, however long it takes: nobody else knows. Who asked for it has the `patience` to wait for that,
/// and is told why then.
async fn record(
    ledger: &Ledger,
    lease: Lease,
    end: End,
    patience: Duration,
    unrecorded: oneshot::Sender<LedgerError>,
) {
    let (began, mut unrecorded) = (Instant::now(), Some(unrecorded));
    let mut pause = Pause::default();
    loop {
        match ledger.record(lease, end.clone()).await {
            Ok(true) => return,
            Ok(false) => {
                tracing::warn!(mail = %lease.id, "somebody else has the mail now: its lease had run out");
                return;
            }
            Err(error) => {
                tracing::warn!(mail = %lease.id, %error, "what became of a mail is not recorded yet");
                if let Some(unrecorded) = unrecorded.take_if(|_| began.elapsed() >= patience) {
                    // Whoever asked may have left.
                    let _ = unrecorded.send(error);
                }
                tokio::time::sleep(pause.grow()).await;
            }
        }
    }
}

/// What the ledger keeps of an outcome.
fn end(result: &Result<(), SendError>, outcome: Outcome) -> End {
    match result {
        Ok(()) => End::Sent,
        Err(SendError::Refused { place, code, text }) => End::Failed(refusal(*place, *code, text)),
        Err(error) if outcome == Outcome::Unknown => End::Unknown(error.to_string()),
        Err(error) => End::Waiting(error.to_string()),
    }
}

/// What an answer says of a mail that was refused for good.
pub(crate) fn refusal(place: Place, code: u16, text: &str) -> Violations {
    Violations::one(place.to_string(), format!("was refused by {MAIL_SERVER}: {code} {text}"))
}

/// The refusal as the ledger kept it.
fn read(kept: &str) -> Violations {
    serde_json::from_str(kept).unwrap_or_else(|_| Violations::one("mail", format!("was refused: {kept}")))
}

fn outcome(result: &Result<(), SendError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Sent,
        Err(SendError::Refused { .. }) => Outcome::Refused,
        Err(
            SendError::Unreachable(_)
            | SendError::Broken(_)
            | SendError::Deferred { .. }
            | SendError::TooSlow { handed_over: false }
            | SendError::Nonsense { handed_over: false, .. },
        ) => Outcome::NotTaken,
        Err(
            SendError::TooSlow { handed_over: true }
            | SendError::Unconfirmed(_)
            | SendError::Nonsense { handed_over: true, .. },
        ) => Outcome::Unknown,
    }
}

/// The log line of a mail. Who it went to and what it says is nobody's business who reads the log.
fn note(id: Uuid, message: &Message, outcome: Outcome, started: Instant, error: Option<&SendError>) {
    let (outcome, recipients) = (outcome.as_str(), message.recipients().len() as u64);
    let duration_ms = started.elapsed().as_secs_f64() * 1e3;
    match error {
        None => tracing::info!(mail = %id, outcome, recipients, duration_ms, "mail"),
        Some(error) => {
            if let SendError::Refused { text, .. } | SendError::Deferred { text, .. } = error {
                tracing::debug!(mail = %id, text, "what the mail server said");
            }
            tracing::warn!(mail = %id, outcome, recipients, duration_ms, %error, "mail");
        }
    }
}
