//! The process of the test console's service.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::service::main("frontend", frontend::start)
}
