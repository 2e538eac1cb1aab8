//! One connection of a consumer, from the declaration of the topology to its end.

use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use contracts::topology::Topology;
use futures_util::future::FutureExt as _;
use futures_util::stream::{Stream, StreamExt as _};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionStatus, ErrorKind};
use tokio_util::sync::CancellationToken;

use super::batch::{Finished, Work};
use super::in_hand::InHand;
use super::weight::Weight;
use super::{Delivery, Disposition, Flow};
use crate::amqp::server::{ConnectError, Server, close, lost};
use crate::amqp::topology::{self, DELIVERY_LIMIT};
use crate::crash;

/// How many bytes of bodies at most make a batch, so that it fits into a frame of the logger's RPC.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// From how many deliveries on a message is taken alone. Far below the delivery limit of the queues: each return to
/// taking many costs the neighbours one more. At the limit itself it is taken as it comes: to be taken alone it has to be
/// given back, and that would be its end, untried.
const SUSPECT: Range<u64> = 5..DELIVERY_LIMIT;
/// How long the server may take to cancel a consumer.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the server may take to begin with a consumer.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);

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

/// What the stream of deliveries gives.
type Arrival = Result<lapin::message::Delivery, lapin::Error>;

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
        let mut count = 0;
        // What the session ends with once the batches in hand are finished.
        let mut last = None;
        // Whether the consumer is being exchanged for one with another prefetch.
        let mut resizing = false;
        let ended = loop {
            if in_hand.len() == 0
                && let Some(ended) = last.take()
            {
                break ended;
            }
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
                next = consumer.next(), if last.is_none() && in_hand.len() < flow.concurrent() => {
                    match gather(&mut consumer, next, flow.batch, careful > 0) {
                        Ok((batch, over)) => {
                            if !batch.is_empty() {
                                for delivery in &batch {
                                    weight.add(delivery.body().len());
                                }
                                in_hand.push(work.start(batch));
                            }
                            last = over;
                        }
                        Err(ended) => break ended,
                    }
                    if resizing && last == Some(Ended::Cancelled) {
                        // What the old one had is taken.
                        (resizing, last) = (false, None);
                        let begins = begin(&channel, queue.clone(), flow.prefetch);
                        consumer = match tokio::time::timeout(BEGIN_TIMEOUT, begins).await {
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

/// What is already there, from `next` on, and whether the consumer is over. `Err` when the connection
/// or the channel is lost, and all of it will come again.
fn gather(
    consumer: &mut (impl Stream<Item = Arrival> + Unpin),
    mut next: Option<Arrival>,
    most: usize,
    careful: bool,
) -> Result<(Vec<Delivery>, Option<Ended>), Ended> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    loop {
        match next {
            Some(Ok(delivery)) => {
                bytes += delivery.data.len();
                let delivery = Delivery(delivery);
                if !careful && SUSPECT.contains(&delivery.redeliveries()) {
                    let suspect = Ended::Suspect(delivery.redeliveries());
                    return Ok((batch, Some(suspect)));
                }
                batch.push(delivery);
            }
            Some(Err(error)) => return Err(ended_by(&error)),
            None => return Ok((batch, Some(Ended::Cancelled))),
        }
        if batch.len() >= most || bytes >= BATCH_BYTES {
            return Ok((batch, None));
        }
        next = match consumer.next().now_or_never() {
            Some(next) => next,
            None => return Ok((batch, None)),
        };
    }
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
            usable(delivery.0.acker.nack(options).await)?;
        } else {
            done = Some(delivery);
        }
    }
    if let Some(last) = done {
        usable(last.0.acker.ack(BasicAckOptions { multiple: flow.in_order() }).await)?;
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

fn ended_by(error: &lapin::Error) -> Ended {
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream::iter;
    use lapin::BasicProperties;
    use lapin::types::{AMQPValue, ShortString};

    /// A message of so many bytes that was delivered so often before.
    fn arrival(bytes: usize, redeliveries: u64) -> lapin::message::Delivery {
        let nowhere = ShortString::default();
        let mut delivery = lapin::message::Delivery::mock(1, nowhere.clone(), nowhere, false, vec![0; bytes]);
        let mut headers = FieldTable::default();
        let count = AMQPValue::LongLongInt(i64::try_from(redeliveries).unwrap());
        headers.insert("x-delivery-count".into(), count);
        delivery.properties = BasicProperties::default().with_headers(headers);
        delivery
    }

    /// How many make a batch, and what ends the session after it.
    fn gathered(
        arrivals: Vec<lapin::message::Delivery>,
        most: usize,
        careful: bool,
    ) -> (usize, Option<Ended>) {
        // Then nothing more is there, for now.
        let mut stream = iter(arrivals).map(Ok).chain(futures_util::stream::pending());
        let first = stream.next().now_or_never().unwrap();
        let (batch, over) = gather(&mut stream, first, most, careful).unwrap();
        (batch.len(), over)
    }

    #[test]
    fn a_batch_is_what_is_there_up_to_so_many() {
        let arrivals = |count| (0..count).map(|_| arrival(10, 0)).collect();
        assert_eq!(gathered(arrivals(1), 10, false), (1, None));
        assert_eq!(gathered(arrivals(9), 10, false), (9, None));
        assert_eq!(gathered(arrivals(25), 10, false), (10, None));
        assert_eq!(gathered(arrivals(25), 1, false), (1, None));
    }

    #[test]
    fn a_batch_is_no_larger_than_the_logger_takes_at_once() {
        let large = || (0..10).map(|_| arrival(BATCH_BYTES / 3, 0)).collect();
        assert_eq!(gathered(large(), 10, false), (4, None));
        assert_eq!(BATCH_BYTES, 4 << 20);
    }

    #[test]
    fn what_came_again_and_again_is_left_for_a_session_that_takes_one_by_one() {
        let arrivals = |redeliveries| vec![arrival(1, 0), arrival(1, redeliveries), arrival(1, 0)];
        assert_eq!(gathered(arrivals(SUSPECT.start - 1), 10, false), (3, None));
        for suspect in SUSPECT {
            assert_eq!(gathered(arrivals(suspect), 10, false), (1, Some(Ended::Suspect(suspect))));
            assert_eq!(gathered(arrivals(suspect), 10, true), (3, None));
        }
        // Given back once more it would be dead, untried.
        assert_eq!(gathered(arrivals(DELIVERY_LIMIT), 10, false), (3, None));
    }
}
