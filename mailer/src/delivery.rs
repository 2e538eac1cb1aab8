//! The way of one mail: made, handed over, counted and logged.
//!
//! It is handed over in a task of its own, which goes on when the client that asked for it has left: nobody
//! would learn otherwise whether the mail was sent. (A ledger of mails takes its place here, between the
//! payload and the handing over.) [`crate::transport`] is next.

use std::sync::Arc;
use std::time::Instant;

use chassis::request::RequestContext;
use contracts::mail::{MailPayload, Receipt};
use contracts::validation::Violations;
use thiserror::Error;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::message::{Message, Sender};
use crate::metrics::{MailMetrics, Outcome};
use crate::templates::Templates;
use crate::transport::{SendError, Transport};

/// Why there is no receipt for a mail.
#[derive(Debug, Error)]
pub(crate) enum DeliveryError {
    /// It can't be made of this payload.
    #[error("the payload makes no mail: {0}")]
    Invalid(Violations),
    /// The mail server did not take it, or did not say that it did.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The task that sent it has died.
    #[error("the sending of a mail ended without an outcome")]
    Lost,
}

/// Makes mails and sends them.
pub(crate) struct Delivery {
    templates: Templates,
    sender: Sender,
    transport: Arc<Transport>,
    metrics: Arc<MailMetrics>,
    under_way: TaskTracker,
}

impl Delivery {
    /// Mails without a sender come from `sender`.
    pub(crate) fn new(templates: Templates, sender: Sender, transport: Arc<Transport>) -> Self {
        Self { templates, sender, transport, metrics: Arc::default(), under_way: TaskTracker::new() }
    }

    /// The mails that are being handed over.
    pub(crate) fn under_way(&self) -> TaskTracker {
        self.under_way.clone()
    }

    /// Sends the mail with this id. A receipt means that the mail server has taken it.
    pub(crate) async fn deliver(
        &self,
        id: Uuid,
        payload: MailPayload,
        context: RequestContext,
    ) -> Result<Receipt, DeliveryError> {
        let started = Instant::now();
        let message = Message::build(id, payload, &self.sender, &self.templates).map_err(|violations| {
            self.metrics.record(Outcome::Refused, started.elapsed());
            DeliveryError::Invalid(violations)
        })?;
        let (transport, metrics) = (Arc::clone(&self.transport), Arc::clone(&self.metrics));
        let sending = self.under_way.spawn(context.scope("send mail", move |_| async move {
            let result = transport.send(&message).await;
            let outcome = outcome(&result);
            metrics.record(outcome, started.elapsed());
            note(id, &message, outcome, started, result.as_ref().err());
            result.map(|()| Receipt { id, message_id: message.message_id().to_owned() })
        }));
        match sending.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(DeliveryError::Lost),
        }
    }
}

fn outcome(result: &Result<(), SendError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Sent,
        Err(SendError::Refused { .. }) => Outcome::Refused,
        Err(
            SendError::Unreachable(_)
            | SendError::Broken(_)
            | SendError::Deferred { .. }
            | SendError::TooSlow { handed_over: false },
        ) => Outcome::NotTaken,
        Err(
            SendError::TooSlow { handed_over: true } | SendError::Unconfirmed(_) | SendError::Nonsense(_),
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
