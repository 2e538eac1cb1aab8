//! One log-in: look the account up, check the password on a hashing thread, decide.
//!
//! A wrong password, an unknown address and an account that is switched off give the same answer after the
//! same work, so that nobody learns which addresses are registered.

use contracts::auth::{Credentials, User};
use metrics::counter;
use secrecy::SecretString;
use sqlx::PgConnection;
use thiserror::Error;

use crate::hashing::{Hasher, HashingError, Verdict};
use crate::password::{PasswordError, Stored};
use crate::users;
use chassis::postgres::{Database, DatabaseError};

/// Checks log-ins. Clones share what they work with.
#[derive(Clone, Debug)]
pub struct Login {
    database: Database,
    hasher: Hasher,
    /// Checked in the place of a hash where there is no account.
    decoy: Stored,
}

/// Why a log-in gave no user.
#[derive(Debug, Error)]
pub enum LoginError {
    /// The credentials are not those of an active account.
    #[error("refused: {reason}")]
    Refused {
        /// Why, for the log alone.
        reason: Refusal,
        /// Whose account it is, where there is one.
        user: Option<i64>,
    },
    /// The account could not be looked up.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The password could not be checked.
    #[error(transparent)]
    Hashing(#[from] HashingError),
    /// The stored hash can't be used.
    #[error("the account of user {user} is damaged")]
    Damaged {
        /// Whose account it is.
        user: i64,
        /// What is wrong with the hash.
        source: PasswordError,
    },
}

/// Why credentials are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Nobody has registered this address.
    #[error("unknown address")]
    Unknown,
    /// It is another password.
    #[error("wrong password")]
    WrongPassword,
    /// The password is right, and the account is switched off.
    #[error("inactive account")]
    Inactive,
}

impl Login {
    /// Checks log-ins against the accounts in `database`.
    pub fn new(database: Database, hasher: Hasher) -> Result<Self, PasswordError> {
        Ok(Self { database, hasher, decoy: Stored::decoy()? })
    }

    /// The user with these credentials.
    pub async fn check(&self, credentials: Credentials) -> Result<User, LoginError> {
        let result = self.decide(credentials).await;
        let outcome = match &result {
            Ok(_) => "succeeded",
            Err(LoginError::Refused { .. }) => "refused",
            Err(LoginError::Database(_) | LoginError::Hashing(_) | LoginError::Damaged { .. }) => "failed",
        };
        counter!("auth_logins_total", "outcome" => outcome).increment(1);
        result
    }

    async fn decide(&self, Credentials { email, password }: Credentials) -> Result<User, LoginError> {
        let look_up = async |connection: &mut PgConnection| users::find_by_email(connection, &email).await;
        let account = self.database.run(look_up).await?;
        let stored = match &account {
            Some(account) => Stored::parse(&account.password_hash)
                .map_err(|source| LoginError::Damaged { user: account.user.id, source })?,
            None => self.decoy.clone(),
        };
        let verdict = self.hasher.verify(SecretString::from(password), stored).await?;
        let refused = |reason, user| Err(LoginError::Refused { reason, user });
        match (account, verdict) {
            (None, _) => refused(Refusal::Unknown, None),
            (Some(account), Verdict::Wrong) => refused(Refusal::WrongPassword, Some(account.user.id)),
            (Some(account), Verdict::Right { .. }) if !account.user.active => {
                refused(Refusal::Inactive, Some(account.user.id))
            }
            (Some(account), Verdict::Right { renewed }) => {
                if let Some(renewed) = renewed {
                    self.renew(account.user.id, &account.password_hash, &renewed).await;
                }
                Ok(account.user)
            }
        }
    }

    /// Writes a better hash. Where that fails the log-in is as good, and the next one tries again.
    async fn renew(&self, user: i64, old: &str, new: &str) {
        let write = async |connection: &mut PgConnection| users::renew_hash(connection, user, old, new).await;
        match self.database.run(write).await {
            Ok(()) => tracing::info!(user, "the password's hash was renewed"),
            Err(error) => tracing::warn!(user, %error, "the password's hash could not be renewed"),
        }
    }
}
