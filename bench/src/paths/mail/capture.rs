//! What the mailer makes of a payload: the bytes of one mail, taken by an SMTP server that knows no more than that.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::load;
use crate::setup::{Setup, Started, free_port, until};

const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a mailer, has it send this payload, and gives the mail as it came over the wire.
pub(super) async fn mail(setup: &Setup, payload: &Value) -> anyhow::Result<Vec<u8>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (port, smtp_port) = (free_port()?, listener.local_addr()?.port());
    let (sender, mut mails) = mpsc::channel(1);
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(session(stream, sender.clone()));
        }
    });
    let mut command = Command::new(setup.binaries.join("mailer"));
    command.env("DSN", &setup.mailer_dsn);
    command.env("PORT", port.to_string()).env("MAIL_PORT", smtp_port.to_string());
    let mailer = Started::start(command.stdout(Stdio::null()))?;
    let address = (Ipv4Addr::LOCALHOST, port);
    let request = load::post("/send", "connection: close\r\n", &payload.to_string());
    let ask = async || {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(&request).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        // Until it has seen its ledger.
        (!answer.starts_with("HTTP/1.1 503")).then_some(answer)
    };
    let answer = until("the mailer answers", PATIENCE, ask).await?;
    if !answer.starts_with("HTTP/1.1 202") {
        bail!("the mailer did not take a mail: {answer}");
    }
    server.abort();
    drop(mailer);
    mails.recv().await.context("no mail came")
}

/// One connection of a client that makes no mistakes.
async fn session(stream: TcpStream, mails: mpsc::Sender<Vec<u8>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 bench\r\n").await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let answer: &[u8] = match line.get(..4) {
            Some("DATA") => {
                stream.write_all(b"354 go on\r\n").await?;
                let mail = data(&mut stream).await?;
                // Only the first is wanted.
                let _ = mails.try_send(mail);
                b"250 taken\r\n"
            }
            Some("QUIT") => b"221 goodbye\r\n",
            _ => b"250 8BITMIME\r\n",
        };
        stream.write_all(answer).await?;
        line.clear();
    }
    Ok(())
}

/// A mail, up to the dot that ends it, without the dots that were put before others.
async fn data(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut mail = Vec::new();
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await? > 0 && line != b".\r\n" {
        mail.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        line.clear();
    }
    Ok(mail)
}
