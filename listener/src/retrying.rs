//! The step of a trail that says that an action is tried again, and when.

use chassis::amqp::Delivery;
use chrono::TimeDelta;
use contracts::topology::Retry;
use contracts::trail::{Step, StepKind};
use uuid::Uuid;

use crate::SERVICE;

/// The step of `action`, which is a `name`, that the message which asks for it has failed and now waits.
pub(crate) fn step(action: Uuid, name: &str, delivery: &Delivery, why: String, retry: &Retry) -> Step {
    let attempt = delivery.attempt();
    // A replay counts its attempts anew.
    let before = delivery.replay().map_or(0, |letter| letter.as_u128());
    let number = before.wrapping_add(attempt.into());
    let mut step = Step::new(action, name, StepKind::Retrying, number, SERVICE);
    step.details.due = TimeDelta::from_std(retry.delay).ok().map(|delay| step.at + delay);
    step.details.attempt = Some(attempt);
    step.details.why = Some(why);
    step
}
