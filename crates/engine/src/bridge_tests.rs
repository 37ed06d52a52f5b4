//! What is learned, against a model that knows all and forgets nothing on its own.

use culvert_offload::{Port, VpnAddresses};

use super::*;
use crate::{
    clock::Clock,
    table::tests::{spec, transport},
};

const LEARNED: Source = Source::New { moved: false, asked: false };
const MOVED: Source = Source::New { moved: true, asked: false };

fn station(number: u8, vlan: u16) -> Station {
    Station { mac: [2, 0, 0, 0, 0, number], vlan }
}

/// A bridge with peers 1 to 3, each of which may have two addresses.
fn bridge(ask: bool) -> (Bridge, [Arc<Peer>; 3]) {
    let bridge = Bridge::new(Ethernet { ask, vlans: None });
    let transport = transport();
    let peers = [1, 2, 3].map(|id| {
        let id = PeerId::new(id).unwrap();
        let mut spec = spec(id, ([192, 0, 2, 1], 1194).into(), VpnAddresses::default());
        spec.port = Port { vlan: 0, max_stations: 2 };
        let peer = Arc::new(Peer::new(&spec, Arc::clone(&transport), &Clock::start()));
        bridge.join(&peer);
        peer
    });
    (bridge, peers)
}

fn owner(bridge: &Bridge, number: u8) -> Option<u32> {
    bridge.find(station(number, 0), 0).map(|peer| peer.id.get())
}

#[test]
fn an_address_is_learned_once_and_known_from_then_on() {
    let (bridge, [a, ..]) = bridge(false);
    assert_eq!(owner(&bridge, 1), None);
    assert_eq!(bridge.learn(&a, station(1, 0), 5000), LEARNED);
    assert_eq!(bridge.learn(&a, station(1, 0), 5000), Source::Known);
    assert_eq!(owner(&bridge, 1), Some(1));
    assert_eq!(bridge.find(station(1, 7), 0).map(|peer| peer.id), None, "another VLAN is another world");
}

#[test]
fn an_address_moves_to_another_peer_but_only_so_often() {
    let (bridge, [a, b, _]) = bridge(false);
    bridge.learn(&a, station(1, 0), 5000);
    assert_eq!(bridge.learn(&b, station(1, 0), 5500), Source::Refused);
    assert_eq!(bridge.learn(&b, station(1, 0), 6000), MOVED);
    assert_eq!(owner(&bridge, 1), Some(2));
    assert_eq!(bridge.learn(&a, station(1, 0), 6999), Source::Refused);
    // It weighs on the limit of its new owner alone.
    assert_eq!(bridge.learn(&a, station(2, 0), 7000), LEARNED);
    assert_eq!(bridge.learn(&a, station(3, 0), 7000), LEARNED);
    bridge.leave(&a);
    assert_eq!(owner(&bridge, 1), Some(2), "what moved away does not go with its first owner");
}

#[test]
fn a_peer_has_as_many_addresses_as_it_may() {
    let (bridge, [a, b, _]) = bridge(false);
    for number in [1, 2] {
        assert_eq!(bridge.learn(&a, station(number, 0), 5000), LEARNED);
    }
    assert_eq!(bridge.learn(&a, station(3, 0), 5000), Source::Refused);
    assert_eq!(bridge.learn(&b, station(3, 0), 5000), LEARNED);
    assert_eq!(bridge.learn(&a, station(3, 0), 9000), Source::Refused, "nor may it take over one more");
}

#[test]
fn addresses_of_groups_and_of_nobody_are_not_learned() {
    let (bridge, [a, ..]) = bridge(false);
    for mac in [[0; 6], [0xFF; 6], [1, 0, 0x5E, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
        assert_eq!(bridge.learn(&a, Station { mac, vlan: 0 }, 5000), Source::Refused, "{mac:?}");
    }
}

#[test]
fn what_a_peer_had_is_forgotten_with_it_and_nothing_is_learned_of_it_again() {
    let (bridge, [a, ..]) = bridge(false);
    bridge.learn(&a, station(1, 0), 5000);
    bridge.leave(&a);
    assert_eq!(owner(&bridge, 1), None);
    // A worker may still hold it.
    assert_eq!(bridge.learn(&a, station(1, 0), 9000), Source::Refused);
    let mut left = Vec::new();
    bridge.list(9000, &mut left);
    assert_eq!(left, []);
}

#[test]
fn an_address_that_somebody_judges_carries_nothing_before_and_is_asked_about_again_after_a_refusal() {
    let (bridge, [a, b, _]) = bridge(true);
    let (id, at) = (a.id, station(1, 0));
    assert_eq!(bridge.learn(&a, at, 5000), Source::New { moved: false, asked: true });
    assert_eq!(bridge.learn(&a, at, 5001), Source::Refused);
    assert_eq!((owner(&bridge, 1), bridge.owner(at)), (None, Some(id)));
    bridge.judge(b.id, at, true, 5002);
    assert_eq!(owner(&bridge, 1), None, "an answer about another peer is none");
    bridge.judge(id, at, false, 5002);
    assert_eq!(bridge.learn(&a, at, 5002 + REFUSAL - 1), Source::Refused);
    assert_eq!(bridge.learn(&a, at, 5002 + REFUSAL), Source::New { moved: false, asked: true });
    bridge.judge(id, at, true, 70_000);
    assert_eq!((bridge.learn(&a, at, 70_001), owner(&bridge, 1)), (Source::Known, Some(1)));
    bridge.ask(false);
    assert_eq!(bridge.learn(&a, station(2, 0), 70_001), LEARNED, "nobody wants to know any more");
}

#[test]
fn stale_addresses_are_forgotten_and_make_room() {
    let (bridge, [a, b, _]) = bridge(false);
    bridge.learn(&a, station(1, 0), 5000);
    bridge.learn(&a, station(2, 0), 5000);
    bridge.find(station(2, 0), 9000);
    assert_eq!(bridge.expire(10_000, Duration::from_secs(5)), [(a.id, station(1, 0))]);
    assert_eq!((owner(&bridge, 1), owner(&bridge, 2)), (None, Some(1)));
    assert_eq!(bridge.learn(&a, station(3, 0), 10_000), LEARNED);
    assert_eq!(bridge.learn(&b, station(1, 0), 10_000), LEARNED);
}
