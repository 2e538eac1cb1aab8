//! The `auth` action: whose credentials are these?

use chassis::http::Answer;
use chassis::request::RequestContext;
use contracts::auth::Credentials;
use http::StatusCode;

use crate::clients::AuthClient;

/// Asks the auth service; a user, or 401.
pub(super) async fn authenticate(
    auth: &AuthClient,
    context: &RequestContext,
    credentials: &Credentials,
) -> Result<Answer, Answer> {
    match auth.authenticate(context, credentials).await? {
        Some(user) => Ok(Answer::ok(StatusCode::ACCEPTED, "Authenticated!").with_data(&user)),
        None => Err(Answer::failed(StatusCode::UNAUTHORIZED, "Invalid credentials")),
    }
}
