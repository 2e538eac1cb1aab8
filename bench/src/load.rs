//! The load generator: a closed loop of clients over HTTP/1.1, each on a connection that it keeps.
//!
//! It shares the cores with what it measures, so it does next to nothing: one thread, one write and one read a
//! request, the answer's status and length, and the time that it took. It is the same for a floor and for ours.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::process::{Cpu, Processes};

/// How long the clients run before anything is counted.
const WARM_UP: Duration = Duration::from_millis(400);
/// A client that gets no answer for so long gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the clients send, and what they expect.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Where to.
    pub(crate) address: SocketAddr,
    /// How many clients, each with one request in flight.
    pub(crate) clients: usize,
    /// The bytes of the request.
    pub(crate) request: Arc<[u8]>,
    /// The status of a good answer.
    pub(crate) expected: u16,
    /// How long to count.
    pub(crate) duration: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Good answers.
    pub(crate) count: u32,
    /// Good answers a second.
    pub(crate) rate: f64,
    /// Half of them took no longer, in milliseconds.
    pub(crate) p50: f64,
    /// 99 of 100 took no longer, in milliseconds.
    pub(crate) p99: f64,
    /// Answers with another status, and connections that broke.
    pub(crate) bad: usize,
    /// The CPU time that the processes used meanwhile.
    pub(crate) cpu: Cpu,
}

/// The bytes of a `POST` with a JSON body; further header lines end in CR LF each.
pub(crate) fn post(path: &str, headers: &str, body: &str) -> Arc<[u8]> {
    let length = body.len();
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{kind}{headers}content-length: {length}\r\n\r\n");
    Arc::from((head + body).into_bytes())
}

impl Load {
    /// Runs it, on a thread of its own.
    pub(crate) fn run(&self, processes: &Processes) -> anyhow::Result<Sample> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(self.drive(processes)))
    }

    async fn drive(&self, processes: &Processes) -> Sample {
        let signals = Arc::new(Signals::default());
        let clients: Vec<_> =
            (0..self.clients).map(|_| tokio::spawn(client(self.clone(), signals.clone()))).collect();
        tokio::time::sleep(WARM_UP).await;
        let (before, began) = (processes.cpu(), Instant::now());
        signals.count.store(true, Ordering::Relaxed);
        tokio::time::sleep(self.duration).await;
        signals.count.store(false, Ordering::Relaxed);
        let (elapsed, cpu) = (began.elapsed(), processes.cpu().since(&before));
        signals.stop.store(true, Ordering::Relaxed);
        let (mut times, mut bad) = (Vec::new(), 0);
        for client in clients {
            let (its_times, its_bad) = client.await.unwrap_or_default();
            times.extend(its_times);
            bad += its_bad;
        }
        Sample { bad, cpu, ..Sample::of(times, elapsed) }
    }
}

impl Sample {
    /// The figures of requests that took these times, in microseconds, in all of `elapsed`.
    pub(crate) fn of(mut times: Vec<u32>, elapsed: Duration) -> Self {
        times.sort_unstable();
        let at = |hundredth: usize| {
            let time = times.get(times.len() * hundredth / 100).or(times.last());
            time.map_or(f64::NAN, |micros| f64::from(*micros) / 1000.0)
        };
        let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
        let rate = f64::from(count) / elapsed.as_secs_f64();
        Self { count, rate, p50: at(50), p99: at(99), ..Self::default() }
    }

    /// A line on answers that were not good, where there were any.
    pub(crate) fn complaint(&self, path: &str) -> Option<String> {
        (self.bad > 0).then(|| format!("{path}: {} answers were not the expected one", self.bad))
    }
}

#[derive(Debug, Default)]
struct Signals {
    count: AtomicBool,
    stop: AtomicBool,
}

/// One client: the times of its good answers, in microseconds, and how many were not good.
async fn client(load: Load, signals: Arc<Signals>) -> (Vec<u32>, usize) {
    let (mut times, mut bad) = (Vec::with_capacity(1 << 14), 0);
    while !signals.stop.load(Ordering::Relaxed) {
        if let Err(error) = connection(&load, &signals, &mut times, &mut bad).await {
            bad += 1;
            if bad == 1 {
                eprintln!("bench: a connection to {} broke: {error}", load.address);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    (times, bad)
}

async fn connection(load: &Load, signals: &Signals, times: &mut Vec<u32>, bad: &mut usize) -> io::Result<()> {
    let mut stream = TcpStream::connect(load.address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    while !signals.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        stream.write_all(&load.request).await?;
        let status = tokio::time::timeout(PATIENCE, answer(&mut stream, &mut buffer)).await??;
        if status != load.expected {
            *bad += 1;
            if *bad == 1 {
                eprintln!("bench: {} answered {}", load.address, String::from_utf8_lossy(&buffer));
            }
        } else if signals.count.load(Ordering::Relaxed) {
            times.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
    Ok(())
}

/// Reads one answer, whole, into the buffer; gives its status.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<u16> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((status, length)) = head(buffer)? {
            while buffer.len() < length {
                if stream.read_buf(buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            return Ok(status);
        }
    }
}

/// The status of an answer and its length with its body, once the head is there.
fn head(bytes: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(|error| wrong(error.to_string()))?
    else {
        return Ok(None);
    };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    let length = length.ok_or_else(|| wrong("an answer without a length".to_owned()))?;
    Ok(Some((response.code.unwrap_or_default(), head + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_its_head_is_there() {
        let bytes = b"HTTP/1.1 202 Accepted\r\nContent-Length: 7\r\n\r\n{";
        assert_eq!(head(bytes).unwrap(), Some((202, 51)));
        assert_eq!(head(&bytes[..30]).unwrap(), None);
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        let request = post("/handle", "prefer: respond-async\r\n", "{}");
        assert!(request.ends_with(b"prefer: respond-async\r\ncontent-length: 2\r\n\r\n{}"));
    }

    #[test]
    fn the_figures_are_those_of_the_times() {
        let sample = Sample::of((1..=1000).collect(), Duration::from_secs(2));
        assert!((sample.rate - 500.0).abs() < 1e-9);
        assert!((sample.p50 - 0.501).abs() < 1e-9 && (sample.p99 - 0.991).abs() < 1e-9);
    }
}
