//! The routes, and what a client is told when something goes wrong. A log-in goes on in
//! [`login`](crate::login).

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use chassis::health::Health;
use chassis::http::Answer;
use chassis::http::body::JsonBody;
use chassis::postgres::{self, Database, DatabaseError};
use contracts::auth::Credentials;
use http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::hashing::HashingError;
use crate::login::{Login, LoginError};

/// Every route of the service.
pub(crate) fn routes(login: Login, database: Database, draining: CancellationToken) -> Router {
    let health = Health::new(draining).check(postgres::NAME, move || {
        let database = database.clone();
        async move { database.check().await }
    });
    Router::new().route("/authenticate", post(authenticate)).with_state(login).merge(health.routes())
}

async fn authenticate(State(login): State<Login>, body: JsonBody) -> Result<Answer, Answer> {
    let credentials =
        Credentials::parse(body.value()?).map_err(|violations| Answer::invalid("auth", violations))?;
    let user = login.check(credentials).await?;
    Ok(Answer::ok(StatusCode::ACCEPTED, "Authenticated!").with_data(&user))
}

impl From<LoginError> for Answer {
    /// What a client is told; the log gets the rest, here. Neither sees a password.
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Refused { reason, user } => {
                tracing::info!(%reason, user, "a log-in was refused");
                Self::failed(StatusCode::UNAUTHORIZED, "Invalid credentials")
            }
            LoginError::Database(DatabaseError::Unavailable(why)) => {
                tracing::warn!(why, "a log-in found PostgreSQL not available");
                Self::unavailable(postgres::NAME)
            }
            LoginError::Hashing(HashingError::Busy) => {
                tracing::warn!("a log-in found too many under way");
                let message = "too many log-ins are under way, try again shortly";
                Self::failed(StatusCode::SERVICE_UNAVAILABLE, message)
            }
            error @ (LoginError::Database(DatabaseError::Failed(_))
            | LoginError::Hashing(HashingError::Password(_) | HashingError::BrokeOff)
            | LoginError::Damaged { .. }) => {
                let error = anyhow::Error::new(error);
                tracing::error!(error = format!("{error:#}"), "a log-in failed");
                let message = "the log-in could not be checked because of a mistake in this service";
                Self::failed(StatusCode::INTERNAL_SERVER_ERROR, message)
            }
        }
    }
}
