//! Faults on the wire: a TCP proxy that keeps its port and can cut, stall, slow or restore what goes through it, keep back
//! what the server says, or lose the server's side of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// What happens to what goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing: bytes pass.
    None,
    /// Connections are reset, old and new.
    Cut,
    /// Connections stay and new ones are taken, but nothing passes: a black hole.
    Stall,
    /// What the client sends arrives, and nothing comes back.
    Mute,
    /// So many bytes pass at a time, and after them a pause, in each direction: a slow peer.
    Trickle { bytes: usize, pause: Duration },
    /// The server's side of every connection is gone, and the client never hears of it: half-open. New ones are taken,
    /// and are the same.
    Halve,
}

/// A proxy in front of a server. Its port stays bound until it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    fault: Arc<watch::Sender<Fault>>,
    reset: Arc<Notify>,
    accepting: tokio::task::JoinHandle<()>,
}

impl FaultProxy {
    /// Starts a proxy to `upstream` on a free port of the loopback.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let fault = Arc::new(watch::Sender::new(Fault::None));
        let reset = Arc::new(Notify::new());
        let (sender, resets) = (Arc::clone(&fault), Arc::clone(&reset));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (fault, reset) = (sender.subscribe(), Arc::clone(&resets));
                tokio::spawn(async move {
                    tokio::select! {
                        () = carry(client, upstream, fault) => {}
                        () = reset.notified() => {}
                    }
                });
            }
        });
        Self { address, fault, reset, accepting }
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

    /// Resets the connections that there are, as when the server dies and is there again at once.
    pub fn reset(&self) {
        self.reset.notify_waiters();
    }

    /// Lets nothing pass, without closing anything.
    pub fn stall(&self) {
        self.fault.send_replace(Fault::Stall);
    }

    /// Lets what the client sends pass, and keeps back what the server says.
    pub fn mute(&self) {
        self.fault.send_replace(Fault::Mute);
    }

    /// Lets so many bytes pass at a time, with a pause after them, in each direction: everything arrives, and late.
    ///
    /// # Panics
    ///
    /// With no bytes: that is [`Self::stall`].
    pub fn trickle(&self, bytes: usize, pause: Duration) {
        assert!(bytes > 0, "a trickle of nothing");
        self.fault.send_replace(Fault::Trickle { bytes, pause });
    }

    /// Drops the server's side of every connection, and keeps the client's open, without a word: as when the server's
    /// machine, or a firewall between, has lost them. They stay like that, also when the proxy is restored, until they
    /// are cut.
    pub fn halve(&self) {
        self.fault.send_replace(Fault::Halve);
    }

    /// Lets everything pass again; what was halved before stays so.
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
async fn carry(mut client: TcpStream, upstream: SocketAddr, fault: watch::Receiver<Fault>) {
    // With no linger a dropped socket is reset, as when a process dies or a firewall says no.
    let _ = client.set_zero_linger();
    let mut broken = fault.clone();
    let halved = tokio::select! {
        () = connect(&mut client, upstream, fault) => false,
        fault = broken.wait_for(|fault| matches!(fault, Fault::Cut | Fault::Halve)) => {
            fault.is_ok_and(|fault| *fault == Fault::Halve)
        }
    };
    if halved {
        // What the client sends is taken by the buffers of its socket, as with a machine that is gone, and nobody reads it.
        let _ = broken.wait_for(|fault| *fault == Fault::Cut).await;
    }
}

/// Carries one connection until it ends.
async fn connect(client: &mut TcpStream, upstream: SocketAddr, mut fault: watch::Receiver<Fault>) {
    if pace(&mut fault, Way::Up).await.is_none() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true), server.set_zero_linger());
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let (up, down) = (fault.clone(), fault);
    tokio::join!(
        copy(&mut from_client, &mut to_server, up, Way::Up),
        copy(&mut from_server, &mut to_client, down, Way::Down)
    );
}

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// To the server.
    Up,
    /// To the client.
    Down,
}

/// How many bytes may pass now, and how long is to be waited after them; waits while nothing may. `None` once it is broken.
async fn pace(fault: &mut watch::Receiver<Fault>, way: Way) -> Option<(usize, Duration)> {
    let passes = |fault: &Fault| *fault != Fault::Stall && (*fault != Fault::Mute || way == Way::Up);
    match *fault.wait_for(passes).await.ok()? {
        Fault::None | Fault::Mute => Some((usize::MAX, Duration::ZERO)),
        Fault::Trickle { bytes, pause } => Some((bytes, pause)),
        Fault::Cut | Fault::Stall | Fault::Halve => None,
    }
}

async fn copy(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, mut fault: watch::Receiver<Fault>, way: Way) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut left = &buffer[..read];
        while !left.is_empty() {
            let Some((bytes, pause)) = pace(&mut fault, way).await else { return };
            let (now, later) = left.split_at(bytes.min(left.len()));
            if to.write_all(now).await.is_err() {
                return;
            }
            left = later;
            if !pause.is_zero() {
                // Until then, or until another fault takes the place of this one.
                let _ = tokio::time::timeout(pause, fault.changed()).await;
            }
        }
    }
    // The other side learns of the end, and may go on sending.
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A connection through a proxy, and what is behind it.
    async fn connected() -> (FaultProxy, TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = FaultProxy::start(listener.local_addr().unwrap()).await;
        let client = TcpStream::connect(proxy.address()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (proxy, client, server)
    }

    #[tokio::test]
    async fn a_trickle_brings_everything_late_and_ends_at_once_when_restored() {
        let (proxy, mut client, mut server) = connected().await;
        let pause = Duration::from_millis(5);
        proxy.trickle(10, pause);
        let (sent, mut got) = ([7; 200], [0; 200]);
        let began = Instant::now();
        client.write_all(&sent).await.unwrap();
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(got, sent);
        assert!(began.elapsed() >= pause * 19, "{:?}", began.elapsed());
        proxy.trickle(1, Duration::from_hours(1));
        client.write_all(&sent).await.unwrap();
        server.read_exact(&mut got[..1]).await.unwrap();
        proxy.restore();
        server.read_exact(&mut got[1..]).await.unwrap();
        assert_eq!(got, sent);
    }

    #[tokio::test]
    async fn a_reset_is_for_the_connections_that_there_are() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = FaultProxy::start(listener.local_addr().unwrap()).await;
        let connect = async || {
            let mut client = TcpStream::connect(proxy.address()).await.unwrap();
            client.write_all(b"a").await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            server.read_exact(&mut [0]).await.unwrap();
            (client, server)
        };
        let (mut client, _server) = connect().await;
        proxy.reset();
        assert!(client.read(&mut [0]).await.is_err());
        connect().await;
    }

    #[tokio::test]
    async fn what_a_muted_server_says_comes_when_it_is_restored() {
        let (proxy, mut client, mut server) = connected().await;
        proxy.mute();
        client.write_all(b"a").await.unwrap();
        server.read_exact(&mut [0]).await.unwrap();
        server.write_all(b"b").await.unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(100), client.read(&mut [0])).await;
        assert!(heard.is_err(), "the client hears nothing: {heard:?}");
        proxy.restore();
        client.read_exact(&mut [0]).await.unwrap();
    }

    #[tokio::test]
    async fn of_a_halved_connection_only_the_server_hears_the_end() {
        let (proxy, mut client, mut server) = connected().await;
        proxy.halve();
        assert!(!matches!(server.read(&mut [0]).await, Ok(1..)), "the server's side is over");
        client.write_all(b"is anybody there").await.unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(100), client.read(&mut [0])).await;
        assert!(heard.is_err(), "the client hears nothing: {heard:?}");
        proxy.restore();
        let heard = tokio::time::timeout(Duration::from_millis(100), client.read(&mut [0])).await;
        assert!(heard.is_err(), "and nothing later: {heard:?}");
        proxy.cut();
        assert!(client.read(&mut [0]).await.is_err(), "until it is cut");
    }
}
