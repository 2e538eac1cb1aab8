//! What the integration tests share: where the servers are ([`setting()`]), names of one's own
//! ([`namespace`]), waiting for a condition ([`eventually()`]), a service inside the test's process
//! ([`Running`]), requests ([`http`]), faults on the wire ([`proxy`]) and a database of one's own
//! ([`postgres`]).
//!
//! Only ever a dev-dependency. It panics freely: in a test that is how a failure is said.

#![expect(clippy::expect_used, reason = "a test that can't go on fails with the reason")]

mod eventually;
pub mod http;
pub mod mongodb;
pub mod postgres;
pub mod proxy;
pub mod rabbitmq;
mod running;
mod setting;

pub use eventually::eventually;
pub use running::Running;
pub use setting::{setting, use_stack};

/// A prefix of one's own for names on a shared server.
pub fn namespace() -> String {
    format!("t-{}-", uuid::Uuid::now_v7().simple())
}
