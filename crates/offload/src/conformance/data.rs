//! Behaviour that shows in packets.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use culvert_wire::{KeyId, Slot, data::v2_header};

use super::{
    Lab, id, key, peer,
    server::{SHORTLY, Server, packet, packet_of, server},
    wire_peer::{WireKey, WirePeer},
};
use crate::PeerSpec;

/// What one end sends the other end receives, and both are counted.
pub fn packets_go_both_ways(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    for number in 0..100 {
        wire.send(&mut key, &packet(2, 1, number));
        server.expect(&packet(2, 1, number));
        server.tunnel.send(&packet(1, 2, number));
        assert_eq!(wire.receive(&key), packet(1, 2, number));
    }
    server.wait_for(2, "all are counted", |s| s.tunnel.rx_packets == 100 && s.tunnel.tx_packets == 100);
}

/// The second copy of a packet goes nowhere.
pub fn a_replayed_packet_is_dropped(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    let first = key.seal(wire.ids.sent, &packet(2, 1, 1));
    wire.send_raw(&first);
    wire.send_raw(&first);
    wire.send(&mut key, &packet(2, 1, 2));
    server.expect(&packet(2, 1, 1));
    server.expect(&packet(2, 1, 2));
}

/// A removed peer's packets go nowhere, and others are not disturbed.
pub fn a_removed_peer_gets_and_sends_nothing(lab: &impl Lab) {
    let server = server(lab);
    let (gone, mut gone_key) = server.add(2, |spec| spec);
    let (stays, mut stays_key) = server.add(3, |spec| spec);
    server.offload.peer_del(id(2)).unwrap();
    gone.send(&mut gone_key, &packet(2, 1, 1));
    stays.send(&mut stays_key, &packet(3, 1, 2));
    server.expect(&packet(3, 1, 2));
    server.tunnel.send(&packet(1, 2, 3));
    server.tunnel.send(&packet(1, 3, 4));
    assert_eq!(stays.receive(&stays_key), packet(1, 3, 4));
    gone.expect_nothing();
}

/// On a device with many peers, the destination decides; of two networks that hold it, the narrower one.
pub fn packets_find_their_peer_by_destination(lab: &impl Lab) {
    let server = server(lab);
    let network = ([10, 8, 0, 64].into(), 26);
    let (router, router_key) = server.add(2, |spec| PeerSpec { iroutes: vec![network], ..spec });
    lab.route(network, [10, 8, 0, 2].into());
    let (host, host_key) = server.add(70, |spec| spec);
    lab.route(([10, 8, 0, 70].into(), 32), [10, 8, 0, 70].into());
    server.tunnel.send(&packet(1, 70, 1));
    server.tunnel.send(&packet(1, 77, 2));
    assert_eq!(host.receive(&host_key), packet(1, 70, 1));
    assert_eq!(router.receive(&router_key), packet(1, 77, 2));
}

/// SEC-DATA-5: an inner source address has to be the peer's.
pub fn a_packet_with_a_foreign_source_is_dropped(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    let (_other, _) = server.add(3, |spec| spec);
    wire.send(&mut key, &packet(3, 1, 1));
    wire.send(&mut key, &packet(99, 1, 2));
    wire.send(&mut key, &packet(2, 1, 3));
    server.expect(&packet(2, 1, 3));
}

/// Control packets are handed up with their sender's address, in between data too.
pub fn control_packets_come_out_of_the_port(lab: &impl Lab) {
    let mut server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    let reset = [7 << 3, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0];
    wire.send(&mut key, &packet(2, 1, 1));
    wire.send_raw(&reset);
    wire.send(&mut key, &packet(2, 1, 2));
    server.expect(&packet(2, 1, 1));
    server.expect(&packet(2, 1, 2));
    let packets = server.control(1);
    assert_eq!(packets[0].bytes, reset);
    assert_eq!(packets[0].from, wire.address());
}

/// Packets to a peer carry its id and the id of the key.
pub fn packets_carry_the_ids_of_peer_and_key(lab: &impl Lab) {
    let server = server(lab);
    for (number, key_id) in [(2, 0), (3, 7)] {
        let (wire, _) = server.add(number, |spec| spec);
        server.offload.key_new(id(number.into()), Slot::Primary, key(key_id, false)).unwrap();
        server.tunnel.send(&packet(1, number, 1));
        let header = v2_header(KeyId::new(key_id).unwrap(), Some(id(number.into())));
        assert_eq!(wire.receive_raw()[..4], header);
    }
}

/// Packets from a peer carry its id; those to it may carry another one, which then says nothing about who sent them.
pub fn a_peer_may_be_sent_another_id_than_its_own(lab: &impl Lab) {
    let server = server(lab);
    if !server.offload.capabilities().tx_id {
        return;
    }
    let (other, mut other_key) = server.add(3, |spec| spec);
    for tx_id in [id(0), id(3), id(0xFF_FFFE)] {
        let (mut wire, mut key) = server.add(2, |spec| PeerSpec { tx_id: Some(tx_id), ..spec });
        wire.ids.received = tx_id;
        server.expect_both_ways(2, &wire, &mut key, 1);
        server.expect_both_ways(3, &other, &mut other_key, 2);
        wire.ids.sent = id(0xFF_FFFE);
        wire.send(&mut key, &packet(2, 1, 3));
        server.expect_both_ways(3, &other, &mut other_key, 4);
        server.offload.peer_del(id(2)).unwrap();
    }
}

/// The ids at both ends of the range are ids like others.
pub fn the_lowest_and_the_highest_id_are_usable(lab: &impl Lab) {
    let server = server(lab);
    for own in [id(0), id(0xFF_FFFE)] {
        let (mut wire, mut key) = server.add(2, |spec| PeerSpec { id: own, ..spec });
        (wire.ids.sent, wire.ids.received) = (own, own);
        server.expect_both_ways(2, &wire, &mut key, 1);
        server.offload.peer_del(own).unwrap();
    }
}

/// Packets of all sizes up to the device's MTU go both ways.
pub fn packets_of_every_size_go_both_ways(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    for len in (21..1500).step_by(87).chain([1499, 1500]) {
        wire.send(&mut key, &packet_of(2, 1, len));
        server.expect(&packet_of(2, 1, len));
        server.tunnel.send(&packet_of(1, 2, len));
        assert_eq!(wire.receive(&key), packet_of(1, 2, len));
    }
}

/// A peer may send packets larger than the device's MTU: they come out whole, as of any network device.
pub fn a_packet_larger_than_the_mtu_breaks_nothing(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    for len in [1501, 4000, 20_000] {
        wire.send(&mut key, &packet_of(2, 1, len));
        server.expect(&packet_of(2, 1, len));
    }
    server.expect_both_ways(2, &wire, &mut key, 1);
}

/// Payloads that are no packets, too short ones and damaged ones go nowhere.
pub fn what_is_no_packet_goes_nowhere(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    for payload in [&[][..], &[0x45], &[0; 64], &[0xFF; 64], &packet(2, 1, 1)[..19]] {
        wire.send(&mut key, payload);
    }
    let whole = key.seal(wire.ids.sent, &packet(2, 1, 2));
    for len in 0..whole.len() {
        // A datagram of no bytes is one, too.
        wire.send_raw(&whole[..len]);
    }
    for place in [4, 8, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        wire.send_raw(&damaged);
    }
    wire.send_raw(&whole);
    server.expect(&packet(2, 1, 2));
}

/// Data packets that are no peer's go nowhere, also not to the control port, whether or not there are peers.
pub fn an_unknown_peers_packets_go_nowhere(lab: &impl Lab) {
    let mut server = server(lab);
    let stranger = WirePeer::bind(9, server.address);
    let reset = [7 << 3, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0];
    let knock = |server: &mut Server| {
        stranger.send(&mut WireKey::new(0), &packet(9, 1, 1));
        stranger.send_raw(&[6 << 3; 64]);
        stranger.send_raw(&reset);
        assert_eq!(server.control(1)[0].bytes, reset);
    };
    knock(&mut server);
    let (wire, mut key) = server.add(2, |spec| spec);
    knock(&mut server);
    server.expect_both_ways(2, &wire, &mut key, 2);
    stranger.expect_nothing();
}

/// A peer can go and come back while packets are under way to it and from it.
pub fn a_peer_deleted_under_traffic_takes_nobody_along(lab: &impl Lab) {
    let server = server(lab);
    let (stays, mut stays_key) = server.add(3, |spec| spec);
    let wire = WirePeer::bind(2, server.address);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut key = WireKey::new(0);
            for number in 0.. {
                if ended.load(Relaxed) {
                    return;
                }
                wire.send(&mut key, &packet(2, 1, number));
                server.tunnel.send(&packet(1, 2, number));
                // Nothing may pile up: what the others send has to find room.
                let _arrived = server.tunnel.recv(SHORTLY);
            }
        });
        for _ in 0..50 {
            server.offload.peer_new(peer(2, server.transport, wire.address())).unwrap();
            server.offload.key_new(id(2), Slot::Primary, key(0, false)).unwrap();
            server.offload.peer_del(id(2)).unwrap();
        }
        ended.store(true, Relaxed);
    });
    stays.send(&mut stays_key, &packet(3, 1, 1));
    server.expect_among_others(&packet(3, 1, 1));
    server.expect_both_ways(3, &stays, &mut stays_key, 2);
}
