//! The byte stream under a connection: TCP that gathers what is written, and TLS over it.
//!
//! SMTP takes turns: whoever speaks then waits for the answer. So what is written is kept until an answer is
//! awaited, and leaves in one segment; lettre would send a mail's end in a segment of its own.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// How much is gathered before it is sent without being waited for: a mail of usual size.
const GATHER: usize = 16 * 1024;
/// How much the server may say in one turn: more than it has to for as many recipients as a mail can have.
/// lettre reads a long answer from its beginning again with every line of it.
const TURN_LIMIT: usize = 48 * 1024;

/// A TCP connection, shared so that its owner can look whether it is still open while it is buried under TLS
/// and lettre. Nobody ever waits for the lock: the two never use the connection at the same time.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<TcpStream>>);

impl Shared {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self(Arc::new(Mutex::new(tcp)))
    }

    fn tcp(&self) -> MutexGuard<'_, TcpStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the other side has neither closed the connection nor said anything that nobody has read.
    pub(super) fn is_quiet(&self) -> bool {
        self.tcp().try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// A TCP connection that sends when it is read from.
#[derive(Debug)]
pub(super) struct Wire {
    tcp: Shared,
    unsent: Vec<u8>,
    sent: usize,
}

impl Wire {
    pub(super) fn new(tcp: Shared) -> Self {
        Self { tcp, unsent: Vec::new(), sent: 0 }
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.unsent.len() {
            let unsent = &self.unsent[self.sent..];
            match ready!(Pin::new(&mut *self.tcp.tcp()).poll_write(context, unsent))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        self.unsent.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut *self.tcp.tcp()).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.unsent.len() >= GATHER {
            ready!(self.poll_send(context))?;
        }
        let taken = bytes.len().min(GATHER - self.unsent.len());
        self.unsent.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Reading flushes; see the module.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection itself closes when its last owner drops it.
        self.poll_send(context)
    }
}

/// A wire, encrypted or not.
#[derive(Debug)]
enum Layers {
    Plain(Wire),
    Tls(Box<TlsStream<Wire>>),
}

/// What lettre speaks SMTP over.
#[derive(Debug)]
pub(super) struct Stream {
    layers: Layers,
    /// What is read before anything else.
    greeting: &'static [u8],
    /// How much the server has said since it was last spoken to.
    heard: usize,
}

impl Stream {
    /// Not encrypted.
    pub(super) fn plain(wire: Wire) -> Self {
        Self { layers: Layers::Plain(wire), greeting: b"", heard: 0 }
    }

    /// Encrypted from the first byte.
    pub(super) fn tls(tls: TlsStream<Wire>) -> Self {
        Self { layers: Layers::Tls(Box::new(tls)), greeting: b"", heard: 0 }
    }

    /// Encrypted after STARTTLS. The server has given its greeting before that and gives no other, but lettre
    /// waits for one.
    pub(super) fn starttls(tls: TlsStream<Wire>) -> Self {
        Self { greeting: b"220 encrypted\r\n", ..Self::tls(tls) }
    }
}

impl AsyncTokioStream for Stream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.layers {
            Layers::Plain(wire) => wire.tcp.tcp().peer_addr(),
            Layers::Tls(tls) => tls.get_ref().0.tcp.tcp().peer_addr(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.greeting.is_empty() {
            let (now, later) = self.greeting.split_at(self.greeting.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.greeting = later;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(match &mut self.layers {
            Layers::Plain(wire) => Pin::new(wire).poll_read(context, buffer),
            Layers::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        })?;
        self.heard += buffer.filled().len() - before;
        if self.heard > TURN_LIMIT {
            let endless = io::Error::new(io::ErrorKind::InvalidData, "an answer without an end");
            return Poll::Ready(Err(endless));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.heard = 0;
        match &mut self.layers {
            Layers::Plain(wire) => Pin::new(wire).poll_write(context, bytes),
            Layers::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layers {
            Layers::Plain(wire) => Pin::new(wire).poll_flush(context),
            Layers::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layers {
            Layers::Plain(wire) => Pin::new(wire).poll_shutdown(context),
            Layers::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
