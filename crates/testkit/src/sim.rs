//! A hostile network in virtual time.
//!
//! [`SimNet`] carries datagrams between addresses and mistreats them: it loses, repeats, reorders (by differing
//! delays) and corrupts them, all by a seed, so that a failing test fails again. No thread, no clock, no socket: the
//! test asks for the next thing to happen and moves time there.
//!
//! ```text
//! loop {
//!     drain every peer's poll_transmit into net.send(..)
//!     let next = earliest of net.next_arrival() and every peer's poll_timeout();
//!     net.advance_to(next);
//!     while let Some(datagram) = net.arrived() { peer at datagram.to .handle_datagram(net.now(), ..) }
//!     peers' handle_timeout(net.now())
//! }
//! ```

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::Range,
    time::{Duration, Instant},
};

use culvert_wire::Now;

/// Numbers that look random and follow from a seed (SplitMix64). For tests only.
#[derive(Clone, Debug)]
pub struct SimRandom(u64);

impl SimRandom {
    /// Starts a sequence.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64().checked_rem(end).unwrap_or(0)
    }

    /// `true` in so many of a thousand cases.
    pub fn chance(&mut self, per_mille: u16) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// Fills a buffer.
    pub fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(bytes) {
                *to = from;
            }
        }
    }
}

/// How the network mistreats datagrams. Chances are in thousandths.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Vanishes.
    pub loss: u16,
    /// Arrives twice, each with its own delay.
    pub duplicate: u16,
    /// Arrives with one bit flipped, or cut short.
    pub corrupt: u16,
    /// Travelling time, drawn for each datagram: a wide range reorders.
    pub delay: Range<Duration>,
}

impl Faults {
    /// A good network: everything arrives in order after 10 ms.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            loss: 0,
            duplicate: 0,
            corrupt: 0,
            delay: Duration::from_millis(10)..Duration::from_millis(10),
        }
    }

    /// A bad one: a quarter lost, a tenth repeated, some corrupted, up to half a second late.
    #[must_use]
    pub const fn bad() -> Self {
        Self {
            loss: 250,
            duplicate: 100,
            corrupt: 30,
            delay: Duration::from_millis(5)..Duration::from_millis(500),
        }
    }
}

/// A datagram that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The address that it claims to come from.
    pub from: SocketAddr,
    /// Where it arrived.
    pub to: SocketAddr,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// What became of all datagrams so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimStats {
    /// Handed to the network.
    pub sent: u64,
    /// Lost.
    pub lost: u64,
    /// Repeated.
    pub duplicated: u64,
    /// Corrupted.
    pub corrupted: u64,
    /// Arrived.
    pub arrived: u64,
}

/// The network.
#[derive(Debug)]
pub struct SimNet {
    random: SimRandom,
    /// How it treats what is sent from now on.
    pub faults: Faults,
    start: Instant,
    elapsed: Duration,
    /// By time of arrival, then by number.
    flying: BTreeMap<(Duration, u64), Datagram>,
    next: u64,
    stats: SimStats,
}

/// Virtual Unix time at the start.
const START_UNIX: u32 = 1_700_000_000;

impl SimNet {
    /// A network at virtual time zero.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            random: SimRandom::new(seed),
            faults,
            start: Instant::now(),
            elapsed: Duration::ZERO,
            flying: BTreeMap::new(),
            next: 0,
            stats: SimStats::default(),
        }
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Now {
        let secs = u32::try_from(self.elapsed.as_secs()).unwrap_or(u32::MAX);
        Now { mono: self.start + self.elapsed, unix: START_UNIX.saturating_add(secs) }
    }

    /// Virtual time since the start.
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// What became of everything so far.
    #[must_use]
    pub const fn stats(&self) -> SimStats {
        self.stats
    }

    /// Hands a datagram over. An attacker calls it too, with any `from`.
    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.stats.sent += 1;
        if self.random.chance(self.faults.loss) {
            self.stats.lost += 1;
            return;
        }
        let copies = if self.random.chance(self.faults.duplicate) { 2 } else { 1 };
        self.stats.duplicated += copies - 1;
        for _ in 0..copies {
            let mut datagram = Datagram { from, to, bytes: bytes.to_vec() };
            if self.random.chance(self.faults.corrupt) {
                self.stats.corrupted += 1;
                self.corrupt(&mut datagram.bytes);
            }
            let arrival = self.elapsed + self.delay();
            self.flying.insert((arrival, self.next), datagram);
            self.next += 1;
        }
    }

    /// When the next datagram arrives.
    #[must_use]
    pub fn next_arrival(&self) -> Option<Instant> {
        self.flying.first_key_value().map(|((at, _), _)| self.start + *at)
    }

    /// Moves time forward; an earlier instant changes nothing.
    pub fn advance_to(&mut self, instant: Instant) {
        self.elapsed = self.elapsed.max(instant.saturating_duration_since(self.start));
    }

    /// Moves time forward.
    pub fn advance(&mut self, by: Duration) {
        self.elapsed += by;
    }

    /// Takes the next datagram that has arrived by now.
    pub fn arrived(&mut self) -> Option<Datagram> {
        let entry = self.flying.first_entry().filter(|entry| entry.key().0 <= self.elapsed)?;
        self.stats.arrived += 1;
        Some(entry.remove())
    }

    /// A source of numbers of its own, which follows from the network's seed.
    pub const fn fork_random(&mut self) -> SimRandom {
        SimRandom::new(self.random.next_u64())
    }

    fn delay(&mut self) -> Duration {
        let Range { start, end } = self.faults.delay;
        let span = u64::try_from(end.saturating_sub(start).as_micros()).unwrap_or(u64::MAX);
        start + Duration::from_micros(self.random.below(span))
    }

    fn corrupt(&mut self, bytes: &mut Vec<u8>) {
        let len = bytes.len() as u64;
        if self.random.chance(200) {
            bytes.truncate(usize::try_from(self.random.below(len)).unwrap_or(0));
            return;
        }
        let at = usize::try_from(self.random.below(len)).unwrap_or(0);
        let bit = self.random.below(8);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64) -> (SimStats, Vec<Datagram>) {
        let (a, b) = ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
        let mut net = SimNet::new(seed, Faults::bad());
        for n in 0..200_u8 {
            net.send(a, b, &[n; 40]);
        }
        let mut arrived = Vec::new();
        while let Some(at) = net.next_arrival() {
            net.advance_to(at);
            arrived.extend(std::iter::from_fn(|| net.arrived()));
        }
        (net.stats(), arrived)
    }

    #[test]
    fn the_same_seed_gives_the_same_network() {
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn a_bad_network_does_all_it_is_asked_for() {
        let (stats, arrived) = run(7);
        assert!(stats.lost > 20 && stats.duplicated > 5 && stats.corrupted > 1, "{stats:?}");
        assert_eq!(stats.arrived, stats.sent - stats.lost + stats.duplicated);
        assert!(arrived.windows(2).any(|pair| pair[0].bytes > pair[1].bytes), "nothing was reordered");
    }

    #[test]
    fn a_good_network_keeps_order() {
        let (a, b) = ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
        let mut net = SimNet::new(1, Faults::none());
        net.send(a, b, b"1");
        net.send(a, b, b"2");
        assert_eq!(net.arrived(), None);
        net.advance(Duration::from_millis(10));
        assert_eq!(net.arrived().unwrap().bytes, b"1");
        assert_eq!(net.arrived().unwrap().bytes, b"2");
    }
}
