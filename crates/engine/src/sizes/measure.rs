//! The user's test (`mtu-test`): packets of ten sizes, each asked for and sent three times, and what came of it.
//!
//! It takes minutes, as OpenVPN's does: single packets far apart tell about the path, not about its load. Source: OpenVPN
//! `occ.c` (the sequence; 2.7 no longer subtracts its differences, and sends one size sixty times).

/// How much less than the largest packet is tried.
const LESS: [u16; 10] = [1000, 750, 500, 400, 300, 200, 150, 100, 50, 0];
/// How often each size is tried in each direction.
const TIMES: usize = 3;
/// How often the peer is asked what came.
const REQUESTS: usize = 10;

/// The progress of a test.
#[derive(Debug)]
pub(super) struct Measure {
    /// The largest packet, in bytes of UDP payload.
    largest: u16,
    step: usize,
}

/// A packet of the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// Ask for a packet of this size.
    Request(u16),
    /// Send a packet of this size.
    Load(u16),
    /// Ask what came.
    Ask,
}

impl Measure {
    pub(super) const fn new(largest: u16) -> Self {
        Self { largest, step: 0 }
    }

    /// The next packet; `None` after the last.
    pub(super) fn next(&mut self) -> Option<Packet> {
        let step = self.step;
        self.step += 1;
        let Some(less) = LESS.get(step / (2 * TIMES)) else {
            return (step < LESS.len() * 2 * TIMES + REQUESTS).then_some(Packet::Ask);
        };
        let size = self.largest.saturating_sub(*less);
        Some(if step.is_multiple_of(2) { Packet::Request(size) } else { Packet::Load(size) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_is_tried_thrice_in_each_direction_before_the_peer_is_asked() {
        let mut measure = Measure::new(1528);
        let all: Vec<_> = std::iter::from_fn(|| measure.next()).collect();
        assert_eq!(all.len(), 70);
        assert_eq!(all[..2], [Packet::Request(528), Packet::Load(528)]);
        assert_eq!(all.iter().filter(|packet| **packet == Packet::Load(1528)).count(), 3);
        assert_eq!(all.iter().filter(|packet| **packet == Packet::Request(1128)).count(), 3);
        assert_eq!(all[60..], [Packet::Ask; 10]);
    }
}
