//! The options of a TCP connection whose other end may go away without a word.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Has small writes sent at once, without waiting for the acknowledgement of the one before, and has the system break the
/// connection once the other machine has given no sign of life for `silence`.
pub fn watch(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(silence / 2).with_interval(silence / 6))?;
    // Probes wait while something is unacknowledged; this does not.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(silence))?;
    Ok(())
}
