//! The `mail` action: to the mailer, which hands it to the mail server, or onto the exchange for the listener to bring
//! there.

use chassis::amqp::Publisher;
use chassis::crash;
use chassis::http::Answer;
use chassis::request::RequestContext;
use contracts::mail::MailPayload;
use contracts::topology::{MAIL_REQUESTED, Topology};
use contracts::trail::Step;
use http::StatusCode;

use super::queue;
use crate::clients::MailerClient;

/// How steps name this service.
const SERVICE: &str = "broker";

/// Sends the mail; the answer comes after the mail server has taken it.
pub(super) async fn send(
    mailer: &MailerClient,
    context: &RequestContext,
    mail: &MailPayload,
) -> Result<Answer, Answer> {
    crash::point("broker: to mail");
    let receipt = mailer.send(context, context.id, mail).await?;
    crash::point("broker: mailed");
    let message = format!("Message sent to {}", mail.to.join(", "));
    Ok(Answer::ok(StatusCode::ACCEPTED, message).with_data(&receipt))
}

/// Queues the mail; the listener brings it to the mailer.
pub(super) async fn queue(
    publisher: &Publisher,
    topology: &Topology,
    context: &RequestContext,
    mail: &MailPayload,
) -> Result<Answer, Answer> {
    let what = format!("mail to {}", mail.to.join(", "));
    let first = Step::queued(context.id, SERVICE);
    queue::queue(publisher, topology, context, MAIL_REQUESTED, mail, &what, Some(first)).await
}
