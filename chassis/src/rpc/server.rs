//! Serves calls: accepts connections, bounds them, and drains them at a stop.
//!
//! The calls of one connection run in its own task, not in one each: those that arrive together are answered
//! together, in one write, and no call costs a wake-up of another thread.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tarpc::context::Context;
use tarpc::server::{BaseChannel, Channel as _, Config, serve as serve_fn};
use tarpc::{ClientMessage, RequestName, Response, ServerError};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::transport::{Wire, wire};

/// How long to wait when there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one server takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more wait to be accepted.
    pub connections: usize,
    /// Calls in flight on one connection; more are refused.
    pub calls: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, calls: 4096 }
    }
}

/// Serves `handler` on `listener` until `stopping` is cancelled; then nothing new is read, and what is in
/// flight ends and is answered. `handler` is given the caller's address, the call's deadline and trace, and the
/// call; where it panics the caller gets an error, and the other calls of the connection go on.
pub async fn serve<Req, Resp, H, F>(
    listener: TcpListener,
    stopping: CancellationToken,
    limits: Limits,
    handler: H,
) -> anyhow::Result<()>
where
    Req: DeserializeOwned + RequestName + Send + 'static,
    Resp: Serialize + Send + 'static,
    H: Fn(SocketAddr, Context, Req) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Resp, ServerError>> + Send + 'static,
{
    // Dropped with this future, so that no connection outlives its server.
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = stopping.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < limits.connections => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "an RPC connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (stopping, handler) = (stopping.clone(), handler.clone());
        connections.spawn(async move {
            if let Err(error) = connection(stream, peer, stopping, limits.calls, handler).await {
                // A client that went away, or one that sent what is no frame of this protocol.
                tracing::warn!(error, %peer, "an RPC connection ended badly");
            }
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn connection<Req, Resp, H, F>(
    stream: TcpStream,
    peer: SocketAddr,
    stopping: CancellationToken,
    limit: usize,
    handler: H,
) -> Result<(), String>
where
    Req: DeserializeOwned + RequestName,
    Resp: Serialize,
    H: Fn(SocketAddr, Context, Req) -> F + Clone,
    F: Future<Output = Result<Resp, ServerError>>,
{
    let wire: Wire<ClientMessage<Req>, Response<Resp>> = wire(stream);
    // Once stopping, the connection reads as if the client had closed it: tarpc then answers what it has.
    let wire = wire.take_until(stopping.cancelled_owned());
    // A place for every answer, so that no call waits for another's to be written.
    let config = Config { pending_response_buffer: limit };
    let mut requests = pin!(BaseChannel::new(config, wire).max_concurrent_requests(limit).requests());
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            // All that are done first, so that their answers leave in one write.
            biased;
            Some(()) = calls.next(), if !calls.is_empty() => {}
            request = requests.next() => match request {
                None => return Ok(()),
                Some(Err(error)) => return Err(chain(&error)),
                Some(Ok(request)) => {
                    let handler = handler.clone();
                    calls.push(request.execute(serve_fn(move |context, request| async move {
                        let call = AssertUnwindSafe(async move { handler(peer, context, request).await });
                        call.catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
                    })));
                }
            },
        }
    }
}

/// The hook has logged the panic.
fn panicked() -> ServerError {
    ServerError::new(
        std::io::ErrorKind::Other,
        "the call failed because of a mistake in this service".to_owned(),
    )
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
