//! Claims of mails that the ledger has a row of: sent again after it was not taken, by a replay, or where a lease ran out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chassis::{crash, outbox};
use chrono::Utc;
use sqlx::{Connection as _, FromRow, PgConnection};
use uuid::Uuid;

use super::{Claim, ClaimCall, Lease, Wanted, telling};

/// A lease that is good for longer than this, and longer than so many leases, is [`impossible`].
const AN_HOUR: Duration = Duration::from_hours(1);
const TIMES: u32 = 10;

/// Grants these claims, of which no two have the same id, or finds out why not; tells of those that may send a mail
/// twice.
pub(super) async fn settle(
    connection: &mut PgConnection,
    claims: &[ClaimCall],
    lease: Duration,
) -> sqlx::Result<HashMap<Uuid, Claim>> {
    // To PostgreSQL it is all the time that the transaction began: at the earliest now.
    let good_until = Instant::now() + lease;
    let mut transaction = connection.begin().await?;
    lock(&mut transaction, claims).await?;
    let settled = claim(&mut transaction, claims, lease, good_until).await?;
    crash::point("ledger: settled");
    let events = settled.values().filter_map(|claim| match claim {
        Claim::Granted(lease) => telling::claimed(lease),
        _ => None,
    });
    outbox::enqueue(&mut transaction, &events.collect::<Vec<_>>()).await?;
    crash::point("ledger: told");
    transaction.commit().await?;
    crash::point("ledger: committed");
    Ok(settled)
}

/// Locks the rows that are there, in one order for all, so that two replicas never wait for each other.
async fn lock(connection: &mut PgConnection, claims: &[ClaimCall]) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = claims.iter().map(|claim| claim.wanted.id).collect();
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

/// What each claim comes to.
async fn claim(
    connection: &mut PgConnection,
    claims: &[ClaimCall],
    lease: Duration,
    good_until: Instant,
) -> sqlx::Result<HashMap<Uuid, Claim>> {
    let column = |of: fn(&Wanted) -> Uuid| claims.iter().map(|claim| of(&claim.wanted)).collect::<Vec<_>>();
    let ids = column(|wanted| wanted.id);
    let replays: Vec<Option<Uuid>> = claims.iter().map(|claim| claim.wanted.replay).collect();
    let holders: Vec<Uuid> = claims.iter().map(|_| Uuid::now_v7()).collect();
    let began = Utc::now();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_lease_that_was_just_granted_is_impossible() {
        assert_eq!(impossible(Duration::from_secs(30)), Duration::from_hours(1));
        assert_eq!(impossible(Duration::from_hours(2)), Duration::from_hours(20));
    }
}
