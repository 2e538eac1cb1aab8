//! The `mail` action: to the mailer, which hands it to the mail server.

use chassis::http::Answer;
use chassis::request::RequestContext;
use contracts::mail::MailPayload;
use http::StatusCode;

use crate::clients::MailerClient;

/// Sends the mail; the answer comes after the mail server has taken it.
pub(super) async fn send(
    mailer: &MailerClient,
    context: &RequestContext,
    mail: &MailPayload,
) -> Result<Answer, Answer> {
    let receipt = mailer.send(context, context.id, mail).await?;
    let message = format!("Message sent to {}", mail.to.join(", "));
    Ok(Answer::ok(StatusCode::ACCEPTED, message).with_data(&receipt))
}
