//! What crosses a process boundary, and nothing else.
//!
//! A request enters as JSON and is parsed here into a payload that is valid by its type ([`auth`], [`log`],
//! [`mail`]; every failing field is collected by [`validation`]). Between services it travels as one of three
//! things: an HTTP [`reply`], a call of the logger's tarpc trait ([`logger`]), or a CloudEvent ([`event`]) on
//! the exchanges and queues of [`topology`]. What becomes of it is told as a [`trail`] of steps; what can't be worked
//! on is kept as a [`dead_letter`].
//!
//! There is no I/O in this crate, and it imports none of the others.

pub mod auth;
pub mod dead_letter;
pub mod event;
pub mod idempotency;
pub mod log;
pub mod logger;
pub mod mail;
pub mod reply;
pub mod topology;
pub mod trail;
pub mod validation;
