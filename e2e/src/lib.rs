//! Black-box journeys through the running system: what [`system`] finds, [`browser`] looks at.
//!
//! Nothing here knows how a service works inside; it uses the ports that people use.

#![expect(clippy::expect_used, reason = "a test that can't go on fails with the reason")]

pub mod browser;
pub mod catcher;
pub mod containers;
pub mod process;
pub mod system;
