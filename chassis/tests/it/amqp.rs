//! `chassis::amqp` on a real RabbitMQ, with faults on the wire between them.

mod consumer;
mod publisher;
mod rabbit;
mod unreadable;
