//! Makes the MIME message: headers, text and HTML, attachments.
//!
//! lettre encodes (RFC 2047, RFC 2231, quoted-printable, base64) but panics on a line break in a name, so
//! nothing comes near it here that has not been checked, whoever has checked it before. [`mailbox`] reads
//! addresses, [`attachment`] makes a part of a file, [`content`] decides what the mail says; what is left to
//! do is [`crate::transport`]'s.

mod attachment;
mod content;
mod mailbox;

use std::{fmt, iter};

use contracts::mail::MailPayload;
use contracts::validation::Violations;
use lettre::Address;
use lettre::message::header::{
    Cc, Date, From as FromHeader, Headers, MIME_VERSION_1_0, MessageId, ReplyTo, Subject, To,
};
use lettre::message::{Mailbox, Mailboxes, MultiPart};
use uuid::Uuid;

use crate::templates::Templates;

pub(crate) use mailbox::Sender;

/// A place in a mail, as an answer names it: `to[1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The mail as a whole.
    Mail,
    /// The sender.
    From,
    /// A recipient.
    To(usize),
    /// Somebody who gets a copy.
    Cc(usize),
    /// Somebody who gets a copy without being named.
    Bcc(usize),
    /// Where an answer goes.
    ReplyTo,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mail => f.write_str("mail"),
            Self::From => f.write_str("from"),
            Self::To(i) => write!(f, "to[{i}]"),
            Self::Cc(i) => write!(f, "cc[{i}]"),
            Self::Bcc(i) => write!(f, "bcc[{i}]"),
            Self::ReplyTo => f.write_str("reply_to"),
        }
    }
}

/// One who gets the mail, and where the payload names them.
#[derive(Clone, Debug)]
pub(crate) struct Recipient {
    pub(crate) place: Place,
    pub(crate) address: Address,
}

/// A mail, ready for the wire.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    from: Address,
    recipients: Vec<Recipient>,
    reply_to: Option<Address>,
    id: String,
    bytes: Vec<u8>,
}

impl Message {
    /// Makes the mail with this id of a payload. `Err` is what can't be sent, field by field.
    pub(crate) fn build(
        id: Uuid,
        payload: MailPayload,
        sender: &Sender,
        templates: &Templates,
    ) -> Result<Self, Violations> {
        let mut violations = Violations::default();
        let from = match &payload.from {
            Some(from) => mailbox::parse(Place::From, from, &mut violations),
            None => Some(sender.mailbox().clone()),
        };
        let to = mailbox::parse_all(Place::To, &payload.to, &mut violations);
        let cc = mailbox::parse_all(Place::Cc, &payload.cc, &mut violations);
        let bcc = mailbox::parse_all(Place::Bcc, &payload.bcc, &mut violations);
        let reply_to = payload.reply_to.as_deref();
        let reply_to = reply_to.and_then(|text| mailbox::parse(Place::ReplyTo, text, &mut violations));
        if payload.subject.chars().any(char::is_control) {
            violations.add("subject", "must not contain control characters");
        }
        if to.is_empty() && violations.0.is_empty() {
            violations.add("to", "is required");
        }
        let content = content::of(&payload, from.as_ref(), templates, &mut violations);
        let attachments = payload.attachments.into_iter().enumerate();
        let attachments: Vec<_> =
            attachments.filter_map(|(i, file)| attachment::part(i, file, &mut violations)).collect();
        let (Some(from), Some(content), true) = (from, content, violations.0.is_empty()) else {
            return Err(violations);
        };

        let id = format!("<{id}@{}>", from.email.domain());
        let recipients = recipients(&to, &cc, &bcc);
        let sender = from.email.clone();
        let reply_address = reply_to.as_ref().map(|mailbox| mailbox.email.clone());
        let mut headers = Headers::new();
        headers.set(MessageId::from(id.clone()));
        headers.set(Date::now());
        headers.set(FromHeader::from(Mailboxes::from(from)));
        headers.set(To::from(Mailboxes::from_iter(to)));
        if !cc.is_empty() {
            headers.set(Cc::from(Mailboxes::from_iter(cc)));
        }
        if let Some(reply_to) = reply_to {
            headers.set(ReplyTo::from(Mailboxes::from(reply_to)));
        }
        headers.set(Subject::from(payload.subject));
        headers.set(MIME_VERSION_1_0);
        let both = MultiPart::alternative_plain_html(content.text, content.html);
        let whole = if attachments.is_empty() {
            both
        } else {
            let mixed = MultiPart::mixed().multipart(both);
            attachments.into_iter().fold(mixed, MultiPart::singlepart)
        };
        // Not by lettre's own builder, which reads the sender again from the header that it has just written.
        let mut bytes = headers.to_string().into_bytes();
        bytes.append(&mut whole.formatted());
        Ok(Self { from: sender, recipients, reply_to: reply_address, id, bytes })
    }

    /// Who the server is told that the mail comes from.
    pub(crate) fn from(&self) -> &Address {
        &self.from
    }

    /// Everyone who gets the mail, each once.
    pub(crate) fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// The `Message-ID` header.
    pub(crate) fn message_id(&self) -> &str {
        &self.id
    }

    /// The message as it goes over the wire, but for the doubling of dots.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The first address that not every mail server can take.
    pub(crate) fn first_beyond_ascii(&self) -> Option<Place> {
        let recipients = self.recipients.iter().map(|recipient| (recipient.place, &recipient.address));
        let reply_to = self.reply_to.iter().map(|address| (Place::ReplyTo, address));
        let mut all = iter::once((Place::From, &self.from)).chain(recipients).chain(reply_to);
        all.find(|(_, address)| !AsRef::<str>::as_ref(address).is_ascii()).map(|(place, _)| place)
    }
}

/// Everyone who is named in these fields, each once, under the first place that names them.
fn recipients(to: &[Mailbox], cc: &[Mailbox], bcc: &[Mailbox]) -> Vec<Recipient> {
    let mut recipients: Vec<Recipient> = Vec::with_capacity(to.len() + cc.len() + bcc.len());
    let mut add = |place: fn(usize) -> Place, mailboxes: &[Mailbox]| {
        for (i, mailbox) in mailboxes.iter().enumerate() {
            if !recipients.iter().any(|known| known.address == mailbox.email) {
                recipients.push(Recipient { place: place(i), address: mailbox.email.clone() });
            }
        }
    };
    add(Place::To, to);
    add(Place::Cc, cc);
    add(Place::Bcc, bcc);
    recipients
}

#[cfg(test)]
mod tests;
