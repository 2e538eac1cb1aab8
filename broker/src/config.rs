//! The broker's settings.

use std::num::NonZeroU16;
use std::time::Duration;

use chassis::amqp::AmqpArgs;
use chassis::rpc::LoggerArgs;
use chassis::service::Settings;
use chassis::settings::{Common, parse_http_url, parse_time};
use clap::Parser;
use url::Url;

/// The one entry of the system: takes actions and hands them to the services.
#[derive(Clone, Debug, Parser)]
#[command(name = "broker", version)]
pub struct Config {
    /// What every service can be told.
    #[command(flatten)]
    pub common: Common,

    /// Where to serve HTTP.
    #[arg(long, env = "PORT", value_name = "8080", default_value = "8080")]
    pub port: NonZeroU16,

    /// Where the auth service is.
    #[arg(
        long,
        env = "AUTH_SERVICE_URL", value_parser = parse_http_url,
        value_name = "http://auth:8082",
        default_value = "http://127.0.0.1:8082"
    )]
    pub auth_service_url: Url,

    /// Where the mailer is.
    #[arg(
        long,
        env = "MAIL_SERVICE_URL", value_parser = parse_http_url,
        value_name = "http://mailer:8083",
        default_value = "http://127.0.0.1:8083"
    )]
    pub mail_service_url: Url,

    /// The logger.
    #[command(flatten)]
    pub logger: LoggerArgs,

    /// Where the logger serves HTTP, for `GET /actions/…`, the dead letters and `GET /health`.
    #[arg(
        long,
        env = "LOGGER_SERVICE_URL", value_parser = parse_http_url,
        value_name = "http://logger:8084",
        default_value = "http://127.0.0.1:8084"
    )]
    pub logger_service_url: Url,

    /// Where the listener serves HTTP, for `GET /health`.
    #[arg(
        long,
        env = "LISTENER_SERVICE_URL", value_parser = parse_http_url,
        value_name = "http://listener:8085",
        default_value = "http://127.0.0.1:8085"
    )]
    pub listener_service_url: Url,

    /// RabbitMQ.
    #[command(flatten)]
    pub amqp: AmqpArgs,

    /// Which pages may call the broker: `*`, or origins with commas between them.
    #[arg(
        long,
        env = "CORS_ALLOWED_ORIGINS", value_parser = parse_origin,
        value_name = "https://console.example.com",
        default_value = "*",
        value_delimiter = ','
    )]
    pub cors_allowed_origins: Vec<String>,

    /// How long the auth service may take.
    #[arg(long, env = "AUTH_TIMEOUT", value_name = "5s", default_value = "5s", value_parser = parse_time)]
    pub auth_timeout: Duration,

    /// How long the mailer may take; longer than the mailer gives the mail server.
    #[arg(long, env = "MAIL_SERVICE_TIMEOUT", value_name = "15s", default_value = "15s", value_parser = parse_time)]
    pub mail_timeout: Duration,
}

/// `*`, or the origin of a page as a browser names it (RFC 6454, 7): a scheme, a host, perhaps a port.
fn parse_origin(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text == "*" {
        return Ok(text.to_owned());
    }
    let url = parse_http_url(text)?;
    if url.path() != "/" || url.query().is_some() || !url.username().is_empty() {
        return Err("must be an origin, with nothing after the host and port".to_owned());
    }
    Ok(url.origin().ascii_serialization())
}

impl Settings for Config {
    fn common(&self) -> &Common {
        &self.common
    }

    fn port(&self) -> u16 {
        self.port.get()
    }
}
