//! What the server answers to one command, and what that means.

use std::io;
use std::ops::RangeInclusive;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::response::Response;

use super::SendError;
use crate::message::Place;

/// The code with which a server closes a connection, whatever was asked (RFC 5321, 3.8).
const CLOSING: u16 = 421;
/// How much of the server's text is kept, in characters.
const TEXT_LIMIT: usize = 200;

/// The server's answer to one command.
#[derive(Debug)]
pub(super) struct Reply {
    /// Three digits.
    pub(super) code: u16,
    /// One short line without control characters.
    text: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoReply {
    /// The connection is gone.
    Gone(String),
    /// It is not SMTP.
    Nonsense(String),
}

/// What an answer that is not the one hoped for means for the mail.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The server closes the connection; it says nothing about the mail.
    Closing,
    /// Not this mail, or not now.
    No(SendError),
    /// No answer to what was asked.
    Nonsense(String),
}

impl Reply {
    /// Reads what lettre makes of an answer, which is an error where the answer is no.
    pub(super) fn of(result: Result<Response, Error>) -> Result<Self, NoReply> {
        let error = match result {
            // Nobody reads what a server says with a yes.
            Ok(response) => return Ok(Self { code: response.code().into(), text: String::new() }),
            Err(error) => error,
        };
        let source = std::error::Error::source(&error);
        if let Some(code) = error.status() {
            let text = source.map(ToString::to_string).unwrap_or_default();
            return Ok(Self { code: code.into(), text: short(&text) });
        }
        let io = source.and_then(|source| source.downcast_ref::<io::Error>());
        let why = short(&source.unwrap_or(&error).to_string());
        // A connection that ends is an incomplete response to lettre; bytes that are no text are an I/O error.
        let nonsense = match io {
            Some(io) => io.kind() == io::ErrorKind::InvalidData,
            None => why != "incomplete response",
        };
        Err(if nonsense { NoReply::Nonsense(why) } else { NoReply::Gone(why) })
    }

    /// What this answer means where it is not one of `yes`.
    pub(super) fn verdict(self, place: Place, yes: &RangeInclusive<u16>) -> Option<Verdict> {
        let Self { code, text } = self;
        if yes.contains(&code) {
            return None;
        }
        Some(match code {
            CLOSING => Verdict::Closing,
            500.. => Verdict::No(SendError::Refused { place, code, text }),
            400..500 => Verdict::No(SendError::Deferred { place, code, text }),
            _ => Verdict::Nonsense(format!("{code} where it does not belong")),
        })
    }
}

/// The beginning of `text`, fit for one line.
fn short(text: &str) -> String {
    let one_line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    one_line.take(TEXT_LIMIT).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_text_is_cut_to_one_short_line() {
        assert_eq!(short("no\r\nsuch\u{1b}[31m user\n"), "no  such [31m user");
        assert_eq!(short(&"é".repeat(1000)).chars().count(), TEXT_LIMIT);
    }

    #[test]
    fn a_code_means_yes_not_now_or_never() {
        let verdict = |code| Reply { code, text: String::new() }.verdict(Place::Mail, &(250..=252));
        assert!(verdict(250).is_none());
        assert!(matches!(verdict(451), Some(Verdict::No(SendError::Deferred { code: 451, .. }))));
        assert!(matches!(verdict(550), Some(Verdict::No(SendError::Refused { code: 550, .. }))));
        assert!(matches!(verdict(421), Some(Verdict::Closing)));
        assert!(matches!(verdict(354), Some(Verdict::Nonsense(_))));
    }
}
