//! The logger against a real MongoDB.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails with the reason")]

mod faults;
mod reading;
mod running;
mod writing;
