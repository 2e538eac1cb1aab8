//! The listener's settings.

use std::num::NonZeroU16;
use std::time::Duration;

use chassis::amqp::AmqpArgs;
use chassis::rpc::LoggerArgs;
use chassis::service::Settings;
use chassis::settings::{Common, parse_http_url, parse_time};
use clap::Parser;
use url::Url;

/// Consumes what was published and hands it to the services.
#[derive(Clone, Debug, Parser)]
#[command(name = "listener", version)]
pub struct Config {
    /// What every service can be told.
    #[command(flatten)]
    pub common: Common,

    /// Where to serve health and metrics.
    #[arg(long, env = "PORT", value_name = "8085", default_value = "8085")]
    pub port: NonZeroU16,

    /// RabbitMQ.
    #[command(flatten)]
    pub amqp: AmqpArgs,

    /// The logger.
    #[command(flatten)]
    pub logger: LoggerArgs,

    /// Where the mailer is.
    #[arg(
        long,
        env = "MAIL_SERVICE_URL", value_parser = parse_http_url,
        value_name = "http://mailer:8083",
        default_value = "http://127.0.0.1:8083"
    )]
    pub mail_service_url: Url,

    /// How long the mailer may take; longer than the mailer gives the mail server.
    #[arg(long, env = "MAIL_SERVICE_TIMEOUT", value_name = "15s", default_value = "15s", value_parser = parse_time)]
    pub mail_timeout: Duration,

    /// How many mails are sent at a time.
    #[arg(long, env = "LISTENER_MAILS", value_name = "16", default_value = "16")]
    pub listener_mails: NonZeroU16,

    /// How long a mail that could not be sent, or an entry that the logger failed at, waits after each attempt; after the
    /// last it is dead. The same for every listener.
    #[arg(
        long,
        env = "LISTENER_RETRY_DELAYS",
        value_name = "1s,10s,1m,10m,1h",
        default_value = "1s,10s,1m,10m,1h",
        value_delimiter = ',',
        value_parser = parse_delay
    )]
    pub listener_retry_delays: Vec<Duration>,

    /// How many messages may be taken and not yet acknowledged: it bounds the memory.
    #[arg(long, env = "LISTENER_PREFETCH", value_name = "1000", default_value = "1000")]
    pub listener_prefetch: NonZeroU16,

    /// How many messages at most are stored at once.
    #[arg(long, env = "LISTENER_BATCH", value_name = "250", default_value = "250")]
    pub listener_batch: NonZeroU16,
}

/// A wait: from 1 ms to a day.
fn parse_delay(text: &str) -> Result<Duration, String> {
    let delay = parse_time(text)?;
    if delay >= Duration::from_millis(1) { Ok(delay) } else { Err("must be 1ms at least".to_owned()) }
}

impl Settings for Config {
    fn common(&self) -> &Common {
        &self.common
    }

    fn port(&self) -> u16 {
        self.port.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_message_server_has_to_be_named() {
        let config = Config::try_parse_from(["listener", "--rabbitmq-url=amqp://u:secret@h/"]).unwrap();
        assert_eq!(
            (config.port(), config.listener_prefetch.get(), config.listener_batch.get()),
            (8085, 1000, 250)
        );
        assert!(!format!("{config:?}").contains("secret"));
        assert_eq!(config.listener_retry_delays, contracts::topology::RETRY_DELAYS);
    }

    #[test]
    fn a_wait_that_is_none_is_refused() {
        for wrong in ["0s", "soon", "1s,,2s", "25h"] {
            let delays = format!("--listener-retry-delays={wrong}");
            let parsed = Config::try_parse_from(["listener", "--rabbitmq-url=amqp://u:p@h/", &delays]);
            assert!(parsed.is_err(), "{wrong}");
        }
    }
}
