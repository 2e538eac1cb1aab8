//! A mail server that does as it is told.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// What the server does at a command.
pub(crate) enum Act {
    /// What any server would do.
    Usual,
    /// Answers this, in place of what is usual.
    Say(&'static str),
    /// Never answers.
    Nothing,
    /// Does what is usual once it is told to.
    Hold(Arc<Notify>),
    /// Closes the connection.
    Close,
    /// Answers what is usual, and closes the connection.
    UsualAndClose,
}

/// A command, as the script sees it: `EHLO`, `MAIL`, …, and `.` for the end of a message.
pub(crate) struct At<'a> {
    /// Which connection, from 0.
    pub(crate) connection: usize,
    /// How many commands of this name there were on it before.
    pub(crate) nth: usize,
    /// The command's name.
    pub(crate) name: &'a str,
    /// The whole line.
    pub(crate) line: &'a str,
}

type Script = dyn Fn(At<'_>) -> Act + Send + Sync;

/// How the server is encrypted.
#[derive(Clone)]
pub(crate) enum Encrypted {
    No,
    FromTheStart(TlsAcceptor),
    AfterStarttls(TlsAcceptor),
}

#[derive(Default)]
struct Seen {
    connections: Vec<Vec<String>>,
    mails: Vec<String>,
    open: usize,
    most_open: usize,
}

/// The server.
#[derive(Clone)]
pub(crate) struct Fake {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    extensions: Arc<Vec<&'static str>>,
}

impl Fake {
    /// Starts a server that follows `script` and takes pipelines.
    pub(crate) async fn start(script: impl Fn(At<'_>) -> Act + Send + Sync + 'static) -> Self {
        Self::start_with(&["PIPELINING", "8BITMIME"], Encrypted::No, script).await
    }

    /// Starts a server with these extensions.
    pub(crate) async fn start_with(
        extensions: &[&'static str],
        encrypted: Encrypted,
        script: impl Fn(At<'_>) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let fake = Self { address, seen: Arc::default(), extensions: Arc::new(extensions.to_vec()) };
        let (server, script): (_, Arc<Script>) = (fake.clone(), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, script, encrypted) = (server.clone(), Arc::clone(&script), encrypted.clone());
                tokio::spawn(async move {
                    let index = server.opened();
                    let session = Session { server: server.clone(), script, index };
                    match encrypted {
                        Encrypted::No => drop(session.run(stream, true, None).await),
                        Encrypted::FromTheStart(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(session.run(stream, true, None).await);
                            }
                        }
                        Encrypted::AfterStarttls(tls) => {
                            if let Some(stream) = session.run(stream, true, Some("STARTTLS")).await
                                && let Ok(stream) = tls.accept(stream).await
                            {
                                drop(session.run(stream, false, None).await);
                            }
                        }
                    }
                    server.seen.lock().unwrap().open -= 1;
                });
            }
        });
        fake
    }

    fn opened(&self) -> usize {
        let mut seen = self.seen.lock().unwrap();
        seen.connections.push(Vec::new());
        seen.open += 1;
        seen.most_open = seen.most_open.max(seen.open);
        seen.connections.len() - 1
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The messages that came whole, whatever was answered.
    pub(crate) fn mails(&self) -> Vec<String> {
        self.seen.lock().unwrap().mails.clone()
    }

    /// The names of the commands on each connection that carried more than a sign of life.
    pub(crate) fn dialogues(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.connections.iter().map(|lines| lines.join(" ")).collect()
    }

    /// The most connections that were open at one time.
    pub(crate) fn most_open(&self) -> usize {
        self.seen.lock().unwrap().most_open
    }
}

struct Session {
    server: Fake,
    script: Arc<Script>,
    index: usize,
}

impl Session {
    /// Talks until the connection ends. Gives the stream back where `until` was said.
    async fn run<S>(&self, stream: S, greet: bool, until: Option<&str>) -> Option<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = BufReader::new(stream);
        if greet {
            self.act(&mut stream, "CONNECT", "", "220 fake\r\n").await?;
        }
        loop {
            let line = read_line(&mut stream).await?;
            let name = line.split([' ', ':']).next().unwrap_or_default().trim().to_ascii_uppercase();
            let usual = match name.as_str() {
                "EHLO" => self.offers(until),
                "DATA" => "354 go on\r\n".to_owned(),
                "AUTH" => "235 welcome\r\n".to_owned(),
                "STARTTLS" => "220 go on\r\n".to_owned(),
                "QUIT" => "221 bye\r\n".to_owned(),
                _ => "250 ok\r\n".to_owned(),
            };
            let said = self.act(&mut stream, &name, &line, &usual).await?;
            if name == "QUIT" {
                return None;
            }
            if until == Some(name.as_str()) && said.starts_with("220") {
                assert!(stream.buffer().is_empty(), "words before the encryption");
                return Some(stream.into_inner());
            }
            if name == "DATA" && said.starts_with("354") {
                let mail = read_message(&mut stream).await?;
                self.server.seen.lock().unwrap().mails.push(mail);
                self.act(&mut stream, ".", ".", "250 taken\r\n").await?;
            }
        }
    }

    fn offers(&self, until: Option<&str>) -> String {
        let mut lines = vec!["fake"];
        lines.extend(self.server.extensions.iter().copied().chain(until));
        let last = lines.len() - 1;
        let mark = |i| if i == last { ' ' } else { '-' };
        let lines: Vec<_> =
            lines.iter().enumerate().map(|(i, line)| format!("250{}{line}\r\n", mark(i))).collect();
        lines.concat()
    }

    /// Does as the script says; `None` ends the connection.
    async fn act<S>(&self, stream: &mut BufReader<S>, name: &str, line: &str, usual: &str) -> Option<String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let nth = {
            let mut seen = self.server.seen.lock().unwrap();
            let commands = &mut seen.connections[self.index];
            let nth = commands.iter().filter(|command| *command == name).count();
            commands.push(name.to_owned());
            nth
        };
        let act = (self.script)(At { connection: self.index, nth, name, line });
        let (say, close) = match act {
            Act::Usual => (usual, false),
            Act::Say(text) => (text, false),
            Act::Nothing => std::future::pending().await,
            Act::Hold(until) => {
                until.notified().await;
                (usual, false)
            }
            Act::Close => return None,
            Act::UsualAndClose => (usual, true),
        };
        stream.write_all(say.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        (!close).then(|| say.to_owned())
    }
}

async fn read_line<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut line = Vec::new();
    let read = stream.read_until(b'\n', &mut line).await.ok()?;
    (read > 0).then(|| String::from_utf8_lossy(&line).into_owned())
}

/// A message up to its end, dots undoubled.
async fn read_message<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut message = String::new();
    loop {
        let line = read_line(stream).await?;
        if line == ".\r\n" {
            return Some(message);
        }
        message.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
