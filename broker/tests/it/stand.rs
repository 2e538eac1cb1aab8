//! A broker of the test's own, and services for it to call.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use broker::config::Config;
use clap::Parser as _;
use contracts::log::Entry;
use contracts::logger::{AppendError, LoggerRequest, LoggerResponse, Stored};
use contracts::topology::Topology;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicGetOptions, QueueDeleteOptions};
use lapin::{Connection, ConnectionProperties};
use testkit::proxy::FaultProxy;
use testkit::{Running, eventually, setting};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A free port of the loopback.
pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address that no other test gets, and at which nobody is before the socket listens.
pub(crate) fn away() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// An address at which nobody is, nor will be while this process runs.
pub(crate) fn nobody() -> SocketAddr {
    let (socket, address) = away();
    std::mem::forget(socket);
    address
}

/// Serves `routes` as if it were another service.
pub(crate) async fn service(routes: Router) -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(chassis::http::server::serve(listener, routes, CancellationToken::default()));
    address
}

/// A logger that gives `outcome` for every entry and passes the entries on.
pub(crate) async fn logger(
    outcome: Result<Stored, AppendError>,
) -> (SocketAddr, mpsc::UnboundedReceiver<Entry>) {
    let (listener, address) = listener().await;
    let (sender, entries) = mpsc::unbounded_channel();
    let handler = move |_: SocketAddr, _: tarpc::context::Context, request: LoggerRequest| {
        let (sender, outcome) = (sender.clone(), outcome.clone());
        async move {
            Ok(match request {
                LoggerRequest::Append { entry } => {
                    let _ = sender.send(entry);
                    LoggerResponse::Append(outcome)
                }
                LoggerRequest::AppendAll { entries } => {
                    LoggerResponse::AppendAll(entries.iter().map(|_| outcome.clone()).collect())
                }
                LoggerRequest::Record { steps } => {
                    LoggerResponse::Record(steps.iter().map(|_| outcome.clone()).collect())
                }
                LoggerRequest::Bury { letters } => {
                    LoggerResponse::Bury(letters.iter().map(|_| outcome.clone()).collect())
                }
            })
        }
    };
    let limits = chassis::rpc::server::Limits::default();
    tokio::spawn(chassis::rpc::server::serve(listener, CancellationToken::default(), limits, handler));
    (address, entries)
}

/// What a broker is started with; every address may be that of nobody.
pub(crate) struct Stand {
    pub(crate) auth: SocketAddr,
    pub(crate) mailer: SocketAddr,
    pub(crate) logger: SocketAddr,
    pub(crate) logger_http: SocketAddr,
    pub(crate) rabbitmq: String,
    pub(crate) topology: Topology,
    namespace: String,
}

/// A running broker.
pub(crate) struct Broker {
    pub(crate) url: String,
    pub(crate) running: Running,
}

impl Stand {
    /// Nobody anywhere but RabbitMQ.
    pub(crate) fn empty() -> Self {
        let namespace = testkit::namespace();
        Self {
            auth: nobody(),
            mailer: nobody(),
            logger: nobody(),
            logger_http: nobody(),
            rabbitmq: setting("RABBITMQ_URL"),
            topology: Topology::within(&namespace),
            namespace,
        }
    }

    /// Nobody anywhere.
    pub(crate) fn alone() -> Self {
        Self { rabbitmq: format!("amqp://{}", nobody()), ..Self::empty() }
    }

    /// Starts a broker.
    pub(crate) async fn start(&self) -> Broker {
        let (listener, address) = listener().await;
        let config = Config::parse_from([
            "broker".to_owned(),
            format!("--auth-service-url=http://{}", self.auth),
            format!("--mail-service-url=http://{}", self.mailer),
            format!("--logger-rpc-addr={}", self.logger),
            format!("--logger-service-url=http://{}", self.logger_http),
            format!("--listener-service-url=http://{}", self.logger),
            format!("--rabbitmq-url={}", self.rabbitmq),
            format!("--rabbitmq-namespace={}", self.namespace),
            "--cors-allowed-origins=*".to_owned(),
            "--auth-timeout=500ms".to_owned(),
            "--mail-timeout=500ms".to_owned(),
        ]);
        let running =
            Running::start(|lifecycle| async move { broker::serve(listener, config, &lifecycle).await })
                .await;
        Broker { url: format!("http://{address}"), running }
    }
}

impl Stand {
    /// Nobody anywhere but RabbitMQ, which is behind a proxy.
    pub(crate) async fn behind_proxy() -> (Self, FaultProxy) {
        let mut stand = Self::empty();
        let mut url = url::Url::parse(&stand.rabbitmq).unwrap();
        let upstream = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5672));
        let proxy = FaultProxy::to(&upstream).await;
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(proxy.address().port())).unwrap();
        stand.rabbitmq = url.into();
        (stand, proxy)
    }

    /// Takes everything out of a queue.
    pub(crate) async fn drain(&self, queue: &str) -> Vec<BasicGetMessage> {
        let url = setting("RABBITMQ_URL");
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let mut messages = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(message) = channel.basic_get(queue.into(), options).await.unwrap() {
            messages.push(message);
        }
        connection.close(200, "".into()).await.unwrap();
        messages
    }

    /// Deletes a queue.
    pub(crate) async fn delete(&self, queue: &str) {
        let connection = Connection::connect(&self.rabbitmq, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
        connection.close(200, "".into()).await.unwrap();
    }

    /// The one message in a queue.
    pub(crate) async fn only(&self, queue: &str) -> BasicGetMessage {
        let mut messages = self.drain(queue).await;
        assert_eq!(messages.len(), 1, "{queue}");
        messages.remove(0)
    }
}

impl Broker {
    /// Waits until RabbitMQ is connected.
    pub(crate) async fn connected(&self) {
        eventually(Duration::from_secs(10), "RabbitMQ is connected", || async {
            let ready = testkit::http::get(&format!("{}/readyz", self.url)).await;
            let checks = ready.body["data"].as_array().cloned().unwrap_or_default();
            let there = checks.iter().any(|check| check["name"] == "RabbitMQ" && check["ok"] == true);
            if there { Ok(()) } else { Err(ready.body) }
        })
        .await;
    }
}
