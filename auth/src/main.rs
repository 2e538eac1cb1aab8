//! The auth service's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::service::main("auth", auth::start)
}
