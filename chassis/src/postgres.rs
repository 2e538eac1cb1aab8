//! The connections to PostgreSQL: bounded in number and in time, and never a dead one of the pool for the next caller.
//!
//! The tables are made by [`Database::migrate`] in the background; until then, and whenever PostgreSQL is away,
//! a caller learns within two seconds that it is [`DatabaseError::Unavailable`]. The statements themselves are
//! in the services.

mod session;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool, Postgres, pool::PoolConnection};
use thiserror::Error;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use self::session::Session;
use crate::retry;

/// How long a piece of work may take, with the wait for a connection.
const LIMIT: Duration = Duration::from_secs(2);
/// After which PostgreSQL gives a statement up. Less than [`LIMIT`], so that one which is merely slow costs no
/// connection.
const STATEMENT_TIMEOUT: &str = "1500ms";
/// After which PostgreSQL takes the locks from whoever left in the middle of a transaction.
const ABANDONED: &str = "5s";
/// How long a connection may take to show that it is alive.
const PING: Duration = Duration::from_millis(500);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_mins(1);
/// How long one statement of a migration may take, the wait for another replica's migrations included.
const MIGRATION_STATEMENT_TIMEOUT: &str = "50s";
/// How long all migrations may take: beyond it PostgreSQL is taken to be stalled, and asked again.
const MIGRATION: Duration = Duration::from_mins(1);

/// What people call the server, in readiness and in answers.
pub const NAME: &str = "PostgreSQL";

/// Why work in the database gave nothing.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// PostgreSQL is away, stopping, full or too slow: the same may succeed later.
    #[error("PostgreSQL is not available: {0}")]
    Unavailable(String),
    /// PostgreSQL refused, or answered what was not expected: a mistake in this service.
    #[error("the statement failed: {0}")]
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        let passing = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            // The classes of SQLSTATE: connection, authorization, no such database, rolled back, read-only (a
            // standby), a transaction in which this process stood still, out of resources, operator intervention,
            // system error.
            sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                ["08", "28", "3D", "40", "25006", "25P03", "25P04", "53", "57", "58"]
                    .iter()
                    .any(|class| code.starts_with(class))
            }),
            _ => false,
        };
        if passing { Self::Unavailable(error.to_string()) } else { Self::Failed(error) }
    }
}

impl DatabaseError {
    fn too_slow(limit: Duration) -> Self {
        Self::Unavailable(format!("no answer within {limit:?}"))
    }
}

/// Where a PostgreSQL database is. The password in it is never shown.
#[derive(Clone)]
pub struct Dsn(PgConnectOptions);

impl FromStr for Dsn {
    type Err = String;

    /// Reads a `postgres://…` URL. What is wrong is said without the URL, which may hold a password.
    fn from_str(url: &str) -> Result<Self, String> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err("must begin with postgres://".to_owned());
        }
        url.parse().map(Self).map_err(|error: sqlx::Error| match error {
            sqlx::Error::Configuration(why) => format!("is not the URL of a database: {why}"),
            _ => "is not the URL of a database".to_owned(),
        })
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dsn({}:{}/{})", self.0.get_host(), self.0.get_port(), self.0.get_database().unwrap_or(""))
    }
}

/// Where the database of a service is: a part of its settings.
#[derive(Args, Clone, Debug)]
pub struct DatabaseArgs {
    /// The PostgreSQL database.
    #[arg(
        long,
        env = "DSN",
        value_name = "postgres://user:password@postgres:5432/database",
        hide_env_values = true
    )]
    pub dsn: Dsn,

    /// How many connections to PostgreSQL to keep at most: one answers thousands of look-ups a second.
    #[arg(
        long,
        env = "DB_POOL_SIZE",
        value_name = "5",
        default_value = "5",
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    pub db_pool_size: u32,
}

/// The database of one service. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Database {
    pool: PgPool,
    options: PgConnectOptions,
    migrations: &'static Migrator,
    open: Arc<AtomicBool>,
}

impl Database {
    /// The database of `service` where the settings say, with the tables that `migrations` make: a history of changes
    /// that only add, so that a replica that is older than the tables works with them. Nothing is connected yet.
    pub fn new(service: &str, args: &DatabaseArgs, migrations: &'static Migrator) -> Self {
        let options = args.dsn.0.clone().application_name(&format!("switchboard-{service}"));
        let pool = pool(options.clone(), args.db_pool_size, STATEMENT_TIMEOUT, ABANDONED);
        Self { pool, options, migrations, open: Arc::default() }
    }

    /// Further connections, for work of another length: see [`pool`].
    pub(crate) fn pool(&self, most: u32, statement: &str, abandoned: &str) -> PgPool {
        pool(self.options.clone(), most, statement, abandoned)
    }

    /// A connection of its own for a task that works all the time.
    pub fn session(&self) -> Session {
        Session::new(self.clone(), LIMIT, STATEMENT_TIMEOUT, ABANDONED)
    }

    /// Whether the tables are up to date.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Brings the tables up to date. Any number of replicas may do this at the same time: PostgreSQL's advisory
    /// lock lets one after the other.
    pub async fn migrate(&self) -> Result<(), MigrationError> {
        // A connection of its own: a migration may take longer than a request's statement.
        let options = self.options.clone().options([("statement_timeout", MIGRATION_STATEMENT_TIMEOUT)]);
        let one = PgPoolOptions::new().max_connections(1).acquire_timeout(LIMIT).connect_lazy_with(options);
        let migrated = timeout(MIGRATION, self.migrations.run(&one)).await;
        // However it ends: with the connection goes the lock.
        let _ = timeout(PING, one.close()).await;
        Ok(migrated.map_err(|_| DatabaseError::too_slow(MIGRATION))??)
    }

    /// Waits for PostgreSQL, brings the tables up to date, does what `prepare` does, and lets requests in; closes the
    /// connections at the end. Tables that no waiting mends are an error. The work of a background task.
    pub async fn keep(
        self,
        prepare: impl Future<Output = ()>,
        closing: CancellationToken,
    ) -> anyhow::Result<()> {
        let migrate = || async {
            match self.migrate().await {
                Err(MigrationError::Database(error)) => Err(error),
                done_or_mismatch => Ok(done_or_mismatch),
            }
        };
        let opened = async {
            retry::forever(NAME, migrate).await?;
            prepare.await;
            Ok::<_, MigrationError>(())
        };
        if let Some(opened) = closing.run_until_cancelled(opened).await {
            opened?;
            self.open.store(true, Ordering::Release);
            closing.cancelled().await;
        }
        // So that PostgreSQL does not have to find out.
        let _ = timeout(LIMIT, self.pool.close()).await;
        Ok(())
    }

    /// Runs `work` with a connection. Whatever happens, the answer comes within two seconds; a connection whose
    /// work did not end well, or was cancelled, is closed. Before the tables are there nothing is run.
    pub async fn run<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, DatabaseError> {
        self.require_open()?;
        self.prepare(work).await
    }

    /// As [`Self::run`], also before requests are let in: for what has to be done first.
    pub async fn prepare<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, DatabaseError> {
        let work = async {
            let mut lease = Lease { connection: self.pool.acquire().await?, ended_well: false };
            let value = work(&mut lease.connection).await?;
            lease.ended_well = true;
            Ok(value)
        };
        timeout(LIMIT, work).await.unwrap_or_else(|_| Err(DatabaseError::too_slow(LIMIT)))
    }

    /// Whether work can be done, for readiness; `Err` says why not.
    pub async fn check(&self) -> Result<(), String> {
        let pinged = self.prepare(async |connection: &mut PgConnection| connection.ping().await).await;
        pinged.and_then(|()| self.require_open()).map_err(|error| match error {
            DatabaseError::Unavailable(why) => why,
            DatabaseError::Failed(error) => error.to_string(),
        })
    }

    fn require_open(&self) -> Result<(), DatabaseError> {
        if self.is_open() {
            return Ok(());
        }
        Err(DatabaseError::Unavailable("the tables are not up to date yet".to_owned()))
    }
}

/// A pool of so many connections at most, each of them alive when it is handed out; PostgreSQL gives a statement up
/// after `statement`, and a transaction in which nothing happens after `abandoned`.
fn pool(options: PgConnectOptions, most: u32, statement: &str, abandoned: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(most)
        .acquire_timeout(LIMIT)
        .idle_timeout(IDLE)
        // The pool's own ping waits for as long as the acquisition may take.
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(async move { Ok(is_alive(connection).await) }))
        // The pool tests what it takes back, without a limit: a stalled connection would hold its place.
        .after_release(|connection, _| Box::pin(async move { Ok(is_alive(connection).await) }))
        .connect_lazy_with(bounded(options, statement, abandoned))
}

/// PostgreSQL gives a statement up after `statement`, and a transaction in which nothing happens after `abandoned`.
fn bounded(options: PgConnectOptions, statement: &str, abandoned: &str) -> PgConnectOptions {
    options.options([("statement_timeout", statement), ("idle_in_transaction_session_timeout", abandoned)])
}

/// A connection that is closed unless its work ended well.
struct Lease {
    connection: PoolConnection<Postgres>,
    ended_well: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.ended_well {
            self.connection.close_on_drop();
        }
    }
}

async fn is_alive(connection: &mut PgConnection) -> bool {
    matches!(timeout(PING, connection.ping()).await, Ok(Ok(())))
}

/// Why the tables could not be brought up to date.
#[derive(Debug, Error)]
pub enum MigrationError {
    /// As with any other work.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The tables were not made by these migrations: a person has to look.
    #[error("the tables in the database do not fit this version: {0}")]
    Mismatch(MigrateError),
}

impl From<MigrateError> for MigrationError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                Self::Database(error.into())
            }
            other => Self::Mismatch(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dsn_is_read_and_its_password_never_shown() {
        let dsn: Dsn = "postgres://ada:s3cret@db:5433/users".parse().unwrap();
        assert_eq!(format!("{dsn:?}"), "Dsn(db:5433/users)");
    }

    #[test]
    fn what_is_no_dsn_is_refused_without_an_echo() {
        for bad in ["", "users", "mysql://ada:s3cret@db/users", "postgres://ada:s3cret@db:port/users"] {
            let why = bad.parse::<Dsn>().unwrap_err();
            assert!(!why.contains("s3cret"), "{why}");
        }
    }
}
