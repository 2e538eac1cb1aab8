//! The account to try the system with. It is made in development only: everyone knows its password.

use secrecy::SecretString;
use sqlx::PgConnection;
use thiserror::Error;

use crate::config::Environment;
use crate::hashing::{Hasher, HashingError};
use crate::users::{self, NewUser, RegisterError};
use chassis::postgres::{Database, DatabaseError};

/// The address of the account.
pub const EMAIL: &str = "admin@example.com";
/// Its password.
pub const PASSWORD: &str = "verysecret";

/// Why the account is not there.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// It could not be looked for, or written.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Its password could not be hashed.
    #[error(transparent)]
    Hashing(#[from] HashingError),
}

/// Makes the account, in development and where it is not there; the log says which.
pub async fn prepare(
    environment: Environment,
    hasher: &Hasher,
    database: &Database,
) -> Result<(), PrepareError> {
    match environment {
        Environment::Production => {
            tracing::info!("production: there is no account but those that were registered");
            return Ok(());
        }
        Environment::Development => {}
    }
    let look = async |connection: &mut PgConnection| users::find_by_email(connection, EMAIL).await;
    if database.prepare(look).await?.is_none() {
        let admin = NewUser {
            email: EMAIL.to_owned(),
            first_name: "Admin".to_owned(),
            last_name: "User".to_owned(),
            password_hash: hasher.hash(SecretString::from(PASSWORD)).await?,
            active: true,
        };
        let register = async |connection: &mut PgConnection| match users::register(connection, &admin).await {
            // Another replica was faster.
            Ok(_) | Err(RegisterError::EmailTaken) => Ok(()),
            Err(RegisterError::Database(error)) => Err(error),
        };
        database.prepare(register).await?;
    }
    tracing::info!(email = EMAIL, "development: there is an account whose password everyone knows");
    Ok(())
}
