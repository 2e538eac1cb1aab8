//! The listener's settings.

use std::num::NonZeroU16;

use chassis::amqp::AmqpArgs;
use chassis::rpc::LoggerArgs;
use chassis::service::Settings;
use chassis::settings::Common;
use clap::Parser;

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

    /// How many messages may be taken and not yet acknowledged: it bounds the memory.
    #[arg(long, env = "LISTENER_PREFETCH", value_name = "1000", default_value = "1000")]
    pub listener_prefetch: NonZeroU16,

    /// How many messages at most are stored at once.
    #[arg(long, env = "LISTENER_BATCH", value_name = "250", default_value = "250")]
    pub listener_batch: NonZeroU16,
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
    }
}
