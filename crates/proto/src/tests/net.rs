//! A network of two ends: delays, loses, repeats, reorders and damages datagrams, by seed.

use std::time::{Duration, Instant};

/// A small generator: the tests need no good one, but always the same one.
#[derive(Clone)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            *byte = self.next().to_be_bytes()[0];
        }
    }
}

/// Percentages and delay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) loss: u64,
    pub(super) duplication: u64,
    pub(super) damage: u64,
    /// Extra delay of up to this many milliseconds for each packet: reorders.
    pub(super) jitter: u64,
}

pub(super) const CALM: Weather = Weather { loss: 0, duplication: 0, damage: 0, jitter: 0 };
const LATENCY: Duration = Duration::from_millis(20);

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

struct Flying {
    at: Instant,
    number: u64,
    to: Side,
    bytes: Vec<u8>,
}

pub(super) struct Net {
    rng: Rng,
    pub(super) weather: Weather,
    flying: Vec<Flying>,
    sent: u64,
    /// Everything that was sent, for comparison of two runs.
    pub(super) log: Vec<(Side, Vec<u8>)>,
}

impl Net {
    pub(super) fn new(seed: u64, weather: Weather) -> Self {
        Self { rng: Rng::new(seed), weather, flying: Vec::new(), sent: 0, log: Vec::new() }
    }

    pub(super) fn send(&mut self, now: Instant, to: Side, bytes: &[u8]) {
        self.log.push((to, bytes.to_vec()));
        let copies = if self.rng.below(100) < self.weather.duplication { 2 } else { 1 };
        for _ in 0..copies {
            if self.rng.below(100) < self.weather.loss {
                continue;
            }
            let mut bytes = bytes.to_vec();
            if self.rng.below(100) < self.weather.damage && !bytes.is_empty() {
                let at = usize::try_from(self.rng.below(bytes.len() as u64)).unwrap();
                bytes[at] ^= 1 << self.rng.below(8);
            }
            let jitter = Duration::from_millis(self.rng.below(self.weather.jitter + 1));
            self.sent += 1;
            self.flying.push(Flying { at: now + LATENCY + jitter, number: self.sent, to, bytes });
        }
    }

    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.flying.iter().map(|packet| packet.at).min()
    }

    pub(super) fn arrived(&mut self, now: Instant) -> Option<(Side, Vec<u8>)> {
        let (index, _) = self
            .flying
            .iter()
            .enumerate()
            .filter(|(_, packet)| packet.at <= now)
            .min_by_key(|(_, packet)| (packet.at, packet.number))?;
        let packet = self.flying.swap_remove(index);
        Some((packet.to, packet.bytes))
    }
}
