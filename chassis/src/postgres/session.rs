//! A connection of its own, for a task that works all the time: where the pool asks three times whether a connection is
//! alive, here nobody asks while it is used.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::time::timeout;

use super::{Database, DatabaseError, LIMIT, bounded, is_alive};

/// How long a connection that was not used is still taken to be alive.
const FRESH: Duration = Duration::from_secs(1);

/// One connection, made when it is needed and made anew when it breaks.
#[derive(Debug)]
pub struct Session {
    database: Database,
    options: PgConnectOptions,
    limit: Duration,
    /// Since when nobody has used it.
    idle: Option<(PgConnection, Instant)>,
}

impl Session {
    /// No piece of work takes longer than `limit`; see [`bounded`] for the others.
    pub(crate) fn new(database: Database, limit: Duration, statement: &str, abandoned: &str) -> Self {
        let options = bounded(database.options.clone(), statement, abandoned);
        Self { database, options, limit, idle: None }
    }

    /// Has commits not wait for the disk: where PostgreSQL dies, the last moments may be undone.
    #[must_use]
    pub(crate) fn durable_later(mut self) -> Self {
        self.options = self.options.options([("synchronous_commit", "off")]);
        self
    }

    /// Has each statement planned once, not for each execution, for tables that are read by their indexes, row by row,
    /// and sorted to be grouped, however few rows there are by then: the plan of a large statement costs more than its
    /// execution, and that of an empty table is none for a full one.
    #[must_use]
    pub fn planned_once(mut self) -> Self {
        let off = |scan| (scan, "off");
        let by_order = [off("enable_seqscan"), off("enable_bitmapscan"), off("enable_hashagg")];
        self.options = self.options.options(by_order).options([("plan_cache_mode", "force_generic_plan")]);
        self
    }

    /// Runs `work`, which leaves no transaction open. A connection whose work did not end well, or was cancelled, is
    /// closed. Before the tables are there nothing is run.
    pub async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, DatabaseError> {
        self.database.require_open()?;
        let limit = self.limit;
        let work = async {
            let mut connection = self.connection().await?;
            let value = work(&mut connection).await?;
            self.idle = Some((connection, Instant::now()));
            Ok(value)
        };
        timeout(limit, work).await.unwrap_or_else(|_| Err(DatabaseError::too_slow(limit)))
    }

    async fn connection(&mut self) -> Result<PgConnection, DatabaseError> {
        if let Some((mut connection, since)) = self.idle.take()
            && (since.elapsed() < FRESH || is_alive(&mut connection).await)
        {
            return Ok(connection);
        }
        let connected = timeout(LIMIT, self.options.connect()).await;
        Ok(connected.map_err(|_| DatabaseError::too_slow(LIMIT))??)
    }
}
