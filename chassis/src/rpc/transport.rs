//! The wire: length-delimited frames of MessagePack over TCP.

use std::time::Duration;

use contracts::logger::MAX_FRAME;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tarpc::serde_transport::{self, Transport};
use tarpc::tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio::net::TcpStream;
use tokio_serde::formats::MessagePack;

use crate::tcp;

/// How much is gathered before it is written while more is coming: calls that come together leave in few
/// system calls.
const GATHER: usize = 64 * 1024;
/// How long the other machine may be silent: a connection whose other end is gone without a word would be kept for ever.
const SILENCE: Duration = Duration::from_secs(30);

/// One end of a connection: reads `In`, writes `Out`.
pub(super) type Wire<In, Out> = Transport<TcpStream, In, Out, MessagePack<In, Out>>;

/// Frames a connection. A frame above [`MAX_FRAME`] is an error on both sides: for the call that wanted to
/// send it, and for the connection that received it.
pub(super) fn wire<In, Out>(stream: TcpStream) -> Wire<In, Out>
where
    In: DeserializeOwned,
    Out: Serialize,
{
    if let Err(error) = tcp::watch(&stream, SILENCE) {
        tracing::debug!(%error, "the options of a connection could not be set");
    }
    let codec = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_codec();
    let mut framed = Framed::new(stream, codec);
    framed.set_backpressure_boundary(GATHER);
    serde_transport::new(framed, MessagePack::default())
}
