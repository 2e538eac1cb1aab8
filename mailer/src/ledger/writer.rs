//! Writes to the ledger: what waits goes into one transaction.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use chassis::crash;
use chassis::postgres::Database;
use chrono::Utc;
use contracts::trail::Step;
use sqlx::{Connection as _, FromRow, PgConnection};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::telling::{self, tell};
use super::{Call, Claim, ClaimCall, End, Lease, LedgerError, RecordCall, Wanted};

/// How much one transaction takes.
const BATCH: usize = 256;

/// A lease that is good for longer than this, and longer than so many leases, is [`impossible`].
const AN_HOUR: Duration = Duration::from_hours(1);
const TIMES: u32 = 10;

/// The task that writes.
pub(super) struct Writer {
    pub(super) database: Database,
    pub(super) lease: Duration,
}

impl Writer {
    /// Writes until the service closes, and then what still waits.
    pub(super) async fn run(
        self,
        mut calls: mpsc::Receiver<Call>,
        closing: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut held = Vec::new();
        loop {
            while held.len() < BATCH
                && let Ok(call) = calls.try_recv()
            {
                held.push(call);
            }
            if held.is_empty() && calls.recv_many(&mut held, BATCH).await == 0 {
                // Nobody asks any more. Ending before the service does would look like a crash.
                closing.cancelled().await;
                return Ok(());
            }
            held = self.write(held).await;
        }
    }

    /// Writes these calls and answers them. Gives back those that have to wait for the next time: a mail can be
    /// claimed once a transaction.
    async fn write(&self, calls: Vec<Call>) -> Vec<Call> {
        let (mut claims, mut records, mut later) = (Vec::new(), Vec::new(), Vec::new());
        let mut claimed = HashSet::new();
        for call in calls {
            match call {
                Call::Claim(claim) if claimed.insert(claim.wanted.id) => claims.push(claim),
                Call::Claim(claim) => later.push(Call::Claim(claim)),
                Call::Record(record) => records.push(record),
            }
        }
        claims.sort_unstable_by_key(|claim| claim.wanted.id);
        let lease = self.lease;
        let written = self
            .database
            .run(async |connection| {
                let mut transaction = connection.begin().await?;
                lock(&mut transaction, &claims, &records).await?;
                let recorded = record(&mut transaction, &records, lease).await?;
                let granted = claim(&mut transaction, &claims, lease).await?;
                crash::point("ledger: written");
                tell(&mut transaction, &steps(&granted, &records, &recorded)).await?;
                crash::point("ledger: told");
                transaction.commit().await?;
                crash::point("ledger: committed");
                Ok((granted, recorded))
            })
            .await;
        match written {
            Ok((mut granted, recorded)) => {
                for claim in claims {
                    // Each claim is either granted or there is a row that says why not.
                    let missing = || LedgerError::Failed("a claim without an answer".to_owned());
                    let _ = claim.reply.send(granted.remove(&claim.wanted.id).ok_or_else(missing));
                }
                for record in records {
                    let _ = record.reply.send(Ok(recorded.contains(&record.lease.holder)));
                }
            }
            Err(error) => {
                let error = LedgerError::from(error);
                tracing::warn!(%error, claims = claims.len(), records = records.len(), "the ledger waits");
                for claim in claims {
                    let _ = claim.reply.send(Err(error.clone()));
                }
                for record in records {
                    let _ = record.reply.send(Err(error.clone()));
                }
            }
        }
        later
    }
}

/// What is told of this transaction.
fn steps<'a>(
    claims: &'a HashMap<Uuid, Claim>,
    records: &'a [RecordCall],
    recorded: &HashSet<Uuid>,
) -> Vec<(&'a Lease, Step)> {
    let claimed = claims.values().filter_map(|claim| match claim {
        Claim::Granted(lease) => Some((lease, telling::claimed(lease)?)),
        _ => None,
    });
    let recorded = records.iter().filter(|record| recorded.contains(&record.lease.holder));
    let ended =
        recorded.filter_map(|record| Some((&record.lease, telling::ended(&record.lease, &record.end)?)));
    ended.chain(claimed).collect()
}

/// Locks the rows that are there, in one order for all, so that two replicas never wait for each other.
async fn lock(
    connection: &mut PgConnection,
    claims: &[ClaimCall],
    records: &[RecordCall],
) -> sqlx::Result<()> {
    let claimed = claims.iter().map(|claim| claim.wanted.id);
    let ids: Vec<Uuid> = claimed.chain(records.iter().map(|record| record.lease.id)).collect();
    sqlx::query("SELECT FROM mails WHERE id = ANY($1) ORDER BY id FOR UPDATE")
        .bind(ids)
        .execute(connection)
        .await?;
    Ok(())
}

/// A claim that was written.
#[derive(FromRow)]
struct Granted {
    id: Uuid,
    holder: Uuid,
    attempts: i32,
    doubtful: bool,
}

/// A row that stands in the way of a claim.
#[derive(FromRow)]
struct Standing {
    id: Uuid,
    digest: Uuid,
    state: String,
    error: Option<String>,
    seconds_left: Option<f64>,
}

/// For how long no lease of this length can be good: one that is was granted before PostgreSQL's clock was set back.
fn impossible(lease: Duration) -> Duration {
    AN_HOUR.max(lease * TIMES)
}

/// Claims these mails, of which no two have the same id: what each comes to.
async fn claim(
    connection: &mut PgConnection,
    claims: &[ClaimCall],
    lease: Duration,
) -> sqlx::Result<HashMap<Uuid, Claim>> {
    if claims.is_empty() {
        return Ok(HashMap::new());
    }
    let column = |of: fn(&Wanted) -> Uuid| claims.iter().map(|claim| of(&claim.wanted)).collect::<Vec<_>>();
    let ids = column(|wanted| wanted.id);
    let replays: Vec<Option<Uuid>> = claims.iter().map(|claim| claim.wanted.replay).collect();
    let holders: Vec<Uuid> = claims.iter().map(|_| Uuid::now_v7()).collect();
    let (began, good_until) = (Utc::now(), Instant::now() + lease);
    let granted: Vec<Granted> = sqlx::query_as(
        "INSERT INTO mails AS mail (id, digest, state, holder, lease_until, replay) \
         SELECT id, digest, 'claimed', holder, now() + make_interval(secs => $5), replay \
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[]) AS claim (id, digest, holder, replay) \
         ORDER BY id \
         ON CONFLICT (id) DO UPDATE SET \
           digest = excluded.digest, state = 'claimed', holder = excluded.holder, \
           lease_until = excluded.lease_until, replay = coalesce(excluded.replay, mail.replay), \
           attempts = mail.attempts + 1, doubtful = mail.doubtful OR mail.state = 'claimed', updated_at = now() \
         WHERE (mail.state = 'waiting' \
                OR mail.state = 'claimed' AND mail.lease_until NOT BETWEEN now() AND now() + make_interval(secs => $6) \
                OR mail.state = 'failed' AND mail.replay IS DISTINCT FROM excluded.replay \
                   AND excluded.replay IS NOT NULL) \
           AND (mail.digest = excluded.digest \
                OR mail.replay IS DISTINCT FROM excluded.replay AND excluded.replay IS NOT NULL) \
         RETURNING mail.id, mail.holder, mail.attempts, mail.doubtful",
    )
    .bind(&ids)
    .bind(column(|wanted| wanted.digest))
    .bind(&holders)
    .bind(replays)
    .bind(lease.as_secs_f64())
    .bind(impossible(lease).as_secs_f64())
    .fetch_all(&mut *connection)
    .await?;
    let wanted: HashMap<Uuid, &Wanted> =
        claims.iter().map(|claim| (claim.wanted.id, &claim.wanted)).collect();
    let mut outcomes: HashMap<Uuid, Claim> = granted
        .into_iter()
        .filter_map(|row| {
            let Granted { id, holder, attempts: attempt, doubtful: again } = row;
            let trace = wanted.get(&id)?.trace;
            Some((id, Claim::Granted(Lease { id, holder, attempt, again, began, good_until, trace })))
        })
        .collect();
    let refused: Vec<Uuid> = ids.into_iter().filter(|id| !outcomes.contains_key(id)).collect();
    if refused.is_empty() {
        return Ok(outcomes);
    }
    let standing: Vec<Standing> = sqlx::query_as(
        "SELECT id, digest, state, error, \
           extract(epoch FROM lease_until - now())::float8 AS seconds_left \
         FROM mails WHERE id = ANY($1)",
    )
    .bind(refused)
    .fetch_all(connection)
    .await?;
    for row in standing {
        let outcome = match row.state.as_str() {
            _ if wanted.get(&row.id).is_none_or(|wanted| wanted.digest != row.digest) => Claim::Conflict,
            "sent" => Claim::Sent,
            "failed" => Claim::Failed(row.error.unwrap_or_default()),
            _ => {
                let left = row.seconds_left.unwrap_or_default().clamp(0.0, lease.as_secs_f64());
                Claim::UnderWay(Duration::from_secs_f64(left))
            }
        };
        outcomes.insert(row.id, outcome);
    }
    Ok(outcomes)
}

/// Records how these claims stand; gives the holders of those that still had their lease.
async fn record(
    connection: &mut PgConnection,
    records: &[RecordCall],
    lease: Duration,
) -> sqlx::Result<HashSet<Uuid>> {
    if records.is_empty() {
        return Ok(HashSet::new());
    }
    let column = |of: fn(&RecordCall) -> Uuid| records.iter().map(of).collect::<Vec<_>>();
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
    let recorded: Vec<Uuid> = sqlx::query_scalar(
        "UPDATE mails AS mail SET state = ended.state, error = ended.error, updated_at = now(), \
           lease_until = CASE WHEN ended.goes_on THEN now() + make_interval(secs => $6) \
             WHEN ended.state = 'claimed' THEN mail.lease_until END \
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bool[]) \
           AS ended (id, holder, state, error, goes_on) \
         WHERE mail.id = ended.id AND mail.holder = ended.holder \
         RETURNING ended.holder",
    )
    .bind(column(|record| record.lease.id))
    .bind(column(|record| record.lease.holder))
    .bind(states)
    .bind(errors)
    .bind(goes_on)
    .bind(lease.as_secs_f64())
    .fetch_all(&mut *connection)
    .await?;
    Ok(recorded.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_lease_that_was_just_granted_is_impossible() {
        assert_eq!(impossible(Duration::from_secs(30)), Duration::from_hours(1));
        assert_eq!(impossible(Duration::from_hours(2)), Duration::from_hours(20));
    }
}
