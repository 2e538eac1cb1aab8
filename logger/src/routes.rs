//! The logger over HTTP. [`logs`]: `POST /log` goes to [`crate::group_commit`], `GET /logs` to [`crate::search`];
//! [`actions`] go to [`crate::trails`], [`letters`] to [`crate::dead_letters`].

mod actions;
mod letters;
mod logs;
mod parameters;

use axum::Router;
use axum::routing::{get, post};
use chassis::http::Answer;
use http::StatusCode;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::dead_letters::DeadLetters;
use crate::group_commit::GroupCommit;
use crate::search::Search;
use crate::trails::Trails;

/// What the handlers work with.
#[derive(Clone, Debug)]
pub struct App {
    /// Where entries are written.
    pub log: GroupCommit,
    /// Where they are read.
    pub search: Search,
    /// The trails of actions.
    pub trails: Trails,
    /// The dead letters.
    pub letters: DeadLetters,
    /// Cancelled when the service begins to stop: nobody waits any longer.
    pub draining: CancellationToken,
}

/// The routes.
pub fn routes(app: App) -> Router {
    Router::new()
        .route("/log", post(logs::log))
        .route("/logs", get(logs::list))
        .route("/logs/{id}", get(logs::one))
        .route("/actions/{id}", get(actions::one))
        .route("/dead-letters", get(letters::list))
        .route("/dead-letters/{id}", get(letters::one))
        .route("/dead-letters/{id}/replaying", post(letters::replaying))
        .route("/dead-letters/{id}/replayed", post(letters::replayed))
        .route("/dead-letters/{id}/discard", post(letters::discard))
        .with_state(app)
}

/// The id in a path; `of` is what it is the id of.
fn id(text: &str, of: &str) -> Result<Uuid, Answer> {
    let wrong = || Answer::failed(StatusCode::BAD_REQUEST, format!("the id of {of} must be a UUID"));
    text.parse().map_err(|_| wrong())
}

/// How many there are: `1 entry`, `2 entries`.
fn count(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
