//! The id in a path.

use axum::extract::{FromRequestParts, Path};
use chassis::http::Answer;
use http::StatusCode;
use http::request::Parts;
use uuid::Uuid;

/// The `{id}` of a route: a UUID, or 400.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id(pub(crate) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Answer> {
        let id = Path::<Uuid>::from_request_parts(parts, state).await;
        let bad = |_| Answer::failed(StatusCode::BAD_REQUEST, "the id in the path must be a UUID");
        id.map(|Path(id)| Self(id)).map_err(bad)
    }
}
