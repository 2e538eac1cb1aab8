//! What the chassis does with real servers.

mod amqp;
