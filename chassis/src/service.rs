//! The `main` of every service.

use std::future::Future;
use std::process::ExitCode;

use clap::Parser;

use crate::lifecycle::Lifecycle;
use crate::settings::{self, Common};
use crate::{http, telemetry};

/// What [`main`] needs to know of a service's settings.
pub trait Settings: Parser + Send {
    /// What every service can be told.
    fn common(&self) -> &Common;
    /// Where this one serves HTTP.
    fn port(&self) -> u16;
}

/// Runs a service: settings, telemetry, signals, `start`, drain, flush.
///
/// `start` binds what the service listens on and spawns its work on the [`Lifecycle`]; it returns when all
/// that is under way. With `health` as its first argument the process asks a running one whether it is ready,
/// and exits 0 or 1: a container's health check that needs no shell.
pub fn main<C, F>(name: &'static str, start: impl FnOnce(C, Lifecycle) -> F) -> ExitCode
where
    C: Settings,
    F: Future<Output = anyhow::Result<()>>,
{
    let mut arguments = std::env::args_os();
    let asks_health = arguments.nth(1).is_some_and(|argument| argument == "health");
    if asks_health {
        return health::<C>();
    }
    let config = match settings::parse::<C>() {
        Ok(config) => config,
        Err((text, code)) => {
            if code == 0 {
                print!("{text}");
            } else {
                eprintln!("{name}: {text}");
            }
            return ExitCode::from(code);
        }
    };
    match run(name, config, start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "stopped");
            telemetry::flush();
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run<C, F>(name: &'static str, config: C, start: impl FnOnce(C, Lifecycle) -> F) -> anyhow::Result<()>
where
    C: Settings,
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let drain = config.common().drain();
    let (host, port) = (config.common().host, config.port());
    runtime.block_on(async {
        let telemetry = telemetry::start(name, config.common())?;
        let lifecycle = Lifecycle::default();
        lifecycle.stop_on_signals()?;
        start(config, lifecycle.clone()).await?;
        tracing::info!(%host, port, pid = std::process::id(), version = env!("CARGO_PKG_VERSION"), "started");
        let result = lifecycle.run(drain).await;
        tracing::info!("stopped");
        telemetry.finish().await;
        result
    })
}

/// Asks the process that runs with the same settings whether it is ready.
fn health<C: Settings>() -> ExitCode {
    let port = C::command()
        .get_arguments()
        .find(|arg| arg.get_long() == Some("port"))
        .and_then(|arg| {
            let set = std::env::var("PORT").ok().filter(|port| !port.is_empty());
            set.or_else(|| Some(arg.get_default_values().first()?.to_str()?.to_owned()))
        })
        .and_then(|port| port.parse().ok());
    let Some(port) = port else {
        eprintln!("PORT is not a port");
        return ExitCode::from(2);
    };
    match http::client::is_ready(port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
