//! What is told of a mail: a step of its trail for each claim that may send it twice, and for each end. Each is an event
//! in the outbox, where those of one mail keep their order.

use chassis::amqp::Publication;
use contracts::trail::{Step, StepKind};

use super::{End, Lease};

/// How steps name this service.
const SERVICE: &str = "mailer";

/// The event that tells of a claim, where there is something to tell.
pub(super) fn claimed(lease: &Lease) -> Option<(String, Publication)> {
    if !lease.again {
        return None;
    }
    event(lease, &step(lease, StepKind::Resent))
}

/// The event that tells how a claim ended, where it has.
pub(super) fn ended(lease: &Lease, end: &End) -> Option<(String, Publication)> {
    let (kind, why) = match end {
        End::Sending => return None,
        End::Sent => (StepKind::Done, None),
        End::Failed(why) => (StepKind::Failed, Some(why.to_string())),
        End::Waiting(why) | End::Unknown(why) => (StepKind::Deferred, Some(why.clone())),
    };
    let mut step = step(lease, kind);
    step.details.began = Some(lease.began);
    step.details.why = why;
    event(lease, &step)
}

fn step(lease: &Lease, kind: StepKind) -> Step {
    let attempt = u32::try_from(lease.attempt).unwrap_or_default();
    let mut step = Step::new(lease.id, "mail", kind, attempt.into(), SERVICE);
    step.details.attempt = Some(attempt);
    step
}

fn event(lease: &Lease, step: &Step) -> Option<(String, Publication)> {
    let event = step.event(Some(lease.trace.to_string()));
    // A step is always JSON.
    Some((lease.id.to_string(), Publication::of(&event.kind, &event).ok()?))
}
