//! Where packets come from and go to, outside the tunnel and inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    Lab, event, id, inner6,
    server::{packet, packet_between, packet6, server, server_over},
    udp_at,
    wire_peer::{TcpPeer, WirePeer},
};
use crate::{OffloadError, OffloadEvent, PeerChange, PeerSpec, VpnAddresses};

/// An address of the machine that it would not choose by itself.
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Data leaves from the address that the transport is bound to.
pub fn data_leaves_from_the_bound_address(lab: &impl Lab) {
    let server = server_over(lab, udp_at(SECOND));
    let (wire, key) = server.add(2, |spec| spec);
    server.tunnel.send(&packet(1, 2, 1));
    // The peer requires that it comes from there.
    assert_eq!(wire.receive(&key), packet(1, 2, 1));
}

/// On a transport that is bound to all addresses, data leaves from the one that the peer is to be spoken to from.
pub fn data_leaves_from_the_local_address_of_the_peer(lab: &impl Lab) {
    let mut server = server_over(lab, udp_at(Ipv4Addr::UNSPECIFIED.into()));
    server.address.set_ip(SECOND);
    let (wire, key) = server.add(2, |spec| PeerSpec { local: Some(SECOND.into()), ..spec });
    server.tunnel.send(&packet(1, 2, 1));
    assert_eq!(wire.receive(&key), packet(1, 2, 1));
}

/// A packet that authenticates moves its peer; the offload says where to.
pub fn a_peer_that_moves_is_followed(lab: &impl Lab) {
    let server = server(lab);
    let (old, mut key) = server.add(2, |spec| spec);
    server.expect_both_ways(2, &old, &mut key, 1);
    let new = WirePeer::bind(2, server.address);
    new.send(&mut key, &packet(2, 1, 2));
    server.expect(&packet(2, 1, 2));
    assert_eq!(event(&*server.offload), OffloadEvent::Floated(id(2), new.address()));
    server.tunnel.send(&packet(1, 2, 3));
    assert_eq!(new.receive(&key), packet(1, 2, 3));
    assert_eq!(server.stats(2).remote, new.address());
    old.expect_nothing();
}

/// A peer that moves is answered from the address that it speaks to.
pub fn a_peer_that_moves_is_answered_from_the_same_address(lab: &impl Lab) {
    let mut server = server_over(lab, udp_at(Ipv4Addr::UNSPECIFIED.into()));
    server.address.set_ip(SECOND);
    let (_old, mut key) = server.add(2, |spec| PeerSpec { local: Some(SECOND.into()), ..spec });
    let new = WirePeer::bind(2, server.address);
    server.expect_both_ways(2, &new, &mut key, 1);
}

/// A packet that was seen before moves nobody (SEC-DATA-4).
pub fn a_replayed_packet_moves_nobody(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    let packet_of_peer = key.seal(wire.ids.sent, &packet(2, 1, 1));
    wire.send_raw(&packet_of_peer);
    server.expect(&packet(2, 1, 1));
    let elsewhere = WirePeer::bind(2, server.address);
    elsewhere.send_raw(&packet_of_peer);
    let mut forged = key.seal(wire.ids.sent, &packet(2, 1, 2));
    *forged.last_mut().unwrap() ^= 1;
    elsewhere.send_raw(&forged);
    let (other, mut other_key) = server.add(3, |spec| spec);
    server.expect_both_ways(3, &other, &mut other_key, 3);
    server.tunnel.send(&packet(1, 2, 4));
    assert_eq!(wire.receive(&key), packet(1, 2, 4));
    elsewhere.expect_nothing();
}

/// A peer that may not move is sent to where it was, from where it was spoken to. Whether its packet from elsewhere
/// is delivered is left open: kernels do.
pub fn a_peer_that_may_not_move_stays_where_it_was(lab: &impl Lab) {
    let server = server_over(lab, udp_at(SECOND));
    let (wire, mut key) = server.add(2, |spec| PeerSpec { float: false, ..spec });
    let (other, mut other_key) = server.add(3, |spec| spec);
    let elsewhere = WirePeer::bind(2, server.address);
    elsewhere.send(&mut key, &packet(2, 1, 1));
    other.send(&mut other_key, &packet(3, 1, 2));
    server.expect_among_others(&packet(3, 1, 2));
    server.wait_for(2, "it is where it was", |s| s.remote == wire.address());
    server.tunnel.send(&packet(1, 2, 3));
    assert_eq!(wire.receive(&key), packet(1, 2, 3));
    elsewhere.expect_nothing();

    // Nothing was said about it: what comes first is about the other peer.
    let new = WirePeer::bind(3, server.address);
    new.send(&mut other_key, &packet(3, 1, 4));
    assert_eq!(event(&*server.offload), OffloadEvent::Floated(id(3), new.address()));
}

/// A peer does not move to where another one is (SEC-DATA-4).
pub fn a_peer_cannot_move_to_where_another_is(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    let (other, mut other_key) = server.add(3, |spec| spec);
    other.send_raw(&key.seal(wire.ids.sent, &packet(2, 1, 1)));
    other.send(&mut other_key, &packet(3, 1, 2));
    server.expect_among_others(&packet(3, 1, 2));
    server.wait_for(2, "it is where it was", |s| s.remote == wire.address());
    server.expect_both_ways(2, &wire, &mut key, 3);
    server.expect_both_ways(3, &other, &mut other_key, 4);
}

/// A call moves a peer; the address to send from stays.
pub fn a_call_moves_a_peer(lab: &impl Lab) {
    let server = server_over(lab, udp_at(SECOND));
    let (old, key) = server.add(2, |spec| PeerSpec { float: false, ..spec });
    let new = WirePeer::bind(2, server.address);
    let change = PeerChange { remote: Some(new.address()), ..PeerChange::default() };
    server.offload.peer_set(id(2), &change).unwrap();
    server.tunnel.send(&packet(1, 2, 1));
    assert_eq!(new.receive(&key), packet(1, 2, 1));
    assert_eq!(server.stats(2).remote, new.address());
    old.expect_nothing();
}

/// A call moves no peer to where another is (SEC-DATA-4).
pub fn a_call_moves_no_peer_to_where_another_is(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    let (other, mut other_key) = server.add(3, |spec| spec);
    let change = PeerChange { remote: Some(other.address()), ..PeerChange::default() };
    let refused = server.offload.peer_set(id(2), &change);
    assert!(matches!(refused, Err(OffloadError::PeerExists(_))), "{refused:?}");
    server.expect_both_ways(2, &wire, &mut key, 1);
    server.expect_both_ways(3, &other, &mut other_key, 2);
}

/// Peers are reached over IPv6 as over IPv4.
pub fn a_peer_can_be_reached_over_ipv6(lab: &impl Lab) {
    let server = server_over(lab, udp_at(Ipv6Addr::LOCALHOST.into()));
    let (old, mut key) = server.add(2, |spec| spec);
    server.tunnel.send(&packet(1, 2, 0));
    assert_eq!(old.receive(&key), packet(1, 2, 0));
    server.expect_both_ways(2, &old, &mut key, 1);
    assert_eq!(server.stats(2).remote, old.address());
    let new = WirePeer::bind(2, server.address);
    server.expect_both_ways(2, &new, &mut key, 2);
    assert_eq!(event(&*server.offload), OffloadEvent::Floated(id(2), new.address()));
}

/// A socket of both families carries peers of both; an IPv4 peer's address is IPv4 whichever way it is written.
pub fn a_socket_of_both_families_carries_both(lab: &impl Lab) {
    let mut server = server_over(lab, udp_at(Ipv6Addr::UNSPECIFIED.into()));
    server.address.set_ip(Ipv6Addr::LOCALHOST.into());
    let (six, mut six_key) = server.add(6, |spec| spec);
    server.address.set_ip(Ipv4Addr::LOCALHOST.into());
    let mapped = |spec: PeerSpec| {
        let IpAddr::V4(ip) = spec.remote.ip() else { panic!("an IPv4 peer") };
        PeerSpec { remote: SocketAddr::new(ip.to_ipv6_mapped().into(), spec.remote.port()), ..spec }
    };
    let (four, mut four_key) = server.add(4, mapped);
    server.tunnel.send(&packet(1, 4, 0));
    assert_eq!(four.receive(&four_key), packet(1, 4, 0));
    server.expect_both_ways(4, &four, &mut four_key, 1);
    server.expect_both_ways(6, &six, &mut six_key, 2);
    assert_eq!(server.stats(4).remote, four.address());

    four.send_raw(&[7 << 3; 20]);
    assert_eq!(server.control(1)[0].from, four.address());
    let new = WirePeer::bind(4, server.address);
    server.expect_both_ways(4, &new, &mut four_key, 3);
    assert_eq!(event(&*server.offload), OffloadEvent::Floated(id(4), new.address()));
}

/// Each transport of a device carries its own peers.
pub fn every_transport_carries_its_peers(lab: &impl Lab) {
    let mut server = server(lab);
    let (first, mut first_key) = server.add(2, |spec| spec);
    let _first = server.open(udp_at(SECOND));
    let (second, mut second_key) = server.add(3, |spec| spec);
    let _second = server.open(udp_at(Ipv6Addr::LOCALHOST.into()));
    let (third, mut third_key) = server.add(4, |spec| spec);
    let (mut stream, spec) = TcpPeer::connect(5);
    let _third = server.open(spec);
    let mut stream_key = server.add_stream(&stream, 5, |spec| spec);
    for round in 0..3 {
        server.expect_both_ways(2, &first, &mut first_key, round);
        server.expect_both_ways(3, &second, &mut second_key, round);
        server.expect_both_ways(4, &third, &mut third_key, round);
        stream.send(&mut stream_key, &packet(5, 1, round));
        server.expect(&packet(5, 1, round));
        server.tunnel.send(&packet(1, 5, round));
        assert_eq!(stream.receive(&stream_key), packet(1, 5, round));
    }
}

/// IPv6 inside the tunnel goes both ways, from and to its owner only (SEC-DATA-5).
pub fn ipv6_goes_both_ways_between_its_owners(lab: &impl Lab) {
    let server = server(lab);
    let both = |number: u8| {
        move |spec: PeerSpec| PeerSpec { vpn: VpnAddresses { v6: Some(inner6(number)), ..spec.vpn }, ..spec }
    };
    let only_six = |spec: PeerSpec| PeerSpec { vpn: VpnAddresses { v4: None, v6: Some(inner6(3)) }, ..spec };
    let (two, mut two_key) = server.add(2, both(2));
    let (three, mut three_key) = server.add(3, only_six);
    two.send(&mut two_key, &packet6(3, 1, 1));
    two.send(&mut two_key, &packet6(99, 1, 2));
    for (number, wire, key) in [(2, &two, &mut two_key), (3, &three, &mut three_key)] {
        wire.send(key, &packet6(number, 1, 3));
        server.expect(&packet6(number, 1, 3));
        server.tunnel.send(&packet6(1, number, 4));
        assert_eq!(wire.receive(key), packet6(1, number, 4));
    }
    server.expect_both_ways(2, &two, &mut two_key, 5);
}

/// A network behind a peer is that peer's: others do not send from it.
pub fn a_network_behind_a_peer_is_its_own(lab: &impl Lab) {
    let server = server(lab);
    let network = ([192, 168, 7, 0].into(), 24);
    let (router, mut router_key) = server.add(2, |spec| PeerSpec { iroutes: vec![network], ..spec });
    lab.route(network, [10, 8, 0, 2].into());
    let (other, mut other_key) = server.add(3, |spec| spec);
    let inward = |mark: u8| packet_between([192, 168, 7, 9], [10, 8, 0, 1], &[mark; 4]);
    let outward = packet_between([10, 8, 0, 1], [192, 168, 7, 9], &[3; 4]);
    other.send(&mut other_key, &inward(1));
    router.send(&mut router_key, &inward(2));
    server.expect(&inward(2));
    server.tunnel.send(&outward);
    assert_eq!(router.receive(&router_key), outward);
}

/// A peer's address inside the tunnel can be changed: from then on it is the new one.
pub fn a_changed_vpn_address_is_the_peers_from_then_on(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    let vpn = VpnAddresses { v4: Some(Ipv4Addr::new(10, 8, 0, 20)), v6: None };
    let change = PeerChange { vpn: Some((vpn, Vec::new())), ..PeerChange::default() };
    server.offload.peer_set(id(2), &change).unwrap();
    wire.send(&mut key, &packet(2, 1, 1));
    server.expect_both_ways(20, &wire, &mut key, 2);
    // The old one is free again.
    let (other, mut other_key) = server.add(3, |spec| PeerSpec {
        vpn: VpnAddresses { v4: Some(Ipv4Addr::new(10, 8, 0, 2)), v6: None },
        ..spec
    });
    server.expect_both_ways(2, &other, &mut other_key, 3);
}
