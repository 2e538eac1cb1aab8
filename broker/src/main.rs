//! The broker's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::service::main("broker", broker::start)
}
