//! Settings from flags and environment variables, with `clap`.
//!
//! A wrong value stops the start with one line: the variable, what is wrong, and an example. The example is
//! the argument's `value_name`, so that `--help` shows it too. Every variable may come from a file instead:
//! `DSN_FILE=/run/secrets/dsn` stands for `DSN`. An empty variable is as if it were not set.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Command, Parser};
use url::Url;

use crate::lifecycle::Drain;

/// What every service can be told.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The address to listen on; 0.0.0.0 in a container.
    #[arg(long, env = "HOST", value_name = "127.0.0.1", default_value = "127.0.0.1")]
    pub host: IpAddr,

    /// What to log: a level, or levels by target.
    #[arg(long, env = "LOG_LEVEL", value_name = "info,sqlx=warn", default_value = "info", value_parser = parse_targets)]
    pub log_level: tracing_subscriber::filter::Targets,

    /// Where to export spans by OTLP over gRPC; nothing is exported without it.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "http://localhost:4317", value_parser = parse_http_url)]
    pub otel_exporter_otlp_endpoint: Option<Url>,

    /// How long to stay open for others to notice that this process is not ready any more, at a stop.
    #[arg(long, env = "DRAIN_DELAY", value_name = "5s", default_value = "0s", value_parser = parse_time)]
    pub drain_delay: Duration,

    /// How long what is in flight may take to end, at a stop.
    #[arg(long, env = "DRAIN_TIMEOUT", value_name = "20s", default_value = "20s", value_parser = parse_time)]
    pub drain_timeout: Duration,
}

impl Common {
    /// The address to listen on at `port`.
    pub fn listen(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host, port)
    }

    /// How a stop is bounded.
    pub fn drain(&self) -> Drain {
        Drain { delay: self.drain_delay, timeout: self.drain_timeout }
    }
}

/// The base URL of a service: `http` or `https`, and a host. `auth:8082` would be a URL too, of the scheme `auth`.
pub fn parse_http_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error: url::ParseError| error.to_string())?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        return Ok(url);
    }
    Err("must begin with http:// or https:// and a host".to_owned())
}

/// The address of a server: `logger:5001`, `10.0.0.7:5001`, `[::1]:5001`.
pub fn parse_host_port(text: &str) -> Result<String, String> {
    let text = text.trim();
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(1..)) => Ok(text.to_owned()),
        _ => Err("must be a host and a port with a colon between them".to_owned()),
    }
}

/// A time of up to a day, such as `10s`: beyond that nobody waits.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time <= Duration::from_hours(24) { Ok(time) } else { Err("must be 24h at most".to_owned()) }
}

fn parse_targets(text: &str) -> Result<tracing_subscriber::filter::Targets, String> {
    text.parse().map_err(|error: tracing_subscriber::filter::ParseError| error.to_string())
}

/// Reads the settings of a service, or gives what to print and the exit code.
pub fn parse<C: Parser>() -> Result<C, (String, u8)> {
    let environment = |name: &str| std::env::var_os(name);
    parse_from(std::env::args_os().collect(), environment)
}

/// Reads settings from these arguments and this environment.
fn parse_from<C: Parser>(
    mut arguments: Vec<OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<C, (String, u8)> {
    let mut command = C::command();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        // As it is, so that it names every variable.
        return C::try_parse_from(arguments).map_err(|error| explain(&command, &error));
    }
    let variables: Vec<_> = C::command()
        .get_arguments()
        .filter_map(|arg| {
            Some((arg.get_id().clone(), arg.get_env()?.to_str()?.to_owned(), arg.get_long()?.to_owned()))
        })
        .collect();
    for (id, variable, long) in variables {
        if environment(&variable).is_some_and(|value| !value.is_empty()) {
            continue;
        }
        command = command.mut_arg(id, |arg| arg.env(clap::builder::Resettable::Reset));
        let Some(path) = environment(&format!("{variable}_FILE")).filter(|path| !path.is_empty()) else {
            continue;
        };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| (format!("{variable}_FILE: cannot read {}: {error}", path.display()), 2))?;
        arguments.push(format!("--{long}={}", text.trim_end_matches(['\r', '\n'])).into());
    }
    let parsed = command.try_get_matches_from(arguments).and_then(|matches| C::from_arg_matches(&matches));
    parsed.map_err(|error| explain(&C::command(), &error))
}

/// One line for a wrong or missing setting; clap's own words for `--help` and the like.
fn explain(command: &Command, error: &clap::Error) -> (String, u8) {
    let arg_named = |shown: &str| {
        let shown = shown.split([' ', '=']).next()?.strip_prefix("--")?;
        command.get_arguments().find(|arg| arg.get_long() == Some(shown))
    };
    let name = |arg: &clap::Arg| {
        arg.get_env().map_or_else(|| arg.get_id().to_string(), |env| env.to_string_lossy().into_owned())
    };
    let example = |arg: &clap::Arg| {
        let value = arg.get_value_names().and_then(|names| names.first()).map_or("…", |name| name.as_str());
        format!("for example {}={value}", name(arg))
    };
    let shown = error.get(ContextKind::InvalidArg);
    match (error.kind(), shown) {
        (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _) => (error.render().to_string(), 0),
        (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(missing))) => {
            let missing: Vec<_> = missing.iter().filter_map(|shown| arg_named(shown)).collect();
            let lines = missing.iter().map(|arg| format!("{} is not set; {}", name(arg), example(arg)));
            (lines.collect::<Vec<_>>().join("; "), 2)
        }
        (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some(ContextValue::String(shown))) => {
            let Some(arg) = arg_named(shown) else { return (one_line(error), 2) };
            let why = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(valid)) => format!("must be one of {}", valid.join(", ")),
                _ => std::error::Error::source(error).map_or("is not valid".to_owned(), ToString::to_string),
            };
            // A setting that may hold a password is not echoed.
            let value = match error.get(ContextKind::InvalidValue) {
                Some(ContextValue::String(value)) if !arg.is_hide_env_values_set() => format!(" `{value}`"),
                _ => String::new(),
            };
            (format!("{}{value}: {why}; {}", name(arg), example(arg)), 2)
        }
        _ => (one_line(error), 2),
    }
}

fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::{ExposeSecret as _, SecretString};

    #[derive(Debug, Parser)]
    struct Config {
        #[command(flatten)]
        common: Common,
        /// The port.
        #[arg(long, env = "PORT", value_name = "8082", default_value = "8082")]
        port: std::num::NonZeroU16,
        /// The database.
        #[arg(long, env = "DSN", value_name = "postgres://user@host/db", hide_env_values = true)]
        dsn: SecretString,
        /// A name.
        #[arg(long, env = "MAIL_USERNAME", value_name = "mailer")]
        username: Option<String>,
    }

    fn parse(environment: &[(&str, &str)]) -> Result<Config, String> {
        // clap reads the process's own environment; what a test sets is given as flags instead.
        let flag = |name: &str| match name {
            "PORT" => Some("--port"),
            "DSN" => Some("--dsn"),
            _ => None,
        };
        let mut arguments: Vec<OsString> = vec!["test".into()];
        for (name, value) in environment {
            if let Some(flag) = flag(name) {
                arguments.push(format!("{flag}={value}").into());
            }
        }
        let of = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        parse_from(arguments, of).map_err(|(message, _)| message)
    }

    #[test]
    fn a_wrong_value_is_explained_in_one_line_with_the_variable_and_an_example() {
        let message = parse(&[("PORT", "http"), ("DSN", "x")]).unwrap_err();
        assert_eq!(message, "PORT `http`: invalid digit found in string; for example PORT=8082");
    }

    #[test]
    fn a_missing_value_is_named_with_an_example() {
        let message = parse(&[]).unwrap_err();
        assert_eq!(message, "DSN is not set; for example DSN=postgres://user@host/db");
    }

    #[test]
    fn a_value_may_come_from_a_file() {
        let path = std::env::temp_dir().join(format!("dsn-{}", uuid::Uuid::now_v7()));
        std::fs::write(&path, "postgres://secret\n").unwrap();
        let config = parse(&[("DSN_FILE", path.to_str().unwrap())]).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(config.dsn.expose_secret(), "postgres://secret");
        assert_eq!((config.port.get(), config.username), (8082, None));
        assert_eq!(config.common.listen(1).to_string(), "127.0.0.1:1");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let message = parse(&[("DSN_FILE", "/nowhere/dsn")]).unwrap_err();
        assert!(message.starts_with("DSN_FILE: cannot read /nowhere/dsn"), "{message}");
    }
}
