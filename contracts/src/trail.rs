//! The trail: what happened to a queued action, and to every mail, step by step.
//!
//! Services publish steps ([`step`]) as events ([`Step::event`]). The listener brings them to the logger, which keeps each
//! once, by its id.

mod step;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use step::{Details, Step, StepKind, step_id, trace_id};

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
    /// after it; and what was queued under its id by mistake, which has a trace of its own, says nothing of it.
    pub fn of(steps: &[Step]) -> Option<Self> {
        let mut state = None;
        for (at, step) in steps.iter().enumerate() {
            state = Some(match step.kind {
                _ if is_by_mistake(steps, at) => continue,
                StepKind::Done => return Some(Self::Done),
                StepKind::Queued | StepKind::Replayed => Self::Queued,
                StepKind::Deferred | StepKind::Retrying => Self::Retrying,
                StepKind::Failed | StepKind::Dead | StepKind::Discarded => Self::Dead,
                StepKind::Delivered | StepKind::Resent | StepKind::Conflict => state.unwrap_or(Self::Queued),
            });
        }
        state
    }
}

/// Whether the step at this place is of what was queued under the action's id by mistake.
fn is_by_mistake(steps: &[Step], at: usize) -> bool {
    let step = &steps[at];
    let ends_it = |other: &Step| {
        other.kind == StepKind::Conflict && other.trace_id.is_some() && other.trace_id == step.trace_id
    };
    match step.kind {
        // By whatever clocks.
        StepKind::Queued => steps.iter().any(ends_it),
        StepKind::Retrying | StepKind::Replayed => steps[at..].iter().any(ends_it),
        _ => false,
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
    /// How often it was tried; 0 where no step says so. What was wrong with another request is no attempt.
    pub attempts: u32,
    /// Why it is not done, as the last step that says so has it. Why its dead letter was discarded is none of that, nor what
    /// was wrong with another request.
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
        let is_try = |(at, step): &(usize, &Step)| {
            !matches!(step.kind, StepKind::Discarded | StepKind::Conflict) && !is_by_mistake(&steps, *at)
        };
        let tries = || steps.iter().enumerate().filter(is_try).map(|(_, step)| &step.details);
        let attempts = tries().filter_map(|details| details.attempt).max().unwrap_or_default();
        let error = tries().rev().find_map(|details| details.why.clone()).filter(|_| state != State::Done);
        Some(Self { id, action, state, attempts, error, steps })
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

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
        assert_eq!(state(&[Queued, Dead, Queued]), Some(State::Queued), "asked for again");
    }

    #[test]
    fn what_was_queued_under_the_id_by_mistake_changes_nothing() {
        use StepKind::*;
        // The steps of the mistake are of the trace `b`.
        let state = |told: &[(StepKind, &str)]| {
            let step = |(kind, trace): &(StepKind, &str)| Step {
                trace_id: Some((*trace).to_owned()),
                ..Step::new(Uuid::nil(), "mail", *kind, 0, "test")
            };
            State::of(&told.iter().map(step).collect::<Vec<_>>())
        };
        let (mistake, conflict) = ((Queued, "b"), (Conflict, "b"));
        assert_eq!(state(&[(Queued, "a"), mistake, conflict]), Some(State::Queued));
        assert_eq!(state(&[(Queued, "a"), (Dead, "a"), mistake, conflict]), Some(State::Dead));
        assert_eq!(state(&[(Queued, "a"), (Dead, "a"), conflict, mistake]), Some(State::Dead));
        assert_eq!(state(&[(Queued, "a"), (Retrying, "a"), mistake, conflict]), Some(State::Retrying));
        assert_eq!(
            state(&[(Queued, "a"), (Dead, "a"), mistake, (Retrying, "b"), conflict]),
            Some(State::Dead)
        );
        assert_eq!(
            state(&[(Queued, "a"), (Dead, "a"), (Queued, "c"), mistake, conflict]),
            Some(State::Queued)
        );
        assert_eq!(state(&[(Queued, "a"), mistake, conflict, (Done, "a")]), Some(State::Done));
        // Replayed, it is what the action is, until it is a mistake again.
        let replayed = [(Queued, "a"), (Dead, "a"), mistake, conflict, (Replayed, "b")];
        assert_eq!(state(&replayed), Some(State::Queued));
        assert_eq!(state(&[&replayed[..], &[conflict]].concat()), Some(State::Dead));
        assert_eq!(state(&[conflict]), Some(State::Queued), "that it was queued is not told yet");
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
            step(Queued, 21, None, None),
            step(Retrying, 22, Some(7), Some("PostgreSQL is away")),
            step(Conflict, 23, None, Some("another payload")),
            step(Queued, 0, None, None),
        ];
        // Of another request.
        steps[4..7].iter_mut().for_each(|step| step.trace_id = Some("another".to_owned()));
        let trail = Trail::of(id, steps.clone()).unwrap();
        let kinds: Vec<_> = trail.steps.iter().map(|step| step.kind).collect();
        assert_eq!(kinds, [Queued, Deferred, Retrying, Dead, Discarded, Queued, Retrying, Conflict]);
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
    fn every_state_has_its_name_on_the_wire() {
        for state in [State::Queued, State::Retrying, State::Done, State::Dead] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
