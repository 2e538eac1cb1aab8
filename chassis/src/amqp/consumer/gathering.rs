//! The next batch: what has come and is not worked on yet.

use std::ops::Range;

use futures_util::future::FutureExt as _;
use futures_util::stream::{Stream, StreamExt as _};

use super::Delivery;
use super::session::{Ended, ended_by};
use super::weight::Weight;
use crate::amqp::topology::DELIVERY_LIMIT;

/// How many bytes of bodies at most make a batch, so that it fits into a frame of the logger's RPC.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// From how many deliveries on a message is taken alone. Far below the delivery limit of the queues: each return to
/// taking many costs the neighbours one more. At the limit itself it is taken as it comes: to be taken alone it has to be
/// given back, and that would be its end, untried.
const SUSPECT: Range<u64> = 5..DELIVERY_LIMIT;

/// What the stream of deliveries gives.
type Arrival = Result<lapin::message::Delivery, lapin::Error>;

/// Messages, the oldest first.
#[derive(Debug)]
pub(super) struct Gathering {
    batch: Vec<Delivery>,
    bytes: usize,
    most: usize,
}

impl Gathering {
    /// Of so many messages at most.
    pub(super) fn new(most: usize) -> Self {
        Self { batch: Vec::new(), bytes: 0, most }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Whether no more messages fit in.
    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= self.most || self.bytes >= BATCH_BYTES
    }

    /// The batch. The next one begins.
    pub(super) fn take(&mut self) -> Vec<Delivery> {
        self.bytes = 0;
        std::mem::take(&mut self.batch)
    }

    /// Adds what is already there, from `next` on. Gives what ends the session after it; `Err` when the connection or the
    /// channel is lost, and all of it will come again. Where the session is `careful`, no message is a suspect.
    pub(super) fn add(
        &mut self,
        consumer: &mut (impl Stream<Item = Arrival> + Unpin),
        mut next: Option<Arrival>,
        weight: &mut Weight,
        careful: bool,
    ) -> Result<Option<Ended>, Ended> {
        loop {
            match next {
                Some(Ok(delivery)) => {
                    let delivery = Delivery::from(delivery);
                    if !careful && SUSPECT.contains(&delivery.redeliveries()) {
                        return Ok(Some(Ended::Suspect(delivery.redeliveries())));
                    }
                    self.bytes += delivery.body().len();
                    weight.add(delivery.body().len());
                    self.batch.push(delivery);
                }
                Some(Err(error)) => return Err(ended_by(&error)),
                None => return Ok(Some(Ended::Cancelled)),
            }
            if self.is_full() {
                return Ok(None);
            }
            next = match consumer.next().now_or_never() {
                Some(next) => next,
                None => return Ok(None),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream::iter;
    use lapin::BasicProperties;
    use lapin::types::{AMQPValue, FieldTable, ShortString};

    /// A message of so many bytes that was delivered so often before.
    fn arrival(bytes: usize, redeliveries: u64) -> lapin::message::Delivery {
        let nowhere = ShortString::default();
        let mut delivery =
            lapin::message::Delivery::mock(1, nowhere.clone(), nowhere, redeliveries > 0, vec![0; bytes]);
        let mut headers = FieldTable::default();
        let count = AMQPValue::LongLongInt(i64::try_from(redeliveries).unwrap());
        headers.insert("x-delivery-count".into(), count);
        delivery.properties = BasicProperties::default().with_headers(headers);
        delivery
    }

    /// Adds these, which are there; gives what ends the session after them.
    fn add(
        gathering: &mut Gathering,
        arrivals: Vec<lapin::message::Delivery>,
        careful: bool,
    ) -> Option<Ended> {
        // Then nothing more is there, for now.
        let mut stream = iter(arrivals).map(Ok).chain(futures_util::stream::pending());
        let first = stream.next().now_or_never().unwrap();
        gathering.add(&mut stream, first, &mut Weight::default(), careful).unwrap()
    }

    /// How many make a batch, and what ends the session after it.
    fn gathered(
        arrivals: Vec<lapin::message::Delivery>,
        most: usize,
        careful: bool,
    ) -> (usize, Option<Ended>) {
        let mut gathering = Gathering::new(most);
        let over = add(&mut gathering, arrivals, careful);
        (gathering.take().len(), over)
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
    fn it_grows_until_it_is_taken_or_full() {
        let mut gathering = Gathering::new(3);
        for (count, full) in [(1, false), (2, false), (3, true)] {
            assert_eq!(add(&mut gathering, vec![arrival(10, 0)], false), None);
            assert_eq!((gathering.batch.len(), gathering.is_full()), (count, full));
        }
        assert_eq!(gathering.take().len(), 3);
        assert!(gathering.is_empty() && !gathering.is_full());
        assert_eq!(add(&mut gathering, vec![arrival(BATCH_BYTES, 0)], false), None);
        assert!(gathering.is_full());
        gathering.take();
        assert!(!gathering.is_full());
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
