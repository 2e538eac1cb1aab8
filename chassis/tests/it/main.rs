//! What the chassis does with real servers.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails there")]

mod amqp;
mod outbox;
mod session;
