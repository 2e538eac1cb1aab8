//! Where the server is, how to connect to it, and whether it is there.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, ConnectionState, ConnectionStatus, ErrorKind, Event};
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::NAME;
use super::topology::TopologyError;

/// How long a connection may take to be made, handshake included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// In seconds. Two of them without a word, and the connection counts as lost.
const HEARTBEAT: u16 = 10;
/// In bytes. lapin keeps two buffers of 32 frames a connection, and with the server's 128 KiB a frame they
/// would be most of an idle service's memory.
const FRAME_MAX: u32 = 8 * 1024;
/// The first bytes of every connection (AMQP 0-9-1, 4.2.2); the server answers them with its own.
const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";
/// How often to look whether a connection is still there, beside waiting to be told.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often a server that takes no messages is looked at.
const BLOCKED_LOOK: Duration = Duration::from_millis(100);
/// How long a goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Where RabbitMQ is: a part of a service's settings.
#[derive(Args, Clone, Debug)]
pub struct AmqpArgs {
    /// Where events are published and consumed.
    #[arg(
        long = "rabbitmq-url",
        env = "RABBITMQ_URL",
        value_name = "amqp://user:password@rabbitmq:5672/%2f?heartbeat=10",
        hide_env_values = true
    )]
    pub url: SecretString,

    /// What the names of exchanges and queues begin with, so that two systems can share a server.
    #[arg(
        long = "rabbitmq-namespace",
        env = "RABBITMQ_NAMESPACE",
        value_name = "staging-",
        default_value = ""
    )]
    pub namespace: String,
}

/// `RABBITMQ_URL` can't be used. The text never contains the URL, which holds a password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("RABBITMQ_URL: {0}; for example RABBITMQ_URL=amqp://user:password@rabbitmq:5672/%2f")]
pub struct InvalidUrl(&'static str);

/// Why there is no connection, or no channel.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    /// The server refused, or the connection broke.
    #[error("{0}")]
    Server(#[from] lapin::Error),
    /// It did not answer.
    #[error("no answer within {CONNECT_TIMEOUT:?}")]
    TooSlow,
    /// It could not be reached.
    #[error("{0}")]
    Unreachable(#[from] std::io::Error),
    /// The pool of connections gave none.
    #[error("{0}")]
    Pool(Box<deadpool_lapin::PoolError>),
    /// What stands on the server is not what is to be declared.
    #[error("{0}")]
    Topology(#[from] TopologyError),
}

impl From<deadpool_lapin::PoolError> for ConnectError {
    fn from(error: deadpool_lapin::PoolError) -> Self {
        match error {
            deadpool_lapin::PoolError::Backend(error) => Self::Server(error),
            deadpool_lapin::PoolError::Timeout(_) => Self::TooSlow,
            other => Self::Pool(Box::new(other)),
        }
    }
}

/// A server's address, with what every connection to it has in common. Clones share what they know of it.
#[derive(Clone)]
pub(super) struct Server {
    uri: AMQPUri,
    /// It took a connection and said nothing.
    silent: Arc<AtomicBool>,
}

impl Server {
    /// Reads the URL.
    pub(super) fn parse(url: &SecretString) -> Result<Self, InvalidUrl> {
        let url = url.expose_secret();
        let parsed = url::Url::parse(url).map_err(|_| InvalidUrl("is not a URL"))?;
        if !matches!(parsed.scheme(), "amqp" | "amqps") {
            return Err(InvalidUrl("must begin with amqp:// or amqps://"));
        }
        match parsed.host() {
            None => return Err(InvalidUrl("names no host")),
            // lapin would take the local machine instead.
            Some(url::Host::Ipv6(_)) => {
                return Err(InvalidUrl("has an IPv6 address, where only a name or an IPv4 address works"));
            }
            Some(_) => {}
        }
        let mut uri: AMQPUri =
            url.parse().map_err(|_| InvalidUrl("has a part that can't be read after the host"))?;
        if uri.vhost.is_empty() {
            // What people mean by a slash at the end.
            "/".clone_into(&mut uri.vhost);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        Ok(Self { uri, silent: Arc::default() })
    }

    /// The URL with everything that is common to all connections.
    pub(super) fn url(&self) -> String {
        self.uri.to_string()
    }

    /// A new connection that nobody else uses. It does not recover by itself: whoever holds it makes another.
    pub(super) async fn connect(&self, purpose: &str) -> Result<Connection, ConnectError> {
        self.patiently(async { Ok(Connection::connect_uri(self.uri.clone(), properties(purpose)).await?) })
            .await
    }

    /// Runs what makes a connection, with a deadline.
    ///
    /// lapin gives each connection a thread, which waits for the handshake for as long as the server keeps the
    /// socket open, also when nobody waits for it any more. So once a server has kept silent, it has to
    /// speak before it is handed to lapin again: else every attempt would leave a thread behind.
    pub(super) async fn patiently<T>(
        &self,
        connecting: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let attempt = async {
            if self.silent.load(Ordering::Relaxed) {
                self.speaks().await?;
            }
            connecting.await
        };
        let result =
            tokio::time::timeout(CONNECT_TIMEOUT, attempt).await.unwrap_or(Err(ConnectError::TooSlow));
        self.silent.store(matches!(result, Err(ConnectError::TooSlow)), Ordering::Relaxed);
        result
    }

    /// Waits for the first byte of the server. Behind TLS only for the connection.
    async fn speaks(&self) -> Result<(), ConnectError> {
        let mut stream =
            TcpStream::connect((self.uri.authority.host.as_str(), self.uri.authority.port)).await?;
        if self.uri.scheme == AMQPScheme::AMQP {
            stream.write_all(PROTOCOL_HEADER).await?;
            stream.read_u8().await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uri.authority.host, self.uri.authority.port)
    }
}

/// The properties of a connection; its name on the server's page is the process and `purpose`.
pub(super) fn properties(purpose: &str) -> ConnectionProperties {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(|path| path.file_stem()).unwrap_or_default();
    ConnectionProperties::default()
        .with_connection_name(format!("{} {purpose}", program.to_string_lossy()).into())
}

/// Says goodbye, unless the server does not listen.
pub(super) async fn close(connection: &Connection) {
    // Closed or lost: either way it is over.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, "bye".into())).await;
}

/// Waits until a connection or a channel on it is lost; gives why.
///
/// Nothing that lapin is to answer may be awaited without this or a timeout beside it: an acknowledgement that
/// is asked for just as the connection breaks is never answered.
pub(super) async fn lost(connection: &Connection, channel: &Channel) -> lapin::Error {
    let mut events = pin!(connection.events_listener());
    loop {
        match tokio::time::timeout(LOOK_EVERY, events.next()).await {
            Ok(Some(Event::Error(error))) => return error,
            Ok(Some(_)) => {}
            // Not every end is an event.
            Err(_) if connection.status().connected() && channel.status().connected() => {}
            Ok(None) | Err(_) => return ErrorKind::InvalidConnectionState(ConnectionState::Closed).into(),
        }
    }
}

/// Whether the server is there, as the one who holds the connection sees it. Clones look at the same.
#[derive(Clone, Debug)]
pub struct Standing {
    state: watch::Receiver<State>,
}

/// The state of a connection.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Nothing is known yet.
    Connecting,
    /// It is up.
    Up(ConnectionStatus),
    /// It is not, and why.
    Down(Arc<str>),
}

impl Standing {
    pub(super) fn new() -> (watch::Sender<State>, Self) {
        let (sender, state) = watch::channel(State::Connecting);
        (sender, Self { state })
    }

    /// Waits until there is a connection on which messages are taken.
    pub(crate) async fn up(&self) {
        let (mut state, mut said) = (self.state.clone(), false);
        loop {
            if state.wait_for(|state| matches!(state, State::Up(_))).await.is_err() {
                // There will never be one again: the process ends.
                return std::future::pending().await;
            }
            let Err(why) = self.unblocked() else { return };
            if !said {
                tracing::warn!(what = NAME, why, "waiting");
                said = true;
            }
            // Nothing tells when it is over.
            tokio::time::sleep(BLOCKED_LOOK).await;
        }
    }

    /// Whether messages are taken, where there is a connection; `Err` says why not.
    pub(super) fn unblocked(&self) -> Result<(), String> {
        match &*self.state.borrow() {
            State::Up(status) => takes_messages(status),
            State::Connecting | State::Down(_) => Ok(()),
        }
    }

    /// Whether the server can be used; `Err` says why not. Asks nothing of the server.
    pub fn check(&self) -> Result<(), String> {
        match &*self.state.borrow() {
            State::Connecting => Err("not connected yet".to_owned()),
            State::Up(status) => takes_messages(status),
            State::Down(why) => Err(why.as_ref().to_owned()),
        }
    }
}

fn takes_messages(status: &ConnectionStatus) -> Result<(), String> {
    if status.blocked() {
        return Err(format!("{NAME} takes no messages: it is short of memory or disk space"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Server, String> {
        Server::parse(&SecretString::from(url)).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_filled_in_and_what_was_given_is_kept() {
        let server = parse("amqp://u:p%40ss@rabbit").unwrap();
        assert_eq!(server.url(), "amqp://u:p%40ss@rabbit:5672/%2F?frame_max=8192&heartbeat=10");
        let server = parse("amqps://u:p@rabbit:1/blue?heartbeat=3&frame_max=8192").unwrap();
        assert_eq!(server.url(), "amqps://u:p@rabbit:1/blue?frame_max=8192&heartbeat=3");
    }

    #[test]
    fn a_slash_at_the_end_is_the_default_virtual_host() {
        assert_eq!(parse("amqp://u:p@rabbit/").unwrap().uri.vhost, "/");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for bad in [
            "secret",
            "amqp:secret@x",
            "http://u:secret@x",
            "amqp://u:secret@[::1]/",
            "amqp://u:secret@x/?heartbeat=x",
        ] {
            let message = parse(bad).unwrap_err();
            assert!(message.starts_with("RABBITMQ_URL: ") && !message.contains("secret"), "{message}");
        }
        assert!(!format!("{:?}", parse("amqp://u:secret@x").unwrap()).contains("secret"));
    }

    #[tokio::test]
    async fn a_server_that_kept_silent_is_left_to_itself_until_it_speaks() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = parse(&format!("amqp://u:p@{}", listener.local_addr().unwrap())).unwrap();
        server.silent.store(true, Ordering::Relaxed);
        let (result, ()) = tokio::join!(server.connect("test"), async {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut sent = Vec::new();
            // Ends only when the client closes.
            client.read_to_end(&mut sent).await.unwrap();
            assert_eq!(sent, PROTOCOL_HEADER);
        });
        assert!(matches!(result, Err(ConnectError::TooSlow)), "{result:?}");
    }
}
