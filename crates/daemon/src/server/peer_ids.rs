//! Peer ids of a server: always the lowest free one, as OpenVPN assigns them.
//!
//! A server whose device is the kernel's also has peers that the engine carries: theirs come out of a range of their
//! own, by which the system tells their packets apart.

use std::collections::BTreeSet;

use culvert_offload::ENGINE_IDS;
use culvert_wire::PeerId;

/// Hands out peer ids.
#[derive(Debug)]
pub(super) struct PeerIds {
    common: Range,
    /// From [`ENGINE_IDS`] on.
    engine: Range,
}

/// The ids from `first` on, below a limit.
#[derive(Debug)]
struct Range {
    first: u32,
    /// Ids below `next` that came back.
    free: BTreeSet<u32>,
    /// The lowest id that was never given out, or whose successors are all free.
    next: u32,
    limit: u32,
}

impl PeerIds {
    /// Hands out up to `limit` ids of each kind, the common ones from 0 on.
    pub(super) fn new(limit: u32) -> Self {
        let limit = limit.min(ENGINE_IDS.get() - 1);
        Self { common: Range::new(0, limit), engine: Range::new(ENGINE_IDS.get(), limit) }
    }

    /// Takes the lowest free id of the range that begins with `first`; `None` when all are in use.
    pub(super) fn take(&mut self, first: PeerId) -> Option<PeerId> {
        self.range(first).take()
    }

    /// Gives an id back.
    pub(super) fn give_back(&mut self, id: PeerId) {
        self.range(id).give_back(id.get());
    }

    fn range(&mut self, id: PeerId) -> &mut Range {
        if id >= ENGINE_IDS { &mut self.engine } else { &mut self.common }
    }
}

impl Range {
    const fn new(first: u32, count: u32) -> Self {
        Self { first, free: BTreeSet::new(), next: first, limit: first.saturating_add(count) }
    }

    fn take(&mut self) -> Option<PeerId> {
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

    fn give_back(&mut self, id: u32) {
        debug_assert!((self.first..self.next).contains(&id), "an id that was never taken");
        self.free.insert(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_id_is_taken_and_the_limit_holds() {
        let mut ids = PeerIds::new(3);
        let taken: Vec<u32> = std::iter::from_fn(|| ids.take(PeerId::FIRST)).map(PeerId::get).collect();
        assert_eq!(taken, [0, 1, 2]);
        ids.give_back(PeerId::new(2).unwrap());
        ids.give_back(PeerId::new(0).unwrap());
        assert_eq!(ids.take(PeerId::FIRST), PeerId::new(0));
    }

    #[test]
    fn peers_of_the_engine_have_ids_of_their_own() {
        let mut ids = PeerIds::new(3);
        assert_eq!(ids.take(ENGINE_IDS), Some(ENGINE_IDS));
        assert_eq!(ids.take(PeerId::FIRST), Some(PeerId::FIRST));
        ids.give_back(ENGINE_IDS);
        assert_eq!(ids.take(ENGINE_IDS), Some(ENGINE_IDS));
    }

    #[test]
    fn no_limit_is_beyond_what_an_id_can_be() {
        let mut ids = PeerIds::new(u32::MAX);
        assert!(ids.take(ENGINE_IDS).is_some());
        assert_eq!(PeerIds::new(u32::MAX).engine.limit, 0xFF_FFFF, "the last id means none");
    }
}
