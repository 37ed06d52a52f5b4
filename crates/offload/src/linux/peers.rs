//! What culvert knows of the peers that it gave to the module.
//!
//! The module keeps fewer rules than the interface promises (it replaces a peer of a point-to-point device, swaps with
//! an empty slot, knows nothing of networks behind a peer), and its notifications arrive late: the echo of a deletion may come
//! when the id is another peer's already. Both are settled here, without system calls.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use culvert_crypto::usage;
use culvert_wire::{CipherName, KeyId, PeerId, Slot};

use super::{
    commands::{LONGEST, PeerState},
    device::plain,
};
use crate::{DeviceMode, Drops, OffloadError, PeerSpec, PeerStats, Traffic, TransportId};

/// The peers of a device.
#[derive(Debug)]
pub(super) struct Peers {
    mode: DeviceMode,
    known: BTreeMap<PeerId, Peer>,
    /// Whose each address and network inside the tunnel is.
    networks: HashMap<(IpAddr, u8), PeerId>,
    /// Who is where outside.
    places: HashMap<(TransportId, SocketAddr), PeerId>,
    /// Deletions whose notification is still to come.
    echoes: HashMap<PeerId, u32>,
}

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) spec: PeerSpec,
    primary: Option<Key>,
    secondary: Option<Key>,
    /// As it was polled last.
    last: PeerState,
    /// When its keepalive began to run, in time since the machine's start.
    keepalive_since: Duration,
}

/// A key in a slot.
#[derive(Clone, Copy, Debug)]
struct Key {
    id: KeyId,
    cipher: CipherName,
    /// The link's counters when it began to send.
    base: Traffic,
    /// Its end was announced.
    announced: bool,
}

impl Peers {
    pub(super) fn new(mode: DeviceMode) -> Self {
        Self {
            mode,
            known: BTreeMap::new(),
            networks: HashMap::new(),
            places: HashMap::new(),
            echoes: HashMap::new(),
        }
    }

    pub(super) fn get(&self, id: PeerId) -> Result<&Peer, OffloadError> {
        self.known.get(&id).ok_or(OffloadError::UnknownPeer(id))
    }

    pub(super) fn get_mut(&mut self, id: PeerId) -> Result<&mut Peer, OffloadError> {
        self.known.get_mut(&id).ok_or(OffloadError::UnknownPeer(id))
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = PeerId> {
        self.known.keys().copied()
    }

    pub(super) fn specs(&self) -> impl Iterator<Item = &PeerSpec> {
        self.known.values().map(|peer| &peer.spec)
    }

    /// Refuses a peer, or a change of one, that would collide with another.
    pub(super) fn check(&self, spec: &PeerSpec) -> Result<(), OffloadError> {
        if self.mode == DeviceMode::MultiPeer {
            spec.vpn.check()?;
        }
        let taken = match self.mode {
            DeviceMode::PointToPoint => self.known.keys().any(|id| *id != spec.id),
            DeviceMode::MultiPeer => networks(spec)
                .any(|network| self.networks.get(&network).is_some_and(|owner| *owner != spec.id)),
        };
        if taken { Err(OffloadError::PeerExists(spec.id)) } else { Ok(()) }
    }

    pub(super) fn contains(&self, id: PeerId) -> bool {
        self.known.contains_key(&id)
    }

    /// Whether another peer is where this one would be (SEC-DATA-4).
    pub(super) fn is_occupied(&self, spec: &PeerSpec) -> bool {
        self.places.get(&place(spec)).is_some_and(|owner| *owner != spec.id)
    }

    pub(super) fn insert(&mut self, spec: PeerSpec, now: Duration) {
        let last = PeerState {
            id: spec.id,
            remote: Some(spec.remote),
            vpn: Traffic::default(),
            link: Traffic::default(),
        };
        self.enter(&spec);
        let peer = Peer { primary: None, secondary: None, last, keepalive_since: now, spec };
        self.known.insert(peer.spec.id, peer);
    }

    /// Changes a peer to what is given.
    pub(super) fn change(&mut self, spec: PeerSpec) {
        let Some(peer) = self.known.get_mut(&spec.id) else { return };
        let old = std::mem::replace(&mut peer.spec, spec.clone());
        self.leave(&old);
        self.enter(&spec);
    }

    pub(super) fn remove(&mut self, id: PeerId) -> Option<Peer> {
        let peer = self.known.remove(&id)?;
        self.leave(&peer.spec);
        Some(peer)
    }

    fn enter(&mut self, spec: &PeerSpec) {
        self.networks.extend(networks(spec).map(|network| (network, spec.id)));
        self.places.insert(place(spec), spec.id);
    }

    fn leave(&mut self, spec: &PeerSpec) {
        for network in networks(spec) {
            self.networks.remove(&network);
        }
        // Two peers may have been put into one place by calls.
        if self.places.get(&place(spec)) == Some(&spec.id) {
            self.places.remove(&place(spec));
        }
    }

    /// Removes a peer that was deleted by a call: its notification is still to come.
    pub(super) fn deleted(&mut self, id: PeerId) -> Option<Peer> {
        *self.echoes.entry(id).or_default() += 1;
        self.remove(id)
    }

    /// A notification says that a peer is gone. Returns the peer, unless the notification is an echo.
    pub(super) fn heard_of_end(&mut self, id: PeerId) -> Option<Peer> {
        if let Some(count) = self.echoes.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.echoes.remove(&id);
            }
            return None;
        }
        self.remove(id)
    }

    /// Notifications were lost: none is waited for any more.
    pub(super) fn forget_echoes(&mut self) {
        self.echoes.clear();
    }

    /// Takes in a dump. Returns the peers that the module does not have any more, and the ids of those that are not
    /// ours.
    pub(super) fn reconcile(&mut self, dump: &[PeerState]) -> (Vec<PeerId>, Vec<PeerId>) {
        let there: BTreeSet<PeerId> = dump.iter().map(|state| state.id).collect();
        let lost = self.ids().filter(|id| !there.contains(id)).collect();
        let foreign = there.into_iter().filter(|id| !self.known.contains_key(id)).collect();
        for state in dump {
            if let Some(peer) = self.known.get_mut(&state.id) {
                peer.last = *state;
            }
        }
        (lost, foreign)
    }

    /// The keys that near their end since this was asked last.
    pub(super) fn exhausted(&mut self) -> Vec<(PeerId, KeyId)> {
        let mut found = Vec::new();
        for (id, peer) in &mut self.known {
            let link = peer.last.link;
            if let Some(key) = &mut peer.primary
                && !key.announced
                && key.nears_its_end(&link)
            {
                key.announced = true;
                found.push((*id, key.id));
            }
        }
        found
    }

    /// The peers whose keepalive has to be set anew, because the longest timeout stands for "never".
    pub(super) fn tiring(&mut self, now: Duration) -> Vec<PeerId> {
        let longest = Duration::from_secs(LONGEST.into());
        let mut found = Vec::new();
        for (id, peer) in &mut self.known {
            let never = peer.spec.keepalive.is_some_and(|keepalive| keepalive.timeout.is_zero());
            if never && now.saturating_sub(peer.keepalive_since) > longest / 2 {
                peer.keepalive_since = now;
                found.push(*id);
            }
        }
        found
    }
}

/// Every address and network that is this peer's alone.
fn networks(spec: &PeerSpec) -> impl Iterator<Item = (IpAddr, u8)> {
    let own = [spec.vpn.v4.map(|v4| (v4.into(), 32)), spec.vpn.v6.map(|v6| (v6.into(), 128))];
    own.into_iter().flatten().chain(spec.iroutes.iter().copied())
}

/// Where a peer is.
fn place(spec: &PeerSpec) -> (TransportId, SocketAddr) {
    (spec.transport, plain(spec.remote))
}

impl Peer {
    /// Notes a key in a slot; `link` are the counters now.
    pub(super) fn key_installed(&mut self, slot: Slot, id: KeyId, cipher: CipherName, link: Traffic) {
        let key = Key { id, cipher, base: link, announced: false };
        *self.slot(slot) = Some(key);
    }

    pub(super) fn key_deleted(&mut self, slot: Slot) {
        *self.slot(slot) = None;
    }

    pub(super) const fn has_secondary(&self) -> bool {
        self.secondary.is_some()
    }

    pub(super) fn keys_swapped(&mut self, link: Traffic) {
        std::mem::swap(&mut self.primary, &mut self.secondary);
        if let Some(key) = &mut self.primary {
            key.base = link;
        }
    }

    fn slot(&mut self, slot: Slot) -> &mut Option<Key> {
        match slot {
            Slot::Primary => &mut self.primary,
            Slot::Secondary => &mut self.secondary,
        }
    }

    pub(super) fn keepalive_set(&mut self, now: Duration) {
        self.keepalive_since = now;
    }

    /// Notes counters, and returns them in the interface's form.
    pub(super) fn stats(&mut self, state: Option<PeerState>) -> PeerStats {
        if let Some(state) = state {
            self.last = state;
        }
        let PeerState { vpn, link, remote, .. } = self.last;
        PeerStats {
            id: self.spec.id,
            remote: remote.unwrap_or(self.spec.remote),
            tunnel: vpn,
            link,
            key: self.primary.map(|key| key.carried(&link)).unwrap_or_default(),
            drops: Drops::default(), // the module counts them for the whole device
        }
    }
}

/// Bytes of a data packet that are not payload: header, packet id, tag.
const OVERHEAD: u64 = 24;

impl Key {
    /// What went over the link since the key began to send: the old key's last received packets count too.
    fn carried(&self, link: &Traffic) -> Traffic {
        let since = |now: u64, base: u64| now.saturating_sub(base);
        let (rx_packets, tx_packets) =
            (since(link.rx_packets, self.base.rx_packets), since(link.tx_packets, self.base.tx_packets));
        let payload = |bytes: u64, packets: u64| bytes.saturating_sub(packets.saturating_mul(OVERHEAD));
        Traffic {
            rx_bytes: payload(since(link.rx_bytes, self.base.rx_bytes), rx_packets),
            rx_packets,
            tx_bytes: payload(since(link.tx_bytes, self.base.tx_bytes), tx_packets),
            tx_packets,
        }
    }

    /// Whether it is time to renegotiate: packet ids, or the cipher's limit in either direction.
    fn nears_its_end(&self, link: &Traffic) -> bool {
        let carried = self.carried(link);
        let directions = [(carried.rx_packets, carried.rx_bytes), (carried.tx_packets, carried.tx_bytes)];
        directions.into_iter().any(|(packets, bytes)| {
            let blocks = bytes / 16 + packets; // each packet's last block may be a part
            packets >= u64::from(usage::PACKET_ID_RENEGOTIATE)
                || usage::usage_limit(self.cipher).is_some()
                    && packets.saturating_add(blocks) >= usage::GCM_RENEGOTIATE
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{Keepalive, Port, Shape, VpnAddresses};

    fn id(raw: u32) -> PeerId {
        PeerId::new(raw).unwrap()
    }

    fn spec(raw: u32) -> PeerSpec {
        PeerSpec {
            id: id(raw),
            tx_id: None,
            transport: TransportId(0),
            remote: SocketAddr::from(([192, 0, 2, 1], 1194)),
            local: None,
            vpn: VpnAddresses { v4: Some(Ipv4Addr::from([10, 8, 0, u8::try_from(raw).unwrap()])), v6: None },
            iroutes: Vec::new(),
            keepalive: None,
            float: true,
            shape: Shape::PLAIN,
            cipher: CipherName::Aes256Gcm,
            mss: None,
            port: Port::default(),
            nat: Vec::new(),
        }
    }

    fn peers(mode: DeviceMode, ids: &[u32]) -> Peers {
        let mut peers = Peers::new(mode);
        for raw in ids {
            peers.insert(spec(*raw), Duration::ZERO);
        }
        peers
    }

    fn state(raw: u32, link: Traffic) -> PeerState {
        PeerState { id: id(raw), remote: None, vpn: Traffic::default(), link }
    }

    #[test]
    fn the_echo_of_a_deletion_does_not_hit_the_next_peer_with_the_id() {
        let mut peers = peers(DeviceMode::MultiPeer, &[5]);
        assert!(peers.deleted(id(5)).is_some());
        peers.insert(spec(5), Duration::ZERO);
        assert!(peers.heard_of_end(id(5)).is_none(), "the echo");
        assert!(peers.contains(id(5)));
        assert!(peers.heard_of_end(id(5)).is_some(), "news");
        assert!(!peers.contains(id(5)));
        assert!(peers.heard_of_end(id(5)).is_none(), "of nobody");
    }

    #[test]
    fn after_lost_notifications_nothing_is_taken_for_an_echo() {
        let mut peers = peers(DeviceMode::MultiPeer, &[5]);
        peers.deleted(id(5));
        peers.insert(spec(5), Duration::ZERO);
        peers.forget_echoes();
        assert!(peers.heard_of_end(id(5)).is_some());
    }

    #[test]
    fn a_dump_tells_who_is_lost_and_who_is_not_ours() {
        let mut peers = peers(DeviceMode::MultiPeer, &[1, 2]);
        let dump = [state(2, Traffic::default()), state(9, Traffic::default())];
        assert_eq!(peers.reconcile(&dump), (vec![id(1)], vec![id(9)]));
    }

    #[test]
    fn addresses_and_networks_belong_to_one_peer() {
        let peers = peers(DeviceMode::MultiPeer, &[1]);
        assert!(peers.check(&spec(2)).is_ok());
        let twin = PeerSpec { vpn: spec(1).vpn, ..spec(2) };
        assert!(matches!(peers.check(&twin), Err(OffloadError::PeerExists(_))));
        let host = PeerSpec { iroutes: vec![([10, 8, 0, 1].into(), 32)], ..spec(2) };
        assert!(matches!(peers.check(&host), Err(OffloadError::PeerExists(_))));
    }

    #[test]
    fn a_point_to_point_device_has_one_peer() {
        let peers = peers(DeviceMode::PointToPoint, &[1]);
        assert!(peers.check(&spec(1)).is_ok(), "a change of the same");
        assert!(peers.check(&spec(2)).is_err());
    }

    #[test]
    fn a_keys_traffic_is_counted_from_its_swap() {
        let mut peers = peers(DeviceMode::MultiPeer, &[1]);
        let peer = peers.get_mut(id(1)).unwrap();
        let key = |number| KeyId::new(number).unwrap();
        peer.key_installed(Slot::Primary, key(0), CipherName::Aes256Gcm, Traffic::default());
        peer.key_installed(Slot::Secondary, key(1), CipherName::Aes256Gcm, Traffic::default());
        let link = Traffic { rx_bytes: 1240, rx_packets: 10, tx_bytes: 248, tx_packets: 2 };
        assert_eq!(
            peer.stats(Some(state(1, link))).key,
            Traffic { rx_bytes: 1000, tx_bytes: 200, ..link },
            "payload, without the packets' own bytes"
        );
        peer.keys_swapped(link);
        assert_eq!(peer.stats(None).key, Traffic::default());
    }

    #[test]
    fn a_key_is_announced_once_as_nearing_its_end() {
        let at = |packets, bytes| Traffic { tx_packets: packets, tx_bytes: bytes, ..Traffic::default() };
        let many = u64::from(usage::PACKET_ID_RENEGOTIATE);
        for (cipher, link, expected) in [
            (CipherName::Aes256Gcm, at(many - 1, 0), 0),
            (CipherName::Aes256Gcm, at(many, 0), 1),
            (CipherName::ChaCha20Poly1305, at(1000, 1 << 50), 0),
            (CipherName::Aes128Gcm, at(1000, 16 * usage::GCM_RENEGOTIATE), 1),
        ] {
            let mut peers = peers(DeviceMode::MultiPeer, &[1]);
            let key = KeyId::new(3).unwrap();
            peers.get_mut(id(1)).unwrap().key_installed(Slot::Primary, key, cipher, Traffic::default());
            peers.reconcile(&[state(1, link)]);
            assert_eq!(peers.exhausted().len(), expected, "{cipher} {link:?}");
            assert_eq!(peers.exhausted().len(), 0);
        }
    }

    #[test]
    fn a_timeout_that_stands_for_never_is_set_anew_before_it_passes() {
        let mut peers = Peers::new(DeviceMode::MultiPeer);
        let keepalive = Some(Keepalive { interval: Duration::from_secs(10), timeout: Duration::ZERO });
        peers.insert(PeerSpec { keepalive, ..spec(1) }, Duration::ZERO);
        peers.insert(spec(2), Duration::ZERO);
        assert_eq!(peers.tiring(Duration::from_secs(3600)), []);
        assert_eq!(peers.tiring(Duration::from_secs(50_000)), [id(1)]);
        assert_eq!(peers.tiring(Duration::from_secs(50_001)), []);
    }
}
