//! Peer ids of a server: always the lowest free one, as OpenVPN assigns them.

use std::collections::BTreeSet;

use culvert_wire::PeerId;

/// Hands out peer ids below a limit.
#[derive(Debug)]
pub(super) struct PeerIds {
    /// Ids below `next` that came back.
    free: BTreeSet<u32>,
    /// The lowest id that was never given out, or whose successors are all free.
    next: u32,
    limit: u32,
}

impl PeerIds {
    /// Hands out ids `0..limit`.
    pub(super) const fn new(limit: u32) -> Self {
        Self { free: BTreeSet::new(), next: 0, limit }
    }

    /// Takes the lowest free id; `None` when all are in use.
    pub(super) fn take(&mut self) -> Option<PeerId> {
        if let Some(id) = self.free.pop_first() {
            return PeerId::new(id);
        }
        if self.next >= self.limit {
            return None;
        }
        let id = PeerId::new(self.next)?;
        self.next += 1;
        Some(id)
    }

    /// Gives an id back.
    pub(super) fn give_back(&mut self, id: PeerId) {
        debug_assert!(id.get() < self.next, "an id that was never taken");
        self.free.insert(id.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_id_is_taken_and_the_limit_holds() {
        let mut ids = PeerIds::new(3);
        let taken: Vec<u32> = std::iter::from_fn(|| ids.take()).map(PeerId::get).collect();
        assert_eq!(taken, [0, 1, 2]);
        ids.give_back(PeerId::new(2).unwrap());
        ids.give_back(PeerId::new(0).unwrap());
        assert_eq!(ids.take(), PeerId::new(0));
    }
}
