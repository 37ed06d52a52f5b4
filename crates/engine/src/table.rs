//! Finding a peer: by the id in a packet, by the address it came from, by an address inside the tunnel.
//!
//! Calls write under one lock; workers read what they publish without it. No operation looks at all peers or at all
//! routes, so a hundred thousand of them cost what a hundred cost.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    ops::Bound,
    sync::{
        Arc, OnceLock, PoisonError,
        atomic::Ordering::{Acquire, Relaxed, Release},
    },
};

use arc_swap::ArcSwapOption;
use culvert_offload::{DeviceMode, Ethernet, OffloadError, PeerSpec, VpnAddresses};
use culvert_wire::{LocalAddress, PeerId};

use crate::{
    bridge::Bridge,
    key::Header,
    peer::{Peer, Remote},
    routes::{Routes, masked},
    sync::{AtomicU64, Mutex, MutexGuard, RwLock, Snapshot},
};

const CHUNK: usize = 4096;
const CHUNKS: usize = (1 << 24) / CHUNK;
/// Peers that [`Table::all`] takes at a time.
const SLICE: usize = 256;

type Chunk = Box<[ArcSwapOption<Peer>]>;

/// How a packet finds its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarding {
    /// Everything goes to the one peer.
    PointToPoint,
    /// By IP address.
    Routed,
    /// Ethernet frames, also where there is but one peer.
    Bridged,
}

/// All peers of a device.
pub(crate) struct Table {
    mode: DeviceMode,
    forwarding: Forwarding,
    /// Of an Ethernet device.
    bridge: Option<Box<Bridge>>,
    /// By peer id: a dense array in pieces that appear when first used, so that ids may start anywhere.
    by_id: Box<[OnceLock<Chunk>]>,
    /// The one peer of a point-to-point device, whatever ids its packets carry.
    only: ArcSwapOption<Peer>,
    /// Who is where, on UDP: no two peers may share an address. Workers read it for packets without a peer id, which are
    /// rare enough for a lock. A tree, because a hash table stops everybody when it grows, and does not shrink.
    addresses: RwLock<BTreeMap<SocketAddr, Arc<Peer>>>,
    routes: Snapshot<Routes<Arc<Peer>>>,
    /// Goes up after each change of ids or routes, so that workers drop what they remember.
    generation: AtomicU64,
    /// The first of `Entries::looks`.
    next_look: AtomicU64,
    entries: Mutex<Entries>,
}

/// What the calls know.
#[derive(Default)]
struct Entries {
    peers: BTreeMap<PeerId, Entry>,
    /// When keepalive has to look at which peer, soonest first: one for each that has a deadline.
    looks: BTreeSet<(u64, PeerId)>,
}

struct Entry {
    peer: Arc<Peer>,
    prefixes: Box<[(IpAddr, u8)]>,
    /// Its place among the looks; `u64::MAX` is none.
    look: u64,
}

impl Table {
    pub(crate) fn new(mode: DeviceMode, ethernet: Option<Ethernet>) -> Self {
        let chunks = if mode == DeviceMode::MultiPeer { CHUNKS } else { 0 };
        let forwarding = match (ethernet, mode) {
            (Some(_), _) => Forwarding::Bridged,
            (None, DeviceMode::PointToPoint) => Forwarding::PointToPoint,
            (None, DeviceMode::MultiPeer) => Forwarding::Routed,
        };
        Self {
            mode,
            forwarding,
            bridge: ethernet.map(|ethernet| Box::new(Bridge::new(ethernet))),
            by_id: std::iter::repeat_with(OnceLock::new).take(chunks).collect(),
            only: ArcSwapOption::empty(),
            addresses: RwLock::default(),
            routes: Snapshot::from_pointee(Routes::default()),
            generation: AtomicU64::new(0),
            next_look: AtomicU64::new(u64::MAX),
            entries: Mutex::default(),
        }
    }

    /// The peer whose id a packet carries. A point-to-point device has one peer, and no look at the id.
    pub(crate) fn by_id(&self, id: Option<PeerId>) -> Option<Arc<Peer>> {
        match self.mode {
            DeviceMode::PointToPoint => self.only.load_full(),
            DeviceMode::MultiPeer => self.slot(id?)?.load_full(),
        }
    }

    /// The peer that has this transport address, for packets without id.
    pub(crate) fn by_address(&self, from: SocketAddr) -> Option<Arc<Peer>> {
        match self.mode {
            DeviceMode::PointToPoint => self.only.load_full(),
            DeviceMode::MultiPeer => {
                let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
                addresses.get(&from).filter(|peer| peer.header == Header::V1).cloned()
            }
        }
    }

    /// The peer that an inner destination (or source) belongs to.
    pub(crate) fn by_vpn_address(&self, address: IpAddr) -> Option<Arc<Peer>> {
        self.routes.load().find(address).cloned()
    }

    /// Goes up with each change. Who reads it before a lookup knows by it, later, whether the answer still holds.
    pub(crate) fn generation(&self) -> u64 {
        // Pairs with the `Release` of a change: a lookup after this load finds what that change published.
        self.generation.load(Acquire)
    }

    pub(crate) const fn mode(&self) -> DeviceMode {
        self.mode
    }

    pub(crate) const fn forwarding(&self) -> Forwarding {
        self.forwarding
    }

    /// What was learned of an Ethernet device's peers.
    pub(crate) fn bridge(&self) -> Option<&Bridge> {
        self.bridge.as_deref()
    }

    /// All peers in the order of their ids, taken in slices, so that nobody waits long: peers that come or go meanwhile
    /// may or may not be among them.
    pub(crate) fn all(&self) -> impl Iterator<Item = Arc<Peer>> {
        let mut after = Bound::Unbounded;
        std::iter::from_fn(move || {
            let entries = self.lock();
            let range = entries.peers.range((after, Bound::Unbounded));
            let slice: Vec<_> = range.take(SLICE).map(|(_, entry)| Arc::clone(&entry.peer)).collect();
            after = Bound::Excluded(slice.last()?.id);
            Some(slice)
        })
        .flatten()
    }

    /// A peer by the id under which it was added.
    pub(crate) fn find(&self, id: PeerId) -> Result<Arc<Peer>, OffloadError> {
        self.lock().peers.get(&id).map(|e| Arc::clone(&e.peer)).ok_or(OffloadError::UnknownPeer(id))
    }

    /// Adds a peer. A point-to-point device takes one. Of two at the same transport address the later has it.
    pub(crate) fn insert(&self, spec: &PeerSpec, peer: Arc<Peer>) -> Result<(), OffloadError> {
        self.check(&spec.vpn)?;
        let mut entries = self.lock();
        let prefixes = self.prefixes(&spec.vpn, &spec.iroutes);
        let mut routes = Routes::clone(&self.routes.load());
        let full = self.mode == DeviceMode::PointToPoint && !entries.peers.is_empty();
        if full
            || entries.peers.contains_key(&peer.id)
            || prefixes.iter().any(|prefix| routes.get(*prefix).is_some())
        {
            return Err(OffloadError::PeerExists(peer.id));
        }
        for prefix in &prefixes {
            routes.insert(*prefix, Arc::clone(&peer));
        }
        if let Some(bridge) = &self.bridge {
            bridge.join(&peer);
        }
        let entry = Entry { peer: Arc::clone(&peer), prefixes, look: u64::MAX };
        entries.peers.insert(peer.id, entry);
        if peer.transport.is_udp() {
            let mut addresses = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
            addresses.insert(peer.remote.load().address, Arc::clone(&peer));
        }
        self.place(peer.id, Some(peer));
        self.publish(routes);
        Ok(())
    }

    /// Removes a peer.
    pub(crate) fn remove(&self, id: PeerId) -> Result<Arc<Peer>, OffloadError> {
        self.remove_if(id, |_| true).ok_or(OffloadError::UnknownPeer(id))
    }

    /// Removes this peer, not one that came under its id since; `false` when it was removed before.
    pub(crate) fn remove_exactly(&self, peer: &Arc<Peer>) -> bool {
        self.remove_if(peer.id, |other| Arc::ptr_eq(other, peer)).is_some()
    }

    fn remove_if(&self, id: PeerId, condition: impl FnOnce(&Arc<Peer>) -> bool) -> Option<Arc<Peer>> {
        let mut entries = self.lock();
        entries.peers.get(&id).filter(|entry| condition(&entry.peer))?;
        let Entry { peer, prefixes, look } = entries.peers.remove(&id)?;
        entries.looks.remove(&(look, id));
        self.publish_next_look(&entries);
        self.vacate(&peer);
        if let Some(bridge) = &self.bridge {
            bridge.leave(&peer);
        }
        self.place(id, None);
        let mut routes = Routes::clone(&self.routes.load());
        for prefix in prefixes {
            routes.remove(prefix);
        }
        self.publish(routes);
        Some(peer)
    }

    /// Gives a peer other addresses inside the tunnel.
    pub(crate) fn set_vpn(
        &self,
        id: PeerId,
        vpn: &VpnAddresses,
        iroutes: &[(IpAddr, u8)],
    ) -> Result<(), OffloadError> {
        self.check(vpn)?;
        let mut entries = self.lock();
        let entry = entries.peers.get_mut(&id).ok_or(OffloadError::UnknownPeer(id))?;
        let new = self.prefixes(vpn, iroutes);
        let mut routes = Routes::clone(&self.routes.load());
        if new.iter().any(|prefix| routes.get(*prefix).is_some_and(|owner| owner.id != id)) {
            return Err(OffloadError::PeerExists(id));
        }
        for prefix in std::mem::replace(&mut entry.prefixes, new) {
            routes.remove(prefix);
        }
        for prefix in &entry.prefixes {
            routes.insert(*prefix, Arc::clone(&entry.peer));
        }
        self.publish(routes);
        Ok(())
    }

    /// Moves a peer to another transport address, spoken to at `local`, or at what it was spoken to before; `false` when
    /// the address belongs to another live peer (SEC-DATA-4).
    pub(crate) fn move_address(&self, peer: &Arc<Peer>, to: SocketAddr, local: Option<LocalAddress>) -> bool {
        let entries = self.lock();
        if !entries.peers.get(&peer.id).is_some_and(|entry| Arc::ptr_eq(&entry.peer, peer)) {
            return false;
        }
        let mut addresses = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        if addresses.get(&to).is_some_and(|owner| !Arc::ptr_eq(owner, peer)) {
            return false;
        }
        let from = peer.remote.load();
        if peer.transport.is_udp() {
            if addresses.get(&from.address).is_some_and(|owner| Arc::ptr_eq(owner, peer)) {
                addresses.remove(&from.address);
            }
            addresses.insert(to, Arc::clone(peer));
        }
        // Bound to an interface only if it was before (`multihome same-interface`).
        let is_bound = from.local.is_some_and(|local| local.interface != 0);
        let local = local.map(|local| if is_bound { local } else { local.anywhere() });
        peer.remote.store(Arc::new(Remote { address: to, local: local.or(from.local) }));
        true
    }

    /// When keepalive has to look at the first peer, in milliseconds of the engine's clock; `u64::MAX` is never.
    pub(crate) fn next_look(&self) -> u64 {
        self.next_look.load(Relaxed)
    }

    /// Has keepalive look at a peer at this time if not sooner; returns whether it is the first of all now.
    ///
    /// Traffic only ever moves a peer's deadlines further away, so a time once found is never too late.
    pub(crate) fn look_by(&self, id: PeerId, at: u64) -> bool {
        let mut entries = self.lock();
        let Entries { peers, looks } = &mut *entries;
        let Some(entry) = peers.get_mut(&id).filter(|entry| at < entry.look) else { return false };
        looks.remove(&(entry.look, id));
        entry.look = at;
        looks.insert((at, id));
        self.publish_next_look(&entries)
    }

    /// Takes peers whose time has come, at most `limit`. Each waits for a new one.
    pub(crate) fn take_due(&self, now: u64, limit: usize) -> Vec<Arc<Peer>> {
        let mut entries = self.lock();
        let Entries { peers, looks } = &mut *entries;
        let mut due = Vec::new();
        while due.len() < limit
            && let Some((_, id)) = looks.first().copied().filter(|(at, _)| *at <= now)
        {
            looks.pop_first();
            if let Some(entry) = peers.get_mut(&id) {
                entry.look = u64::MAX;
                due.push(Arc::clone(&entry.peer));
            }
        }
        self.publish_next_look(&entries);
        due
    }

    fn check(&self, vpn: &VpnAddresses) -> Result<(), OffloadError> {
        match self.forwarding {
            Forwarding::PointToPoint | Forwarding::Bridged => Ok(()),
            Forwarding::Routed => vpn.check(),
        }
    }

    /// What a peer owns inside the tunnel, as prefixes without host bits. On a point-to-point device all is the peer's; on
    /// an Ethernet device its addresses are none of ours.
    fn prefixes(&self, vpn: &VpnAddresses, iroutes: &[(IpAddr, u8)]) -> Box<[(IpAddr, u8)]> {
        if self.forwarding != Forwarding::Routed {
            return Box::default();
        }
        let own =
            vpn.v4.map(|ip| (IpAddr::V4(ip), 32)).into_iter().chain(vpn.v6.map(|ip| (IpAddr::V6(ip), 128)));
        let mut prefixes: Vec<_> = own.chain(iroutes.iter().copied()).map(masked).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes.into()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, id: PeerId) -> Option<&ArcSwapOption<Peer>> {
        let index = id.get() as usize;
        self.by_id.get(index / CHUNK)?.get()?.get(index % CHUNK)
    }

    fn place(&self, id: PeerId, peer: Option<Arc<Peer>>) {
        if self.mode == DeviceMode::PointToPoint {
            return self.only.store(peer);
        }
        let index = id.get() as usize;
        let Some(chunk) = self.by_id.get(index / CHUNK) else { return };
        let chunk = chunk.get_or_init(|| std::iter::repeat_with(ArcSwapOption::empty).take(CHUNK).collect());
        if let Some(slot) = chunk.get(index % CHUNK) {
            slot.store(peer);
        }
    }

    /// Forgets where a peer is, unless somebody else is there by now.
    fn vacate(&self, peer: &Arc<Peer>) {
        let mut addresses = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        let address = peer.remote.load().address;
        if addresses.get(&address).is_some_and(|owner| Arc::ptr_eq(owner, peer)) {
            addresses.remove(&address);
        }
    }

    fn publish(&self, routes: Routes<Arc<Peer>>) {
        self.routes.store(Arc::new(routes));
        self.generation.fetch_add(1, Release);
    }

    /// Returns whether it is sooner than before.
    fn publish_next_look(&self, entries: &Entries) -> bool {
        let next = entries.looks.first().map_or(u64::MAX, |(at, _)| *at);
        self.next_look.swap(next, Relaxed) > next
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
pub(crate) mod tests;
