//! Forgets mails that were last touched long ago.

use std::num::NonZeroU16;
use std::time::Duration;

use chassis::postgres::{Database, DatabaseError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often to look.
const EVERY: Duration = Duration::from_hours(1);
/// How soon to look again after a failure, and at the start, when the tables may not be there yet.
const SOON: Duration = Duration::from_secs(1);
/// How many are removed at once, so that nobody waits long for their rows.
const AT_ONCE: u64 = 1000;

/// Forgets, until the service closes, what is older than so many days.
pub(super) async fn run(
    database: Database,
    days: NonZeroU16,
    closing: CancellationToken,
) -> anyhow::Result<()> {
    let sweeping = async {
        loop {
            let wait = match remove(&database, days).await {
                Ok(AT_ONCE..) => continue,
                Ok(_) => EVERY,
                Err(error) => {
                    tracing::debug!(%error, "the ledger was not swept");
                    SOON
                }
            };
            sleep(wait).await;
        }
    };
    closing.run_until_cancelled(sweeping).await.unwrap_or(Ok(()))
}

async fn remove(database: &Database, days: NonZeroU16) -> Result<u64, DatabaseError> {
    let (days, at_once) = (i32::from(days.get()), i64::try_from(AT_ONCE).unwrap_or(i64::MAX));
    let removed = database.run(async |connection| {
        sqlx::query(
            "DELETE FROM mails WHERE id IN ( \
               SELECT id FROM mails WHERE updated_at < now() - make_interval(days => $1) \
               ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        )
        .bind(days)
        .bind(at_once)
        .execute(connection)
        .await
    });
    Ok(removed.await?.rows_affected())
}
