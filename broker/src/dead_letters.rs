//! The dead letters: to look at, to replay and to discard, one or many.
//!
//! The logger keeps them, and answers for itself ([`crate::clients::LoggerHttp`]). Only [`replay`] is done here, by who
//! can publish. For operators: nothing asks who calls.

mod many;
mod replay;

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::routing::{get, post};
use chassis::http::Answer;
use chassis::http::body::JsonBody;
use chassis::request::RequestContext;
use contracts::dead_letter::Discard;
use contracts::validation::Form;
use http::{StatusCode, header};

use crate::routes::Id;
use crate::{App, trail};

/// The routes under `/dead-letters`.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/dead-letters", get(list))
        .route("/dead-letters/replay", post(replay_many))
        .route("/dead-letters/discard", post(discard_many))
        .route("/dead-letters/{id}", get(show))
        .route("/dead-letters/{id}/replay", post(replay_one))
        .route("/dead-letters/{id}/discard", post(discard_one))
}

async fn list(
    State(app): State<Arc<App>>,
    context: RequestContext,
    RawQuery(query): RawQuery,
) -> Result<Answer, Answer> {
    app.logger_http.letters(&context, query.as_deref().unwrap_or_default()).await
}

async fn show(State(app): State<Arc<App>>, context: RequestContext, Id(id): Id) -> Result<Answer, Answer> {
    app.logger_http.letter(&context, id).await
}

async fn replay_one(
    State(app): State<Arc<App>>,
    context: RequestContext,
    Id(id): Id,
    body: JsonBody,
) -> Result<Answer, Answer> {
    let letter = replay::replay(&app, &context, id, replay::edited(&body)?).await?;
    let answer = Answer::ok(StatusCode::ACCEPTED, format!("Replayed: {id} is in {} again", letter.queue));
    Ok(match letter.action {
        Some(action) => answer.with_header(header::LOCATION, trail::location(action)),
        None => answer,
    })
}

async fn replay_many(
    State(app): State<Arc<App>>,
    context: RequestContext,
    body: JsonBody,
) -> Result<Answer, Answer> {
    let invalid = |violations| Answer::invalid("replay", violations);
    let mut form = Form::of("replay", body.value()?).map_err(invalid)?;
    let ids = many::ids(&mut form);
    let ids = form.finish(ids).map_err(invalid)?;
    let done = many::each(ids, |id| replay::replay(&app, &context, id, None)).await;
    Ok(done.answer("Replayed", "replayed"))
}

async fn discard_one(
    State(app): State<Arc<App>>,
    context: RequestContext,
    Id(id): Id,
    body: JsonBody,
) -> Result<Answer, Answer> {
    let invalid = |violations| Answer::invalid("discard", violations);
    let mut form = Form::of("discard", body.value()?).map_err(invalid)?;
    let discard = Discard::take(&mut form);
    let discard = form.finish(discard).map_err(invalid)?;
    app.logger_http.discard(&context, id, &discard).await
}

async fn discard_many(
    State(app): State<Arc<App>>,
    context: RequestContext,
    body: JsonBody,
) -> Result<Answer, Answer> {
    let invalid = |violations| Answer::invalid("discard", violations);
    let mut form = Form::of("discard", body.value()?).map_err(invalid)?;
    let asked = (many::ids(&mut form), Discard::take(&mut form));
    let (ids, discard) = form.finish(asked).map_err(invalid)?;
    let done = many::each(ids, |id| app.logger_http.discard(&context, id, &discard)).await;
    Ok(done.answer("Discarded", "discarded"))
}
