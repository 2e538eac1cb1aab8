//! Standard output, buffered: a log line costs a copy, not a system call.
//!
//! A thread writes what has gathered every few milliseconds. When nobody reads standard output the buffer
//! fills up, and then lines are dropped and counted: a log that is stuck never stops a service.

use std::io::Write as _;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a line may wait for more to come.
const GATHER: Duration = Duration::from_millis(20);
/// How much may wait, in bytes.
const LIMIT: usize = 1 << 20;
/// A buffer larger than this is given back after use.
const KEEP: usize = 1 << 18;

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    dropped: u64,
}

static WAITING: Mutex<Waiting> = Mutex::new(Waiting { lines: Vec::new(), dropped: 0 });
static FILLED: Condvar = Condvar::new();
/// Held while writing, so that a flush comes back only after the lines of another are out.
static WRITING: Mutex<()> = Mutex::new(());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread that writes.
pub(super) fn start() -> std::io::Result<()> {
    std::thread::Builder::new().name("log".to_owned()).stack_size(64 * 1024).spawn(|| {
        loop {
            let mut waiting = lock(&WAITING);
            while waiting.lines.is_empty() {
                waiting = FILLED.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            drop(waiting);
            std::thread::sleep(GATHER);
            flush();
        }
    })?;
    Ok(())
}

/// Adds one line; it ends with a line feed.
pub(super) fn write(line: &[u8]) {
    let mut waiting = lock(&WAITING);
    if waiting.lines.len() + line.len() > LIMIT {
        waiting.dropped += 1;
        return;
    }
    let was_empty = waiting.lines.is_empty();
    waiting.lines.extend_from_slice(line);
    drop(waiting);
    if was_empty {
        FILLED.notify_one();
    }
}

/// Writes out what has gathered.
pub fn flush() {
    let writing = lock(&WRITING);
    let Waiting { mut lines, dropped } = std::mem::take(&mut *lock(&WAITING));
    if dropped > 0 {
        // There is no one else to tell: the log is what is stuck.
        let _ = writeln!(lines, r#"{{"level":"warn","message":"log lines dropped","count":{dropped}}}"#);
    }
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(&lines).and_then(|()| out.flush());
    drop(out);
    drop(writing);
    lines.clear();
    if lines.capacity() <= KEEP {
        let mut waiting = lock(&WAITING);
        if waiting.lines.capacity() == 0 {
            waiting.lines = lines;
        }
    }
}
