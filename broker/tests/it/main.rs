//! The broker against services of the test's own making, and a real RabbitMQ.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails with the reason")]

mod dead_letters;
mod downstream;
mod faults;
mod queued;
mod stand;
mod trail;
