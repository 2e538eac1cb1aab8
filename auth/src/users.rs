//! The table `users`, as plain functions over a connection, a pool or a transaction.
//!
//! Addresses are compared without regard to case, as the index `users_email_key` has them.

use chrono::{DateTime, Utc};
use contracts::auth::User;
use sqlx::{FromRow, PgExecutor};
use thiserror::Error;

/// The unique index on the address.
const EMAIL_KEY: &str = "users_email_key";

/// A user with the hash of the password. It stays inside this service.
#[derive(Clone, Debug)]
pub struct Account {
    /// The user.
    pub user: User,
    /// The hash, as a PHC string.
    pub password_hash: String,
}

/// Someone to register.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The address, as it is to be shown.
    pub email: String,
    /// The given name.
    pub first_name: String,
    /// The family name.
    pub last_name: String,
    /// The hash of the password, as a PHC string.
    pub password_hash: String,
    /// Whether the user may log in.
    pub active: bool,
}

/// Why a user was not registered.
#[derive(Debug, Error)]
pub enum RegisterError {
    /// There is an account with this address, in whatever case.
    #[error("the address is registered already")]
    EmailTaken,
    /// The statement failed.
    #[error("the user could not be written")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for RegisterError {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error().and_then(|error| error.constraint()) {
            Some(EMAIL_KEY) => Self::EmailTaken,
            _ => Self::Database(error),
        }
    }
}

/// Registers a user. In a transaction it is there once that commits, with whatever else that does.
pub async fn register(executor: impl PgExecutor<'_>, new: &NewUser) -> Result<User, RegisterError> {
    let row: UserRow = sqlx::query_as(
        "INSERT INTO users (email, first_name, last_name, password_hash, active) \
         VALUES ($1, $2, $3, $4, $5) \
         RETURNING id, email, first_name, last_name, active, created_at, updated_at",
    )
    .bind(&new.email)
    .bind(&new.first_name)
    .bind(&new.last_name)
    .bind(&new.password_hash)
    .bind(new.active)
    .fetch_one(executor)
    .await?;
    Ok(row.into())
}

/// The account with this address, active or not.
pub async fn find_by_email(executor: impl PgExecutor<'_>, email: &str) -> sqlx::Result<Option<Account>> {
    let row: Option<AccountRow> = sqlx::query_as(
        "SELECT id, email, first_name, last_name, active, created_at, updated_at, password_hash \
         FROM users WHERE lower(email) = lower($1)",
    )
    .bind(email)
    .fetch_optional(executor)
    .await?;
    Ok(row.map(|row| Account { user: row.user.into(), password_hash: row.password_hash }))
}

/// Puts `new` in the place of the hash `old`, unless the password was changed meanwhile. To its owner the
/// account is the same, so `updated_at` stays.
pub async fn renew_hash(executor: impl PgExecutor<'_>, id: i64, old: &str, new: &str) -> sqlx::Result<()> {
    sqlx::query("UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2")
        .bind(id)
        .bind(old)
        .bind(new)
        .execute(executor)
        .await?;
    Ok(())
}

#[derive(FromRow)]
struct UserRow {
    id: i64,
    email: String,
    first_name: String,
    last_name: String,
    active: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct AccountRow {
    #[sqlx(flatten)]
    user: UserRow,
    password_hash: String,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        let UserRow { id, email, first_name, last_name, active, created_at, updated_at } = row;
        Self { id, email, first_name, last_name, active, created_at, updated_at }
    }
}
