//! Black-box journeys through the running system: what [`system`] finds, [`browser`] looks at.
//!
//! They know nothing of how a service works inside, and use the ports that people use. What has to kill and to count
//! has a system of its own ([`isolated`]), with a mail server that remembers ([`sink`]). [`publisher`] is none of the
//! system's.

#![expect(clippy::expect_used, reason = "a test that can't go on fails with the reason")]

pub mod browser;
pub mod catcher;
pub mod containers;
pub mod isolated;
pub mod process;
pub mod publisher;
pub mod servers;
pub mod sink;
pub mod system;
pub mod tally;
