//! A channel in confirm mode, shared by every publisher of a process.
//!
//! One task drives it: it sends what publishers hand it, in order and without waiting for the confirm of one
//! before it sends the next, and answers each once the server has confirmed its message. What a publisher has given up
//! before it was sent is not sent.
//!
//! lapin hands a returned message to whichever confirm comes next, not to the message's own, so a shared
//! channel that looks at its own confirm alone tells the wrong publisher. The return is always given out before
//! or with the confirm of its own message; so all confirms that are there are gathered first, then matched with
//! the returns by message id, and only then answered.

use std::pin::pin;
use std::time::{Duration, Instant};

use contracts::topology::Topology;
use futures_util::future::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::publisher::PublishError;
use super::server::{CONNECT_TIMEOUT, ConnectError, lost};
use super::topology;
use crate::crash;

/// How many requests are taken from the queue at once.
const BURST: usize = 256;
/// How long what was sent may take to be settled when the process ends: a server that takes no messages never settles it.
const LEAVE: Duration = Duration::from_secs(1);
/// How often a message that no queue took makes the topology be declared again.
const REDECLARE_EVERY: Duration = Duration::from_secs(1);

/// One message on its way out.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

/// A message and who waits for its confirm.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) message: Message,
    pub(super) answer: oneshot::Sender<Result<(), PublishError>>,
    /// The message's part of what may be in flight; given back when it is settled, however long the one who
    /// asked has waited.
    pub(super) room: OwnedSemaphorePermit,
}

impl Request {
    /// Answers without having sent it.
    pub(super) fn refuse(self, why: &str) {
        // Whoever asked may have stopped waiting.
        let _ = self.answer.send(Err(PublishError::Unavailable(why.to_owned())));
    }
}

/// Why a channel is not driven any more.
#[derive(Debug)]
pub(super) enum Ended {
    /// All is sent and settled, and there will be no more.
    Finished,
    /// The channel or its connection broke.
    Broken(String),
}

/// A channel that confirms. There is no other way to make one than with `confirm.select`, without which
/// every confirm would resolve at once.
#[derive(Debug)]
pub(super) struct ConfirmChannel {
    channel: Channel,
}

/// What became of one message.
struct Settled {
    id: Option<ShortString>,
    outcome: Result<Confirmation, lapin::Error>,
    answer: oneshot::Sender<Result<(), PublishError>>,
    _room: OwnedSemaphorePermit,
}

impl ConfirmChannel {
    /// Opens a channel and puts it in confirm mode.
    pub(super) async fn open(connection: &Connection) -> Result<Self, lapin::Error> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { channel })
    }

    /// Sends what comes in and settles it, until the channel breaks, or until `closing` is cancelled and all is settled, or as
    /// good as: nobody waits for long any more then.
    pub(super) async fn drive(
        &self,
        connection: &Connection,
        names: &Topology,
        requests: &mut mpsc::UnboundedReceiver<Request>,
        closing: &CancellationToken,
    ) -> Ended {
        let mut lost = pin!(lost(connection, &self.channel));
        let mut in_flight = FuturesUnordered::new();
        let mut returns = Returns::default();
        let (mut arrived, mut settled) = (Vec::new(), Vec::new());
        let mut declared = Instant::now();
        let mut left = pin!(async {
            closing.cancelled().await;
            tokio::time::sleep(LEAVE).await;
        });
        loop {
            tokio::select! {
                biased;
                Some(first) = in_flight.next() => {
                    settled.push(first);
                    while let Some(Some(more)) = in_flight.next().now_or_never() {
                        settled.push(more);
                    }
                    let round = returns.answer(&mut settled);
                    if let Some(error) = round.broken {
                        return Ended::Broken(error.to_string());
                    }
                    if round.returned && declared.elapsed() > REDECLARE_EVERY {
                        // Somebody may have deleted a queue; then it is there again for the next try.
                        declared = Instant::now();
                        if let Err(error) = redeclare(connection, names).await {
                            return Ended::Broken(error.to_string());
                        }
                    }
                }
                count = requests.recv_many(&mut arrived, BURST) => {
                    if count == 0 {
                        return Ended::Finished;
                    }
                    let wanted = arrived.drain(..).filter(|request| !request.answer.is_closed());
                    in_flight.extend(wanted.map(|request| self.send(request)));
                }
                error = &mut lost => return Ended::Broken(error.to_string()),
                () = closing.cancelled(), if in_flight.is_empty() => return Ended::Finished,
                () = &mut left => return Ended::Finished,
            }
        }
    }

    async fn send(&self, request: Request) -> Settled {
        let Request { message, answer, room } = request;
        let Message { exchange, routing_key, properties, body } = message;
        let id = properties.message_id().clone();
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = self.channel.basic_publish(exchange, routing_key, options, &body, properties).await;
        drop(body);
        crash::point("publisher: sent");
        let outcome = match sent {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        Settled { id, outcome, answer, _room: room }
    }
}

async fn redeclare(connection: &Connection, names: &Topology) -> Result<(), ConnectError> {
    let declaring = tokio::time::timeout(CONNECT_TIMEOUT, topology::declare(connection, names));
    Ok(declaring.await.map_err(|_| ConnectError::TooSlow)??)
}

/// The ids of messages that came back and whose own confirm has not come yet.
#[derive(Default)]
struct Returns {
    ids: Vec<Option<ShortString>>,
}

/// What a round of confirms said beside the answers.
#[derive(Default)]
struct Round {
    broken: Option<lapin::Error>,
    returned: bool,
}

impl Returns {
    /// Answers everyone whose message is settled.
    fn answer(&mut self, settled: &mut Vec<Settled>) -> Round {
        for Settled { outcome, .. } in settled.iter_mut() {
            if let Ok(Confirmation::Ack(returned) | Confirmation::Nack(returned)) = outcome
                && let Some(returned) = returned.take()
            {
                self.ids.push(returned.properties.message_id().clone());
            }
        }
        let mut round = Round::default();
        for Settled { id, outcome, answer, _room } in settled.drain(..) {
            let result = match outcome {
                Ok(Confirmation::Ack(_)) => match self.ids.iter().position(|returned| *returned == id) {
                    Some(at) => {
                        self.ids.swap_remove(at);
                        round.returned = true;
                        Err(PublishError::Returned)
                    }
                    None => Ok(()),
                },
                Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => Err(PublishError::Nacked),
                Err(error) => {
                    let why = error.to_string();
                    round.broken = Some(error);
                    Err(PublishError::Unavailable(why))
                }
            };
            // Whoever asked may have stopped waiting.
            let _ = answer.send(result);
        }
        round
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::message::{BasicReturnMessage, Delivery};
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    type Answer = oneshot::Receiver<Result<(), PublishError>>;

    fn settled(id: &str, outcome: Confirmation) -> (Settled, Answer) {
        let (answer, answered) = oneshot::channel();
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        (Settled { id: Some(id.into()), outcome: Ok(outcome), answer, _room: room }, answered)
    }

    fn returned(id: &str) -> BasicReturnMessage {
        let mut delivery = Delivery::mock(0, "".into(), "".into(), false, Vec::new());
        delivery.properties = BasicProperties::default().with_message_id(id.into());
        BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() }
    }

    #[test]
    fn a_return_that_came_with_the_confirm_of_another_is_told_to_its_own_publisher() {
        let mut returns = Returns::default();
        let (first, mut first_told) = settled("1", Confirmation::Ack(None));
        let (second, mut second_told) = settled("2", Confirmation::Ack(Some(returned("1"))));
        let round = returns.answer(&mut vec![first, second]);
        assert!(round.returned && round.broken.is_none());
        assert!(matches!(first_told.try_recv().unwrap(), Err(PublishError::Returned)));
        assert!(second_told.try_recv().unwrap().is_ok());
    }

    #[test]
    fn a_return_waits_for_the_confirm_of_its_own_message() {
        let mut returns = Returns::default();
        let (first, mut told) = settled("1", Confirmation::Ack(Some(returned("2"))));
        assert!(!returns.answer(&mut vec![first]).returned);
        assert!(told.try_recv().unwrap().is_ok());
        for expected in [false, true] {
            // Published once more with the same id, it has been returned only once.
            let (second, mut told) = settled("2", Confirmation::Ack(None));
            returns.answer(&mut vec![second]);
            assert_eq!(told.try_recv().unwrap().is_ok(), expected);
        }
    }

    #[test]
    fn a_refused_message_is_an_error() {
        let (refused, mut told) = settled("1", Confirmation::Nack(None));
        Returns::default().answer(&mut vec![refused]);
        assert!(matches!(told.try_recv().unwrap(), Err(PublishError::Nacked)));
    }
}
