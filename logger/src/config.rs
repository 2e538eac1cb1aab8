//! The settings of the logger.

use std::num::{NonZeroU16, NonZeroU32};

use chassis::service::Settings;
use chassis::settings::Common;
use clap::Parser;
use mongodb::options::ConnectionString;
use secrecy::SecretString;

/// Keeps log entries, the trails of actions, and dead letters: written over RPC or HTTP, read over HTTP.
#[derive(Clone, Debug, Parser)]
#[command(name = "logger", version)]
pub struct Config {
    /// What every service can be told.
    #[command(flatten)]
    pub common: Common,

    /// The port for HTTP.
    #[arg(long, env = "PORT", value_name = "8084", default_value = "8084")]
    pub port: NonZeroU16,

    /// The port for RPC: tarpc over TCP.
    #[arg(long, env = "RPC_PORT", value_name = "5001", default_value = "5001")]
    pub rpc_port: NonZeroU16,

    /// The MongoDB that keeps them, as a connection string. Its `w` is the write concern, `majority`
    /// unless it says otherwise; every write is journaled before it is acknowledged, whatever it says.
    #[arg(
        long,
        env = "MONGO_URL",
        value_name = "mongodb://localhost:27017/logs?replicaSet=rs0",
        hide_env_values = true,
        value_parser = parse_mongo_url
    )]
    pub mongo_url: SecretString,

    /// The database; the one that `MONGO_URL` names unless told, or `logs` where it names none.
    #[arg(long, env = "MONGO_DATABASE", value_name = "logs")]
    pub mongo_database: Option<String>,

    /// How many days an entry is kept, a step of a trail, and a dead letter after somebody has decided about it.
    #[arg(
        long,
        env = "LOG_RETENTION_DAYS",
        value_name = "30",
        default_value = "30",
        value_parser = parse_retention
    )]
    pub log_retention_days: NonZeroU32,
}

impl Settings for Config {
    fn common(&self) -> &Common {
        &self.common
    }

    fn port(&self) -> u16 {
        self.port.get()
    }
}

fn parse_mongo_url(text: &str) -> Result<SecretString, String> {
    match ConnectionString::parse(text) {
        Ok(_) => Ok(text.into()),
        // The driver's words repeat parts of the text: not where a password may be among them.
        Err(_) if text.contains('@') => Err(
            "is not a connection string (characters like @ : / % in the password are to be percent-encoded)"
                .to_owned(),
        ),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_retention(text: &str) -> Result<NonZeroU32, String> {
    /// As far as the seconds of a TTL index reach.
    const MOST: u32 = i32::MAX as u32 / 86_400;
    match text.parse::<NonZeroU32>() {
        Ok(days) if days.get() <= MOST => Ok(days),
        Ok(_) | Err(_) => Err(format!("must be a number of days from 1 to {MOST}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, days: &str) -> Result<Config, String> {
        let arguments = ["logger", "--mongo-url", url, "--log-retention-days", days];
        Config::try_parse_from(arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn a_wrong_connection_string_is_refused_without_its_password() {
        let error = parse_mongo_url("mongodb://me:s3cr/et@host").unwrap_err();
        assert!(!error.contains("s3cr"), "{error}");
        assert!(parse_mongo_url("postgres://localhost").is_err());
        assert!(parse_mongo_url("mongodb://me:secret@host:27017/logs?replicaSet=rs0").is_ok());
    }

    #[test]
    fn retention_is_a_number_of_days() {
        assert_eq!(parse("mongodb://localhost", "7").unwrap().log_retention_days.get(), 7);
        for wrong in ["0", "-1", "1.5", "month", "24856"] {
            assert!(parse("mongodb://localhost", wrong).is_err(), "{wrong}");
        }
    }
}
