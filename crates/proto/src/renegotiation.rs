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
    packets: u64,
    bytes: u64,
    demanded: bool,
}

impl Renegotiation {
    /// A key is in use from now on; counts and demands of its predecessor are void.
    pub(crate) fn key_active(&mut self, now: Instant) {
        *self = Self { since: Some(now), ..Self::default() };
    }

    /// Takes the usage of the key so far.
    pub(crate) fn usage(&mut self, packets: u64, bytes: u64) {
        self.packets = packets;
        self.bytes = bytes;
    }

    /// Asks for a renegotiation whatever the counts.
    pub(crate) fn demand(&mut self) {
        self.demanded = true;
    }

    pub(crate) fn is_due(&self, now: Instant, timing: &Timing) -> bool {
        self.since.is_some()
            && (self.demanded
                || self.deadline(timing).is_some_and(|at| at <= now)
                || timing.reneg_bytes.is_some_and(|limit| self.bytes >= limit)
                || timing.reneg_packets.is_some_and(|limit| self.packets >= limit))
    }

    /// When age alone makes it due.
    pub(crate) fn deadline(&self, timing: &Timing) -> Option<Instant> {
        self.since.filter(|_| !timing.reneg_after.is_zero()).map(|since| since + timing.reneg_after)
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
        assert!(!due(&|watch| watch.usage(9, 999), later));
        assert!(due(&|watch| watch.usage(10, 0), later));
        assert!(due(&|watch| watch.usage(0, 1000), later));
        assert!(due(&|watch| watch.demand(), start));
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
