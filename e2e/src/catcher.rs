//! The mail catcher, by the API of its page: what has arrived for someone. In containers it is `MailHog`, in the native
//! stack `MailDev`.

use mail_parser::MessageParser;
use serde_json::Value;
use testkit::http::Client;
use testkit::{eventually, setting};

use crate::system::SOON;

/// One mail that arrived.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The subject.
    pub subject: String,
    /// The text part.
    pub text: String,
    /// The HTML part.
    pub html: String,
    /// The `Message-ID` header.
    pub message_id: String,
}

/// The mails to this address so far.
pub async fn mails_to(address: &str) -> Result<Vec<Mail>, String> {
    let (client, page) = (Client::default(), setting("MAIL_PAGE_URL"));
    let page = page.trim_end_matches('/');
    // The newest ones. MailDev has nothing there.
    let mailhog = client.get(&format!("{page}/api/v2/messages?limit=250")).await?;
    if let Some(mails) = mailhog.body["items"].as_array() {
        return mails.iter().filter(|mail| is_for(&mail["Raw"]["To"], address)).map(from_source).collect();
    }
    let maildev = client.get(&format!("{page}/email")).await?;
    let mails = maildev.body.as_array().ok_or_else(|| format!("no mails at {page}"))?;
    Ok(mails.iter().filter(|mail| is_for(&mail["to"], address)).map(from_fields).collect())
}

/// The one mail to this address, once it is there.
pub async fn mail_to(address: &str) -> Mail {
    let mails = eventually(SOON, &format!("a mail to {address}"), || async {
        let mails = mails_to(address).await?;
        if mails.is_empty() { Err("none yet".to_owned()) } else { Ok(mails) }
    })
    .await;
    assert_eq!(mails.len(), 1, "{mails:?}");
    mails.into_iter().next().expect("one mail")
}

/// Whether this list has the address, in a field or by itself.
fn is_for(recipients: &Value, address: &str) -> bool {
    let mut recipients = recipients.as_array().into_iter().flatten();
    recipients.any(|recipient| recipient == address || recipient["address"] == address)
}

/// A mail as `MailDev` has it, taken apart.
fn from_fields(mail: &Value) -> Mail {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Mail {
        subject: text(&mail["subject"]),
        text: text(&mail["text"]),
        html: text(&mail["html"]),
        message_id: text(&mail["headers"]["message-id"]),
    }
}

/// A mail as `MailHog` has it, as it came.
fn from_source(mail: &Value) -> Result<Mail, String> {
    let source = mail["Raw"]["Data"].as_str().unwrap_or_default();
    let mail = MessageParser::default().parse(source).ok_or_else(|| format!("not a mail: {source}"))?;
    Ok(Mail {
        subject: mail.subject().unwrap_or_default().to_owned(),
        text: mail.body_text(0).unwrap_or_default().into_owned(),
        html: mail.body_html(0).unwrap_or_default().into_owned(),
        message_id: mail.message_id().unwrap_or_default().to_owned(),
    })
}
