//! The dead queue: each message is a letter, which the logger keeps ([`crate::store`]) for people to read, replay or
//! discard. The trail of a mail learns of it.

use chassis::amqp::Delivery;
use chassis::crash;
use chassis::request::RequestContext;
use chassis::rpc::LoggerClient;
use chassis::trace::TraceContext;
use contracts::dead_letter::Letter;
use contracts::trail::{Step, StepKind};

use crate::SERVICE;
use crate::store::{Keep, Outcomes};

/// The messages of the dead queue.
#[derive(Debug)]
pub(crate) struct Dead {
    /// The queue of the mails.
    pub(crate) mail_queue: String,
    /// The queue of the steps, whose messages stand for no action of their own.
    pub(crate) trail_queue: String,
}

impl Keep for Dead {
    type Item = Letter;
    const RETRIES: bool = false;

    fn read(&self, delivery: &Delivery) -> Result<Letter, String> {
        let mut letter = delivery.letter();
        letter.action.take_if(|_| letter.queue == self.trail_queue);
        Ok(letter)
    }

    async fn send(&self, logger: &LoggerClient, context: &RequestContext, letters: Vec<Letter>) -> Outcomes {
        let (places, steps): (Vec<usize>, Vec<Step>) =
            letters.iter().enumerate().filter_map(|(at, letter)| Some((at, self.step(letter)?))).unzip();
        let mut outcomes = logger.bury(context, letters).await?;
        crash::point("listener: buried");
        if !steps.is_empty() {
            for (at, told) in places.into_iter().zip(logger.record(context, steps).await?) {
                if outcomes[at].is_ok() {
                    outcomes[at] = told;
                }
            }
        }
        Ok(outcomes)
    }
}

impl Dead {
    /// What the trail of a mail says of its letter. What another payload came to is nothing that became of the action.
    fn step(&self, letter: &Letter) -> Option<Step> {
        let action = letter.action.filter(|_| letter.queue == self.mail_queue)?;
        let kind = if letter.is_conflict() { StepKind::Conflict } else { StepKind::Dead };
        let mut step = Step::new(action, "mail", kind, letter.id.as_u128(), SERVICE);
        step.at = letter.died_at;
        step.trace_id =
            letter.traceparent.as_deref().and_then(TraceContext::parse).map(TraceContext::trace_id_hex);
        step.details.attempt = Some(letter.attempts).filter(|_| kind == StepKind::Dead);
        step.details.why = Some(letter.reason.clone());
        Some(step)
    }
}
