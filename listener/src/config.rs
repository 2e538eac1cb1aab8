//! The listener's settings.

use std::num::NonZeroU16;

use chassis::service::Settings;
use chassis::settings::{Common, parse_host_port};
use clap::Parser;
use secrecy::SecretString;

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

    /// Where messages come from.
    #[arg(
        long,
        env = "RABBITMQ_URL",
        value_name = "amqp://user:password@rabbitmq:5672/%2f?heartbeat=10",
        hide_env_values = true
    )]
    pub rabbitmq_url: SecretString,

    /// What the names of exchanges and queues begin with, so that two systems can share a server.
    #[arg(long, env = "RABBITMQ_NAMESPACE", value_name = "staging-", default_value = "")]
    pub rabbitmq_namespace: String,

    /// Where the logger serves RPC; several addresses with commas between them.
    #[arg(
        long,
        env = "LOGGER_RPC_ADDR", value_parser = parse_host_port,
        value_name = "logger:5001",
        default_value = "127.0.0.1:5001",
        value_delimiter = ','
    )]
    pub logger_rpc_addr: Vec<String>,

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
