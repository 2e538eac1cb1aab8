//! The process.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::service::main("logger", logger::start)
}
