//! When a key is used up: by age, bytes, packets, or on demand.
//!
//! Limits of the packet formats (packet ids, AEAD usage, epochs) are the offload's to notice: it reports
//! `KeyExhausted`, the driver says [`crate::Command::Renegotiate`]. Source: protocol document,
//! "Renegotiation triggers".

use std::time::{Duration, Instant};

use crate::Timing;

/// Watches one key from its activation on.
#[derive(Debug, Default)]
pub(crate) struct Renegotiation {
    since: Option<Instant>,
    packets: u64,
    bytes: u64,
    /// When something other than age used the key up.
    used_up: Option<Instant>,
    /// How long the peer still sends with the key before.
    rest: Duration,
}

impl Renegotiation {
    /// A key is in use from now on; counts and demands of its predecessor are void.
    pub(crate) fn key_active(&mut self, now: Instant) {
        *self = Self { since: Some(now), rest: self.rest, ..Self::default() };
    }

    /// Each key shall live so long at least: a third one would cost the peer the key it sends with.
    pub(crate) fn rest_between(&mut self, rest: Duration) {
        self.rest = rest;
    }

    /// Takes packets and bytes of the key so far.
    pub(crate) fn usage(&mut self, now: Instant, (packets, bytes): (u64, u64), timing: &Timing) {
        (self.packets, self.bytes) = (packets, bytes);
        let over = |limit: Option<u64>, count| limit.is_some_and(|limit| count >= limit);
        if over(timing.reneg_packets, packets) || over(timing.reneg_bytes, bytes) {
            self.demand(now);
        }
    }

    /// Asks for a renegotiation whatever the counts.
    pub(crate) fn demand(&mut self, now: Instant) {
        self.used_up.get_or_insert(now);
    }

    /// How far the key was used, in OpenVPN's words: `sec=3600/3600 bytes=45234/-1 pkts=649/0`.
    pub(crate) fn describe(&self, now: Instant, timing: &Timing) -> String {
        let age = self.since.map_or(0, |since| now.saturating_duration_since(since).as_secs());
        let bytes_limit = timing.reneg_bytes.map_or_else(|| "-1".to_owned(), |limit| limit.to_string());
        format!(
            "sec={age}/{} bytes={}/{bytes_limit} pkts={}/{}",
            timing.reneg_after.as_secs(),
            self.bytes,
            self.packets,
            timing.reneg_packets.unwrap_or(0)
        )
    }

    pub(crate) fn is_due(&self, now: Instant, timing: &Timing) -> bool {
        self.deadline(timing).is_some_and(|at| at <= now)
    }

    /// When it is due; a time in the past when it is already.
    pub(crate) fn deadline(&self, timing: &Timing) -> Option<Instant> {
        let since = self.since?;
        let age = (!timing.reneg_after.is_zero()).then(|| since + timing.reneg_after);
        Some([age, self.used_up].into_iter().flatten().min()?.max(since + self.rest))
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
    fn the_reason_of_a_renegotiation_is_told_as_openvpn_tells_it() {
        let start = Instant::now();
        let mut watch = Renegotiation::default();
        watch.key_active(start);
        watch.usage(start, (7, 500), &timing());
        let later = start + Duration::from_secs(100);
        assert_eq!(watch.describe(later, &timing()), "sec=100/100 bytes=500/1000 pkts=7/10");
        let unlimited = Timing { reneg_bytes: None, reneg_packets: None, ..timing() };
        assert_eq!(watch.describe(later, &unlimited), "sec=100/100 bytes=500/-1 pkts=7/0");
    }

    #[test]
    fn each_key_rests_as_long_as_the_peer_needs_it() {
        let start = Instant::now();
        let mut watch = Renegotiation::default();
        watch.rest_between(Duration::from_secs(160));
        watch.key_active(start);
        assert_eq!(watch.deadline(&timing()), Some(start + Duration::from_secs(160)));
        watch.demand(start);
        assert_eq!(watch.deadline(&timing()), Some(start + Duration::from_secs(160)));
        watch.rest_between(Duration::from_secs(60));
        watch.key_active(start);
        assert_eq!(watch.deadline(&timing()), Some(start + Duration::from_secs(100)));
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
