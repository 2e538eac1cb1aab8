//! The auth service against a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails there")]

mod authenticate;
mod bad_input;
mod faults;
mod migrations;
mod saturation;
mod service;
mod timing;
mod users;
