//! Calls between services that are worth more than HTTP: tarpc over TCP, MessagePack on the wire.
//!
//! [`transport`] is the wire, the same on both sides. [`client`] keeps connections to the logger and makes the
//! calls; a request goes from there to the `rpc` module of the logger, which serves them with [`server`].
//! What can go wrong on the way is an [`RpcFailure`].

pub mod client;
mod failure;
pub mod server;
mod transport;

pub use client::{LoggerArgs, LoggerClient};
pub use failure::RpcFailure;

#[cfg(test)]
mod tests;
