//! When a key is used up: by age, bytes, packets, or on demand.
//!
//! Limits of the packet formats (packet ids, AEAD usage, epochs) are the offload's to notice: it reports
//! `KeyExhausted`, the driver says [`crate::Command::Renegotiate`]. Source: protocol document,
//! "Renegotiation triggers".

use std::time::Instant;

use crate::Timing;

/// Watches one key from its activation on.
#[derive(Debug, Default)]
pub(crate) struct Renegotiation {
    since: Option<Instant>,
    /// When something other than age used the key up.
    used_up: Option<Instant>,
}

impl Renegotiation {
    /// A key is in use from now on; counts and demands of its predecessor are void.
    pub(crate) fn key_active(&mut self, now: Instant) {
        *self = Self { since: Some(now), used_up: None };
    }

    /// Takes packets and bytes of the key so far.
    pub(crate) fn usage(&mut self, now: Instant, (packets, bytes): (u64, u64), timing: &Timing) {
        let over = |limit: Option<u64>, count| limit.is_some_and(|limit| count >= limit);
        if over(timing.reneg_packets, packets) || over(timing.reneg_bytes, bytes) {
            self.demand(now);
        }
    }

    /// Asks for a renegotiation whatever the counts.
    pub(crate) fn demand(&mut self, now: Instant) {
        self.used_up.get_or_insert(now);
    }

    pub(crate) fn is_due(&self, now: Instant, timing: &Timing) -> bool {
        self.deadline(timing).is_some_and(|at| at <= now)
    }

    /// When it is due; a time in the past when it is already.
    pub(crate) fn deadline(&self, timing: &Timing) -> Option<Instant> {
        let since = self.since?;
        let age = (!timing.reneg_after.is_zero()).then(|| since + timing.reneg_after);
        [age, self.used_up].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn timing() -> Timing {
        Timing {
            hand_window: Duration::from_secs(60),
            tran_window: Duration::from_secs(3600),
            tls_timeout: Duration::from_secs(2),
            reneg_after: Duration::from_secs(100),
            reneg_sec: Duration::from_secs(100),
            reneg_bytes: Some(1000),
            reneg_packets: Some(10),
        }
    }

    #[test]
    fn a_key_is_used_up_by_age_bytes_packets_or_demand() {
        let start = Instant::now();
        let later = start + Duration::from_secs(99);
        let due = |act: &dyn Fn(&mut Renegotiation), at| {
            let mut watch = Renegotiation::default();
            watch.key_active(start);
            act(&mut watch);
            watch.is_due(at, &timing())
        };
        assert!(!due(&|watch| watch.usage(later, (9, 999), &timing()), later));
        assert!(due(&|watch| watch.usage(later, (10, 0), &timing()), later));
        assert!(due(&|watch| watch.usage(later, (0, 1000), &timing()), later));
        assert!(due(&|watch| watch.demand(start), start));
        assert!(due(&|_| {}, start + Duration::from_secs(100)));
    }

    #[test]
    fn without_reneg_sec_age_does_not_count() {
        let start = Instant::now();
        let mut watch = Renegotiation::default();
        watch.key_active(start);
        let timing = Timing { reneg_after: Duration::ZERO, ..timing() };
        assert!(!watch.is_due(start + Duration::from_secs(1_000_000), &timing));
        assert_eq!(watch.deadline(&timing), None);
    }
}
