//! The auth service: `POST /authenticate`.

use std::time::Duration;

use chassis::http::Answer;
use chassis::http::client::{Peer, PeerAnswer, PeerError};
use chassis::request::RequestContext;
use contracts::auth::{Credentials, User};
use contracts::reply::Reply;
use http::StatusCode;
use url::Url;

use super::{CALLER, failure};

/// The auth service, as the broker sees it.
#[derive(Clone, Debug)]
pub struct AuthClient {
    peer: Peer,
}

impl AuthClient {
    /// The service at `base`, which may take `timeout` for a call.
    pub fn new(base: Url, timeout: Duration) -> Self {
        Self { peer: Peer::new("the auth service", base, CALLER, timeout) }
    }

    /// The user that these credentials belong to; `None` where they belong to nobody.
    pub async fn authenticate(
        &self,
        context: &RequestContext,
        credentials: &Credentials,
    ) -> Result<Option<User>, Answer> {
        let answer = self.peer.post("/authenticate", credentials, context, None).await?;
        match answer.status {
            StatusCode::ACCEPTED => Ok(Some(user(&answer)?)),
            StatusCode::UNAUTHORIZED => Ok(None),
            _ => Err(failure(self.peer.name(), "auth", &answer)),
        }
    }
}

fn user(answer: &PeerAnswer) -> Result<User, PeerError> {
    let reply: Reply<User> = answer.json()?;
    reply.data.ok_or_else(|| answer.nonsense("a log-in without a user".to_owned()))
}
