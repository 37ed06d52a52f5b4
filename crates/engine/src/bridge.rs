//! The switch of an Ethernet device: which peer has which address, and where a frame goes.
//!
//! Addresses are learned from what authenticated peers send (in place of the check of inner source addresses,
//! SEC-DATA-5): a frame from an address that its peer may not have goes nowhere. What is learned is bounded by each
//! peer's limit and is forgotten with the peer. An address that is seen at another peer moves there, but only so often: two
//! peers that claim the same one must not keep everybody busy.
//!
//! As with OpenVPN, a frame of the device for an unknown address is dropped, and group addresses reach every peer of the
//! VLAN. Source of the rules: OpenVPN 2.7 `multi.c`, `mroute.c`.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use culvert_offload::{DeviceMode, Ethernet, Learned, OffloadEvent, Station};
use culvert_wire::{PeerId, Vlans};

use crate::{
    engine::Shared,
    outbox::{Outbox, Payloads},
    packet::ethernet::{self, Header, Inbound, Mac, TAG_LEN, is_group},
    peer::Peer,
    sync::{AtomicBool, AtomicU64, RwLock},
    transport::Backpressure,
};

/// Least time between two moves of an address, in milliseconds.
const MOVE_INTERVAL: u64 = 1000;
/// How long a refusal holds before it is asked about again, in milliseconds.
const REFUSAL: u64 = 60_000;
/// Peers whose turns a broadcast keeps at a time.
const AT_ONCE: usize = 32;

/// What was learned.
pub(crate) struct Bridge {
    ask: AtomicBool,
    vlans: Option<Vlans>,
    stations: RwLock<Stations>,
}

#[derive(Default)]
struct Stations {
    known: HashMap<Station, Entry>,
    ports: HashMap<PeerId, PortEntry>,
}

struct Entry {
    owner: Arc<Peer>,
    standing: Standing,
    /// When it was learned or moved, in milliseconds of the engine's clock.
    since: u64,
    /// When a frame came from it or went to it.
    used: AtomicU64,
}

struct PortEntry {
    peer: Arc<Peer>,
    stations: HashSet<Station>,
}

/// Whether its owner may have an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Allowed,
    /// Somebody was asked.
    Asked,
    Refused,
}

/// What becomes of a frame's source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The peer has it.
    Known,
    /// The peer has it now: tell. `moved`: it was another's. `asked`: not before somebody agrees.
    New { moved: bool, asked: bool },
    /// The peer may not have it, or not yet.
    Refused,
}

impl Bridge {
    pub(crate) fn new(ethernet: Ethernet) -> Self {
        Self { ask: AtomicBool::new(ethernet.ask), vlans: ethernet.vlans, stations: RwLock::default() }
    }

    pub(crate) const fn vlans(&self) -> Option<Vlans> {
        self.vlans
    }

    /// Whether an address carries nothing before it was judged, from now on.
    pub(crate) fn ask(&self, ask: bool) {
        self.ask.store(ask, Relaxed);
    }

    /// A peer came.
    pub(crate) fn join(&self, peer: &Arc<Peer>) {
        let port = PortEntry { peer: Arc::clone(peer), stations: HashSet::new() };
        self.write(|stations| stations.ports.insert(peer.id, port));
    }

    /// A peer is gone, and its addresses with it.
    pub(crate) fn leave(&self, peer: &Arc<Peer>) {
        self.write(|stations| {
            if stations.port(peer).is_none() {
                return;
            }
            for station in stations.ports.remove(&peer.id).into_iter().flat_map(|port| port.stations) {
                stations.known.remove(&station);
            }
        });
    }

    /// The peer that an address belongs to.
    pub(crate) fn find(&self, station: Station, now: u64) -> Option<Arc<Peer>> {
        self.read(|stations| {
            let entry = stations.known.get(&station).filter(|entry| entry.standing == Standing::Allowed)?;
            entry.used.store(now, Relaxed);
            Some(Arc::clone(&entry.owner))
        })
    }

    /// A peer sends from this address.
    pub(crate) fn learn(&self, peer: &Arc<Peer>, station: Station, now: u64) -> Source {
        let known = self.read(|stations| match stations.known.get(&station) {
            Some(entry) if Arc::ptr_eq(&entry.owner, peer) => {
                entry.used.store(now, Relaxed);
                match entry.standing {
                    Standing::Allowed => Some(Source::Known),
                    Standing::Refused if now.saturating_sub(entry.since) >= REFUSAL => None,
                    Standing::Asked | Standing::Refused => Some(Source::Refused),
                }
            }
            // Whoever sends much that is refused must not keep the lock from the others.
            _ => (!stations.may_have(peer, station, now)).then_some(Source::Refused),
        });
        let ask = self.ask.load(Relaxed);
        known.unwrap_or_else(|| self.write(|stations| stations.learn(peer, station, ask, now)))
    }

    /// Whoever was asked about an address answered.
    pub(crate) fn judge(&self, peer: PeerId, station: Station, allowed: bool, now: u64) {
        self.write(|stations| {
            let entry = stations.known.get_mut(&station).filter(|entry| entry.owner.id == peer);
            if let Some(entry) = entry.filter(|entry| entry.standing != Standing::Refused) {
                entry.standing = if allowed { Standing::Allowed } else { Standing::Refused };
                entry.since = now;
            }
        });
    }

    /// The peer that an address was last seen at, whether or not it may have it.
    pub(crate) fn owner(&self, station: Station) -> Option<PeerId> {
        self.read(|stations| stations.known.get(&station).map(|entry| entry.owner.id))
    }

    /// Appends what was learned.
    pub(crate) fn list(&self, now: u64, out: &mut Vec<Learned>) {
        self.read(|stations| {
            let allowed = stations.known.iter().filter(|(_, entry)| entry.standing == Standing::Allowed);
            out.extend(allowed.map(|(station, entry)| Learned {
                station: *station,
                peer: entry.owner.id,
                idle: entry.idle(now),
            }));
        });
    }

    /// Forgets what was idle for so long; returns what was allowed of it.
    pub(crate) fn expire(&self, now: u64, idle: Duration) -> Vec<(PeerId, Station)> {
        self.write(|stations| {
            let Stations { known, ports } = stations;
            let mut forgotten = Vec::new();
            known.retain(|station, entry| {
                let stays = entry.idle(now) < idle || entry.standing == Standing::Asked;
                if !stays {
                    if let Some(port) = ports.get_mut(&entry.owner.id) {
                        port.stations.remove(station);
                    }
                    if entry.standing == Standing::Allowed {
                        forgotten.push((entry.owner.id, *station));
                    }
                }
                stays
            });
            forgotten
        })
    }

    fn read<T>(&self, look: impl FnOnce(&Stations) -> T) -> T {
        look(&self.stations.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Stations) -> T) -> T {
        change(&mut self.stations.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Entry {
    fn idle(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.used.load(Relaxed)))
    }
}

impl Stations {
    /// The port of exactly this peer: a worker may still hold one that is gone.
    fn port(&mut self, peer: &Arc<Peer>) -> Option<&mut PortEntry> {
        self.ports.get_mut(&peer.id).filter(|port| Arc::ptr_eq(&port.peer, peer))
    }

    /// Whether a peer may get an address that is not its own yet.
    fn may_have(&self, peer: &Arc<Peer>, station: Station, now: u64) -> bool {
        let limit = usize::try_from(peer.port.max_stations).unwrap_or(usize::MAX);
        let old = self.known.get(&station);
        is_learnable(station.mac)
            && old.is_none_or(|entry| now.saturating_sub(entry.since) >= MOVE_INTERVAL)
            && self
                .ports
                .get(&peer.id)
                .is_some_and(|port| Arc::ptr_eq(&port.peer, peer) && port.stations.len() < limit)
    }

    fn learn(&mut self, peer: &Arc<Peer>, station: Station, ask: bool, now: u64) -> Source {
        let old = self.known.get(&station);
        let own = old.is_some_and(|entry| Arc::ptr_eq(&entry.owner, peer));
        // Of an address that was refused to somebody, nobody was told.
        let moved = !own && old.is_some_and(|entry| entry.standing == Standing::Allowed);
        // Another worker may have been here since the first look.
        if own && old.is_some_and(|entry| now.saturating_sub(entry.since) < REFUSAL)
            || !own && !self.may_have(peer, station, now)
        {
            return Source::Refused;
        }
        let Some(port) = self.port(peer) else { return Source::Refused };
        port.stations.insert(station);
        let standing = if ask { Standing::Asked } else { Standing::Allowed };
        let entry = Entry { owner: Arc::clone(peer), standing, since: now, used: AtomicU64::new(now) };
        if let Some(old) = self.known.insert(station, entry)
            && !own
            && let Some(port) = self.port(&old.owner)
        {
            port.stations.remove(&station);
        }
        Source::New { moved, asked: ask }
    }
}

/// An address that a station can have: not a group's, and not the empty one.
fn is_learnable(mac: Mac) -> bool {
    !is_group(mac) && mac != [0; 6]
}

/// A frame for a peer.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) bytes: &'a [u8],
    /// Leave its tag out.
    pub(crate) untag: bool,
}

impl Payloads for Frame<'_> {
    fn count(&self) -> usize {
        1
    }

    fn len(&self, _: usize) -> usize {
        self.bytes.len() - if self.untag { TAG_LEN } else { 0 }
    }

    fn write(&self, _: usize, out: &mut [u8]) {
        ethernet::copy(self.bytes, self.untag, out);
    }

    fn is_tunnel(&self) -> bool {
        true
    }

    fn inner<'p>(&self, packet: &'p mut [u8]) -> Option<&'p mut [u8]> {
        ethernet::inner(packet)
    }
}

/// Sends a frame that the device gave to the peer or the peers that it is for.
pub(crate) fn from_device(shared: &Shared, outbox: &mut Outbox, bytes: &[u8], patience: Backpressure<'_>) {
    let counters = &shared.counters;
    let (Some(bridge), Some(header)) = (shared.table.bridge(), Header::parse(bytes)) else {
        counters.malformed_frames.fetch_add(1, Relaxed);
        return;
    };
    let untouched = Frame { bytes, untag: false };
    if shared.table.mode() == DeviceMode::PointToPoint {
        match shared.table.by_id(None) {
            Some(peer) => outbox.push(shared, &peer, &untouched, patience),
            None => drop(counters.unrouted.fetch_add(1, Relaxed)),
        }
        return;
    }
    let inbound = match bridge.vlans() {
        None => Some(Inbound { vlan: 0, untag: false }),
        Some(vlans) => ethernet::from_device(vlans, header),
    };
    let Some(Inbound { vlan, untag }) = inbound else {
        counters.unrouted.fetch_add(1, Relaxed);
        return;
    };
    let frame = Frame { untag, ..untouched };
    if is_group(header.destination) {
        return broadcast(shared, outbox, frame, vlan, None, patience);
    }
    match bridge.find(Station { mac: header.destination, vlan }, shared.clock.millis()) {
        Some(peer) => outbox.push(shared, &peer, &frame, patience),
        None => drop(counters.unrouted.fetch_add(1, Relaxed)),
    }
}

/// Sends a frame to all peers of a VLAN but the one that it came from.
pub(crate) fn broadcast(
    shared: &Shared,
    outbox: &mut Outbox,
    frame: Frame<'_>,
    vlan: u16,
    sender: Option<&Arc<Peer>>,
    patience: Backpressure<'_>,
) {
    for peer in shared.table.all() {
        if peer.port.vlan != vlan || sender.is_some_and(|sender| Arc::ptr_eq(sender, &peer)) {
            continue;
        }
        outbox.push(shared, &peer, &frame, patience);
        if outbox.peers() >= AT_ONCE || outbox.waiting() >= crate::outbox::FLUSH_AT {
            outbox.flush(shared, patience);
        }
    }
}

/// Looks at the source of a frame that a peer sent, and tells of one that is new; returns whether it may go on.
pub(crate) fn admit(shared: &Shared, bridge: &Bridge, peer: &Arc<Peer>, station: Station, now: u64) -> bool {
    match bridge.learn(peer, station, now) {
        Source::Known => true,
        Source::Refused => false,
        Source::New { moved, asked } => {
            shared.events.push(OffloadEvent::Learned { peer: peer.id, station, moved });
            !asked
        }
    }
}

#[cfg(test)]
#[path = "bridge_tests.rs"]
mod tests;
