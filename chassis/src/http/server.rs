//! Accepts connections, and drains them at a stop.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::edge::{self, Peer};
use tower_http::cors::CorsLayer;

/// How long a client may take to send the head of a request, and how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait when there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    let connections = GracefulShutdown::new();
    let mut server = http1::Builder::new();
    // An answer is small: one buffer costs less than a list of them.
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).writev(false);
    loop {
        let (stream, peer) = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let connection = connections.watch(server.serve_connection(io(stream), service(app.clone(), peer)));
        tokio::spawn(async move {
            // How a client ends its connection is its own business.
            if let Err(error) = connection.await {
                tracing::debug!(%error, %peer, "a connection ended badly");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
    Ok(())
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
