//! RabbitMQ: publishing with confirms, and consuming in batches.
//!
//! Both sides declare the [`topology`] when they connect, so that any of them may start first. A
//! [`Publisher`] owns one pooled connection and one channel in [`confirm`] mode which every publisher in the
//! process shares. A [`Consumer`] has a connection of its own; it hands [`Delivery`]s to a service in batches
//! and acts on the [`Disposition`] of each: what can't be worked on goes [`onward`], to a wait or to the dead letters.
//! All of them find the server again by themselves.

mod confirm;
pub mod consumer;
mod delivery;
mod letter;
pub mod onward;
pub mod publisher;
mod server;
pub mod topology;

pub use consumer::{Consumer, Flow};
pub use delivery::{Delivery, Disposition};
pub use onward::Onward;
pub use publisher::{Publication, PublishError, Publisher};
pub use server::{AmqpArgs, InvalidUrl, Standing};

/// What people call the server, in readiness and in answers.
pub const NAME: &str = "RabbitMQ";
