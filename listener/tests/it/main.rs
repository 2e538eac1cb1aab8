//! The whole listener, on a real RabbitMQ and with a logger and a mailer of the test's own.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails there")]

mod dead_letters;
mod faults;
mod log;
mod mail;
mod mailer;
mod stand;
mod stop;
mod trail;
