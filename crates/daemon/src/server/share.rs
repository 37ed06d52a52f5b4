//! A part of a thread's time, for work that others impose on it.
//!
//! The control plane's one thread answers strangers and serves sessions. However many strangers knock, they get an
//! eighth of its time; what is left over belongs to the sessions and, where cores are scarce, to the data plane. An
//! eighth is far more than handshakes could follow: a reply takes some 10 µs, a handshake a millisecond.

use std::time::{Duration, Instant};

/// One over the part.
const PART: u32 = 8;

/// Time that may be saved up: after quiet, a crowd of ordinary clients is answered at once.
const SAVINGS: Duration = Duration::from_millis(50);

/// What strangers may take now.
pub(super) struct Share {
    /// Time that was used counts [`PART`] times; it is paid for by then.
    paid_at: Instant,
}

impl Share {
    /// With everything saved up that may be.
    pub(super) fn new(now: Instant) -> Self {
        Self { paid_at: now.checked_sub(SAVINGS * PART).unwrap_or(now) }
    }

    /// Whether everything that was used is paid for.
    pub(super) fn has_time(&self, now: Instant) -> bool {
        self.paid_at <= now
    }

    /// Takes the time that was used up to now. One piece of work may overdraw the share; others then wait longer.
    pub(super) fn charge(&mut self, now: Instant, used: Duration) {
        let oldest_savings = now.checked_sub(SAVINGS * PART).unwrap_or(now);
        self.paid_at = self.paid_at.max(oldest_savings) + used * PART;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(1);

    #[test]
    fn a_flood_gets_an_eighth_of_the_time() {
        let start = Instant::now();
        let mut share = Share::new(start);
        let (mut now, mut used) = (start, Duration::ZERO);
        while now < start + Duration::from_secs(10) {
            now += STEP;
            if share.has_time(now) {
                share.charge(now, STEP);
                used += STEP;
            }
        }
        let eighth = Duration::from_secs(10) / PART;
        assert!(used >= eighth && used <= eighth + 2 * SAVINGS, "{used:?}");
    }

    #[test]
    fn what_is_saved_up_is_bounded() {
        let start = Instant::now();
        let mut share = Share::new(start);
        let later = start + Duration::from_secs(3600);
        assert!(share.has_time(later));
        share.charge(later, SAVINGS);
        assert!(share.has_time(later));
        share.charge(later, STEP);
        assert!(!share.has_time(later + STEP));
        assert!(share.has_time(later + STEP * PART));
    }
}
