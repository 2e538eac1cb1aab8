//! The listener's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::service::main("listener", listener::start)
}
