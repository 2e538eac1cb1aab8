//! The trail: what happened to a queued action, and to every mail, step by step.
//!
//! Services publish steps as events ([`Step::event`]). The listener brings them to the logger, which keeps each once, by
//! its id.

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
}

impl StepKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
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
    fn delivered(&self) -> Option<Self> {
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

/// How an action stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In its queue, or on its way.
    Queued,
    /// An attempt has failed, and there is to be another.
    Retrying,
    /// The effect is there.
    Done,
    /// It was given up: it is with the dead letters, or was refused for good.
    Dead,
}

impl State {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Retrying => "retrying",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }

    /// Whether nothing more happens by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Dead)
    }

    /// How an action with these steps stands, the oldest first. An effect that is there stays there, whatever is told
    /// after it.
    pub fn of<'a>(steps: impl IntoIterator<Item = &'a Step>) -> Option<Self> {
        let mut state = None;
        for step in steps {
            state = Some(match step.kind {
                StepKind::Done => return Some(Self::Done),
                StepKind::Queued | StepKind::Replayed => Self::Queued,
                StepKind::Deferred | StepKind::Retrying => Self::Retrying,
                StepKind::Failed | StepKind::Dead | StepKind::Discarded => Self::Dead,
                StepKind::Delivered | StepKind::Resent => state.unwrap_or(Self::Queued),
            });
        }
        state
    }
}

/// What is known of an action: the `data` of `GET /actions/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    /// The id of the action.
    pub id: Uuid,
    /// What the action is: `log`, `mail`.
    pub action: String,
    /// How it stands.
    pub state: State,
    /// How often it was tried; 0 where no step says so.
    pub attempts: u32,
    /// Why it is not done, as the last step that says so has it. Why its dead letter was discarded is none of that.
    pub error: Option<String>,
    /// What happened, the oldest first.
    pub steps: Vec<Step>,
}

impl Trail {
    /// The trail of the action with this id and these steps, in any order; `None` where there are none.
    pub fn of(id: Uuid, mut steps: Vec<Step>) -> Option<Self> {
        let delivered: Vec<_> = steps.iter().filter_map(Step::delivered).collect();
        steps.extend(delivered);
        steps.sort_by_key(|step| (step.at, step.kind));
        let state = State::of(&steps)?;
        let action = steps.first()?.name.clone();
        let attempts = steps.iter().filter_map(|step| step.details.attempt).max().unwrap_or_default();
        let mut failures = steps.iter().rev().filter(|step| step.kind != StepKind::Discarded);
        let error = failures.find_map(|step| step.details.why.clone()).filter(|_| state != State::Done);
        Some(Self { id, action, state, attempts, error, steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(kinds: &[StepKind]) -> Option<State> {
        let steps: Vec<_> =
            kinds.iter().map(|kind| Step::new(Uuid::nil(), "mail", *kind, 0, "test")).collect();
        State::of(&steps)
    }

    #[test]
    fn the_last_step_says_how_an_action_stands_and_done_is_done() {
        use StepKind::*;
        assert_eq!(state(&[]), None);
        assert_eq!(state(&[Queued]), Some(State::Queued));
        assert_eq!(state(&[Queued, Deferred]), Some(State::Retrying));
        assert_eq!(state(&[Queued, Deferred, Retrying, Resent]), Some(State::Retrying));
        assert_eq!(state(&[Queued, Dead]), Some(State::Dead));
        assert_eq!(state(&[Queued, Dead, Replayed]), Some(State::Queued));
        assert_eq!(state(&[Queued, Dead, Discarded]), Some(State::Dead));
        assert_eq!(state(&[Queued, Done, Retrying]), Some(State::Done));
        assert_eq!(state(&[Failed]), Some(State::Dead));
    }

    #[test]
    fn a_trail_is_in_the_order_of_time_and_says_how_often_and_why() {
        use StepKind::*;
        let (id, start) = (Uuid::now_v7(), Utc::now());
        let step = |kind, after, attempt, why: Option<&str>| {
            let details = Details { attempt, why: why.map(str::to_owned), ..Details::default() };
            let at = start + chrono::TimeDelta::milliseconds(after);
            Step { at, details, ..Step::new(id, "mail", kind, 0, "test") }
        };
        let mut steps = vec![
            step(Dead, 9, Some(2), Some("no such box")),
            step(Retrying, 5, None, None),
            step(Deferred, 5, Some(1), Some("it is busy")),
            step(Discarded, 20, None, Some("not needed")),
            step(Queued, 0, None, None),
        ];
        let trail = Trail::of(id, steps.clone()).unwrap();
        let kinds: Vec<_> = trail.steps.iter().map(|step| step.kind).collect();
        assert_eq!(kinds, [Queued, Deferred, Retrying, Dead, Discarded]);
        assert_eq!((trail.id, trail.action.as_str(), trail.attempts), (id, "mail", 2));
        assert_eq!((trail.state, trail.error.as_deref()), (State::Dead, Some("no such box")));
        steps.push(step(Done, 30, Some(3), None));
        let trail = Trail::of(id, steps).unwrap();
        assert_eq!((trail.state, trail.attempts, trail.error), (State::Done, 3, None));
        assert_eq!(Trail::of(id, Vec::new()), None);
    }

    #[test]
    fn an_attempt_is_delivered_when_it_began() {
        use StepKind::*;
        let (id, start) = (Uuid::now_v7(), Utc::now());
        let after = |ms| start + chrono::TimeDelta::milliseconds(ms);
        let ended = |kind, number, at| {
            let details = Details { attempt: Some(number), began: Some(after(at)), ..Details::default() };
            Step { at: after(at + 5), details, ..Step::new(id, "mail", kind, number.into(), "mailer") }
        };
        let queued = Step { at: start, ..Step::queued(id, "broker") };
        let trail = Trail::of(id, vec![ended(Done, 2, 20), ended(Deferred, 1, 10), queued]).unwrap();
        let steps: Vec<_> = trail.steps.iter().map(|step| (step.kind, step.details.attempt)).collect();
        let expected = [
            (Queued, None),
            (Delivered, Some(1)),
            (Deferred, Some(1)),
            (Delivered, Some(2)),
            (Done, Some(2)),
        ];
        assert_eq!(steps, expected);
        assert_eq!((trail.steps[1].at, trail.steps[1].service.as_str()), (after(10), "mailer"));
        assert_ne!(trail.steps[1].id, trail.steps[3].id);
    }

    #[test]
    fn a_trail_has_its_fields_on_the_wire_also_where_there_is_no_error() {
        let (id, at) = (Uuid::nil(), DateTime::from_timestamp_millis(1_767_323_045_007).unwrap());
        let step = Step { at, ..Step::new(id, "log", StepKind::Done, 0, "logger") };
        insta::assert_json_snapshot!(Trail::of(id, vec![step]).unwrap(), @r#"
        {
          "id": "00000000-0000-0000-0000-000000000000",
          "action": "log",
          "state": "done",
          "attempts": 0,
          "error": null,
          "steps": [
            {
              "id": "c0deefa2-74e2-5e54-a924-8f9e3b759151",
              "action": "00000000-0000-0000-0000-000000000000",
              "name": "log",
              "kind": "done",
              "service": "logger",
              "at": "2026-01-02T03:04:05.007Z",
              "trace_id": null
            }
          ]
        }
        "#);
    }

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
        for state in [State::Queued, State::Retrying, State::Done, State::Dead] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
