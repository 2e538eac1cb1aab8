//! When to look for events, and among how many: one look at a time, as soon as there is word of new ones; but after a look
//! that took some, a while later.
//!
//! What is written meanwhile is one round instead of many, which costs PostgreSQL, RabbitMQ and whoever consumes it a
//! fraction. The more events, the longer the rest: below some hundreds a second nobody notices it, and above, rounds
//! grow until they come ten times a second, or are full.
//!
//! What another relay has in hand still waits, and is seen. A look is among few, which is cheap, until those are not
//! enough for a round, because others have them; then it is among more.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::{Instant, sleep_until, timeout};

/// How long new events may wait when nobody says that they are there.
const POLL: Duration = Duration::from_secs(1);
/// How long the rest is for each event of the look before.
const REST: Duration = Duration::from_millis(2);
/// How long it is at most.
const LONGEST: Duration = Duration::from_millis(100);
/// How many rounds' events a look is among, at first and at most: one round of this process is in hand meanwhile.
const WINDOW: RangeInclusive<usize> = 2..=32;

/// Whose turn it is to look.
#[derive(Debug)]
pub(super) struct Turns {
    /// How many events a round takes at most.
    most: usize,
    next: Mutex<Next>,
    word: Notify,
    looks: AtomicU64,
}

/// The next look.
#[derive(Debug)]
struct Next {
    when: When,
    /// Among how many rounds' events.
    window: usize,
}

/// When the next look is.
#[derive(Debug)]
enum When {
    /// Where there is more.
    AtOnce,
    /// When there is word of new events, and not before.
    Told(Instant),
}

impl Turns {
    /// A look takes so many events at most.
    pub(super) fn of(most: usize) -> Self {
        let next = Next { when: When::AtOnce, window: *WINDOW.start() };
        Self { most, next: Mutex::new(next), word: Notify::new(), looks: AtomicU64::new(0) }
    }

    /// There may be new events.
    pub(super) fn tell(&self) {
        self.word.notify_one();
    }

    /// Waits until it is time to look. Until that look is over nobody else does.
    pub(super) async fn wait(&self) -> Turn<'_> {
        let next = self.next.lock().await;
        if let When::Told(rested) = next.when {
            sleep_until(rested).await;
            let _ = timeout(POLL, self.word.notified()).await;
        }
        Turn { turns: self, next, look: self.looks.fetch_add(1, Ordering::SeqCst) + 1, began: Instant::now() }
    }
}

/// A look.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    next: MutexGuard<'a, Next>,
    /// The number of the look.
    look: u64,
    began: Instant,
}

impl<'a> Turn<'a> {
    /// How many events it takes at most.
    pub(super) fn most(&self) -> usize {
        self.turns.most
    }

    /// Among how many of the oldest it looks.
    pub(super) fn window(&self) -> usize {
        self.next.window * self.turns.most
    }

    /// The look is over: it has seen so many events that wait, and taken so many of them.
    pub(super) fn end(mut self, seen: usize, taken: usize) -> Option<InHand<'a>> {
        let (all_seen, full) = (seen < self.window(), taken >= self.turns.most);
        let window = if all_seen { *WINDOW.start() } else { self.next.window * if full { 1 } else { 2 } };
        let wider = window > self.next.window && window <= *WINDOW.end();
        *self.next = Next {
            when: if full || wider {
                When::AtOnce
            } else {
                let rest = REST.saturating_mul(u32::try_from(taken).unwrap_or(u32::MAX));
                When::Told(self.began + rest.min(LONGEST))
            },
            window: window.min(*WINDOW.end()),
        };
        (taken > 0).then(|| InHand { turns: self.turns, look: self.look })
    }
}

/// The events that a look has taken. Whoever begins to look before they are sent may leave those that have to come after
/// them: when this goes, somebody looks again.
#[derive(Debug)]
pub(super) struct InHand<'a> {
    turns: &'a Turns,
    look: u64,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        if self.turns.looks.load(Ordering::SeqCst) != self.look {
            self.turns.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// How long it takes until the next look, by the clock of the test.
    async fn waited(turns: &Turns) -> (Turn<'_>, Duration) {
        let began = Instant::now();
        let turn = turns.wait().await;
        (turn, began.elapsed())
    }

    /// Looks, sees so many that wait, and takes all of them.
    async fn look(turns: &Turns, taken: usize) -> (Option<InHand<'_>>, Duration) {
        let (turn, waited) = waited(turns).await;
        (turn.end(taken, taken), waited)
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_have_in_hand_is_looked_past() {
        let turns = Turns::of(100);
        let mut windows = Vec::new();
        // More wait than it sees, and it can have none of them.
        for _ in 0..6 {
            let (turn, waited) = waited(&turns).await;
            let window = turn.window();
            windows.push((window, waited));
            turn.end(window, 0);
        }
        let at_once = |window| (window, Duration::ZERO);
        let widest = (3200, POLL);
        assert_eq!(
            windows,
            [200, 400, 800, 1600, 3200].map(at_once).into_iter().chain([widest]).collect::<Vec<_>>()
        );
        // As long as there are full rounds it stays.
        turns.tell();
        for _ in 0..2 {
            let turn = turns.wait().await;
            assert_eq!((turn.most(), turn.window()), (100, 3200));
            turn.end(3200, 100);
        }
        // It has seen all that wait.
        turns.wait().await.end(3199, 100);
        assert_eq!(turns.wait().await.window(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn the_more_events_there_were_the_longer_the_rest_and_it_is_over_soon() {
        let turns = Turns::of(100);
        assert_eq!(look(&turns, 1).await.1, Duration::ZERO, "what was there before");
        for (taken, rest) in
            [(2, REST), (49, 2 * REST), (50, 49 * REST), (99, LONGEST), (0, LONGEST), (1, Duration::ZERO)]
        {
            turns.tell();
            assert_eq!(look(&turns, taken).await.1, rest, "before {taken}");
        }
        sleep(REST).await;
        turns.tell();
        assert_eq!(look(&turns, 1).await.1, Duration::ZERO, "rested");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_full_round_there_is_no_wait_and_without_word_the_longest() {
        let turns = Turns::of(100);
        assert_eq!(look(&turns, 100).await.1, Duration::ZERO);
        assert_eq!(look(&turns, 0).await.1, Duration::ZERO);
        assert_eq!(look(&turns, 0).await.1, POLL);
        assert_eq!(look(&turns, 99).await.1, POLL);
        assert_eq!(look(&turns, 1).await.1, LONGEST + POLL);
    }

    #[tokio::test(start_paused = true)]
    async fn who_looked_while_events_were_in_hand_looks_again_when_they_are_sent() {
        let turns = Turns::of(100);
        let (first, _) = look(&turns, 1).await;
        sleep(REST).await;
        turns.tell();
        // It finds nothing: what is new has to come after the first.
        let (second, _) = look(&turns, 0).await;
        drop(second);
        drop(first);
        assert_eq!(look(&turns, 0).await.1, Duration::ZERO);
        assert_eq!(look(&turns, 0).await.1, POLL, "and only once");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_looking_when_they_were_sent_looks_again_too() {
        let turns = Turns::of(100);
        let (first, _) = look(&turns, 1).await;
        turns.tell();
        let (second, _) = waited(&turns).await;
        drop(first);
        assert!(second.end(0, 0).is_none());
        assert_eq!(look(&turns, 0).await.1, Duration::ZERO);
        assert_eq!(look(&turns, 0).await.1, POLL);
    }
}
