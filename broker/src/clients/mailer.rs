//! The mailer: `POST /send`.

use std::time::Duration;

use chassis::http::Answer;
use chassis::http::client::{Effect, Peer, PeerAnswer, PeerError};
use chassis::request::RequestContext;
use contracts::mail::{MailPayload, Receipt};
use contracts::reply::Reply;
use http::StatusCode;
use url::Url;
use uuid::Uuid;

use super::{CALLER, failure};

/// The mailer, as the broker sees it.
#[derive(Clone, Debug)]
pub struct MailerClient {
    peer: Peer,
}

impl MailerClient {
    /// The service at `base`, which may take `timeout` for a call.
    pub fn new(base: Url, timeout: Duration) -> Self {
        Self { peer: Peer::new("the mailer", base, CALLER, timeout) }
    }

    /// Sends `mail`, whose id is `id`.
    pub async fn send(
        &self,
        context: &RequestContext,
        id: Uuid,
        mail: &MailPayload,
    ) -> Result<Receipt, Answer> {
        let answer = self.peer.post("/send", mail, context, Some(Effect { id, replay: None })).await?;
        match answer.status {
            StatusCode::ACCEPTED => Ok(receipt(&answer)?),
            _ => Err(failure(self.peer.name(), "mail", &answer)),
        }
    }
}

fn receipt(answer: &PeerAnswer) -> Result<Receipt, PeerError> {
    let reply: Reply<Receipt> = answer.json()?;
    reply.data.ok_or_else(|| answer.nonsense("a mail without a receipt".to_owned()))
}
