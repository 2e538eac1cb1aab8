//! The threads that hash passwords: a few of them, a bounded queue before them, so that log-ins never take the
//! threads that serve requests.
//!
//! Work whose caller has gone is skipped, and does not count. A thread keeps its memory from one hash to the
//! next and gives it back after a second without work.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use metrics::{Gauge, gauge};
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::password::{self, Memory, PasswordError, Stored};

/// How long a thread keeps its memory without work.
const KEEP: Duration = Duration::from_secs(1);
/// Hashing needs a few blocks of 1 KiB; debug builds need more.
const STACK: usize = 256 * 1024;

/// Why no hash came back.
#[derive(Debug, Error)]
pub enum HashingError {
    /// The queue is full.
    #[error("too many log-ins are under way")]
    Busy,
    /// The hash could not be made or checked.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The thread gave up in the middle.
    #[error("the hashing thread broke off")]
    BrokeOff,
}

/// What checking a password gives.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is another password.
    Wrong,
    /// It is the password.
    Right {
        /// The password hashed anew, where the stored hash is outdated.
        renewed: Option<String>,
    },
}

/// The hashing threads. Clones share them; when the last is dropped they end.
#[derive(Clone)]
pub struct Hasher {
    pool: Arc<Pool>,
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

impl Hasher {
    /// Starts `threads` threads, with a queue for `limit` more.
    pub fn start(threads: NonZeroUsize, limit: NonZeroUsize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            limit: limit.get(),
            waiting: gauge!("password_hashing_waiting"),
        });
        // Made first: if a thread can't be started, its drop ends those that were.
        let pool = Arc::new(Pool(Arc::clone(&shared)));
        for i in 0..threads.get() {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("hash-{i}"))
                .stack_size(STACK)
                .spawn(move || shared.work())?;
        }
        Ok(Self { pool })
    }

    /// Checks `password`, and hashes it anew where it is right and the stored hash is outdated.
    pub async fn verify(&self, password: SecretString, stored: Stored) -> Result<Verdict, HashingError> {
        let verify = move |memory: &mut Memory| {
            let password = password.expose_secret();
            if !stored.matches(password, memory)? {
                return Ok(Verdict::Wrong);
            }
            let renewed = stored.is_outdated().then(|| password::hash(password, memory)).transpose()?;
            Ok(Verdict::Right { renewed })
        };
        self.run(verify).await?.map_err(HashingError::Password)
    }

    /// Hashes `password`, as a PHC string.
    pub async fn hash(&self, password: SecretString) -> Result<String, HashingError> {
        let hash = move |memory: &mut Memory| password::hash(password.expose_secret(), memory);
        self.run(hash).await?.map_err(HashingError::Password)
    }

    /// Runs `work` on a hashing thread. Dropped while it waits, the work is not done.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, HashingError> {
        let (answer, answered) = oneshot::channel();
        let caller = Arc::new(());
        let work = Box::new(move |memory: &mut Memory| {
            // Nobody waits any more when this fails.
            let _ = answer.send(work(memory));
        });
        self.pool.0.push(Job { caller: Arc::downgrade(&caller), work })?;
        answered.await.map_err(|_| HashingError::BrokeOff)
    }
}

/// Ends the threads when it is dropped.
struct Pool(Arc<Shared>);

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

/// One piece of work.
struct Job {
    /// Gone when nobody waits for the answer.
    caller: Weak<()>,
    work: Box<dyn FnOnce(&mut Memory) + Send>,
}

impl Job {
    fn is_wanted(&self) -> bool {
        self.caller.strong_count() > 0
    }
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// How many threads wait for work.
    idle: usize,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    limit: usize,
    waiting: Gauge,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<(), HashingError> {
        let mut queue = self.lock();
        // A thread that waits for work takes one of the jobs at once: that one does not wait.
        let limit = self.limit.saturating_add(queue.idle);
        if queue.jobs.len() >= limit {
            queue.jobs.retain(Job::is_wanted);
        }
        if queue.jobs.len() >= limit {
            return Err(HashingError::Busy);
        }
        queue.jobs.push_back(job);
        self.report(&queue);
        drop(queue);
        self.changed.notify_one();
        Ok(())
    }

    /// The life of one thread.
    fn work(&self) {
        let mut memory = Memory::default();
        while let Some(job) = self.next(&mut memory) {
            // A panic costs the one caller its answer, not the service a thread.
            let _ = catch_unwind(AssertUnwindSafe(|| (job.work)(&mut memory)));
        }
    }

    /// Waits for work that somebody wants; `None` at the end.
    fn next(&self, memory: &mut Memory) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            while let Some(job) = queue.jobs.pop_front() {
                if job.is_wanted() {
                    self.report(&queue);
                    return Some(job);
                }
            }
            self.report(&queue);
            if queue.closed {
                return None;
            }
            queue.idle += 1;
            let timed_out;
            (queue, timed_out) = if memory.is_empty() {
                (self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner), false)
            } else {
                let wait = self.changed.wait_timeout(queue, KEEP);
                let (queue, result) = wait.unwrap_or_else(PoisonError::into_inner);
                (queue, result.timed_out())
            };
            queue.idle -= 1;
            if timed_out && queue.jobs.is_empty() {
                drop(queue);
                memory.release();
                queue = self.lock();
            }
        }
    }

    fn report(&self, queue: &Queue) {
        self.waiting.set(u32::try_from(queue.jobs.len()).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn hasher(threads: usize, limit: usize) -> Hasher {
        Hasher::start(NonZeroUsize::new(threads).unwrap(), NonZeroUsize::new(limit).unwrap()).unwrap()
    }

    /// Occupies a thread until the sender is dropped; comes back once it does.
    async fn occupy(hasher: &Hasher) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel::<()>();
        let (begun, beginning) = oneshot::channel();
        let hasher = hasher.clone();
        tokio::spawn(async move {
            let work = move |_: &mut Memory| {
                begun.send(()).unwrap();
                released.recv().unwrap_err();
            };
            hasher.run(work).await.unwrap();
        });
        beginning.await.unwrap();
        release
    }

    #[tokio::test]
    async fn a_queue_without_an_end_has_room() {
        let hasher = hasher(1, usize::MAX);
        assert_eq!(hasher.run(|_| 1).await.unwrap(), 1);
        assert_eq!(hasher.run(|_| 2).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn beyond_the_queue_it_is_busy_at_once() {
        let hasher = hasher(1, 2);
        let thread = occupy(&hasher).await;
        let wait = |answer| Box::pin(hasher.run(move |_| answer));
        let mut waiting = [wait(1), wait(2)];
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        assert!(matches!(hasher.run(|_| 3).await, Err(HashingError::Busy)));
        drop(thread);
        for (i, one) in waiting.into_iter().enumerate() {
            assert_eq!(one.await.unwrap(), i + 1);
        }
    }

    #[tokio::test]
    async fn work_whose_caller_has_gone_is_not_done_and_takes_no_place() {
        let hasher = hasher(1, 1);
        let thread = occupy(&hasher).await;
        let (done, doing) = mpsc::channel();
        let mut gone = Box::pin(hasher.run(move |_| done.send(()).unwrap()));
        assert!(futures_util::poll!(&mut gone).is_pending());
        drop(gone);
        let mut next = Box::pin(hasher.run(|_| "done"));
        assert!(futures_util::poll!(&mut next).is_pending(), "there is a place again");
        drop(thread);
        assert_eq!(next.await.unwrap(), "done");
        assert!(doing.try_recv().is_err(), "nobody wanted it");
    }

    #[tokio::test]
    async fn a_panic_costs_one_answer_and_no_thread() {
        let hasher = hasher(1, 1);
        let broken = hasher.run(|_| panic!("a mistake")).await;
        assert!(matches!(broken, Err(HashingError::BrokeOff)), "{broken:?}");
        assert_eq!(hasher.run(|_| "done").await.unwrap(), "done");
    }

    #[tokio::test]
    async fn every_thread_works_with_the_smallest_queue() {
        let hasher = hasher(4, 1);
        let threads = [occupy(&hasher).await, occupy(&hasher).await, occupy(&hasher).await];
        let fourth = hasher.run(|_| "done").await.unwrap();
        assert_eq!((threads.len(), fourth), (3, "done"));
    }

    #[tokio::test]
    async fn the_memory_is_kept_for_the_next_hash_and_given_back_without_one() {
        let resident = || -> u64 {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let hasher = hasher(1, 1);
        for _ in 0..3 {
            hasher.hash(SecretString::from("verysecret")).await.unwrap();
        }
        assert!(resident() > 19 * 1024);
        testkit::eventually(Duration::from_secs(20), "the memory is given back", || async {
            let resident = resident();
            if resident < 12 * 1024 { Ok(()) } else { Err(format!("{resident} KiB are resident")) }
        })
        .await;
        hasher.hash(SecretString::from("verysecret")).await.unwrap();
    }

    #[tokio::test]
    async fn a_right_password_renews_an_outdated_hash() {
        let hasher = hasher(1, 1);
        let check = async |password: &str, phc: &str| {
            hasher.verify(SecretString::from(password), Stored::parse(phc).unwrap()).await.unwrap()
        };
        // `password`, with m = 256 KiB.
        let weak = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        assert_eq!(check("Password", weak).await, Verdict::Wrong);
        let Verdict::Right { renewed: Some(renewed) } = check("password", weak).await else {
            panic!("the hash is outdated");
        };
        assert_eq!(check("password", &renewed).await, Verdict::Right { renewed: None });
    }
}
