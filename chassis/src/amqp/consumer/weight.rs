//! How many messages to have in hand, by how large they turn out to be.
//!
//! RabbitMQ counts a prefetch in messages, and memory is bytes: a thousand entries of a log are nothing, a thousand of a
//! megabyte each are the end of a small container. So a few are taken first, and then as many of their size as there is
//! room for. What is on its way at the moment of the change comes a second time.

/// How many bytes of bodies may be in hand, about.
const ROOM: f64 = 32.0 * 1024.0 * 1024.0;
/// How many messages are taken before it is known how large they are.
const FIRST: u16 = 32;
/// How few messages are taken, however large they are.
const LEAST: u16 = 4;
/// How much one message says of those to come.
const SHARE: f64 = 1.0 / 32.0;

/// The size of the messages of one queue, of late.
#[derive(Debug, Default)]
pub(super) struct Weight {
    mean: f64,
    seen: u16,
}

impl Weight {
    /// A message of so many bytes has come.
    pub(super) fn add(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).map_or(f64::MAX, f64::from);
        self.seen = self.seen.saturating_add(1);
        // At first it is the mean of all.
        self.mean += (bytes - self.mean) * SHARE.max(1.0 / f64::from(self.seen));
    }

    /// How many of them there is room for; `most` at most.
    pub(super) fn prefetch(&self, most: u16) -> u16 {
        if self.seen < FIRST {
            return most.min(FIRST);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast ends at the bounds"
        )]
        let fit = (ROOM / self.mean.max(1.0)) as u16;
        fit.max(LEAST).min(most)
    }

    /// Whether twice as many would fit, or only half of them do.
    pub(super) fn has_outgrown(&self, prefetch: u16, most: u16) -> bool {
        let fit = self.prefetch(most);
        fit / 2 >= prefetch || fit <= prefetch / 2 || fit == most && prefetch < most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(messages: &[(usize, usize)]) -> Weight {
        let mut weight = Weight::default();
        for &(count, bytes) in messages {
            (0..count).for_each(|_| weight.add(bytes));
        }
        weight
    }

    #[test]
    fn a_few_are_taken_first_and_then_as_many_as_there_is_room_for() {
        const MIB: usize = 1024 * 1024;
        assert_eq!(of(&[]).prefetch(1000), 32);
        assert_eq!(of(&[(31, 500)]).prefetch(1000), 32);
        assert_eq!(of(&[(32, 500)]).prefetch(1000), 1000);
        assert_eq!(of(&[(32, MIB)]).prefetch(1000), 32);
        assert_eq!(of(&[(32, 4 * MIB)]).prefetch(1000), 8);
        assert_eq!(of(&[(32, 64 * MIB)]).prefetch(1000), 4);
        assert_eq!(of(&[(32, 0)]).prefetch(1), 1);
        // The old ones are forgotten.
        assert!(of(&[(10_000, 500), (100, MIB)]).prefetch(1000) < 40);
        assert_eq!(of(&[(1000, MIB), (500, 500)]).prefetch(1000), 1000);
    }

    #[test]
    fn it_changes_when_it_is_worth_it() {
        let (small, large) = (of(&[(100, 500)]), of(&[(100, 512 * 1024)]));
        assert!(small.has_outgrown(32, 1000) && small.has_outgrown(600, 1000));
        assert!(!small.has_outgrown(1000, 1000) && !small.has_outgrown(16, 16));
        assert!(large.has_outgrown(1000, 1000) && large.has_outgrown(32, 1000));
        assert!(!large.has_outgrown(64, 1000) && !large.has_outgrown(100, 1000));
    }
}
