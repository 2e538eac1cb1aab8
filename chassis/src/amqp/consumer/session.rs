//! One connection of a consumer, from the declaration of the topology to its end.

use std::pin::pin;
use std::time::Duration;

use contracts::topology::Topology;
use futures_util::stream::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionStatus, ErrorKind};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batch::{Finished, Work};
use super::gathering::Gathering;
use super::in_hand::InHand;
use super::weight::Weight;
use super::{Disposition, Flow};
use crate::amqp::server::{ConnectError, Server, close, lost};
use crate::amqp::topology;
use crate::crash;

/// How long the server may take to cancel a consumer.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the server may take to begin with a consumer.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what comes is left alone while a batch is worked on and the next is not full: to be woken for each message of
/// a busy queue is a fifth of what it costs.
const LULL: Duration = Duration::from_millis(1);

/// Why a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was to stop, and all is acknowledged.
    Stopped,
    /// Every message that was to be taken one by one is through.
    PastIt,
    /// The connection or the channel is gone.
    Lost(String),
    /// The consumer is gone, and the queue perhaps.
    Cancelled,
    /// The server sent something that lapin can't read, such as a property that is not UTF-8. All that was
    /// delivered comes again, and only taking messages one by one keeps the unreadable one from using up
    /// the deliveries of its neighbours, until the server puts it with the dead letters.
    Unreadable(String),
    /// A message has been delivered so often that it may be what ends its consumer, and its neighbours with it. Only
    /// taking messages one by one keeps it from using up the deliveries of the others.
    Suspect(u64),
}

/// How messages are taken.
#[derive(Debug)]
pub(super) struct Taking<'a> {
    /// As the session was opened.
    pub(super) flow: Flow,
    /// The most that the prefetch may grow to.
    pub(super) most: u16,
    /// After how many messages the session ends, each taken alone; 0 where it goes on.
    pub(super) careful: usize,
    /// How large they are.
    pub(super) weight: &'a mut Weight,
}

/// A connection that consumes.
#[derive(Debug)]
pub(super) struct Session {
    connection: Connection,
    channel: Channel,
    queue: ShortString,
    consumer: lapin::Consumer,
}

impl Session {
    /// Connects, declares everything and begins to consume.
    pub(super) async fn open(
        server: &Server,
        names: &Topology,
        queue: &str,
        flow: Flow,
    ) -> Result<Self, ConnectError> {
        let connection = server.connect("consumer").await?;
        let opening = async {
            topology::declare(&connection, names).await?;
            let channel = connection.create_channel().await?;
            let queue = topology::short(queue)?;
            let consumer = begin(&channel, queue.clone(), flow.prefetch).await?;
            Ok((channel, queue, consumer))
        };
        let (channel, queue, consumer) = server.patiently(opening).await?;
        Ok(Self { connection, channel, queue, consumer })
    }

    /// The state of the connection.
    pub(super) fn status(&self) -> ConnectionStatus {
        self.connection.status().clone()
    }

    /// Consumes until the end; gives also how many messages were settled.
    pub(super) async fn consume(
        self,
        work: &Work,
        taking: Taking<'_>,
        stopping: &CancellationToken,
    ) -> (Ended, usize) {
        let Self { connection, channel, queue, mut consumer } = self;
        let Taking { mut flow, most, careful, weight } = taking;
        let mut lost = pin!(lost(&connection, &channel));
        let mut in_hand = InHand::new(flow);
        let mut gathering = Gathering::new(flow.batch);
        let mut count = 0;
        // What the session ends with once the batches in hand are finished.
        let mut last = None;
        // Whether the consumer is being exchanged for one with another prefetch.
        let mut resizing = false;
        // When there is something to be seen again, while a batch is worked on.
        let mut look_at = Instant::now();
        let ended = loop {
            let idle = in_hand.len() == 0;
            if idle
                && gathering.is_empty()
                && let Some(ended) = last.take()
            {
                break ended;
            }
            // One batch after the other, for as long as what comes meanwhile fits into one: fewer and larger ones cost the
            // handler less.
            let full = gathering.is_full() && in_hand.len() < flow.concurrent();
            let begins = !gathering.is_empty() && (idle || last.is_some() || full);
            let arrival = async {
                if !idle {
                    tokio::time::sleep_until(look_at).await;
                }
                consumer.next().await
            };
            tokio::select! {
                biased;
                Some(finished) = in_hand.next() => {
                    match finished {
                        Ok(finished) => {
                            let settled = tokio::select! {
                                settled = settle(&finished, flow) => settled,
                                error = &mut lost => Err(ended_by(&error)),
                            };
                            match settled {
                                Ok(settled) => count += settled,
                                Err(ended) => break ended,
                            }
                        }
                        Err(error) => match error.try_into_panic() {
                            // A mistake in the handler: the process is to end, as with any task.
                            Ok(panic) => std::panic::resume_unwind(panic),
                            Err(_) => break Ended::Lost("a batch was aborted".to_owned()),
                        },
                    }
                    if careful > 0 && count >= careful {
                        break Ended::PastIt;
                    }
                }
                error = &mut lost => break ended_by(&error),
                () = stopping.cancelled(), if last.is_none() => {
                    last = Some(Ended::Stopped);
                    cancel(&channel, &consumer).await;
                }
                arrival = arrival, if last.is_none() && !gathering.is_full() => {
                    match gathering.add(&mut consumer, arrival, weight, careful > 0) {
                        Ok(over) => last = over,
                        Err(ended) => break ended,
                    }
                    if !gathering.is_full() {
                        look_at = Instant::now() + LULL;
                    }
                    if resizing && last == Some(Ended::Cancelled) {
                        // What the old one had is taken.
                        (resizing, last) = (false, None);
                        if idle && !gathering.is_empty() {
                            in_hand.push(work.start(gathering.take()));
                        }
                        let beginning = begin(&channel, queue.clone(), flow.prefetch);
                        consumer = match tokio::time::timeout(BEGIN_TIMEOUT, beginning).await {
                            Ok(Ok(consumer)) => consumer,
                            Ok(Err(error)) => break ended_by(&error),
                            Err(_) => break Ended::Lost("the server did not begin in time".to_owned()),
                        };
                    } else if last.is_none() && !resizing && weight.has_outgrown(flow.prefetch, most) {
                        flow.prefetch = weight.prefetch(most);
                        resizing = true;
                        cancel(&channel, &consumer).await;
                    }
                }
                // Last, so that what is there already goes with it.
                () = std::future::ready(()), if begins => in_hand.push(work.start(gathering.take())),
            }
        };
        close(&connection).await;
        (ended, count)
    }
}

/// Begins to consume.
async fn begin(channel: &Channel, queue: ShortString, prefetch: u16) -> lapin::Result<lapin::Consumer> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue, "".into(), options, FieldTable::default()).await
}

/// Asks the server to send no more. What it sent already, and nobody took, goes back when the
/// connection closes.
async fn cancel(channel: &Channel, consumer: &lapin::Consumer) {
    let cancelling = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
    if !matches!(tokio::time::timeout(CANCEL_TIMEOUT, cancelling).await, Ok(Ok(()))) {
        tracing::debug!("the consumer could not be cancelled; closing will do it");
    }
}

/// Gives back what is to be tried again and acknowledges the rest at once, with whatever was before it where batches
/// end in order; gives how many there were.
async fn settle(finished: &Finished, flow: Flow) -> Result<usize, Ended> {
    let mut done = None;
    for (delivery, disposition) in finished.batch.iter().zip(&finished.dispositions) {
        if *disposition == Disposition::Requeue {
            let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            usable(delivery.message.acker.nack(options).await)?;
        } else {
            done = Some(delivery);
        }
    }
    if let Some(last) = done {
        usable(last.message.acker.ack(BasicAckOptions { multiple: flow.in_order() }).await)?;
        crash::point("consumer: acknowledged");
    }
    Ok(finished.batch.len())
}

/// An acknowledgement on a channel that is gone is `Ok(false)`, or an error: either way it comes again.
fn usable(acknowledged: Result<bool, lapin::Error>) -> Result<(), Ended> {
    match acknowledged {
        Ok(true) => Ok(()),
        Ok(false) => Err(Ended::Lost("the channel was lost before the acknowledgement".to_owned())),
        Err(error) => Err(ended_by(&error)),
    }
}

pub(super) fn ended_by(error: &lapin::Error) -> Ended {
    if is_unreadable(error) { Ended::Unreadable(error.to_string()) } else { Ended::Lost(error.to_string()) }
}

/// Whether lapin could not read what the server sent; a message whose headers fill more than a frame, say.
pub(super) fn is_unreadable(error: &lapin::Error) -> bool {
    match error.kind() {
        ErrorKind::ParsingError(_) => true,
        ErrorKind::ProtocolError(error) => *error.kind() == AMQPErrorKind::Hard(AMQPHardError::FRAMEERROR),
        _ => false,
    }
}
