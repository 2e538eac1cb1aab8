//! The actions of `POST /handle`: what they are, how they are read, and where each goes.
//!
//! A new action is a variant of [`Action`], an arm in [`Action::parse`] and in [`perform`], and a file.

mod auth;
mod log;
mod mail;
mod queue;

use chassis::http::Answer;
use chassis::http::body::JsonBody;
use chassis::request::RequestContext;
use contracts::auth::Credentials;
use contracts::log::LogPayload;
use contracts::mail::MailPayload;
use contracts::validation::Violations;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::App;

/// The header in which a client says how it would like to be answered (RFC 7240).
pub const PREFER: &str = "prefer";
/// The header that says which preference was followed (RFC 7240).
pub const PREFERENCE_APPLIED: &str = "preference-applied";
/// The actions there are, for whoever asks for another.
const KNOWN: &str = "auth, log, mail";

/// What a client asks for, read and valid.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// To know who these credentials belong to.
    Auth(Credentials),
    /// To log an entry.
    Log(LogPayload),
    /// To send a mail.
    Mail(Box<MailPayload>),
}

/// Whether a client waits for the effect, or only until it is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// Do it, then answer.
    Direct,
    /// Queue it, then answer.
    RespondAsync,
}

impl Preference {
    /// Reads the `Prefer` headers; of several the first that is known counts, and parameters are ignored.
    pub fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
        let mut names = values
            .flat_map(|value| value.split(','))
            .map(|preference| preference.split([';', '=']).next().unwrap_or_default().trim());
        if names.any(|name| name.eq_ignore_ascii_case("respond-async")) {
            Self::RespondAsync
        } else {
            Self::Direct
        }
    }
}

/// The envelope of a request. Only the payload of its own action is looked into; the others may be there,
/// as some clients send them all.
#[derive(Deserialize)]
#[serde(expecting = "an object with an `action`")]
struct Envelope<'a> {
    #[serde(borrow, default)]
    action: Option<&'a RawValue>,
    #[serde(borrow, default)]
    auth: Option<&'a RawValue>,
    #[serde(borrow, default)]
    log: Option<&'a RawValue>,
    #[serde(borrow, default)]
    mail: Option<&'a RawValue>,
}

impl Action {
    /// Its name, as a client gives it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Auth(_) => "auth",
            Self::Log(_) => "log",
            Self::Mail(_) => "mail",
        }
    }

    /// Reads a request: 400 for what is no action, 422 for an action whose payload is wrong.
    pub fn parse(body: &JsonBody) -> Result<Self, Answer> {
        let bad = |message: String| Answer::failed(StatusCode::BAD_REQUEST, message);
        let envelope: Envelope<'_> = body.parse()?;
        if body.0.trim_ascii_start().first() != Some(&b'{') {
            return Err(bad("the body must be a JSON object with an `action`".to_owned()));
        }
        let Some(name) = envelope.action else {
            return Err(bad(format!("`action` is missing: it must be one of {KNOWN}")));
        };
        let Ok(name) = serde_json::from_str::<String>(name.get()) else {
            return Err(bad(format!("`action` must be a string, one of {KNOWN}")));
        };
        match name.as_str() {
            "auth" => payload("auth", envelope.auth, Credentials::parse).map(Self::Auth),
            "log" => payload("log", envelope.log, LogPayload::parse).map(Self::Log),
            "mail" => {
                payload("mail", envelope.mail, MailPayload::parse).map(|mail| Self::Mail(Box::new(mail)))
            }
            other => {
                let shown: String = other.chars().take(64).collect();
                Err(bad(format!("unknown action {shown:?}: it must be one of {KNOWN}")))
            }
        }
    }
}

fn payload<T>(
    name: &str,
    raw: Option<&RawValue>,
    parse: impl FnOnce(Value) -> Result<T, Violations>,
) -> Result<T, Answer> {
    let missing = || Answer::invalid(name, Violations::one(name, "is required with this action"));
    let raw = raw.filter(|raw| raw.get() != "null").ok_or_else(missing)?;
    let value = serde_json::from_str(raw.get()).map_err(|error| {
        Answer::failed(StatusCode::BAD_REQUEST, format!("`{name}` cannot be read: {error}"))
    })?;
    parse(value).map_err(|violations| Answer::invalid(name, violations))
}

/// Hands an action to whoever does it. A log-in is answered as it is, whatever the client prefers.
pub(crate) async fn perform(
    app: &App,
    context: &RequestContext,
    action: Action,
    preference: Preference,
) -> Result<Answer, Answer> {
    match (action, preference) {
        (Action::Auth(credentials), _) => auth::authenticate(&app.auth, context, &credentials).await,
        (Action::Log(payload), Preference::Direct) => log::append(&app.logger, context, payload).await,
        (Action::Log(payload), Preference::RespondAsync) => {
            log::queue(&app.publisher, &app.topology, context, payload).await
        }
        (Action::Mail(mail), Preference::Direct) => mail::send(&app.mailer, context, &mail).await,
        (Action::Mail(mail), Preference::RespondAsync) => {
            mail::queue(&app.publisher, &app.topology, context, &mail).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(body: &str) -> Result<Action, Answer> {
        Action::parse(&JsonBody(body.to_owned().into()))
    }

    fn refused(body: &str) -> (u16, String) {
        let answer = parse(body).unwrap_err();
        (answer.status().as_u16(), answer.message().to_owned())
    }

    #[test]
    fn what_is_no_action_is_refused_with_its_place() {
        for (body, expected) in [
            ("", "the body is empty"),
            ("{", "the body must be one JSON value: EOF"),
            ("{} {}", "the body must be one JSON value: trailing characters at line 1 column 4"),
            ("[]", "must be"),
            ("[\"log\", null, {\"name\":\"n\",\"data\":1}]", "must be a JSON object"),
            ("7", "an object with an `action`"),
            ("{}", "`action` is missing: it must be one of auth, log, mail"),
            ("{\"action\":null}", "`action` is missing"),
            ("{\"action\":7}", "`action` must be a string"),
            ("{\"action\":\"dance\"}", "unknown action \"dance\": it must be one of auth, log, mail"),
            ("{\"action\":\"log\",\"action\":\"mail\"}", "duplicate field `action`"),
        ] {
            let (status, message) = refused(body);
            assert_eq!(status, 400, "{body}");
            assert!(message.contains(expected), "{body}: {message}");
        }
    }

    #[test]
    fn a_missing_payload_is_a_field_that_failed() {
        for body in [r#"{"action":"log"}"#, r#"{"action":"log","log":null,"mail":{}}"#] {
            assert_eq!(refused(body), (422, "log: log is required with this action".to_owned()));
        }
    }

    #[test]
    fn the_payloads_of_other_actions_are_ignored() {
        let body = r#"{"action":"log","auth":{"email":""},"log":{"name":"n","data":"d"},"mail":null}"#;
        assert!(matches!(parse(body), Ok(Action::Log(_))));
    }

    #[test]
    fn a_bottomless_payload_is_refused() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let (status, message) = refused(&format!(r#"{{"action":"log","log":{{"name":"n","data":{deep}}}}}"#));
        assert_eq!(status, 400);
        assert!(message.contains("`log` cannot be read: recursion limit"), "{message}");
        let ignored = format!(r#"{{"action":"log","mail":{deep},"log":{{"name":"n","data":1}}}}"#);
        assert!(parse(&ignored).is_ok());
    }

    #[test]
    fn a_preference_is_found_among_others() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PREFER, http::HeaderValue::from_static(value));
            }
            Preference::of(&headers)
        };
        assert_eq!(of(&[]), Preference::Direct);
        assert_eq!(of(&["return=minimal"]), Preference::Direct);
        assert_eq!(of(&["wait=10, Respond-Async"]), Preference::RespondAsync);
        assert_eq!(of(&["return=minimal", "respond-async; x=1"]), Preference::RespondAsync);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(body in "\\PC{0,200}") {
            let _ = parse(&body);
        }
    }
}
