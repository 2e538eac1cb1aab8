//! What is told of a mail: a step of its trail for each claim that may send it twice, and for each end.

use chassis::amqp::Publication;
use chassis::outbox;
use contracts::trail::{Step, StepKind};
use sqlx::PgConnection;

use super::{End, Lease};

/// How steps name this service.
const SERVICE: &str = "mailer";

/// The step that tells of a claim, where there is something to tell.
pub(super) fn claimed(lease: &Lease) -> Option<Step> {
    lease.again.then(|| step(lease, StepKind::Resent))
}

/// The step that tells how a claim ended, where it has.
pub(super) fn ended(lease: &Lease, end: &End) -> Option<Step> {
    let (kind, why) = match end {
        End::Sending => return None,
        End::Sent => (StepKind::Done, None),
        End::Failed(why) => (StepKind::Failed, Some(why.to_string())),
        End::Waiting(why) | End::Unknown(why) => (StepKind::Deferred, Some(why.clone())),
    };
    let mut step = step(lease, kind);
    step.details.began = Some(lease.began);
    step.details.why = why;
    Some(step)
}

fn step(lease: &Lease, kind: StepKind) -> Step {
    let attempt = u32::try_from(lease.attempt).unwrap_or_default();
    let mut step = Step::new(lease.id, "mail", kind, attempt.into(), SERVICE);
    step.details.attempt = Some(attempt);
    step
}

/// Writes the events of these steps to the outbox, in the order of each mail.
pub(super) async fn tell(connection: &mut PgConnection, steps: &[(&Lease, Step)]) -> sqlx::Result<()> {
    // A step is always JSON.
    let publications = steps.iter().filter_map(|(lease, step)| {
        let event = step.event(Some(lease.trace.to_string()));
        Some((lease.id.to_string(), Publication::of(&event.kind, &event).ok()?))
    });
    outbox::enqueue(connection, &publications.collect::<Vec<_>>()).await
}
