//! Liveness and readiness: `GET /livez` says that the process runs, `GET /readyz` whether it can do its work.
//!
//! A service names each server that it needs and gives a check without side effects. `/readyz` runs them
//! side by side, each with a timeout, and names the ones that fail. What it can do without it only reports.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use futures_util::future::{BoxFuture, join_all};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::http::Answer;

/// How long one check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

type Probe = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What a service needs, by name, and how to see whether it is there.
#[derive(Clone)]
pub struct Health {
    draining: CancellationToken,
    checks: Vec<Named>,
}

#[derive(Clone)]
struct Named {
    name: &'static str,
    /// Whether the service can't do its work without it.
    needed: bool,
    probe: Probe,
}

/// The state of one thing that a service needs. The `data` of `/readyz` is a list of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is needed: `PostgreSQL`.
    pub name: String,
    /// Whether it is there.
    pub ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

impl Health {
    /// Nothing needed yet. Once `draining` is cancelled the service is not ready any more.
    pub fn new(draining: CancellationToken) -> Self {
        Self { draining, checks: Vec::new() }
    }

    /// Adds something that is needed: `probe` gives `Err` with a few words on why it is not there.
    #[must_use]
    pub fn check<F>(self, name: &'static str, probe: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.with(name, true, Arc::new(move || Box::pin(probe())))
    }

    /// Adds something that is reported, but without which most of the work can still be done.
    #[must_use]
    pub fn report<F>(self, name: &'static str, probe: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.with(name, false, Arc::new(move || Box::pin(probe())))
    }

    fn with(mut self, name: &'static str, needed: bool, probe: Probe) -> Self {
        self.checks.push(Named { name, needed, probe });
        self
    }

    /// Runs every check, side by side.
    async fn state(&self) -> Vec<Check> {
        let run = self.checks.iter().map(|Named { name, probe, .. }| async move {
            let result = match tokio::time::timeout(CHECK_TIMEOUT, probe()).await {
                Ok(result) => result,
                Err(_) => Err(format!("no answer within {CHECK_TIMEOUT:?}")),
            };
            Check { name: (*name).to_owned(), ok: result.is_ok(), error: result.err() }
        });
        join_all(run).await
    }

    /// The routes `/livez` and `/readyz`.
    pub fn routes<S>(self) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        Router::new()
            .route("/livez", get(async || Answer::ok(StatusCode::OK, "alive")))
            .route("/readyz", get(readyz))
            .with_state(self)
    }
}

async fn readyz(State(health): State<Health>) -> Answer {
    if health.draining.is_cancelled() {
        return Answer::failed(StatusCode::SERVICE_UNAVAILABLE, "draining: this process is stopping");
    }
    let checks = health.state().await;
    let missing: Vec<_> = std::iter::zip(&health.checks, &checks)
        .filter(|(named, _)| named.needed)
        .filter_map(|(_, check)| check.error.as_ref().map(|error| format!("{}: {error}", check.name)))
        .collect();
    let answer = if missing.is_empty() {
        Answer::ok(StatusCode::OK, "ready")
    } else {
        Answer::failed(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}", missing.join("; ")))
    };
    answer.with_data(&checks)
}
