//! Registers a user, as whoever offers registration would: the database `DSN`, the id `ID` of the
//! registration, and the address `EMAIL`. An address that is there already is as good.

use anyhow::Context as _;
use auth::registration::{RegistrationError, register};
use auth::users::{NewUser, RegisterError};
use sqlx::{Connection as _, PgConnection};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let setting = |name: &str| std::env::var(name).with_context(|| name.to_owned());
    let mut connection = PgConnection::connect(&setting("DSN")?).await?;
    let new = NewUser {
        email: setting("EMAIL")?,
        first_name: "Ada".to_owned(),
        last_name: "Lovelace".to_owned(),
        // Of no password.
        password_hash: "$argon2id$".to_owned(),
        active: false,
    };
    match register(&mut connection, setting("ID")?.parse()?, &new).await {
        Ok(_) | Err(RegistrationError::User(RegisterError::EmailTaken)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
