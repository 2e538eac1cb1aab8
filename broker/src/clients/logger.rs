//! The logger over HTTP: `GET /actions/…`, which says how an action stands, and the dead letters.

use std::time::Duration;

use chassis::http::Answer;
use chassis::http::client::{Peer, PeerAnswer, PeerError};
use chassis::request::RequestContext;
use contracts::dead_letter::{Discard, Kept, LetterState, Replayed};
use contracts::reply::Reply;
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use url::Url;
use uuid::Uuid;

use super::{CALLER, trouble};

/// How long a call may take, beside what the logger is asked to wait.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The logger's HTTP, as the broker sees it. What it says is passed on word for word.
#[derive(Clone, Debug)]
pub struct LoggerHttp {
    peer: Peer,
}

impl LoggerHttp {
    /// The service at `base`.
    pub fn new(base: Url) -> Self {
        Self { peer: Peer::new("the logger", base, CALLER, TIMEOUT) }
    }

    /// How an action stands, once it has ended or `wait` is over.
    pub async fn action(&self, context: &RequestContext, id: Uuid, wait: Duration) -> Result<Answer, Answer> {
        // `1m 5s`, as it is where nobody has to quote it.
        let text = humantime::format_duration(wait).to_string().replace(' ', "");
        let path = format!("/actions/{id}?wait={text}");
        self.passed(&self.peer.get(&path, context, wait + TIMEOUT).await?)
    }

    /// A page of letters; what `query` may hold is the logger's to say.
    pub async fn letters(&self, context: &RequestContext, query: &str) -> Result<Answer, Answer> {
        let path = format!("/dead-letters?{query}");
        self.passed(&self.peer.get(&path, context, TIMEOUT).await?)
    }

    /// One letter, for whoever asks.
    pub async fn letter(&self, context: &RequestContext, id: Uuid) -> Result<Answer, Answer> {
        self.passed(&self.ask_for(context, id).await?)
    }

    /// One letter, to work with.
    pub async fn kept(&self, context: &RequestContext, id: Uuid) -> Result<Kept, Answer> {
        let answer = self.ask_for(context, id).await?;
        if answer.status == StatusCode::OK { Ok(kept(&answer)?) } else { Err(self.refused(&answer)) }
    }

    /// Has a letter discarded.
    pub async fn discard(
        &self,
        context: &RequestContext,
        id: Uuid,
        discard: &Discard,
    ) -> Result<Answer, Answer> {
        let path = format!("/dead-letters/{id}/discard");
        self.passed(&self.peer.post(&path, discard, context, None).await?)
    }

    /// Tells that a letter is about to go back into its queue: from then on nobody discards it unawares. That somebody else
    /// has brought it back is as good.
    pub async fn replaying(&self, context: &RequestContext, id: Uuid) -> Result<(), Answer> {
        self.tell_replay(context, id, "replaying", &()).await
    }

    /// Tells that a letter is back in its queue. That somebody else has told so before is as good.
    pub async fn replayed(
        &self,
        context: &RequestContext,
        id: Uuid,
        replayed: Replayed,
    ) -> Result<(), Answer> {
        self.tell_replay(context, id, "replayed", &replayed).await
    }

    async fn tell_replay(
        &self,
        context: &RequestContext,
        id: Uuid,
        what: &str,
        body: &impl Serialize,
    ) -> Result<(), Answer> {
        let path = format!("/dead-letters/{id}/{what}");
        let answer = self.peer.post(&path, body, context, None).await?;
        if answer.status == StatusCode::CONFLICT {
            // Another replay is as good; a discard is not.
            let Kept { state, .. } = self.kept(context, id).await?;
            return if state == LetterState::Replayed { Ok(()) } else { Err(self.refused(&answer)) };
        }
        if answer.status.is_success() { Ok(()) } else { Err(self.refused(&answer)) }
    }

    async fn ask_for(&self, context: &RequestContext, id: Uuid) -> Result<PeerAnswer, PeerError> {
        self.peer.get(&format!("/dead-letters/{id}"), context, TIMEOUT).await
    }

    fn passed(&self, answer: &PeerAnswer) -> Result<Answer, Answer> {
        if !answer.status.is_success() {
            return Err(self.refused(answer));
        }
        let Reply { message, data, .. } = answer.json::<Reply<Box<RawValue>>>()?;
        Ok(with(Answer::ok(answer.status, message), data.as_deref()))
    }

    fn refused(&self, answer: &PeerAnswer) -> Answer {
        let Reply { message, data, .. } = match answer.json::<Reply<Box<RawValue>>>() {
            Ok(reply) => reply,
            Err(error) => return error.into(),
        };
        match answer.status {
            status @ (StatusCode::BAD_REQUEST
            | StatusCode::NOT_FOUND
            | StatusCode::CONFLICT
            | StatusCode::UNPROCESSABLE_ENTITY) => with(Answer::failed(status, message), data.as_deref()),
            _ => trouble(self.peer.name(), answer, &message),
        }
    }
}

fn with(answer: Answer, data: Option<&RawValue>) -> Answer {
    match data {
        Some(data) => answer.with_data(data),
        None => answer,
    }
}

fn kept(answer: &PeerAnswer) -> Result<Kept, PeerError> {
    let reply: Reply<Kept> = answer.json()?;
    reply.data.ok_or_else(|| answer.nonsense("a dead letter that is not there".to_owned()))
}
