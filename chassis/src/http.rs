//! HTTP between a client and a service, and between services.
//!
//! [`server`] accepts connections and drains them; [`edge`] gives each request its context, its log line and
//! its metrics; [`body`] reads a bounded JSON body; [`answer`] is what every handler gives back; [`client`]
//! calls another service.

pub mod answer;
pub mod body;
pub mod client;
pub mod edge;
pub mod server;

#[cfg(test)]
mod tests;

pub use answer::Answer;
