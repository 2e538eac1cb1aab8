//! One connection to the mail server, and one mail over it.
//!
//! Where the server takes a pipeline (RFC 2920) a mail to one recipient costs two turns: MAIL, RCPT and DATA
//! in one, the message in the other. All recipients are taken or none: at a refusal the mail is given up,
//! before anything of it was handed over.

use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use chassis::{crash, tcp};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Ehlo, Mail, Noop, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use tokio::net::TcpStream;

use super::SendError;
use super::hand_over::HandOver;
use super::reply::{NoReply, Reply, Verdict};
use super::tls::{Tls, ask_for_tls};
use super::wire::{Shared, Stream, Wire};
use crate::message::{Message, Place};

/// How long the TCP connection may take to be made: a machine that is off does not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the machine may give no sign of life, below SMTP, before the connection counts as broken: a server that is
/// only slow is waited for, one that is gone is not.
const SILENCE: Duration = Duration::from_mins(1);

/// Where the server is and how to talk to it.
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) security: Security,
    pub(super) credentials: Option<Credentials>,
    /// What this machine calls itself. Looked up once.
    pub(super) hello: ClientId,
}

/// Whether and from when on the connection is encrypted.
pub(super) enum Security {
    None,
    StartTls(Tls),
    Tls(Tls),
}

/// An open connection, logged in where that is asked for.
pub(super) struct Connection {
    smtp: AsyncSmtpConnection,
    tcp: Shared,
    pipelining: bool,
    /// Whether the server waits for a new mail. False while one is under way, so that a connection that was
    /// left in the middle of one is never used again.
    clean: bool,
    used: bool,
}

/// One command, what it is about, and the answers that let the mail go on.
struct Step {
    place: Place,
    command: String,
    yes: RangeInclusive<u16>,
}

impl Step {
    /// Whether this is about a recipient, of whom each is taken or not whatever becomes of the others.
    fn is_recipient(&self) -> bool {
        matches!(self.place, Place::To(_) | Place::Cc(_) | Place::Bcc(_))
    }
}

/// How the beginning of a mail went.
struct Begun {
    verdict: Option<Verdict>,
    /// Whether the server listens for a command: it has neither gone nor lost the thread, and does not take
    /// whatever it gets next for the message.
    in_step: bool,
}

impl Connection {
    /// Connects, encrypts and logs in.
    pub(super) async fn open(target: &Target) -> Result<Self, SendError> {
        let connect = TcpStream::connect((target.host.as_str(), target.port));
        let tcp = match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(connected) => connected.and_then(|stream| tcp::watch(&stream, SILENCE).map(|()| stream)),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let tcp = Shared::new(tcp.map_err(|error| SendError::Unreachable(error.to_string()))?);
        let mut wire = Wire::new(tcp.clone());
        let stream = match &target.security {
            Security::None => Stream::plain(wire),
            Security::Tls(tls) => Stream::tls(tls.handshake(wire).await?),
            Security::StartTls(tls) => {
                ask_for_tls(&mut wire, &target.hello).await?;
                Stream::starttls(tls.handshake(wire).await?)
            }
        };
        let smtp = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &target.hello).await;
        let smtp = smtp.map_err(|error| not_usable(Reply::of(Err(error))))?;
        let mut connection = Self { smtp, tcp, pipelining: false, clean: false, used: false };
        connection.greet(target).await?;
        connection.clean = true;
        Ok(connection)
    }

    async fn greet(&mut self, target: &Target) -> Result<(), SendError> {
        // Asked again, because lettre keeps of the answer only the extensions that it uses itself.
        let offers = self.smtp.command(Ehlo::new(target.hello.clone())).await;
        let offers = offers.map_err(|error| not_usable(Reply::of(Err(error))))?;
        self.pipelining = offers.message().any(|line| line.trim().eq_ignore_ascii_case("PIPELINING"));
        if let Some(credentials) = &target.credentials {
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            let why = match Reply::of(self.smtp.auth(&mechanisms, credentials).await) {
                Ok(Reply { code: 235, .. }) => return Ok(()),
                Ok(reply) => reply.code.to_string(),
                Err(NoReply::Gone(why) | NoReply::Nonsense(why)) => why,
            };
            return Err(SendError::Unreachable(format!("it does not let us log in (MAIL_USERNAME): {why}")));
        }
        Ok(())
    }

    /// Whether the connection has carried a mail, so that it may have gone stale since.
    pub(super) fn is_used(&self) -> bool {
        self.used
    }

    /// Whether the server waits for a new mail, and has neither closed the connection nor said anything
    /// unasked, such as that it is about to. Costs no turn.
    pub(super) fn is_ready(&self) -> bool {
        self.clean && self.tcp.is_quiet()
    }

    /// Asks for a sign of life.
    pub(super) async fn noop(&mut self) -> Result<(), SendError> {
        self.clean = false;
        match Reply::of(self.smtp.command(Noop).await) {
            Ok(Reply { code: 250, .. }) => {
                self.clean = true;
                Ok(())
            }
            other => Err(not_usable(other)),
        }
    }

    /// Says good-bye.
    pub(super) async fn quit(mut self) {
        // It goes either way.
        let _ = self.smtp.quit().await;
    }

    /// Sends one mail. The hand-over begins right before the server gets the message: from then on an error that is not
    /// the server's own answer says nothing about whether it has taken it.
    pub(super) async fn send(&mut self, mail: &Message, hand_over: &HandOver) -> Result<(), SendError> {
        let parameters = self.parameters(mail)?;
        self.clean = false;
        self.used = true;
        self.envelope(mail, parameters).await?;
        if !hand_over.begin() {
            return Err(SendError::TooSlow { handed_over: false });
        }
        crash::point("transport: to be handed over");
        let reply = match Reply::of(self.smtp.message(mail.bytes()).await) {
            Ok(reply) => reply,
            Err(NoReply::Gone(why)) => return Err(SendError::Unconfirmed(why)),
            Err(NoReply::Nonsense(why)) => return Err(SendError::Nonsense { why, handed_over: true }),
        };
        match reply.verdict(Place::Mail, &(250..=250)) {
            None => {
                self.clean = true;
                Ok(())
            }
            Some(Verdict::No(error)) => {
                self.clean = true;
                Err(error)
            }
            // A clear no, but one to a whole message: it is not for this side to try again.
            Some(Verdict::Closing) => {
                let text = "it closes the connection".to_owned();
                Err(SendError::Deferred { place: Place::Mail, code: 421, text })
            }
            Some(Verdict::Nonsense(why)) => Err(SendError::Nonsense { why, handed_over: true }),
        }
    }

    /// What this mail needs of the server (RFC 6152, RFC 6531), or which address it can't take.
    fn parameters(&self, mail: &Message) -> Result<Vec<MailParameter>, SendError> {
        let mut parameters = Vec::new();
        if let Some(place) = mail.first_beyond_ascii() {
            if !self.smtp.server_info().supports_feature(Extension::SmtpUtfEight) {
                let text = "it takes no addresses beyond ASCII".to_owned();
                return Err(SendError::Refused { place, code: 553, text });
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !mail.bytes().is_ascii() && self.smtp.server_info().supports_feature(Extension::EightBitMime) {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        Ok(parameters)
    }

    /// Says who the mail is from and for, and has the server wait for the message.
    async fn envelope(&mut self, mail: &Message, parameters: Vec<MailParameter>) -> Result<(), SendError> {
        let from = Mail::new(Some(mail.from().clone()), parameters).to_string();
        let mut steps = vec![Step { place: Place::From, command: from, yes: 250..=250 }];
        steps.extend(mail.recipients().iter().map(|to| {
            let command = Rcpt::new(to.address.clone(), Vec::new()).to_string();
            Step { place: to.place, command, yes: 250..=252 }
        }));
        let data = Step { place: Place::Mail, command: Data.to_string(), yes: 354..=354 };
        let mut begun = if !self.pipelining {
            steps.push(data);
            self.one_by_one(&steps).await
        } else if mail.recipients().len() == 1 {
            // There is nobody to get the mail when the one recipient is refused, so DATA may go along.
            steps.push(data);
            self.all_at_once(&steps).await
        } else {
            // DATA waits until all of them are taken.
            match self.all_at_once(&steps).await {
                Ok(Begun { verdict: None, .. }) => self.one_by_one(&[data]).await,
                other => other,
            }
        }
        .map_err(|error| match error {
            NoReply::Gone(why) => SendError::Broken(why),
            NoReply::Nonsense(why) => nonsense(why),
        })?;
        match begun.verdict.take() {
            None => Ok(()),
            Some(Verdict::Closing) => Err(closing()),
            Some(Verdict::Nonsense(why)) => Err(nonsense(why)),
            Some(Verdict::No(error)) => {
                // A server that waits for a message won't get one, nor does anything else end that wait.
                if begun.in_step {
                    let reset = Reply::of(self.smtp.command(Rset).await);
                    self.clean = matches!(reset, Ok(Reply { code: 250, .. }));
                }
                Err(error)
            }
        }
    }

    /// Sends all commands at once and reads all answers. The first that is not a yes decides, for what comes
    /// after it follows from it; but of those to the recipients the weightiest does.
    async fn all_at_once(&mut self, steps: &[Step]) -> Result<Begun, NoReply> {
        let all: String = steps.iter().map(|step| step.command.as_str()).collect();
        let mut next = self.smtp.command(all).await;
        let (mut no, mut in_step) = (None, true);
        for (i, step) in steps.iter().enumerate() {
            let reply = match Reply::of(next) {
                Ok(reply) => reply,
                Err(error) if no.is_none() => return Err(error),
                // A no stands though the server leaves after it.
                Err(_) => {
                    in_step = false;
                    break;
                }
            };
            in_step &= reply.code != 354;
            if let Some(verdict) = reply.verdict(step.place, &step.yes) {
                in_step &= matches!(verdict, Verdict::No(_));
                let decides = no.as_ref().is_none_or(|(first, other): &(&Step, Verdict)| {
                    first.is_recipient() && step.is_recipient() && weight(&verdict) > weight(other)
                });
                if decides {
                    no = Some((step, verdict));
                }
            }
            if i + 1 == steps.len() {
                break;
            }
            next = self.smtp.read_response().await;
        }
        Ok(Begun { verdict: no.map(|(_, verdict)| verdict), in_step })
    }

    /// Sends the commands one by one, up to the first answer that is not a yes.
    async fn one_by_one(&mut self, steps: &[Step]) -> Result<Begun, NoReply> {
        for step in steps {
            let reply = Reply::of(self.smtp.command(&step.command).await)?;
            if let Some(verdict) = reply.verdict(step.place, &step.yes) {
                return Ok(Begun { verdict: Some(verdict), in_step: true });
            }
        }
        Ok(Begun { verdict: None, in_step: false })
    }
}

/// How much an answer to one recipient weighs beside those to the others: a no for good more than one for now.
fn weight(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::No(SendError::Deferred { .. }) => 0,
        Verdict::No(_) => 1,
        Verdict::Closing | Verdict::Nonsense(_) => 2,
    }
}

fn closing() -> SendError {
    SendError::Broken("it closes the connection (421)".to_owned())
}

/// An answer before the hand-over that is none.
fn nonsense(why: String) -> SendError {
    SendError::Nonsense { why, handed_over: false }
}

/// The error for a connection that can't carry a mail.
fn not_usable(reply: Result<Reply, NoReply>) -> SendError {
    match reply {
        Ok(reply) => SendError::Unreachable(format!("it turns us away ({})", reply.code)),
        Err(NoReply::Gone(why)) => SendError::Unreachable(why),
        Err(NoReply::Nonsense(why)) => nonsense(why),
    }
}
