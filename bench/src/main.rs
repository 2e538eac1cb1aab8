//! Every path of the system beside a floor written with the bare crates, as ratios taken in one run.
//!
//! `dev/bench` brings a stack up for it and runs it with the settings of that stack. Each file of [`paths`] holds one
//! path: the floor, ours, and what is asked. Machines are noisy, so floor and ours take turns, and what counts is
//! the median of the rounds' ratios.

#![expect(clippy::expect_used, reason = "a measurement that fails is not worth going on with")]

mod figures;
mod load;
mod paths;
mod process;
mod report;
mod setup;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures each path against its floor, on a stack that runs: use `make bench`.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,

    /// Where to write the figures as JSON too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Only these paths.
    #[arg(long, value_name = "http,log", value_delimiter = ',')]
    only: Vec<paths::Path>,

    /// How often floor and ours take turns.
    #[arg(long, value_name = "3", default_value = "3")]
    rounds: usize,

    /// Also with a million messages in the queue and five million events in the outbox: minutes, and some GB.
    #[arg(long)]
    large: bool,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The floor of `POST /`: serves it until it is stopped.
    #[command(hide = true)]
    FloorHttp,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.role {
        Some(Role::FloorHttp) => paths::http::serve_floor(),
        None => {
            let Arguments { only, rounds, large, json, .. } = &arguments;
            report::run(only, (*rounds).max(1), *large, json.as_deref())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
