//! The microservice chassis: what every service needs and none should write again.
//!
//! A service's `main` hands its `run` to [`service::main`], which reads the [`settings`], starts
//! [`telemetry`], listens for signals ([`lifecycle`]) and drains at the end. A request enters through
//! [`http::server`], gets its id and trace in [`http::edge`] as a [`request::RequestContext`], and leaves to
//! another service through [`http::client`], [`rpc`] or [`amqp`], which all pass that context on. What a service with a
//! database has to tell the others goes through its [`outbox`].

pub mod amqp;
pub mod breaker;
pub mod crash;
pub mod health;
pub mod http;
pub mod lifecycle;
pub mod outbox;
pub mod postgres;
pub mod request;
pub mod retry;
pub mod rpc;
pub mod service;
pub mod settings;
pub mod tcp;
pub mod telemetry;
pub mod trace;
