//! Sliding windows over packet ids: each id is accepted once.
//!
//! Ask only after the packet is authenticated: an unauthenticated packet must not move a window (SEC-DATA-1).

use thiserror::Error;

/// Why an id was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Replay {
    /// The id was accepted before.
    #[error("packet id was seen before")]
    Seen,
    /// The id is behind the window.
    #[error("packet id is too old")]
    TooOld,
    /// The id is zero.
    #[error("packet id is zero")]
    Zero,
}

/// A window by count: ids above the highest are accepted, and unseen ids among the last `size`.
///
/// A ring of 64-bit words, one bit an id; the word of the highest id is only partly in use, so more words than
/// `size / 64` are kept: the next power of two, so that a mask finds an id's word.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    highest: u64,
    size: u64,
    words: Box<[u64]>,
}

impl ReplayWindow {
    /// The largest size that the configuration allows.
    pub const MAX_SIZE: u32 = 65_536;

    /// Makes a window over `size` ids, at most [`Self::MAX_SIZE`]; 0 means strict order (each id is its
    /// predecessor plus one).
    #[must_use]
    pub fn new(size: u32) -> Self {
        let size = u64::from(size.min(Self::MAX_SIZE));
        let words = size.div_ceil(64).saturating_add(1).next_power_of_two();
        let words = vec![0; usize::try_from(words).unwrap_or(1)].into_boxed_slice();
        Self { highest: 0, size, words }
    }

    /// The highest id accepted so far; 0 before the first.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// Tells whether [`ReplayWindow::accept`] would accept `id`.
    ///
    /// # Errors
    /// Why it would not.
    pub fn check(&self, id: u64) -> Result<(), Replay> {
        if id == 0 {
            return Err(Replay::Zero);
        }
        if self.size == 0 {
            return match self.highest.checked_add(1) {
                Some(next) if id == next => Ok(()),
                _ if id <= self.highest => Err(Replay::Seen),
                // A gap in strict order: the packet is refused, as one that came too late would be.
                _ => Err(Replay::TooOld),
            };
        }
        if id > self.highest {
            return Ok(());
        }
        if self.highest.saturating_sub(id) >= self.size {
            return Err(Replay::TooOld);
        }
        let (word, bit) = self.place(id);
        match self.words.get(word) {
            Some(bits) if bits & bit == 0 => Ok(()),
            _ => Err(Replay::Seen),
        }
    }

    /// Marks `id` as seen.
    ///
    /// # Errors
    /// When the id was seen before or is behind the window; the window is unchanged then.
    pub fn accept(&mut self, id: u64) -> Result<(), Replay> {
        self.check(id)?;
        if id > self.highest {
            self.clear_between(self.highest, id);
            self.highest = id;
        }
        let (word, bit) = self.place(id);
        if let Some(bits) = self.words.get_mut(word) {
            *bits |= bit;
        }
        Ok(())
    }

    /// Empties the words that the window enters when its head moves from `from` to `to`.
    fn clear_between(&mut self, from: u64, to: u64) {
        let steps = (to >> 6).saturating_sub(from >> 6).min(self.words.len() as u64);
        for step in 1..=steps {
            let word = self.ring((from >> 6).wrapping_add(step));
            if let Some(bits) = self.words.get_mut(word) {
                *bits = 0;
            }
        }
    }

    /// Word and bit of an id.
    fn place(&self, id: u64) -> (usize, u64) {
        (self.ring(id >> 6), 1 << (id & 63))
    }

    /// The place of a word in the ring, whose length is a power of two.
    #[expect(clippy::cast_possible_truncation, reason = "the mask is what counts")]
    const fn ring(&self, word: u64) -> usize {
        word as usize & self.words.len().wrapping_sub(1)
    }
}

/// A window by count and time: `replay-window n t`.
///
/// An unseen id is also refused when a higher id arrived more than `t` seconds ago. Time is in whole seconds of any
/// clock that does not go back.
#[derive(Clone, Debug)]
pub struct TimedReplayWindow {
    window: ReplayWindow,
    /// Seconds after which gaps close; 0 switches that off.
    backtrack: u32,
    /// Highest ids by the time they were reached, oldest first; one entry per `grain` seconds.
    marks: [Mark; Self::MARKS],
    len: usize,
    /// Ids up to this one are closed.
    floor: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    secs: u64,
    highest: u64,
}

impl TimedReplayWindow {
    /// Default of `replay-window`: packets.
    pub const DEFAULT_SIZE: u32 = 64;
    /// Default of `replay-window`: seconds.
    pub const DEFAULT_BACKTRACK: u32 = 15;
    /// The longest time that the configuration allows, in seconds.
    pub const MAX_BACKTRACK: u32 = 600;
    /// Enough for one mark a second at the default time.
    const MARKS: usize = 17;

    /// Makes a window over `size` ids and `backtrack` seconds (0: no limit by time).
    #[must_use]
    pub fn new(size: u32, backtrack: u32) -> Self {
        Self {
            window: ReplayWindow::new(size),
            backtrack: backtrack.min(Self::MAX_BACKTRACK),
            marks: [Mark::default(); Self::MARKS],
            len: 0,
            floor: 0,
        }
    }

    /// The highest id accepted so far; 0 before the first.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.window.highest()
    }

    /// Marks `id`, which arrived at `secs`, as seen.
    ///
    /// # Errors
    /// When the id was seen before, is behind the window, or its time is over.
    pub fn accept(&mut self, id: u64, secs: u64) -> Result<(), Replay> {
        self.expire(secs);
        if id != 0 && id <= self.floor {
            return Err(Replay::TooOld);
        }
        let before = self.window.highest();
        self.window.accept(id)?;
        if self.backtrack > 0 && id > before {
            self.mark(id, secs);
        }
        Ok(())
    }

    /// Moves the floor up to the highest id that is more than `backtrack` seconds old.
    fn expire(&mut self, secs: u64) {
        let limit = u64::from(self.backtrack);
        let gone = self
            .marks
            .iter()
            .take(self.len)
            .take_while(|mark| secs.saturating_sub(mark.secs) > limit)
            .inspect(|mark| self.floor = mark.highest)
            .count();
        self.marks.rotate_left(gone);
        self.len = self.len.saturating_sub(gone);
    }

    fn mark(&mut self, highest: u64, secs: u64) {
        // Longer times than the default get coarser marks: a gap may then close up to `grain` seconds earlier.
        let grain = u64::from(self.backtrack.div_ceil(15));
        let last = self.len.checked_sub(1).and_then(|last| self.marks.get_mut(last));
        match last {
            Some(mark) if secs.saturating_sub(mark.secs) < grain => mark.highest = highest,
            _ => {
                if let Some(slot) = self.marks.get_mut(self.len) {
                    *slot = Mark { secs, highest };
                    self.len = self.len.saturating_add(1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_accepted_once() {
        let mut window = ReplayWindow::new(64);
        assert_eq!(window.accept(5), Ok(()));
        assert_eq!(window.accept(5), Err(Replay::Seen));
        assert_eq!(window.accept(4), Ok(()));
        assert_eq!(window.accept(4), Err(Replay::Seen));
        assert_eq!(window.accept(0), Err(Replay::Zero));
    }

    #[test]
    fn an_id_behind_the_window_is_too_old() {
        let mut window = ReplayWindow::new(64);
        window.accept(100).unwrap();
        assert_eq!(window.accept(36), Err(Replay::TooOld));
        assert_eq!(window.accept(37), Ok(()));
    }

    #[test]
    fn a_jump_beyond_the_window_forgets_nothing_that_matters() {
        let mut window = ReplayWindow::new(2048);
        window.accept(1).unwrap();
        window.accept(u64::from(u32::MAX)).unwrap();
        assert_eq!(window.accept(u64::from(u32::MAX)), Err(Replay::Seen));
        assert_eq!(window.accept(1), Err(Replay::TooOld));
        assert_eq!(window.accept(u64::from(u32::MAX) - 2047), Ok(()));
    }

    #[test]
    fn sec_data_1_ten_million_ids_in_wild_order_are_delivered_once_each() {
        let mut random = culvert_testkit::sim::SimRandom::new(1);
        // As large as the Linux module's.
        let mut window = ReplayWindow::new(2048);
        // The model: which id was delivered last at each place of a table far larger than the window.
        let mut delivered = vec![0_u64; 1 << 14];
        let (mut highest, mut accepted) = (0_u64, 0_u64);
        for _ in 0..10_000_000 {
            let id = match random.below(1000) {
                0 => highest + random.below(9_000),
                1..500 => highest + 1,
                _ => (highest + 3).saturating_sub(random.below(2_100)),
            };
            let place = &mut delivered[usize::try_from(id % (1 << 14)).unwrap()];
            let fresh = id > highest || (id > 0 && highest - id < 2_048 && *place != id);
            assert_eq!(window.accept(id).is_ok(), fresh, "id {id}, highest {highest}");
            if fresh {
                *place = id;
                highest = highest.max(id);
                accepted += 1;
            }
        }
        assert!(accepted > 5_000_000, "{accepted}");
    }

    #[test]
    fn size_zero_means_strict_order() {
        let mut window = ReplayWindow::new(0);
        assert_eq!(window.accept(1), Ok(()));
        assert_eq!(window.accept(3), Err(Replay::TooOld));
        assert_eq!(window.accept(2), Ok(()));
        assert_eq!(window.accept(2), Err(Replay::Seen));
    }

    #[test]
    fn a_gap_closes_after_its_time() {
        let mut window = TimedReplayWindow::new(64, 15);
        window.accept(1, 100).unwrap();
        window.accept(4, 100).unwrap();
        assert_eq!(window.accept(3, 115), Ok(()));
        assert_eq!(window.accept(2, 116), Err(Replay::TooOld));
        assert_eq!(window.accept(5, 116), Ok(()));
    }

    #[test]
    fn a_gap_that_opened_later_stays_open() {
        let mut window = TimedReplayWindow::new(64, 15);
        window.accept(1, 100).unwrap();
        window.accept(9, 110).unwrap();
        assert_eq!(window.accept(5, 120), Ok(()));
        assert_eq!(window.accept(6, 126), Err(Replay::TooOld));
    }

    proptest! {
        /// SEC-DATA-1: against a set model, whatever the order.
        #[test]
        fn no_id_is_accepted_twice_and_none_inside_the_window_is_lost(
            size in prop_oneof![Just(1_u32), Just(63), Just(64), Just(65), Just(2048)],
            steps in prop::collection::vec((0_u64..400, prop::bool::weighted(0.02)), 1..600),
        ) {
            let mut window = ReplayWindow::new(size);
            let mut seen = HashSet::new();
            let mut base = 1_u64;
            let mut highest = 0_u64;
            for (offset, jump) in steps {
                base += if jump { 5_000 } else { offset % 7 };
                let id = (base + offset).saturating_sub(200).max(1);
                let expected = id > highest || (highest - id < u64::from(size) && !seen.contains(&id));
                prop_assert_eq!(window.accept(id).is_ok(), expected, "id {} highest {}", id, highest);
                if expected {
                    seen.insert(id);
                    highest = highest.max(id);
                }
            }
        }
    }
}
