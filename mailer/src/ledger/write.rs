//! The one statement that nearly all writes to the ledger are: claims of mails that it does not know, and records, with
//! the events that tell of them.
//!
//! One, because the way to PostgreSQL and back costs more than a statement does.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chassis::outbox::{CHANNEL, Columns};
use chrono::Utc;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{ClaimCall, End, Lease, RecordCall, telling};

/// Rows are locked in one order for all, so that two replicas never wait for each other: first those with a record, by
/// their ids; then the new ones are written, and only then is anything changed, which a new one of the same id would wait
/// for. A renewal that comes late, after the end, changes nothing.
const STATEMENT: &str = "\
    WITH held AS MATERIALIZED ( \
      SELECT id FROM mails WHERE id = ANY($1) ORDER BY id FOR UPDATE), \
    granted AS ( \
      INSERT INTO mails (id, digest, state, holder, lease_until, replay) \
      SELECT id, digest, 'claimed', holder, now() + make_interval(secs => $6), replay \
      FROM unnest($14::uuid[], $15::uuid[], $16::uuid[], $17::uuid[]) AS claim (id, digest, holder, replay) \
      WHERE (SELECT count(*) FROM held) >= 0 \
      ORDER BY id \
      ON CONFLICT (id) DO NOTHING \
      RETURNING holder), \
    recorded AS ( \
      UPDATE mails AS mail SET state = ended.state, error = ended.error, updated_at = now(), \
        lease_until = CASE WHEN ended.goes_on THEN now() + make_interval(secs => $6) \
          WHEN ended.state = 'claimed' THEN mail.lease_until END \
      FROM held JOIN unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bool[]) \
        AS ended (id, holder, state, error, goes_on) USING (id) \
      WHERE mail.id = held.id AND mail.holder = ended.holder \
        AND (mail.state = 'claimed' OR NOT ended.goes_on) AND (SELECT count(*) FROM granted) >= 0 \
      RETURNING mail.holder), \
    told AS ( \
      INSERT INTO outbox (entity, id, routing_key, happened_at, traceparent, body) \
      SELECT entity, id, routing_key, happened_at, traceparent, body \
      FROM unnest($7::uuid[], $8::text[], $9::uuid[], $10::text[], $11::timestamptz[], $12::text[], $13::bytea[]) \
        WITH ORDINALITY AS event (holder, entity, id, routing_key, happened_at, traceparent, body, place) \
        JOIN recorded USING (holder) \
      ORDER BY place RETURNING seq) \
    SELECT ARRAY(SELECT holder FROM granted), ARRAY(SELECT holder FROM recorded), \
      (SELECT count(pg_notify($18, '')) FROM (SELECT FROM told LIMIT 1) AS any_told)";

/// What was written.
#[derive(Debug)]
pub(super) struct Written {
    /// What became of each claim: `None` where the ledger has a row of the mail.
    pub(super) granted: Vec<Option<Lease>>,
    /// The holders of the leases whose record was written: nobody else has the mail.
    pub(super) recorded: HashSet<Uuid>,
}

/// Writes these claims, of which no two have the same id, and these records.
pub(super) async fn write(
    connection: &mut PgConnection,
    claims: &[ClaimCall],
    records: &[RecordCall],
    lease: Duration,
) -> sqlx::Result<Written> {
    let (mut states, mut errors, mut goes_on) = (Vec::new(), Vec::new(), Vec::new());
    for record in records {
        let (state, error) = match &record.end {
            End::Sending => ("claimed", None),
            End::Sent => ("sent", None),
            // Violations are always JSON.
            End::Failed(why) => ("failed", serde_json::to_string(why).ok()),
            End::Waiting(why) => ("waiting", Some(why.clone())),
            End::Unknown(why) => ("claimed", Some(why.clone())),
        };
        states.push(state);
        errors.push(error);
        goes_on.push(record.end == End::Sending);
    }
    let told = records
        .iter()
        .filter_map(|record| Some((record.lease.holder, telling::ended(&record.lease, &record.end)?)));
    let (tellers, events): (Vec<Uuid>, Vec<_>) = told.unzip();
    let Columns { entities, ids, routing_keys, times, traces, bodies } = Columns::of(&events);
    let (began, good_until) = (Utc::now(), Instant::now() + lease);
    let leases: Vec<Lease> = claims
        .iter()
        .map(|ClaimCall { wanted, .. }| {
            let (id, holder, trace) = (wanted.id, Uuid::now_v7(), wanted.trace);
            Lease { id, holder, attempt: 1, again: false, began, good_until, trace }
        })
        .collect();
    let (granted, recorded, _): (Vec<Uuid>, Vec<Uuid>, i64) = sqlx::query_as(STATEMENT)
        .bind(column(records, |record| record.lease.id))
        .bind(column(records, |record| record.lease.holder))
        .bind(states)
        .bind(errors)
        .bind(goes_on)
        .bind(lease.as_secs_f64())
        .bind(tellers)
        .bind(entities)
        .bind(ids)
        .bind(routing_keys)
        .bind(times)
        .bind(traces)
        .bind(bodies)
        .bind(column(claims, |claim| claim.wanted.id))
        .bind(column(claims, |claim| claim.wanted.digest))
        .bind(column(&leases, |lease| lease.holder))
        .bind(column(claims, |claim| claim.wanted.replay))
        .bind(CHANNEL)
        .fetch_one(connection)
        .await?;
    let granted: HashSet<Uuid> = granted.into_iter().collect();
    let granted = leases.into_iter().map(|lease| granted.contains(&lease.holder).then_some(lease)).collect();
    Ok(Written { granted, recorded: recorded.into_iter().collect() })
}

fn column<T, C>(of: &[T], column: fn(&T) -> C) -> Vec<C> {
    of.iter().map(column).collect()
}

#[cfg(test)]
mod tests;
