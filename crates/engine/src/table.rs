//! Finding a peer: by the id in a packet, by the address it came from, by an address inside the tunnel.
//!
//! Calls write under one lock; workers read snapshots without one.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, Release},
        },
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};
use culvert_offload::{DeviceMode, OffloadError, PeerSpec, VpnAddresses};
use culvert_wire::PeerId;

use crate::{peer::Peer, routes::Routes};

const CHUNK: usize = 4096;
const CHUNKS: usize = (1 << 24) / CHUNK;

type Chunk = Box<[ArcSwapOption<Peer>]>;

/// All peers of a device.
pub(crate) struct Table {
    mode: DeviceMode,
    /// By peer id: a dense array in pieces that appear when first used, so that ids may start anywhere.
    by_id: Box<[OnceLock<Chunk>]>,
    /// The one peer of a point-to-point device, whatever ids its packets carry.
    only: ArcSwapOption<Peer>,
    /// By transport address: peers whose packets carry no id.
    by_address: ArcSwap<HashMap<SocketAddr, Arc<Peer>>>,
    routes: ArcSwap<Routes>,
    /// Goes up with each change, so that workers drop what they remember.
    generation: AtomicU64,
    entries: Mutex<Entries>,
}

/// What the calls know; the snapshots are made of it.
#[derive(Default)]
struct Entries {
    peers: BTreeMap<PeerId, Entry>,
    prefixes: BTreeMap<(IpAddr, u8), PeerId>,
    /// Who is where, on UDP: no two peers may share an address.
    addresses: HashMap<SocketAddr, PeerId>,
}

struct Entry {
    peer: Arc<Peer>,
    prefixes: Vec<(IpAddr, u8)>,
}

impl Table {
    pub(crate) fn new(mode: DeviceMode) -> Self {
        Self {
            mode,
            by_id: std::iter::repeat_with(OnceLock::new).take(CHUNKS).collect(),
            only: ArcSwapOption::empty(),
            by_address: ArcSwap::default(),
            routes: ArcSwap::from_pointee(Routes::default()),
            generation: AtomicU64::new(0),
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
            DeviceMode::MultiPeer => self.by_address.load().get(&from).cloned(),
        }
    }

    /// The peer that an inner destination (or source) belongs to.
    pub(crate) fn by_vpn_address(&self, address: IpAddr) -> Option<Arc<Peer>> {
        let id = self.routes.load().find(address)?;
        self.slot(id)?.load_full()
    }

    /// Goes up with each change.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    pub(crate) const fn mode(&self) -> DeviceMode {
        self.mode
    }

    /// All peers.
    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        self.lock().peers.values().map(|entry| Arc::clone(&entry.peer)).collect()
    }

    /// A peer by the id under which it was added.
    pub(crate) fn find(&self, id: PeerId) -> Result<Arc<Peer>, OffloadError> {
        self.lock().peers.get(&id).map(|e| Arc::clone(&e.peer)).ok_or(OffloadError::UnknownPeer(id))
    }

    /// Adds a peer. A point-to-point device takes one.
    pub(crate) fn insert(&self, spec: &PeerSpec, peer: Arc<Peer>) -> Result<(), OffloadError> {
        self.check(&spec.vpn)?;
        let mut entries = self.lock();
        let prefixes = prefixes(&spec.vpn, &spec.iroutes);
        let full = self.mode == DeviceMode::PointToPoint && !entries.peers.is_empty();
        if full
            || entries.peers.contains_key(&peer.id)
            || prefixes.iter().any(|prefix| entries.prefixes.contains_key(prefix))
        {
            return Err(OffloadError::PeerExists(peer.id));
        }
        for prefix in &prefixes {
            entries.prefixes.insert(*prefix, peer.id);
        }
        if peer.transport.is_udp() {
            entries.addresses.insert(peer.remote.load().address, peer.id);
        }
        entries.peers.insert(peer.id, Entry { peer: Arc::clone(&peer), prefixes });
        if self.mode == DeviceMode::PointToPoint {
            self.only.store(Some(Arc::clone(&peer)));
        }
        self.place(peer.id, Some(peer));
        self.publish(&entries);
        Ok(())
    }

    /// Removes a peer.
    pub(crate) fn remove(&self, id: PeerId) -> Result<Arc<Peer>, OffloadError> {
        let mut entries = self.lock();
        let entry = entries.peers.remove(&id).ok_or(OffloadError::UnknownPeer(id))?;
        for prefix in &entry.prefixes {
            entries.prefixes.remove(prefix);
        }
        entries.addresses.retain(|_, owner| *owner != id);
        if self.mode == DeviceMode::PointToPoint {
            self.only.store(None);
        }
        self.place(id, None);
        entry.peer.gone.store(true, Release);
        self.publish(&entries);
        Ok(entry.peer)
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
        let new = prefixes(vpn, iroutes);
        if new.iter().any(|prefix| entries.prefixes.get(prefix).is_some_and(|owner| *owner != id)) {
            return Err(OffloadError::PeerExists(id));
        }
        let entry = entries.peers.get_mut(&id).ok_or(OffloadError::UnknownPeer(id))?;
        let old = std::mem::replace(&mut entry.prefixes, new.clone());
        for prefix in &old {
            entries.prefixes.remove(prefix);
        }
        for prefix in new {
            entries.prefixes.insert(prefix, id);
        }
        self.publish(&entries);
        Ok(())
    }

    /// Notes a peer's new transport address; `false` when it belongs to another live peer (SEC-DATA-4).
    pub(crate) fn move_address(&self, peer: &Peer, to: SocketAddr) -> bool {
        let mut entries = self.lock();
        if entries.addresses.get(&to).is_some_and(|owner| *owner != peer.id)
            || !entries.peers.contains_key(&peer.id)
        {
            return false;
        }
        entries.addresses.retain(|_, owner| *owner != peer.id);
        entries.addresses.insert(to, peer.id);
        true
    }

    /// Renews what workers see after a peer's address changed.
    pub(crate) fn republish(&self) {
        self.publish_addresses(&self.lock());
    }

    fn check(&self, vpn: &VpnAddresses) -> Result<(), OffloadError> {
        match self.mode {
            DeviceMode::PointToPoint => Ok(()),
            DeviceMode::MultiPeer => vpn.check(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, id: PeerId) -> Option<&ArcSwapOption<Peer>> {
        let index = id.get() as usize;
        self.by_id.get(index / CHUNK)?.get()?.get(index % CHUNK)
    }

    fn place(&self, id: PeerId, peer: Option<Arc<Peer>>) {
        let index = id.get() as usize;
        let Some(chunk) = self.by_id.get(index / CHUNK) else { return };
        let chunk = chunk.get_or_init(|| std::iter::repeat_with(ArcSwapOption::empty).take(CHUNK).collect());
        if let Some(slot) = chunk.get(index % CHUNK) {
            slot.store(peer);
        }
    }

    fn publish(&self, entries: &Entries) {
        if self.mode == DeviceMode::MultiPeer {
            self.routes.store(Arc::new(entries.prefixes.iter().map(|(prefix, id)| (*prefix, *id)).collect()));
        }
        self.publish_addresses(entries);
    }

    fn publish_addresses(&self, entries: &Entries) {
        // Only peers without ids in their packets are looked for by address: few, and often none.
        let by_address: HashMap<_, _> = entries
            .peers
            .values()
            .filter(|entry| entry.peer.header == crate::key::Header::V1 && entry.peer.transport.is_udp())
            .map(|entry| (entry.peer.remote.load().address, Arc::clone(&entry.peer)))
            .collect();
        if !(by_address.is_empty() && self.by_address.load().is_empty()) {
            self.by_address.store(Arc::new(by_address));
        }
        self.generation.fetch_add(1, Release);
    }
}

/// What a peer owns inside the tunnel, as prefixes without host bits.
fn prefixes(vpn: &VpnAddresses, iroutes: &[(IpAddr, u8)]) -> Vec<(IpAddr, u8)> {
    let own = vpn.v4.map(|ip| (IpAddr::V4(ip), 32)).into_iter().chain(vpn.v6.map(|ip| (IpAddr::V6(ip), 128)));
    let mut prefixes: Vec<_> = own.chain(iroutes.iter().copied()).map(crate::routes::masked).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes
}
