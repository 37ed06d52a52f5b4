//! Behaviour that shows in packets.

use super::{
    Lab, id,
    server::{packet, server},
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
