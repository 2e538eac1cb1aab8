//! The transactional outbox: an event that is written in the transaction of its effect, and published after it.
//!
//! A service that owns a database writes its effect and [`enqueue`]s the event that tells of it in one
//! transaction: both are there or neither is. From here the [`Relay`] brings it to RabbitMQ. It may publish an
//! event a second time (it died between the confirm and the mark), never none; who consumes it knows it by its id.
//!
//! The events of one `entity` are published in the order in which they were written; those of different ones side
//! by side. The table is made by a migration of the service, a copy of `chassis/outbox.sql`.

mod relay;

use sqlx::PgConnection;
use sqlx::types::chrono::{DateTime, Utc};
use uuid::Uuid;

pub use self::relay::Relay;
use crate::amqp::Publication;

/// The channel on which a commit with new events wakes the relays.
pub const CHANNEL: &str = "outbox";

/// Writes events beside their effects; `entity` is what each of them is about, in whose order it is published.
/// Nothing is published unless the transaction of `connection` commits.
pub async fn enqueue(connection: &mut PgConnection, events: &[(String, Publication)]) -> sqlx::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let Columns { entities, ids, routing_keys, times, traces, bodies } = Columns::of(events);
    sqlx::query(
        "WITH written AS ( \
           INSERT INTO outbox (entity, id, routing_key, happened_at, traceparent, body) \
           SELECT entity, id, routing_key, happened_at, traceparent, body \
           FROM unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[], $5::text[], $6::bytea[]) \
             WITH ORDINALITY AS event (entity, id, routing_key, happened_at, traceparent, body, place) \
           ORDER BY place RETURNING seq) \
         SELECT pg_notify($7, '') FROM written LIMIT 1",
    )
    .bind(entities)
    .bind(ids)
    .bind(routing_keys)
    .bind(times)
    .bind(traces)
    .bind(bodies)
    .bind(CHANNEL)
    .execute(connection)
    .await?;
    Ok(())
}

/// Events as the columns of the table, for a statement that writes them together with their effects. It says so on
/// [`CHANNEL`].
#[derive(Debug)]
pub struct Columns<'a> {
    /// `entity`, `text`.
    pub entities: Vec<&'a str>,
    /// `id`, `uuid`.
    pub ids: Vec<Uuid>,
    /// `routing_key`, `text`.
    pub routing_keys: Vec<&'a str>,
    /// `happened_at`, `timestamptz`.
    pub times: Vec<DateTime<Utc>>,
    /// `traceparent`, `text`.
    pub traces: Vec<Option<&'a str>>,
    /// `body`, `bytea`.
    pub bodies: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    /// Those of these events, each with its entity.
    pub fn of(events: &'a [(String, Publication)]) -> Self {
        let of = |event: &'a (String, Publication)| &event.1;
        Self {
            entities: events.iter().map(|(entity, _)| entity.as_str()).collect(),
            ids: events.iter().map(of).map(|event| event.id).collect(),
            routing_keys: events.iter().map(of).map(|event| event.routing_key.as_str()).collect(),
            times: events.iter().map(of).map(|event| event.time).collect(),
            traces: events.iter().map(of).map(|event| event.traceparent.as_deref()).collect(),
            bodies: events.iter().map(of).map(|event| event.body.as_slice()).collect(),
        }
    }
}
