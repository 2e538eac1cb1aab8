//! Declares every exchange, queue and binding of [`Topology`].
//!
//! Declaring what stands already changes nothing, so whoever connects declares everything. What stands with
//! other arguments is left alone and named: the server never changes a queue.

use contracts::topology::{LOG_BINDING, MAIL_BINDINGS, Retry, TRAIL_BINDINGS, Topology};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};
use thiserror::Error;

/// How often a message may be delivered again before it goes to the dead letters. It counts every delivery
/// that ended without an acknowledgement, also those that waited in the buffer of a consumer whose
/// connection broke; so it is far above what outages cost, and yet ends a message that kills its consumer. The
/// same as RabbitMQ 4 has where none is given.
pub(super) const DELIVERY_LIMIT: u64 = 20;

/// Why not everything is declared.
#[derive(Debug, Error)]
pub enum TopologyError {
    /// It stands with other arguments.
    #[error(
        "{kind} `{name}` stands with other arguments than this release declares ({said}): \
         delete it on the server once it is empty, or set RABBITMQ_NAMESPACE to names of your own"
    )]
    Mismatch {
        /// `exchange` or `queue`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What the server said.
        said: String,
    },
    /// The name is too long for the protocol.
    #[error("the name `{0}` is longer than 255 bytes")]
    Name(String),
    /// The server refused, or the connection broke.
    #[error("{0}")]
    Server(#[from] lapin::Error),
}

/// An exchange.
struct Exchange<'a> {
    name: &'a str,
    kind: ExchangeKind,
}

/// A queue, and what flows into it.
struct Queue<'a> {
    name: &'a str,
    bindings: Vec<(&'a str, &'a str)>,
    arguments: Vec<(&'static str, AMQPValue)>,
}

impl<'a> Queue<'a> {
    /// A replicated queue that keeps messages until they are acknowledged.
    fn quorum(name: &'a str) -> Self {
        let arguments = vec![("x-queue-type", text("quorum"))];
        Self { name, bindings: Vec::new(), arguments }
    }

    /// One that people or services work through; what can't be delivered goes on to `dead`, and is kept until
    /// it has arrived there. `at-least-once` wants `reject-publish`: without a length limit it rejects nothing.
    fn work(name: &'a str, dead: &str) -> Self {
        let mut queue = Self::quorum(name);
        let limit = i64::try_from(DELIVERY_LIMIT).unwrap_or(i64::MAX);
        queue.arguments.extend([
            ("x-delivery-limit", AMQPValue::LongLongInt(limit)),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(dead)),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ]);
        queue
    }

    /// One in which messages wait before they return to the queue that their routing key names. It keeps each until it
    /// has arrived there.
    fn retry(retry: &'a Retry) -> Self {
        let mut queue = Self::quorum(&retry.name);
        let delay = i64::try_from(retry.delay.as_millis()).unwrap_or(i64::MAX);
        queue.arguments.extend([
            ("x-message-ttl", AMQPValue::LongLongInt(delay)),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ]);
        queue.bound(&retry.name, "")
    }

    /// Bound to `exchange` for the routing keys that match `pattern`.
    fn bound(mut self, exchange: &'a str, pattern: &'a str) -> Self {
        self.bindings.push((exchange, pattern));
        self
    }
}

/// Everything there is to be, in an order in which each has what it needs.
fn plan(topology: &Topology) -> (Vec<Exchange<'_>>, Vec<Queue<'_>>) {
    let Topology { events, logs_topic, log_queue, mail_queue, trail_queue, .. } = topology;
    let Topology { dead_queue, unreadable_queue, retries, .. } = topology;
    let topics = [events, logs_topic].map(|name| Exchange { name, kind: ExchangeKind::Topic });
    let waits = retries.iter().map(|retry| Exchange { name: &retry.name, kind: ExchangeKind::Fanout });
    let mut queues = vec![
        Queue::quorum(unreadable_queue),
        Queue::work(dead_queue, unreadable_queue),
        Queue::work(log_queue, dead_queue).bound(events, LOG_BINDING).bound(logs_topic, LOG_BINDING),
        MAIL_BINDINGS.iter().fold(Queue::work(mail_queue, dead_queue), |queue, key| queue.bound(events, key)),
        TRAIL_BINDINGS
            .iter()
            .fold(Queue::work(trail_queue, dead_queue), |queue, key| queue.bound(events, key)),
    ];
    queues.extend(retries.iter().map(Queue::retry));
    (topics.into_iter().chain(waits).collect(), queues)
}

/// Declares everything over a channel of its own, because a mismatch closes the channel.
pub(super) async fn declare(connection: &Connection, topology: &Topology) -> Result<(), TopologyError> {
    let channel = connection.create_channel().await?;
    let (exchanges, queues) = plan(topology);
    for Exchange { name, kind } in exchanges {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(short(name)?, kind, options, FieldTable::default())
            .await
            .map_err(|error| explain("exchange", name, error))?;
    }
    for queue in queues {
        declare_queue(&channel, &queue).await?;
    }
    Ok(channel.close(200, "declared".into()).await?)
}

async fn declare_queue(channel: &Channel, queue: &Queue<'_>) -> Result<(), TopologyError> {
    let name = short(queue.name)?;
    let mut arguments = FieldTable::default();
    for (key, value) in &queue.arguments {
        arguments.insert((*key).into(), value.clone());
    }
    channel
        .queue_declare(name.clone(), QueueDeclareOptions::durable(), arguments)
        .await
        .map_err(|error| explain("queue", queue.name, error))?;
    for (exchange, pattern) in &queue.bindings {
        let (exchange, pattern) = (short(exchange)?, short(pattern)?);
        channel
            .queue_bind(name.clone(), exchange, pattern, QueueBindOptions::default(), FieldTable::default())
            .await?;
    }
    Ok(())
}

fn explain(kind: &'static str, name: &str, error: lapin::Error) -> TopologyError {
    match error.kind() {
        ErrorKind::ProtocolError(said)
            if *said.kind() == AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) =>
        {
            let said = said.get_message().to_string();
            TopologyError::Mismatch { kind, name: name.to_owned(), said }
        }
        _ => TopologyError::Server(error),
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// A name for the wire; lapin's own conversion panics when it is too long.
pub(super) fn short(name: &str) -> Result<ShortString, TopologyError> {
    ShortString::try_new(name).map_err(|_| TopologyError::Name(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::topology::RETRY_DELAYS;

    #[test]
    fn a_queue_is_declared_after_the_one_that_its_dead_letters_go_to() {
        let topology = Topology::within("x-").with_delays("x-", &RETRY_DELAYS);
        let (exchanges, queues) = plan(&topology);
        let exchanges: Vec<_> = exchanges.iter().map(|exchange| exchange.name).collect();
        assert_eq!(exchanges[..3], ["x-switchboard.events", "x-logs_topic", "x-switchboard.retry.1000ms"]);
        let names: Vec<_> = queues.iter().map(|queue| queue.name).collect();
        assert_eq!(names[..3], ["x-switchboard.unreadable", "x-switchboard.dead", "x-switchboard.log"]);
        assert_eq!(queues[2].bindings, [("x-switchboard.events", "log.*"), ("x-logs_topic", "log.*")]);
        let hour = queues.last().unwrap();
        assert_eq!(
            (hour.name, &hour.bindings[..]),
            ("x-switchboard.retry.3600000ms", &[(hour.name, "")][..])
        );
    }
}
