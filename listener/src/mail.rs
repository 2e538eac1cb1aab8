//! The mail queue: each message asks for a mail, and the mailer sends it.
//!
//! The mailer knows the mail by its id, so asking again sends nothing twice. While the mailer itself is away, the
//! messages in hand are held; what it could not do for one mail is tried again after a wait, told to the trail; a
//! mail that it refuses for good, or that has had its attempts, goes to the dead letters.

pub(crate) mod request;

use std::sync::Arc;
use std::time::Duration;

use chassis::amqp::consumer::Batch;
use chassis::amqp::{Delivery, Disposition, Onward};
use chassis::crash;
use chassis::http::client::{Effect, Peer, PeerError};
use chassis::request::RequestContext;
use chassis::retry::Pause;
use contracts::mail::MailPayload;
use contracts::reply::Reply;
use contracts::trail::Step;
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::request::Request;
use crate::{SERVICE, retrying};

/// Has mails sent.
#[derive(Debug)]
pub(crate) struct Mails {
    mailer: Peer,
    onward: Onward,
    stopping: CancellationToken,
}

/// What came of asking the mailer.
enum Asked {
    /// The mail server has it.
    Sent,
    /// It won't ever be sent.
    Refused(String),
    /// It was not sent, or nobody knows; it may be asked for again later.
    Later(String),
    /// The mailer was not there to be asked, or has too much in hand.
    Away(String),
}

impl Mails {
    /// The mailer at `base`, which may take `timeout` for a mail.
    pub(crate) fn new(
        base: Url,
        timeout: Duration,
        onward: Onward,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        let mailer = Peer::new("the mailer", base, SERVICE, timeout);
        Arc::new(Self { mailer, onward, stopping })
    }

    /// Has the mails of a batch sent; gives what became of each message.
    pub(crate) async fn send(self: Arc<Self>, batch: Batch) -> Vec<Disposition> {
        join_all(batch.iter().map(|delivery| self.one(delivery))).await
    }

    async fn one(&self, delivery: &Delivery) -> Disposition {
        let request = match Request::read(delivery) {
            Ok(request) => request,
            Err(why) => return Disposition::Dead(why),
        };
        let mut pause = Pause::default();
        let why = loop {
            match self.ask(&request.context, request.effect, &request.mail).await {
                Asked::Sent => return Disposition::Done,
                Asked::Refused(why) => return Disposition::Dead(why),
                Asked::Later(why) => break why,
                Asked::Away(error) => {
                    tracing::warn!(mail = %request.effect.id, error, "a mail is held");
                    let waited = sleep(pause.grow());
                    if self.stopping.run_until_cancelled(waited).await.is_none() {
                        return Disposition::Requeue;
                    }
                }
            }
        };
        let later = delivery.later(self.onward.topology(), &why);
        let Disposition::Later(retry) = &later else { return later };
        tracing::warn!(mail = %request.effect.id, attempt = delivery.attempt(), wait = ?retry.delay, "a mail waits");
        // The mail server's words may name whom it goes to.
        tracing::debug!(mail = %request.effect.id, why, "why a mail waits");
        let step = retrying::step(request.effect.id, "mail", delivery, why, retry);
        match self.tell(&request.context, &step).await {
            Ok(()) => later,
            Err(Stopped) => Disposition::Requeue,
        }
    }

    async fn ask(&self, context: &RequestContext, effect: Effect, mail: &MailPayload) -> Asked {
        let answer = match self.mailer.post("/send", mail, context, Some(effect)).await {
            Ok(answer) => answer,
            Err(error @ (PeerError::Down { .. } | PeerError::Open(_))) => {
                return Asked::Away(error.to_string());
            }
            Err(error) => return Asked::Later(error.to_string()),
        };
        crash::point("listener: mail answered");
        let said = || match answer.json::<Reply<Value>>() {
            Ok(reply) => reply.message,
            Err(error) => error.to_string(),
        };
        match answer.status {
            status if status.is_success() => Asked::Sent,
            StatusCode::TOO_MANY_REQUESTS => Asked::Away(said()),
            // Somebody else is sending it.
            StatusCode::CONFLICT if answer.retry_after.is_some() => Asked::Later(said()),
            StatusCode::BAD_REQUEST
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::CONFLICT
            | StatusCode::PAYLOAD_TOO_LARGE => Asked::Refused(said()),
            // Also what says more of the way there than of the mail: a request that did not come whole, a wrong address.
            status => Asked::Later(format!("{status}: {}", said())),
        }
    }

    /// Publishes a step, however long it takes.
    async fn tell(&self, context: &RequestContext, step: &Step) -> Result<(), Stopped> {
        let event = step.event(Some(context.trace.to_string()));
        let publisher = self.onward.publisher().await;
        let mut pause = Pause::default();
        while let Err(error) = publisher.publish(&self.onward.topology().events, &event.kind, &event).await {
            tracing::warn!(mail = %step.action, %error, "a step could not be published");
            let waited = publisher.rest(pause.grow());
            self.stopping.run_until_cancelled(waited).await.ok_or(Stopped)?;
        }
        crash::point("listener: told");
        Ok(())
    }
}

/// The process is to end.
struct Stopped;
