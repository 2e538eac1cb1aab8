//! One step of a trail, and the event that tells of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::event::CloudEvent;

/// The namespace of the ids of steps.
const STEPS: Uuid = Uuid::from_u128(0x51d3_0c6e_8f0b_4e1d_b0a4_6a2c_97f1_e85d);
/// What the types of steps' events begin with.
const PREFIX: &str = "mail.";
/// What [`StepKind::Done`] is called there.
const SENT: &str = "sent";
/// What the sources of events begin with.
const SOURCE: &str = "switchboard/";

/// What happened. The order is that of steps of the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// It was accepted, and is in its queue.
    Queued,
    /// Whoever brings it about has it in hand: an attempt has begun. Never told by itself: it is read from the step that
    /// the attempt ended with.
    Delivered,
    /// An attempt has failed; whether there is another is in the next step.
    Deferred,
    /// It is tried again when it is due.
    Retrying,
    /// The mail may go out a second time: whoever sent it died before the outcome was recorded.
    Resent,
    /// The effect is there.
    Done,
    /// The effect will never be there: it was refused for good.
    Failed,
    /// It is with the dead letters.
    Dead,
    /// It was taken from the dead letters, and is in its queue again.
    Replayed,
    /// Somebody decided that its dead letter is not needed.
    Discarded,
    /// What was queued last under this id was something else, and went to the dead letters: the action stands as before.
    Conflict,
}

impl StepKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Queued,
        Self::Delivered,
        Self::Deferred,
        Self::Retrying,
        Self::Resent,
        Self::Done,
        Self::Failed,
        Self::Dead,
        Self::Replayed,
        Self::Discarded,
        Self::Conflict,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Deferred => "deferred",
            Self::Retrying => "retrying",
            Self::Resent => "resent",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
            Self::Conflict => "conflict",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// One step of one action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Made of the action, the kind and the number: the same step has the same one, however often it is told.
    pub id: Uuid,
    /// The action: the id of its one effect.
    pub action: Uuid,
    /// What the action is: `log`, `mail`.
    pub name: String,
    /// What happened.
    pub kind: StepKind,
    /// Who says so: `mailer`.
    pub service: String,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
    /// What the step says beside that.
    #[serde(flatten)]
    pub details: Details,
}

/// What a step may say beside what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// Which attempt it was, from 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attempt: Option<u32>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// When the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub due: Option<DateTime<Utc>>,
    /// When the attempt began.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub began: Option<DateTime<Utc>>,
}

impl Step {
    /// A step of `action`. `number` tells steps of the same kind apart: of the attempt, of the letter.
    pub fn new(action: Uuid, name: &str, kind: StepKind, number: u128, service: &str) -> Self {
        Self {
            id: step_id(action, kind, number),
            action,
            name: name.to_owned(),
            kind,
            service: service.to_owned(),
            at: Utc::now(),
            trace_id: None,
            details: Details::default(),
        }
    }

    /// The step that a mail is in its queue, asked for by `service`. It may be asked for again under the same id, after it
    /// has died: each time is a step of its own.
    pub fn queued(action: Uuid, service: &str) -> Self {
        let number = u128::from(Utc::now().timestamp_millis().unsigned_abs());
        Self::new(action, "mail", StepKind::Queued, number, service)
    }

    /// The step that the attempt began, where this one says how it ended.
    pub(super) fn delivered(&self) -> Option<Self> {
        let (at, attempt) = (self.details.began?, self.details.attempt);
        let number = attempt.unwrap_or_default().into();
        let mut step = Self::new(self.action, &self.name, StepKind::Delivered, number, &self.service);
        step.details.attempt = attempt;
        Some(Self { at, trace_id: self.trace_id.clone(), ..step })
    }

    /// The event that tells of the step, with its own type as the routing key: `mail.sent`, `mail.retrying`.
    pub fn event(&self, traceparent: Option<String>) -> CloudEvent<Details> {
        let kind = if self.kind == StepKind::Done { SENT } else { self.kind.as_str() };
        let (kind, source) = (format!("{PREFIX}{kind}"), format!("{SOURCE}{}", self.service));
        let mut event = CloudEvent::new(self.id, &source, kind, self.at, self.details.clone());
        event.subject = Some(self.action);
        event.traceparent = traceparent;
        event
    }

    /// The step that an event on the trail queue tells of; `Err` says why it tells of none.
    pub fn told_by(event: CloudEvent<Value>) -> Result<Self, String> {
        let kind = event
            .kind
            .strip_prefix(PREFIX)
            .and_then(|name| if name == SENT { Some(StepKind::Done) } else { StepKind::parse(name) });
        let kind = kind.ok_or_else(|| format!("an event of the type {:?} is no step", event.kind))?;
        let action = event.subject.ok_or("the event does not say which action it is about")?;
        let details = serde_json::from_value(event.data);
        let details = details.map_err(|error| format!("the step can't be read: {error}"))?;
        let id = event.id;
        let service = event.source.strip_prefix(SOURCE).unwrap_or(&event.source).to_owned();
        let trace_id = event.traceparent.as_deref().and_then(trace_id);
        Ok(Self { id, action, name: "mail".to_owned(), kind, service, at: event.time, trace_id, details })
    }
}

/// The trace id in a W3C trace context.
pub fn trace_id(traceparent: &str) -> Option<String> {
    let id = traceparent.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// The id of a step.
pub fn step_id(action: Uuid, kind: StepKind, number: u128) -> Uuid {
    let name = [action.as_bytes(), kind.as_str().as_bytes(), &number.to_be_bytes()].concat();
    Uuid::new_v5(&STEPS, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_the_same_id_each_time_it_is_told() {
        let action = Uuid::now_v7();
        let id = |kind, number| step_id(action, kind, number);
        assert_eq!(id(StepKind::Deferred, 1), Step::new(action, "mail", StepKind::Deferred, 1, "mailer").id);
        assert_ne!(id(StepKind::Deferred, 1), id(StepKind::Deferred, 2));
        assert_ne!(id(StepKind::Deferred, 1), id(StepKind::Retrying, 1));
    }

    #[test]
    fn a_step_survives_the_way_as_an_event() {
        let mut step = Step::new(Uuid::now_v7(), "mail", StepKind::Done, 2, "mailer");
        step.details = Details { attempt: Some(2), began: Some(Utc::now()), ..Details::default() };
        step.trace_id = Some("0af7651916cd43dd8448eb211c80319c".to_owned());
        let event = step.event(Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()));
        assert_eq!(event.kind, "mail.sent");
        let read = serde_json::from_value(serde_json::to_value(&event).unwrap()).unwrap();
        assert_eq!(Step::told_by(read), Ok(step));
    }

    #[test]
    fn what_is_no_step_is_said() {
        let event =
            |kind: &str| CloudEvent::new(Uuid::now_v7(), "switchboard/broker", kind, Utc::now(), Value::Null);
        assert!(Step::told_by(event("mail.requested")).unwrap_err().contains("mail.requested"));
        assert!(Step::told_by(event("mail.sent")).unwrap_err().contains("which action"));
    }

    #[test]
    fn every_step_that_is_told_of_a_mail_has_a_way_to_the_trail() {
        for kind in StepKind::ALL.into_iter().filter(|kind| *kind != StepKind::Delivered) {
            let event = Step::new(Uuid::nil(), "mail", kind, 0, "test").event(None);
            assert!(crate::topology::TRAIL_BINDINGS.contains(&event.kind.as_str()), "{}", event.kind);
        }
    }

    #[test]
    fn every_name_is_read_back() {
        for kind in StepKind::ALL {
            assert_eq!(StepKind::parse(kind.as_str()), Some(kind));
        }
    }
}
