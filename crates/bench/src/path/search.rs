//! Finding the highest rate that a path carries without loss.

/// A bisection over rates, one probe at a time.
///
/// A rate counts as too high when it failed twice: single failures are accidents of the machine. The first probe is just
/// below a guess, because guesses are mostly good, and each halving costs a transfer.
#[derive(Debug)]
pub(super) struct Search {
    /// The highest rate that was clean.
    low: f64,
    /// The lowest that was not.
    high: f64,
    next: f64,
    failed: bool,
    left: u32,
}

/// The first probe, and what is surely too high, relative to the guess.
const FIRST: f64 = 0.9;
const CEILING: f64 = 1.3;

impl Search {
    /// Begins with a guess, in any unit, and makes at most `probes` probes.
    pub(super) fn new(guess: f64, probes: u32) -> Self {
        Self { low: 0.0, high: guess * CEILING, next: guess * FIRST, failed: false, left: probes }
    }

    /// The rate to try now; `None` at the end.
    pub(super) fn rate(&self) -> Option<f64> {
        (self.left > 0 && self.next > 0.0).then_some(self.next)
    }

    /// Learns whether that rate was clean.
    pub(super) fn report(&mut self, clean: bool) {
        self.left = self.left.saturating_sub(1);
        if clean {
            self.low = self.next;
        } else if self.failed {
            self.high = self.next;
        } else {
            self.failed = true;
            return;
        }
        self.failed = false;
        self.next = (self.low + self.high) / 2.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a path that carries `limit`; `accident` is the number of a probe that fails by itself.
    fn search(guess: f64, limit: f64, probes: u32, accident: Option<usize>) -> (f64, usize) {
        let mut search = Search::new(guess, probes);
        let (mut best, mut count) = (0.0_f64, 0);
        while let Some(rate) = search.rate() {
            let clean = rate <= limit && accident != Some(count);
            if clean {
                best = best.max(rate);
            }
            search.report(clean);
            count += 1;
        }
        (best, count)
    }

    #[test]
    fn the_limit_is_found_from_below() {
        for limit in [95.0, 120.0, 60.0, 20.0] {
            let (best, count) = search(100.0, limit, 12, None);
            assert!(best <= limit && best > limit * 0.85, "{best} for {limit}");
            assert!(count <= 12);
        }
    }

    #[test]
    fn one_failure_is_an_accident() {
        let (undisturbed, _) = search(100.0, 95.0, 11, None);
        let (disturbed, _) = search(100.0, 95.0, 12, Some(0));
        assert_eq!(undisturbed, disturbed);
    }

    #[test]
    fn a_path_that_carries_nothing_ends_the_search() {
        assert_eq!(search(0.0, 10.0, 8, None), (0.0, 0));
        assert_eq!(search(100.0, 0.0, 8, None), (0.0, 8));
    }
}
