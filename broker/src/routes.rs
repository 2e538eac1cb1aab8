//! The routes. Every action goes on in [`action`], what became of it in [`trail`], and the dead letters in
//! [`dead_letters`].

mod id;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use chassis::health::Health;
use chassis::http::Answer;
use chassis::http::body::JsonBody;
use chassis::http::client::IDEMPOTENCY_KEY;
use chassis::request::{RequestContext, TRACEPARENT, X_REQUEST_ID};
use contracts::idempotency::Key;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio_util::sync::CancellationToken;
use tower_http::cors::{AllowOrigin, CorsLayer};

pub(crate) use self::id::Id;
use crate::action::{self, Action, PREFER, PREFERENCE_APPLIED, Preference};
use crate::config::Config;
use crate::{App, dead_letters, trail};

/// Every route of the broker.
pub(crate) fn routes(app: App, draining: CancellationToken) -> Router {
    let (logger, publisher) = (app.logger.clone(), app.publisher.clone());
    // Without one of them the broker still serves the other actions, so neither takes it out of service.
    let health = Health::new(draining)
        .report("the logger", move || {
            let logger = logger.clone();
            async move { logger.check().await }
        })
        .report("RabbitMQ", move || {
            let publisher = publisher.clone();
            async move { publisher.check().await }
        });
    Router::new()
        .route("/", post(async || Answer::ok(StatusCode::OK, "Hit the Broker")))
        .route("/ping", get(async || "OK"))
        .route("/handle", post(handle))
        .route("/actions/{id}", get(trail::show))
        .merge(dead_letters::routes())
        .route("/health", get(async |State(app): State<Arc<App>>| app.system.answer().await))
        // axum copies the state several times a request.
        .with_state(Arc::new(app))
        .merge(health.routes())
}

async fn handle(
    State(app): State<Arc<App>>,
    context: RequestContext,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Answer, Answer> {
    let action = Action::parse(&body)?;
    // Under the same key the effect has the same id, whichever broker is asked.
    let context = match key(&headers)? {
        Some(key) => context.with_effect(key.id(caller(&headers), action.name())),
        None => context,
    };
    let id = context.id;
    let answer = action::perform(&app, &context, action, Preference::of(&headers)).await;
    answer.map(|answer| answer.with_id(id)).map_err(|answer| answer.with_id(id))
}

/// What the client calls its request, so that it can send it again.
fn key(headers: &HeaderMap) -> Result<Option<Key>, Answer> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let refused = |why| Answer::failed(StatusCode::BAD_REQUEST, format!("the header Idempotency-Key {why}"));
    if values.next().is_some() {
        return Err(refused("must be there only once".to_owned()));
    }
    Key::parse(value.as_bytes()).map(Some).map_err(refused)
}

/// Whose key it is: clients with credentials have keys of their own, all others share theirs.
fn caller(headers: &HeaderMap) -> &[u8] {
    headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default()
}

/// Which pages may call, with what, and which answers' headers they may read.
pub(crate) fn cors(config: &Config) -> CorsLayer {
    let origins = &config.cors_allowed_origins;
    let origins = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(
            origins.iter().filter_map(|origin| HeaderValue::from_str(origin.trim_end_matches('/')).ok()),
        )
    };
    let named = HeaderName::from_static;
    let sent = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        named(PREFER),
        TRACEPARENT,
        X_REQUEST_ID,
        named(IDEMPOTENCY_KEY),
    ];
    let read = [X_REQUEST_ID, TRACEPARENT, header::RETRY_AFTER, header::LOCATION, named(PREFERENCE_APPLIED)];
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(sent)
        .expose_headers(read)
        .max_age(std::time::Duration::from_mins(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_told_apart_by_every_byte_of_what_they_log_in_with() {
        let caller_with = |value: &[u8]| {
            let value = HeaderValue::from_bytes(value).unwrap();
            caller(&HeaderMap::from_iter([(header::AUTHORIZATION, value)])).to_vec()
        };
        assert_eq!(caller(&HeaderMap::new()), b"");
        assert_ne!(caller_with(b"Basic a"), caller_with(b"Basic b"));
        assert_ne!(caller_with("Basic ä".as_bytes()), caller_with("Basic ö".as_bytes()));
    }
}
