//! The mailer's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::service::main("mailer", mailer::start)
}
