//! Timing one piece of work, many times.

use std::time::{Duration, Instant};

use super::Work;

/// When to stop.
pub(super) struct Stopwatch {
    /// Time spent in the work.
    measured: Duration,
    /// Time spent in all, preparing included.
    total: Duration,
    /// At least so many rounds, however long they take.
    rounds: usize,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self { measured: Duration::from_millis(300), total: Duration::from_secs(2), rounds: 15 }
    }
}

/// What rounds took, in nanoseconds.
pub(super) struct Timing {
    /// The middle one.
    pub(super) median: f64,
    pub(super) fastest: f64,
    pub(super) slowest: f64,
    /// How many there were.
    pub(super) rounds: usize,
}

impl Stopwatch {
    /// Prepares and runs the work in turn; preparing does not count. A first round, which fills the caches, does not
    /// count either. A round takes microseconds, against which reading the clock (some 25 ns) is nothing.
    pub(super) fn measure(&self, work: &mut dyn Work) -> Timing {
        work.prepare();
        work.run();
        let start = Instant::now();
        let mut samples: Vec<f64> = Vec::new();
        let mut measured = Duration::ZERO;
        while samples.len() < self.rounds || (measured < self.measured && start.elapsed() < self.total) {
            work.prepare();
            let begun = Instant::now();
            work.run();
            let took = begun.elapsed();
            measured += took;
            samples.push(took.as_nanos() as f64);
        }
        samples.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| samples.get(index).copied().unwrap_or_default();
        let rounds = samples.len();
        Timing { median: at(rounds / 2), fastest: at(0), slowest: at(rounds - 1), rounds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Counted {
        prepared: usize,
        run: usize,
    }

    impl Work for Counted {
        fn prepare(&mut self) {
            self.prepared += 1;
        }

        fn run(&mut self) {
            self.run += 1;
            assert_eq!(self.prepared, self.run, "each run has its own preparation");
        }
    }

    #[test]
    fn the_first_round_is_not_counted_and_the_median_lies_between_the_ends() {
        let mut work = Counted::default();
        let watch = Stopwatch { measured: Duration::ZERO, total: Duration::ZERO, rounds: 7 };
        let timing = watch.measure(&mut work);
        assert_eq!((timing.rounds, work.run), (7, 8));
        assert!(timing.fastest <= timing.median && timing.median <= timing.slowest);
    }
}
