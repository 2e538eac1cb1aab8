//! The auth service's settings.

use std::num::{NonZeroU16, NonZeroUsize};
use std::thread::available_parallelism;

use chassis::amqp::AmqpArgs;
use chassis::postgres::DatabaseArgs;
use chassis::service::Settings;
use chassis::settings::Common;
use clap::{Parser, ValueEnum};

/// Knows the users, and checks their passwords.
#[derive(Clone, Debug, Parser)]
#[command(name = "auth", version)]
pub struct Config {
    /// What every service can be told.
    #[command(flatten)]
    pub common: Common,

    /// Where to serve HTTP.
    #[arg(long, env = "PORT", value_name = "8082", default_value = "8082")]
    pub port: NonZeroU16,

    /// The users.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// RabbitMQ, which is told of new users.
    #[command(flatten)]
    pub amqp: AmqpArgs,

    /// Whether there is an account to try the system with: in development there is.
    #[arg(long, env = "ENVIRONMENT", value_name = "production", default_value = "production")]
    pub environment: Environment,

    /// How many passwords are hashed at a time, each in 19 MiB of memory; as many as there are cores unless
    /// told.
    #[arg(long, env = "HASH_THREADS", value_name = "2")]
    pub hash_threads: Option<NonZeroUsize>,

    /// How many log-ins may wait for a hashing thread; more are answered 503 at once.
    #[arg(long, env = "HASH_QUEUE", value_name = "100", default_value = "100")]
    pub hash_queue: NonZeroUsize,
}

impl Config {
    /// How many passwords are hashed at a time.
    pub fn hash_threads(&self) -> NonZeroUsize {
        self.hash_threads.or_else(|| available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }
}

impl Settings for Config {
    fn common(&self) -> &Common {
        &self.common
    }

    fn port(&self) -> u16 {
        self.port.get()
    }
}

/// What kind of system this process is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Environment {
    /// One that people rely on.
    Production,
    /// One to try and to build with: it has an account whose password everyone knows.
    Development,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn production_is_the_default() {
        let config = Config::try_parse_from([
            "auth",
            "--dsn=postgres://db/users",
            "--rabbitmq-url=amqp://u:p@rabbitmq/",
            "--port=1",
        ])
        .unwrap();
        // The environment of the test may say otherwise.
        if std::env::var_os("ENVIRONMENT").is_none() {
            assert_eq!(config.environment, Environment::Production);
        }
        assert!(config.hash_threads().get() >= 1);
    }
}
