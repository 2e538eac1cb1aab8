//! A new user: the row and the event that tells of it, in one transaction.
//!
//! The event `auth.user.registered` goes through the outbox; the listener answers it with a mail of welcome, whose id
//! is the event's.

use chassis::amqp::{Publication, PublishError};
use chassis::crash;
use chassis::outbox;
use chassis::request::RequestContext;
use chassis::trace::TraceContext;
use chrono::Utc;
use contracts::auth::User;
use contracts::event::CloudEvent;
use contracts::topology::USER_REGISTERED;
use contracts::trail::Step;
use sqlx::{Connection as _, PgConnection};
use thiserror::Error;
use uuid::Uuid;

use crate::users::{self, NewUser, RegisterError};

/// How steps name this service.
const SERVICE: &str = "auth";
/// What events of this service name as their source.
const SOURCE: &str = "switchboard/auth";

/// Why there is no new user.
#[derive(Debug, Error)]
pub enum RegistrationError {
    /// The row was not written.
    #[error(transparent)]
    User(#[from] RegisterError),
    /// The event can't be written.
    #[error(transparent)]
    Event(#[from] PublishError),
}

impl From<sqlx::Error> for RegistrationError {
    fn from(error: sqlx::Error) -> Self {
        Self::User(RegisterError::Database(error))
    }
}

/// Registers a user. `id` is that of the event and of the mail: the same each time when it is tried again. The trace is that of
/// the request which this task works on, or begins here.
pub async fn register(
    connection: &mut PgConnection,
    id: Uuid,
    new: &NewUser,
) -> Result<User, RegistrationError> {
    let mut transaction = connection.begin().await?;
    let user = users::register(&mut *transaction, new).await?;
    crash::point("registration: user written");
    let trace =
        RequestContext::with_current(|context| context.trace).unwrap_or_else(TraceContext::root).to_string();
    let mut event = CloudEvent::new(id, SOURCE, USER_REGISTERED, Utc::now(), &user);
    event.traceparent = Some(trace.clone());
    // The trail of the mail of welcome begins here.
    let step = Step::queued(id, SERVICE).event(Some(trace));
    let publications = [Publication::of(USER_REGISTERED, &event)?, Publication::of(&step.kind, &step)?];
    let entity = format!("user {}", user.id);
    outbox::enqueue(&mut transaction, &publications.map(|event| (entity.clone(), event))).await?;
    crash::point("registration: event written");
    transaction.commit().await?;
    crash::point("registration: committed");
    Ok(user)
}
