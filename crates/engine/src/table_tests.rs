use std::collections::BTreeMap;

use culvert_offload::{Port, Shape, TransportId, UdpOptions};
use culvert_wire::CipherName;
use proptest::prelude::*;

use super::*;
use crate::{
    backend::EngineConfig,
    clock::Clock,
    recent::Recent,
    transport::{Transport, Udp, Wire},
};

pub(crate) fn transport() -> Arc<Transport> {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let udp = Udp::bind(local, None, UdpOptions::default(), &EngineConfig::default(), 1).unwrap();
    Arc::new(Transport::new(TransportId(0), Wire::Udp(udp)))
}

pub(crate) fn spec(id: PeerId, remote: SocketAddr, vpn: VpnAddresses) -> PeerSpec {
    PeerSpec {
        id,
        tx_id: None,
        transport: TransportId(0),
        remote,
        local: None,
        vpn,
        iroutes: Vec::new(),
        keepalive: None,
        float: true,
        shape: Shape { data_v1: true, ..Shape::PLAIN },
        cipher: CipherName::Aes256Gcm,
        mss: None,
        port: Port::default(),
        nat: Vec::new(),
    }
}

/// What happens to a table. Ids and addresses are few, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Insert { id: u32, at: u16, vpn: VpnAddresses, iroutes: Vec<(IpAddr, u8)> },
    Remove(u32),
    SetVpn { id: u32, vpn: VpnAddresses, iroutes: Vec<(IpAddr, u8)> },
    Move { id: u32, to: u16 },
    LookBy { id: u32, at: u64 },
    TakeDue { now: u64, limit: usize },
}

/// The same, told as simply as possible.
#[derive(Default)]
struct Model {
    peers: BTreeMap<PeerId, ModelPeer>,
    addresses: BTreeMap<SocketAddr, PeerId>,
}

struct ModelPeer {
    peer: Arc<Peer>,
    prefixes: Vec<(IpAddr, u8)>,
    remote: SocketAddr,
    look: Option<u64>,
}

const IDS: u32 = 5;
const PORTS: u16 = 6;

fn id(number: u32) -> PeerId {
    // Some of them far from the others.
    PeerId::new(number * 5000).unwrap()
}

fn at(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

fn v4() -> impl Strategy<Value = std::net::Ipv4Addr> {
    (0..2_u8, 0..4_u8).prop_map(|(c, d)| [10, 0, c, d].into())
}

fn v6() -> impl Strategy<Value = std::net::Ipv6Addr> {
    (0..2_u16, 0..4_u16).prop_map(|(c, d)| [0xfd00, 0, 0, c, 0, 0, 0, d].into())
}

fn vpn() -> impl Strategy<Value = VpnAddresses> {
    (prop::option::of(v4()), prop::option::of(v6())).prop_map(|(v4, v6)| VpnAddresses { v4, v6 })
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![v4().prop_map(IpAddr::V4), v6().prop_map(IpAddr::V6)]
}

fn iroutes() -> impl Strategy<Value = Vec<(IpAddr, u8)>> {
    prop::collection::vec((address(), prop_oneof![0..=128_u8, 20..=32_u8, 60..=64_u8]), 0..3)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..IDS, 0..PORTS, vpn(), iroutes())
            .prop_map(|(id, at, vpn, iroutes)| Step::Insert { id, at, vpn, iroutes }),
        2 => (0..IDS).prop_map(Step::Remove),
        2 => (0..IDS, vpn(), iroutes()).prop_map(|(id, vpn, iroutes)| Step::SetVpn { id, vpn, iroutes }),
        2 => (0..IDS, 0..PORTS).prop_map(|(id, to)| Step::Move { id, to }),
        2 => (0..IDS, 0..50_u64).prop_map(|(id, at)| Step::LookBy { id, at }),
        1 => (0..50_u64, 1..4_usize).prop_map(|(now, limit)| Step::TakeDue { now, limit }),
    ]
}

fn owned(vpn: &VpnAddresses, iroutes: &[(IpAddr, u8)]) -> Vec<(IpAddr, u8)> {
    let v4 = vpn.v4.map(|ip| (ip.into(), 32));
    let v6 = vpn.v6.map(|ip| (ip.into(), 128));
    v4.into_iter().chain(v6).chain(iroutes.iter().map(|prefix| masked(*prefix))).collect()
}

impl Model {
    fn owner(&self, prefix: (IpAddr, u8)) -> Option<&ModelPeer> {
        self.peers.values().find(|peer| peer.prefixes.contains(&prefix))
    }

    fn route(&self, address: IpAddr) -> Option<&Arc<Peer>> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (0..=longest).rev().find_map(|len| self.owner(masked((address, len)))).map(|found| &found.peer)
    }

    fn apply(&mut self, table: &Table, step: &Step, transport: &Arc<Transport>) {
        match step {
            Step::Insert { id: number, at: port, vpn, iroutes } => {
                let mut spec = spec(id(*number), at(*port), *vpn);
                spec.iroutes.clone_from(iroutes);
                let peer = Arc::new(Peer::new(&spec, Arc::clone(transport), &Clock::start()));
                let prefixes = owned(vpn, iroutes);
                let free = !self.peers.contains_key(&spec.id)
                    && prefixes.iter().all(|prefix| self.owner(*prefix).is_none());
                let result = table.insert(&spec, Arc::clone(&peer));
                assert_eq!(result.is_ok(), free && vpn.check().is_ok(), "{result:?}");
                if result.is_ok() {
                    self.addresses.insert(spec.remote, spec.id);
                    let peer = ModelPeer { peer, prefixes, remote: spec.remote, look: None };
                    self.peers.insert(spec.id, peer);
                }
            }
            Step::Remove(number) => {
                let gone = self.peers.remove(&id(*number));
                assert_eq!(table.remove(id(*number)).is_ok(), gone.is_some());
                if let Some(gone) = gone {
                    self.vacate(id(*number), gone.remote);
                    assert!(!table.remove_exactly(&gone.peer));
                }
            }
            Step::SetVpn { id: number, vpn, iroutes } => {
                let prefixes = owned(vpn, iroutes);
                let free = prefixes
                    .iter()
                    .all(|prefix| self.owner(*prefix).is_none_or(|owner| owner.peer.id == id(*number)));
                let peer = self.peers.get_mut(&id(*number));
                let result = table.set_vpn(id(*number), vpn, iroutes);
                assert_eq!(result.is_ok(), peer.is_some() && free && vpn.check().is_ok(), "{result:?}");
                if let (Some(peer), Ok(())) = (peer, result) {
                    peer.prefixes = prefixes;
                }
            }
            Step::Move { id: number, to } => {
                let Some(peer) = self.peers.get_mut(&id(*number)) else { return };
                let free = self.addresses.get(&at(*to)).is_none_or(|owner| *owner == id(*number));
                assert_eq!(table.move_address(&peer.peer, at(*to), None), free);
                if free {
                    let from = std::mem::replace(&mut peer.remote, at(*to));
                    self.vacate(id(*number), from);
                    self.addresses.insert(at(*to), id(*number));
                }
            }
            Step::LookBy { id: number, at } => {
                let first = table.next_look();
                let Some(peer) = self.peers.get_mut(&id(*number)) else { return };
                peer.look = Some(peer.look.map_or(*at, |look| look.min(*at)));
                assert_eq!(table.look_by(id(*number), *at), *at < first);
            }
            Step::TakeDue { now, limit } => {
                let mut due: Vec<_> =
                    self.peers.iter().filter_map(|(id, peer)| Some((peer.look?, *id))).collect();
                due.sort_unstable();
                due.retain(|(at, _)| at <= now);
                due.truncate(*limit);
                let taken: Vec<_> = table.take_due(*now, *limit).iter().map(|peer| peer.id).collect();
                assert_eq!(taken, due.iter().map(|(_, id)| *id).collect::<Vec<_>>());
                for id in taken {
                    self.peers.get_mut(&id).unwrap().look = None;
                }
            }
        }
    }

    fn vacate(&mut self, id: PeerId, from: SocketAddr) {
        if self.addresses.get(&from) == Some(&id) {
            self.addresses.remove(&from);
        }
    }

    fn compare(&self, table: &Table) {
        let same = |found: Option<&Arc<Peer>>, expected: Option<&Arc<Peer>>| match (found, expected) {
            (Some(found), Some(expected)) => Arc::ptr_eq(found, expected),
            (None, None) => true,
            _ => false,
        };
        for number in 0..IDS {
            let expected = self.peers.get(&id(number)).map(|peer| &peer.peer);
            assert!(same(table.by_id(Some(id(number))).as_ref(), expected));
            assert!(same(table.find(id(number)).ok().as_ref(), expected));
        }
        for port in 0..PORTS {
            let owner = self.addresses.get(&at(port)).map(|id| &self.peers[id].peer);
            assert!(same(table.by_address(at(port)).as_ref(), owner), "{}", at(port));
        }
        assert!(table.all().map(|peer| peer.id).eq(self.peers.keys().copied()));
        for peer in self.peers.values() {
            assert_eq!(peer.peer.remote.load().address, peer.remote);
        }
        let next = self.peers.values().filter_map(|peer| peer.look).min();
        assert_eq!(table.next_look(), next.unwrap_or(u64::MAX));
    }
}

proptest! {
    #[test]
    fn a_table_is_what_a_list_of_its_peers_would_be(
        steps in prop::collection::vec((step(), address()), 1..60),
    ) {
        let transport = transport();
        let (table, mut model) = (Table::new(DeviceMode::MultiPeer, None), Model::default());
        // A worker that looks up one address after each step must notice each step that changes the answer.
        let (mut recent, watched) = (Recent::default(), steps[0].1);
        for (step, probe) in &steps {
            model.apply(&table, step, &transport);
            model.compare(&table);
            let route = |address| model.route(address).map(|peer| peer.id);
            prop_assert_eq!(table.by_vpn_address(*probe).map(|peer| peer.id), route(*probe), "{}", probe);
            prop_assert_eq!(recent.find(&table, watched).map(|peer| peer.id), route(watched), "{}", watched);
        }
    }
}

#[test]
fn all_peers_are_found_slice_by_slice_while_some_leave() {
    let transport = transport();
    let table = Table::new(DeviceMode::MultiPeer, None);
    let ids: Vec<_> = (0..3 * u32::try_from(SLICE).unwrap()).map(|n| PeerId::new(n).unwrap()).collect();
    for (port, id) in (1..).zip(&ids) {
        let vpn = VpnAddresses { v4: Some((0x0A00_0000 + u32::from(port)).into()), v6: None };
        let spec = spec(*id, at(port), vpn);
        table.insert(&spec, Arc::new(Peer::new(&spec, Arc::clone(&transport), &Clock::start()))).unwrap();
    }
    let mut seen = Vec::new();
    for peer in table.all() {
        // Where the slices end, too.
        table.remove(peer.id).unwrap();
        seen.push(peer.id);
    }
    assert_eq!(seen, ids);
    assert_eq!(table.all().count(), 0);
}
