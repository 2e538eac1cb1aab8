//! The mailer's settings.

use std::num::NonZeroU16;
use std::time::Duration;

use chassis::amqp::AmqpArgs;
use chassis::postgres::DatabaseArgs;
use chassis::service::Settings;
use chassis::settings::{Common, parse_time};
use clap::{Parser, ValueEnum};
use lettre::Address;
use secrecy::SecretString;

/// Sends mail: `POST /send`, templates, SMTP.
#[derive(Clone, Debug, Parser)]
#[command(name = "mailer", version)]
pub struct Config {
    /// What every service can be told.
    #[command(flatten)]
    pub common: Common,

    /// The port to serve HTTP on.
    #[arg(long, env = "PORT", value_name = "8083", default_value = "8083")]
    pub port: u16,

    /// The ledger.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// RabbitMQ, which is told what became of each mail.
    #[command(flatten)]
    pub amqp: AmqpArgs,

    /// How long a mail that is being sent is left to whoever sends it; at least 5 s longer than `MAIL_TIMEOUT`.
    #[arg(long, env = "MAIL_LEASE", value_name = "30s", default_value = "30s", value_parser = parse_time)]
    pub mail_lease: Duration,

    /// How many days a mail is remembered: a request for it that comes again later is sent again.
    #[arg(long, env = "MAIL_LEDGER_DAYS", value_name = "30", default_value = "30")]
    pub mail_ledger_days: NonZeroU16,

    /// The SMTP server: a name or an address.
    #[arg(long, env = "MAIL_HOST", value_name = "smtp.example.com", default_value = "localhost")]
    pub mail_host: String,

    /// Its port: often 587 with `starttls`, 465 with `tls`.
    #[arg(long, env = "MAIL_PORT", value_name = "1025", default_value = "1025")]
    pub mail_port: u16,

    /// Who to log in as; there is no login without it.
    #[arg(long, env = "MAIL_USERNAME", value_name = "mailer", requires = "mail_password")]
    pub mail_username: Option<String>,

    /// The password to log in with.
    #[arg(
        long,
        env = "MAIL_PASSWORD",
        value_name = "secret",
        requires = "mail_username",
        hide_env_values = true
    )]
    pub mail_password: Option<SecretString>,

    /// How the connection is encrypted: not at all, from a STARTTLS on, or from the first byte.
    #[arg(long, env = "MAIL_ENCRYPTION", value_name = "starttls", default_value = "none")]
    pub mail_encryption: Encryption,

    /// Certificates to trust beside the public ones, as PEM text; `MAIL_TLS_CA_FILE` names a file of them.
    #[arg(long, env = "MAIL_TLS_CA", value_name = "-----BEGIN CERTIFICATE-----…", hide_env_values = true)]
    pub mail_tls_ca: Option<String>,

    /// The sender's name, where a mail gives no sender of its own.
    #[arg(
        long,
        env = "FROM_NAME",
        value_name = "Switchboard",
        default_value = "Switchboard",
        value_parser = parse_name
    )]
    pub from_name: String,

    /// The sender's address, where a mail gives no sender of its own.
    #[arg(
        long,
        env = "FROM_ADDRESS",
        value_name = "switchboard@example.com",
        default_value = "switchboard@example.com"
    )]
    pub from_address: Address,

    /// How many connections to the SMTP server there may be.
    #[arg(
        long,
        env = "MAIL_POOL_SIZE",
        value_name = "16",
        default_value = "16",
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub mail_pool_size: u16,

    /// How many MiB of mails may be in hand: beyond it a mail is refused at once.
    #[arg(
        long,
        env = "MAIL_ROOM_MIB",
        value_name = "32",
        default_value = "32",
        value_parser = clap::value_parser!(u16).range(1..=4096)
    )]
    pub mail_room_mib: u16,

    /// How long sending one mail may take, the wait for a connection included.
    #[arg(long, env = "MAIL_TIMEOUT", value_name = "10s", default_value = "10s", value_parser = parse_time)]
    pub mail_timeout: Duration,

    /// How much longer the server's answer to a whole mail is waited for: until then nobody knows whether it was taken.
    /// RFC 5321 (4.5.3.2.6) asks for ten minutes.
    #[arg(long, env = "MAIL_ANSWER_TIMEOUT", value_name = "10m", default_value = "10m", value_parser = parse_time)]
    pub mail_answer_timeout: Duration,
}

/// How the connection to the SMTP server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Encryption {
    /// Not at all.
    None,
    /// After a STARTTLS command, or not at all: a server that does not offer it gets no mail.
    #[value(name = "starttls")]
    StartTls,
    /// From the first byte (RFC 8314).
    Tls,
}

impl Settings for Config {
    fn common(&self) -> &Common {
        &self.common
    }

    fn port(&self) -> u16 {
        self.port
    }
}

/// A display name: one line.
fn parse_name(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_development_stack() {
        // Asked of the declaration: what the environment says is another matter.
        let command = Config::command();
        let default = |name: &str| {
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name)).unwrap();
            arg.get_default_values().iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(",")
        };
        let names = ["port", "mail-host", "mail-port", "mail-encryption", "mail-pool-size", "mail-timeout"];
        assert_eq!(names.map(default), ["8083", "localhost", "1025", "none", "16", "10s"]);
    }

    #[test]
    fn wrong_settings_are_refused() {
        for wrong in [
            "--from-name=a\nb",
            "--from-address=nobody",
            "--mail-encryption=ssl",
            "--mail-pool-size=0",
            "--mail-timeout=soon",
            "--mail-timeout=25h",
            "--mail-lease=300000y",
            "--db-pool-size=1001",
            "--mail-username=only",
            "--mail-password=only",
        ] {
            let settings =
                ["mailer", "--dsn=postgres://db/mailer", "--rabbitmq-url=amqp://u:p@rabbitmq/", wrong];
            assert!(Config::try_parse_from(settings).is_err(), "{wrong}");
        }
    }
}
