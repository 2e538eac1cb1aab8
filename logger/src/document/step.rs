//! A step of a trail as a document.
//!
//! | field | BSON | what |
//! |---|---|---|
//! | `_id` | UUID | the step's own id: told twice, it is there once |
//! | `action` | UUID | what trails are read by |
//! | `at` | date | when it happened; what the retention goes by |
//! | `name`, `kind`, `service`, `trace_id`, `why` | string | as in the step |
//! | `attempt` | number | as in the step |
//! | `due`, `began` | date | as in the step |

use bson::raw::{RawDocument, RawDocumentBuf, cstr};
use contracts::trail::{Details, Step};

use super::{DecodeError, append_some, binary, date, optional, required};

/// The document of a step.
pub fn encode(step: &Step) -> RawDocumentBuf {
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), binary(step.id));
    document.append(cstr!("action"), binary(step.action));
    document.append(cstr!("name"), step.name.as_str());
    document.append(cstr!("kind"), step.kind.as_str());
    document.append(cstr!("service"), step.service.as_str());
    document.append(cstr!("at"), date(step.at));
    append_some(&mut document, cstr!("trace_id"), step.trace_id.as_deref());
    append_some(&mut document, cstr!("attempt"), step.details.attempt.map(i64::from));
    append_some(&mut document, cstr!("why"), step.details.why.as_deref());
    append_some(&mut document, cstr!("due"), step.details.due.map(date));
    append_some(&mut document, cstr!("began"), step.details.began.map(date));
    document
}

/// The step of a document.
pub fn decode(document: &RawDocument) -> Result<Step, DecodeError> {
    Ok(Step {
        id: required(document, "_id")?,
        action: required(document, "action")?,
        name: required(document, "name")?,
        kind: required(document, "kind")?,
        service: required(document, "service")?,
        at: required(document, "at")?,
        trace_id: optional(document, "trace_id")?,
        details: Details {
            attempt: optional(document, "attempt")?,
            why: optional(document, "why")?,
            due: optional(document, "due")?,
            began: optional(document, "began")?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::spec::BinarySubtype;
    use contracts::trail::StepKind;
    use uuid::Uuid;

    #[test]
    fn a_step_comes_back_as_it_was() {
        let at = chrono::DateTime::from_timestamp_millis(1_767_323_045_007).unwrap();
        for kind in StepKind::ALL {
            let bare = Step { at, ..Step::new(Uuid::now_v7(), "mail", kind, 1, "mailer") };
            assert_eq!(decode(&encode(&bare)).unwrap(), bare);
            let why = Some("é\0".to_owned());
            let details = Details { attempt: Some(u32::MAX), why, due: Some(at), began: Some(at) };
            let full = Step { trace_id: Some("ab".repeat(16)), details, ..bare };
            assert_eq!(decode(&encode(&full)).unwrap(), full);
        }
    }

    #[test]
    fn ids_are_uuids_times_are_dates_and_what_is_not_there_has_no_field() {
        let step = Step::new(Uuid::now_v7(), "mail", StepKind::Queued, 0, "broker");
        let document = encode(&step);
        for (field, id) in [("_id", step.id), ("action", step.action)] {
            let stored = document.get_binary(field).unwrap();
            assert_eq!((stored.subtype, stored.bytes), (BinarySubtype::Uuid, &id.as_bytes()[..]));
        }
        assert_eq!(document.get_datetime("at").unwrap().timestamp_millis(), step.at.timestamp_millis());
        assert_eq!(document.iter().count(), 6);
    }

    #[test]
    fn a_document_of_another_program_is_an_error() {
        let mut foreign = encode(&Step::new(Uuid::now_v7(), "mail", StepKind::Done, 0, "mailer"));
        foreign.append(cstr!("more"), 1);
        assert!(decode(&foreign).is_ok());
        let foreign = bson::rawdoc! { "_id": "x" };
        assert_eq!(decode(&foreign).unwrap_err(), DecodeError::Field("_id"));
    }
}
