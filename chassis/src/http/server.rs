//! Accepts connections, and drains them at a stop.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use futures_util::FutureExt as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tower_http::cors::CorsLayer;

use super::edge::{self, Peer};

/// How long a client may take to send the head of a request, and how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait when there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection counts as new.
const NEW: Duration = Duration::from_millis(300);
/// How many connections may wait to be accepted at a stop.
const BACKLOG: usize = 1024;

/// Takes the address, or says which one is taken.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} (HOST, PORT)"))
}

/// Serves `routes` on `listener` until `stopping` is cancelled, then lets the requests in flight end. Pages of
/// other origins get nothing.
pub async fn serve(listener: TcpListener, routes: Router, stopping: CancellationToken) -> anyhow::Result<()> {
    accept(listener, edge::wrap(routes, None), stopping).await
}

/// As [`serve`], for a service that pages of other origins call too, by the rules of `cors`.
pub async fn serve_pages(
    listener: TcpListener,
    routes: Router,
    cors: CorsLayer,
    stopping: CancellationToken,
) -> anyhow::Result<()> {
    accept(listener, edge::wrap(routes, Some(cors)), stopping).await
}

async fn accept(listener: TcpListener, app: Router, stopping: CancellationToken) -> anyhow::Result<()> {
    let connections = TaskTracker::new();
    let mut server = http1::Builder::new();
    // An answer is small: one buffer costs less than a list of them.
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).writev(false);
    let take = |stream, peer| {
        let connection = server.serve_connection(io(stream), service(app.clone(), peer));
        connections.spawn(drive(connection, peer, stopping.clone()));
    };
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => take(stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // Those that the kernel has made already, which would be reset otherwise.
    for _ in 0..BACKLOG {
        let Some(Ok((stream, peer))) = listener.accept().now_or_never() else { break };
        take(stream, peer);
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

/// Serves one connection to its end. At a stop it ends with the answer in hand; one that is new has a moment to send
/// the request that it was made for.
async fn drive<S, B>(
    connection: http1::Connection<TokioIo<TcpStream>, S>,
    peer: SocketAddr,
    stopping: CancellationToken,
) where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let made = Instant::now();
    let mut connection = std::pin::pin!(connection);
    let stopped = async {
        stopping.cancelled().await;
        tokio::time::sleep(NEW.saturating_sub(made.elapsed())).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // How a client ends its connection is its own business.
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection ended badly");
    }
}

fn io(stream: TcpStream) -> TokioIo<TcpStream> {
    // Without it an answer in two writes waits for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    TokioIo::new(stream)
}

/// The routes, for the requests of one connection.
fn service(
    app: Router,
    peer: SocketAddr,
) -> TowerToHyperService<
    impl tower::Service<
        http::Request<hyper::body::Incoming>,
        Response = axum::response::Response,
        Error = std::convert::Infallible,
        Future: Send,
    > + Clone,
> {
    let peer = Peer(peer.ip().to_string().into());
    TowerToHyperService::new(app.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request
    }))
}
