//! `chassis::amqp` on a real RabbitMQ, with faults on the wire between them.

mod consumer;
mod dying;
mod peer;
mod publisher;
pub(crate) mod rabbit;
mod unreadable;
