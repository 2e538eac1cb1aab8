//! A logger that keeps dead letters, as the broker knows it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::{Path, RawQuery, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use chassis::http::Answer;
use chrono::{DateTime, Utc};
use contracts::dead_letter::{Body, Kept, Letter, LetterState};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Barrier;
use uuid::Uuid;

use crate::stand::service;

/// The letters, by their ids.
#[derive(Clone, Default)]
pub(super) struct Keeper {
    letters: Arc<Mutex<BTreeMap<Uuid, Kept>>>,
    together: Arc<Mutex<Option<Arc<Barrier>>>>,
    away: Arc<AtomicBool>,
}

/// A letter that died in `queue`.
pub(super) fn letter(queue: &str) -> Letter {
    let action = Uuid::now_v7();
    Letter {
        id: Uuid::now_v7(),
        action: Some(action),
        queue: queue.to_owned(),
        exchange: "switchboard.events".to_owned(),
        routing_key: "mail.requested".to_owned(),
        reason: "the mailer: \"no\"".to_owned(),
        attempts: 6,
        died_at: Utc::now(),
        published_at: DateTime::from_timestamp(1_767_323_045, 0),
        message_id: Some(action.to_string()),
        content_type: Some("application/cloudevents+json".to_owned()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        body: Body::of("{\"name\":\"é\"}".as_bytes()),
    }
}

/// What is said of a letter that is not there.
pub(super) fn nothing(id: Uuid) -> String {
    format!("there is no dead letter {id}")
}

impl Keeper {
    /// Keeps a letter.
    pub(super) fn keep(&self, letter: Letter) -> Letter {
        self.keep_as(letter, LetterState::Dead)
    }

    /// Keeps a letter of which this became.
    pub(super) fn keep_as(&self, letter: Letter, state: LetterState) -> Letter {
        let kept =
            Kept { letter: letter.clone(), state, replaying_at: None, decided_at: None, decided_why: None };
        self.letters.lock().unwrap().insert(letter.id, kept);
        letter
    }

    /// What became of a letter, and why.
    pub(super) fn state(&self, id: Uuid) -> (LetterState, Option<String>) {
        let letters = self.letters.lock().unwrap();
        (letters[&id].state, letters[&id].decided_why.clone())
    }

    /// Whether somebody has begun to bring a letter back.
    pub(super) fn is_replaying(&self, id: Uuid) -> bool {
        self.letters.lock().unwrap()[&id].replaying_at.is_some()
    }

    /// The next time a letter is shown only to two at once.
    pub(super) fn show_to_two_before_it_is_decided(&self) {
        *self.together.lock().unwrap() = Some(Arc::new(Barrier::new(2)));
    }

    /// MongoDB is away the next time that something is to be recorded.
    pub(super) fn fail_once(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    /// Serves it.
    pub(super) async fn serve(&self) -> SocketAddr {
        let routes = Router::new()
            .route("/dead-letters", get(list))
            .route("/dead-letters/{id}", get(show))
            .route("/dead-letters/{id}/replaying", post(replaying))
            .route("/dead-letters/{id}/replayed", post(replayed))
            .route("/dead-letters/{id}/discard", post(discard));
        service(routes.with_state(self.clone())).await
    }

    fn decide(&self, id: Uuid, state: LetterState, why: Option<&Value>) -> Answer {
        if self.away.swap(false, Ordering::Relaxed) {
            return Answer::unavailable("MongoDB");
        }
        let mut letters = self.letters.lock().unwrap();
        let Some(kept) = letters.get_mut(&id) else {
            return Answer::failed(StatusCode::NOT_FOUND, nothing(id));
        };
        if kept.state != LetterState::Dead {
            return Answer::failed(StatusCode::CONFLICT, format!("it is {}", kept.state.as_str()));
        }
        kept.state = state;
        kept.decided_why = why.and_then(Value::as_str).map(str::to_owned);
        Answer::ok(StatusCode::OK, "decided").with_data(&*kept)
    }
}

async fn list(State(keeper): State<Keeper>, RawQuery(query): RawQuery) -> Answer {
    let letters: Vec<_> = keeper.letters.lock().unwrap().values().cloned().collect();
    let message = format!("asked: {}", query.unwrap_or_default());
    Answer::ok(StatusCode::OK, message).with_data(&json!({"letters": letters, "next": null}))
}

async fn show(State(keeper): State<Keeper>, Path(id): Path<Uuid>) -> Answer {
    let kept = keeper.letters.lock().unwrap().get(&id).cloned();
    let together = keeper.together.lock().unwrap().clone();
    if let Some(together) = together {
        together.wait().await;
        *keeper.together.lock().unwrap() = None;
    }
    match kept {
        Some(kept) => Answer::ok(StatusCode::OK, "a letter").with_data(&kept),
        None => Answer::failed(StatusCode::NOT_FOUND, nothing(id)),
    }
}

async fn replaying(State(keeper): State<Keeper>, Path(id): Path<Uuid>) -> Answer {
    let mut letters = keeper.letters.lock().unwrap();
    match letters.get_mut(&id) {
        Some(kept) if kept.state == LetterState::Dead => {
            kept.replaying_at = Some(Utc::now());
            Answer::ok(StatusCode::OK, "begun").with_data(&*kept)
        }
        _ => Answer::failed(StatusCode::CONFLICT, "it is decided"),
    }
}

async fn replayed(State(keeper): State<Keeper>, Path(id): Path<Uuid>) -> Answer {
    keeper.decide(id, LetterState::Replayed, None)
}

async fn discard(State(keeper): State<Keeper>, Path(id): Path<Uuid>, Json(body): Json<Value>) -> Answer {
    keeper.decide(id, LetterState::Discarded, body.get("reason"))
}
