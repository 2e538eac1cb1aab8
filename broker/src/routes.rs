//! The routes. Every action goes on in [`action`].

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use chassis::health::Health;
use chassis::http::Answer;
use chassis::http::body::JsonBody;
use chassis::http::client::IDEMPOTENCY_KEY;
use chassis::request::{RequestContext, TRACEPARENT, X_REQUEST_ID};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio_util::sync::CancellationToken;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::App;
use crate::action::{self, Action, PREFER, PREFERENCE_APPLIED, Preference};
use crate::config::Config;

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
    action::perform(&app, &context, action, Preference::of(&headers)).await
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
    let sent = [header::CONTENT_TYPE, named(PREFER), TRACEPARENT, X_REQUEST_ID, named(IDEMPOTENCY_KEY)];
    let read = [X_REQUEST_ID, TRACEPARENT, header::RETRY_AFTER, header::LOCATION, named(PREFERENCE_APPLIED)];
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(sent)
        .expose_headers(read)
        .max_age(std::time::Duration::from_mins(10))
}
