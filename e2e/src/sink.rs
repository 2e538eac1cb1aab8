//! A mail server that remembers: each mail's `Message-ID` is on disk before it is taken.
//!
//! It speaks as much of SMTP (RFC 5321, with PIPELINING of RFC 2920) as the mailer does. A recipient says what is done
//! to a mail: `refused@…` is refused for good, `later-<word>@…` only the first time that the word is heard.

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the connections share.
#[derive(Debug)]
struct Sink {
    journal: PathBuf,
    heard: Mutex<HashSet<String>>,
}

/// Takes mails for ever; a line for each goes to the file `journal`.
pub async fn serve(listener: TcpListener, journal: PathBuf) -> io::Result<()> {
    let sink = Arc::new(Sink { journal, heard: Mutex::default() });
    loop {
        let (stream, _) = listener.accept().await?;
        let sink = Arc::clone(&sink);
        tokio::spawn(async move {
            // A client that leaves in the middle is its own affair.
            let _ = sink.converse(stream).await;
        });
    }
}

/// The `Message-ID`s of the mails that were taken, in their order.
pub fn taken(journal: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

impl Sink {
    async fn converse(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        say(&mut stream, "220 sink").await?;
        let mut refused = false;
        while let Some(line) = line(&mut stream).await? {
            let upper = line.to_ascii_uppercase();
            let answer = match upper.split([' ', ':']).next().unwrap_or_default() {
                "EHLO" => "250-sink\r\n250-8BITMIME\r\n250 PIPELINING",
                "MAIL" => {
                    refused = false;
                    "250 ok"
                }
                "RCPT" => {
                    let answer = self.recipient(&line);
                    refused |= !answer.starts_with('2');
                    answer
                }
                "DATA" if refused => "503 no recipients",
                "DATA" => {
                    say(&mut stream, "354 go on").await?;
                    let Some(id) = message(&mut stream).await? else { return Ok(()) };
                    self.remember(&id)?;
                    "250 taken"
                }
                "QUIT" => {
                    say(&mut stream, "221 bye").await?;
                    return Ok(());
                }
                _ => "250 ok",
            };
            say(&mut stream, answer).await?;
        }
        Ok(())
    }

    fn recipient(&self, line: &str) -> &'static str {
        let local = line.split('<').nth(1).and_then(|address| address.split('@').next()).unwrap_or_default();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if local == "refused" {
            "550 nobody here"
        } else if local.starts_with("later-") && heard.insert(local.to_owned()) {
            "451 come again"
        } else {
            "250 ok"
        }
    }

    fn remember(&self, id: &str) -> io::Result<()> {
        let mut journal = std::fs::OpenOptions::new().create(true).append(true).open(&self.journal)?;
        // One write, so that a line is there or is not.
        journal.write_all(format!("{id}\n").as_bytes())?;
        journal.sync_data()
    }
}

async fn say(stream: &mut BufReader<TcpStream>, answer: &str) -> io::Result<()> {
    stream.get_mut().write_all(format!("{answer}\r\n").as_bytes()).await
}

async fn line(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = stream.read_until(b'\n', &mut line).await?;
    Ok((read > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned()))
}

/// Reads a mail to its end; gives its `Message-ID`. `None`: it broke off.
async fn message(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut id = String::new();
    while let Some(line) = line(stream).await? {
        if line == "." {
            return Ok(Some(id));
        }
        if let Some(value) = line.strip_prefix("Message-ID: ") {
            value.clone_into(&mut id);
        }
    }
    Ok(None)
}
