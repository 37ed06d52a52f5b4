//! Which remote comes next, and after which pause.
//!
//! An attempt that fails goes on to the next address of the current `remote`, then to the next `remote`; a session that was
//! up is tried again where it was. What counts as unsuccessful are remotes, not addresses, and not what stays where it is.
//! Source: OpenVPN 2.7, `next_connection_entry` and `socket_restart_pause` (init.c).

use std::{net::SocketAddr, time::Duration};

/// Where to go on after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advance {
    /// The same address again, once, where the session was up; else [`Self::Address`].
    Usual,
    /// A signal: the same remote, resolved anew, where the session was up; else [`Self::Remote`].
    ByHand,
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
    /// Remotes that were begun with since the tunnel was last up.
    unsuccessful: u32,
    /// The tunnel came up at this address.
    is_up: bool,
}

impl Remotes {
    /// Walks over connections in the given order, which must not be empty.
    pub(super) fn new(order: Vec<usize>) -> Self {
        debug_assert!(!order.is_empty(), "a client has a remote");
        Self { order, position: 0, addresses: Vec::new(), address: 0, unsuccessful: 1, is_up: false }
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
        self.is_up = true;
    }

    /// Goes on.
    pub(super) fn advance(&mut self, how: Advance) {
        let was_up = std::mem::take(&mut self.is_up);
        match how {
            Advance::Stay => {}
            Advance::Usual if was_up => {}
            Advance::ByHand if was_up => self.resolved(Vec::new()),
            Advance::Usual | Advance::Address if self.address + 1 < self.addresses.len() => self.address += 1,
            Advance::Usual | Advance::Address | Advance::ByHand | Advance::Remote => {
                self.position = (self.position + 1) % self.order.len().max(1);
                self.unsuccessful = self.unsuccessful.saturating_add(1);
                self.resolved(Vec::new());
            }
        }
    }

    /// Whether the list was gone through so many times without success, and another time would begin (`connect-retry-max`).
    pub(super) fn are_exhausted(&self, rounds: u32) -> bool {
        self.unsuccessful > rounds.saturating_mul(self.len())
    }

    /// The pause before the next attempt: `first`, doubled for every round from the fifth on, at most `longest`.
    pub(super) fn pause(&self, first: Duration, longest: Duration) -> Duration {
        let doublings = (self.unsuccessful / self.len()).saturating_sub(4).min(15);
        let first = if doublings == 0 { first } else { first.max(Duration::from_secs(1)) };
        first.saturating_mul(1 << doublings).min(longest)
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
            pauses.push(remotes.pause(first, longest).as_secs());
            remotes.advance(Advance::Usual);
        }
        assert_eq!(pauses, [1, 1, 1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
        assert_eq!(remotes.pause(Duration::ZERO, longest), longest, "nothing cannot be doubled");
        remotes.succeeded();
        assert_eq!(remotes.pause(first, longest), first);
        assert_eq!(remotes.pause(Duration::ZERO, longest), Duration::ZERO);
    }

    #[test]
    fn every_address_of_every_remote_is_tried_before_the_round_counts() {
        let mut remotes = Remotes::new(vec![0, 1]);
        let mut tried = 0;
        while !remotes.are_exhausted(1) {
            if remotes.address().is_none() {
                remotes.resolved(addresses(3));
            }
            tried += 1;
            remotes.advance(Advance::Usual);
        }
        assert_eq!(tried, 6);
    }

    #[test]
    fn what_stays_where_it_is_does_not_count() {
        let mut remotes = Remotes::new(vec![0]);
        for _ in 0..10 {
            remotes.advance(Advance::Stay);
        }
        assert!(!remotes.are_exhausted(1));
    }

    #[test]
    fn a_remote_that_was_up_is_tried_once_more_before_the_next() {
        let mut remotes = Remotes::new(vec![0, 1]);
        remotes.resolved(addresses(2));
        remotes.succeeded();
        remotes.advance(Advance::Usual);
        assert_eq!((remotes.current(), remotes.address().map(|a| a.port())), (0, Some(1)));
        remotes.advance(Advance::Usual);
        assert_eq!((remotes.current(), remotes.address().map(|a| a.port())), (0, Some(2)));
        remotes.advance(Advance::Usual);
        assert_eq!(remotes.current(), 1);
    }

    #[test]
    fn a_restart_by_hand_resolves_the_name_of_a_session_anew_and_else_goes_on() {
        let mut remotes = Remotes::new(vec![0, 1]);
        remotes.resolved(addresses(2));
        remotes.succeeded();
        remotes.advance(Advance::ByHand);
        assert_eq!((remotes.current(), remotes.address()), (0, None));
        remotes.resolved(addresses(2));
        remotes.advance(Advance::ByHand);
        assert_eq!((remotes.current(), remotes.address()), (1, None));
    }
}
