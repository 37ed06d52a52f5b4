//! Which remote comes next, and after which pause.
//!
//! Each soft restart goes on to the next address of the current `remote`, then to the next `remote`. Source: protocol
//! document, "Restart classes".

use std::{net::SocketAddr, time::Duration};

/// Where to go on after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advance {
    /// The same address again.
    Stay,
    /// The next address of this remote, else the next remote.
    Address,
    /// The next remote.
    Remote,
}

/// A walk over the connections of a profile.
#[derive(Debug)]
pub(super) struct Remotes {
    /// Indices into the profile's connections, in the order to try.
    order: Vec<usize>,
    position: usize,
    /// What the current remote's name resolved to; empty: not resolved yet.
    addresses: Vec<SocketAddr>,
    address: usize,
    /// Attempts since the last one that succeeded.
    unsuccessful: u32,
}

impl Remotes {
    /// Walks over connections in the given order, which must not be empty.
    pub(super) fn new(order: Vec<usize>) -> Self {
        debug_assert!(!order.is_empty(), "a client has a remote");
        Self { order, position: 0, addresses: Vec::new(), address: 0, unsuccessful: 0 }
    }

    /// The current connection's index.
    pub(super) fn current(&self) -> usize {
        self.order.get(self.position).copied().unwrap_or(0)
    }

    /// The current address, if the name is resolved.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.addresses.get(self.address).copied()
    }

    /// Takes what the current name resolved to.
    pub(super) fn resolved(&mut self, addresses: Vec<SocketAddr>) {
        self.addresses = addresses;
        self.address = 0;
    }

    /// The tunnel came up: pauses start over.
    pub(super) fn succeeded(&mut self) {
        self.unsuccessful = 0;
    }

    /// An attempt begins.
    pub(super) fn attempting(&mut self) {
        self.unsuccessful = self.unsuccessful.saturating_add(1);
    }

    /// Goes on.
    pub(super) fn advance(&mut self, how: Advance) {
        match how {
            Advance::Stay => {}
            Advance::Address if self.address + 1 < self.addresses.len() => self.address += 1,
            Advance::Address | Advance::Remote => {
                self.position = (self.position + 1) % self.order.len().max(1);
                self.addresses.clear();
                self.address = 0;
            }
        }
    }

    /// Whole rounds over the list without success.
    pub(super) fn failed_rounds(&self) -> u32 {
        self.unsuccessful / self.len()
    }

    /// The pause before the next attempt: `first`, doubled for every round from the fifth on, at most `longest`.
    pub(super) fn pause(&self, first: Duration, longest: Duration) -> Duration {
        let doublings = (self.unsuccessful / self.len()).saturating_sub(4).min(16);
        first.saturating_mul(1 << doublings).min(longest.max(first))
    }

    fn len(&self) -> u32 {
        u32::try_from(self.order.len()).unwrap_or(u32::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(n: u16) -> Vec<SocketAddr> {
        (1..=n).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect()
    }

    #[test]
    fn addresses_of_a_remote_come_before_the_next_remote() {
        let mut remotes = Remotes::new(vec![4, 2]);
        remotes.resolved(addresses(2));
        remotes.advance(Advance::Address);
        assert_eq!((remotes.current(), remotes.address().map(|a| a.port())), (4, Some(2)));
        remotes.advance(Advance::Address);
        assert_eq!((remotes.current(), remotes.address()), (2, None));
        remotes.advance(Advance::Remote);
        assert_eq!(remotes.current(), 4);
    }

    #[test]
    fn pauses_double_from_the_fifth_round_and_are_capped() {
        let mut remotes = Remotes::new(vec![0]);
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(300));
        let mut pauses = Vec::new();
        for _ in 0..16 {
            remotes.attempting();
            pauses.push(remotes.pause(first, longest).as_secs());
        }
        assert_eq!(pauses, [1, 1, 1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
        remotes.succeeded();
        remotes.attempting();
        assert_eq!(remotes.pause(first, longest), first);
    }
}
