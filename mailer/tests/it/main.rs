//! The mailer against real and scripted mail servers.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails with the reason")]

mod catcher;
mod fake;
mod faults;
mod ledger;
mod ledger_away;
mod refusals;
mod rolled_back;
mod service;
mod stale;
mod telling;
mod tls;
