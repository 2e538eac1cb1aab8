//! Reads one message of the mail queue: somebody asks for a mail, or there is a new user to welcome.

use chassis::amqp::Delivery;
use chassis::http::client::Effect;
use chassis::request::RequestContext;
use chassis::trace::TraceContext;
use contracts::auth::User;
use contracts::event::CloudEvent;
use contracts::mail::MailPayload;
use contracts::topology::{MAIL_REQUESTED, USER_REGISTERED};
use serde_json::{Value, json};

/// A mail to send.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its id, and whether it is asked for once more.
    pub(crate) effect: Effect,
    /// The mail.
    pub(crate) mail: MailPayload,
    /// Who asks.
    pub(crate) context: RequestContext,
}

impl Request {
    /// Reads a message; `Err` says why no mail can be made of it, now or later.
    pub(crate) fn read(delivery: &Delivery) -> Result<Self, String> {
        let event: CloudEvent<Value> = serde_json::from_slice(delivery.body())
            .map_err(|error| format!("the body is not a CloudEvent: {error}"))?;
        let payload = match event.kind.as_str() {
            MAIL_REQUESTED => event.data,
            USER_REGISTERED => welcome(event.data)?,
            other => return Err(format!("an event of the type {other:?} asks for no mail")),
        };
        let mail = MailPayload::parse(payload).map_err(|violations| format!("mail: {violations}"))?;
        let trace = event.traceparent.as_deref().and_then(TraceContext::parse).or_else(|| delivery.trace());
        let context = RequestContext::with_id(event.id, event.requestid.as_deref(), trace);
        Ok(Self { effect: Effect { id: event.id, replay: delivery.replay() }, mail, context })
    }
}

/// The mail for a new user.
fn welcome(user: Value) -> Result<Value, String> {
    let user: User =
        serde_json::from_value(user).map_err(|error| format!("there is no user in it: {error}"))?;
    Ok(json!({
        "to": user.email,
        "subject": format!("Welcome, {}!", user.first_name),
        "template": "welcome",
        "context": {"name": user.first_name},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chassis::amqp::onward;
    use chrono::Utc;
    use lapin::BasicProperties;
    use lapin::types::{AMQPValue, FieldTable};
    use uuid::Uuid;

    fn delivery(event: &CloudEvent<Value>, properties: BasicProperties) -> Delivery {
        let body = serde_json::to_vec(event).unwrap();
        let mut delivery = lapin::message::Delivery::mock(1, "e".into(), "k".into(), false, body);
        delivery.properties = properties;
        delivery.into()
    }

    fn event(kind: &str, data: Value) -> CloudEvent<Value> {
        CloudEvent::new(Uuid::now_v7(), "switchboard/test", kind, Utc::now(), data)
    }

    #[test]
    fn a_mail_that_is_asked_for_keeps_the_id_and_the_trace() {
        let mut event = event(MAIL_REQUESTED, json!({"to": "a@b.c", "subject": "s", "message": "m"}));
        event.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        event.requestid = Some("order-17".to_owned());
        let request = Request::read(&delivery(&event, BasicProperties::default())).unwrap();
        assert_eq!(
            (request.effect, request.mail.subject),
            (Effect { id: event.id, replay: None }, "s".into())
        );
        assert_eq!(request.context.trace.trace_id_hex(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(request.context.request_id(), "order-17");
    }

    #[test]
    fn a_replay_is_known_as_one() {
        let event = event(MAIL_REQUESTED, json!({"to": "a@b.c", "subject": "s", "message": "m"}));
        let letter = Uuid::now_v7();
        let mut headers = FieldTable::default();
        headers.insert(onward::REPLAY.into(), AMQPValue::LongString(letter.to_string().into()));
        let request = Request::read(&delivery(&event, BasicProperties::default().with_headers(headers)));
        assert_eq!(request.unwrap().effect.replay, Some(letter));
    }

    #[test]
    fn a_new_user_is_welcomed() {
        let now = Utc::now();
        let user = json!({"id": 7, "email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace",
            "active": true, "created_at": now, "updated_at": now});
        let event = event(USER_REGISTERED, user);
        let request = Request::read(&delivery(&event, BasicProperties::default())).unwrap();
        assert_eq!(request.mail.to, ["ada@example.com"]);
        assert_eq!(request.mail.subject, "Welcome, Ada!");
        assert_eq!(request.effect.id, event.id);
    }

    #[test]
    fn what_makes_no_mail_is_refused_with_the_reason() {
        for (event, why) in [
            (event("mail.sent", Value::Null), "asks for no mail"),
            (event(MAIL_REQUESTED, json!({"to": "nobody"})), "to is not a mail address"),
            (event(USER_REGISTERED, json!({"id": 1})), "there is no user in it"),
        ] {
            let error = Request::read(&delivery(&event, BasicProperties::default())).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
