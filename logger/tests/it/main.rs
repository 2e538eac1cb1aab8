//! The logger against a real MongoDB.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails with the reason")]

mod actions;
mod dead_letters;
mod decisions;
mod faults;
mod indexes;
mod reading;
mod running;
mod steps;
mod writing;
