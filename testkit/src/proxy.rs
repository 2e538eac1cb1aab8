//! Faults on the wire: a TCP proxy that keeps its port and can cut, stall or restore what goes through it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to what goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing: bytes pass.
    None,
    /// Connections are reset, old and new.
    Cut,
    /// Connections stay and new ones are taken, but nothing passes: a black hole.
    Stall,
}

/// A proxy in front of a server. Its port stays bound until it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    fault: Arc<watch::Sender<Fault>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl FaultProxy {
    /// Starts a proxy to `upstream` on a free port of the loopback.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let fault = Arc::new(watch::Sender::new(Fault::None));
        let sender = Arc::clone(&fault);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, upstream, sender.subscribe()));
            }
        });
        Self { address, fault, accepting }
    }

    /// Starts a proxy to the first address that `host:port` resolves to.
    pub async fn to(upstream: &str) -> Self {
        let mut addresses = tokio::net::lookup_host(upstream).await.expect("a host and a port");
        Self::start(addresses.next().expect("an address")).await
    }

    /// Where the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets every connection, and each new one at once.
    pub fn cut(&self) {
        self.fault.send_replace(Fault::Cut);
    }

    /// Lets nothing pass, without closing anything.
    pub fn stall(&self) {
        self.fault.send_replace(Fault::Stall);
    }

    /// Lets everything pass again.
    pub fn restore(&self) {
        self.fault.send_replace(Fault::None);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.fault.send_replace(Fault::Cut);
    }
}

/// Carries one connection until it ends or is cut.
async fn carry(client: TcpStream, upstream: SocketAddr, mut fault: watch::Receiver<Fault>) {
    // With no linger a dropped socket is reset, as when a process dies or a firewall says no.
    let _ = client.set_zero_linger();
    let mut gone = fault.clone();
    let connection = async {
        if !passes(&mut fault).await {
            return;
        }
        let Ok(server) = TcpStream::connect(upstream).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true), server.set_zero_linger());
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let (up, down) = (fault.clone(), fault.clone());
        tokio::join!(
            copy(&mut from_client, &mut to_server, up),
            copy(&mut from_server, &mut to_client, down)
        );
    };
    tokio::select! {
        () = connection => {}
        _ = gone.wait_for(|fault| *fault == Fault::Cut) => {}
    }
}

/// Waits while stalled; false once cut.
async fn passes(fault: &mut watch::Receiver<Fault>) -> bool {
    matches!(fault.wait_for(|fault| *fault != Fault::Stall).await.map(|fault| *fault), Ok(Fault::None))
}

async fn copy(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    mut fault: watch::Receiver<Fault>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if !passes(&mut fault).await || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    // The other side learns of the end, and may go on sending.
    let _ = to.shutdown().await;
}
