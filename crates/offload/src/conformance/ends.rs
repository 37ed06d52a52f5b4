//! Keepalive, and the ways in which a peer ends.

use std::time::Duration;

use super::{
    Lab, event, id, peer,
    server::{Server, server},
    wire_peer::WirePeer,
};
use crate::{DeleteReason, Keepalive, OffloadEvent, PeerChange, PeerSpec};

const NEVER: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// OpenVPN's ping.
const PING: [u8; 16] =
    [0x2A, 0x18, 0x7B, 0xF3, 0x64, 0x1E, 0xB4, 0xCB, 0x07, 0xED, 0x2D, 0x0A, 0x98, 0x1F, 0xC7, 0x48];

/// Changes a peer's keepalive.
pub fn keepalive(interval: Duration, timeout: Duration) -> impl FnOnce(PeerSpec) -> PeerSpec {
    move |spec| PeerSpec { keepalive: Some(Keepalive { interval, timeout }), ..spec }
}

/// Waits for the next event, which has to be the end of this peer, with its last counters.
pub fn expect_gone(server: &Server, number: u8, reason: DeleteReason) {
    match event(&*server.offload) {
        OffloadEvent::PeerGone(peer, why, last) => {
            assert_eq!((peer, why), (id(number.into()), reason));
            assert_eq!(last.expect("its last counters").id, peer);
        }
        other => panic!("not the end of a peer: {other:?}"),
    }
    assert!(server.offload.peer_del(id(number.into())).is_err(), "it does not exist any more");
}

/// A peer that says nothing is let go of, and the offload says why.
pub fn a_silent_peer_expires(lab: &impl Lab) {
    let server = server(lab);
    let (_wire, _) = server.add(2, keepalive(NEVER, SECOND));
    expect_gone(&server, 2, DeleteReason::Expired);
}

/// An expired peer can be added again, with another life.
pub fn an_expired_peer_can_come_back(lab: &impl Lab) {
    let server = server(lab);
    let (_wire, _) = server.add(2, keepalive(SECOND, SECOND));
    expect_gone(&server, 2, DeleteReason::Expired);
    let (wire, mut key) = server.add(2, |spec| spec);
    server.expect_both_ways(2, &wire, &mut key, 1);
}

/// A tunnel without traffic carries pings.
pub fn a_quiet_tunnel_is_pinged(lab: &impl Lab) {
    let server = server(lab);
    let (wire, key) = server.add(2, keepalive(SECOND, MINUTE));
    assert_eq!(wire.receive(&key), PING);
    let stats = server.wait_for(2, "it is counted", |s| s.link.tx_packets > 0);
    assert_eq!(stats.link.tx_bytes, 40 * stats.link.tx_packets);
    assert_eq!(
        (stats.tunnel.tx_packets, stats.tunnel.tx_bytes),
        (0, 0),
        "pings are no packets of the tunnel"
    );
}

/// A ping that arrives is no packet of the tunnel.
pub fn a_ping_comes_out_nowhere(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    wire.send(&mut key, &PING);
    server.expect_both_ways(2, &wire, &mut key, 1);
    let stats = server.wait_for(2, "all are counted", |s| s.link.rx_packets == 2 && s.tunnel.rx_packets > 0);
    assert_eq!((stats.tunnel.rx_packets, stats.tunnel.rx_bytes), (1, 24));
}

/// Without a timeout, a peer is pinged and never given up.
pub fn a_peer_with_an_interval_only_is_pinged_and_stays(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, keepalive(SECOND, NEVER));
    let (_silent, _) = server.add(3, keepalive(NEVER, 2 * SECOND));
    assert_eq!(wire.receive(&key), PING);
    expect_gone(&server, 3, DeleteReason::Expired);
    assert_eq!(wire.receive(&key), PING);
    wire.send(&mut key, &super::server::packet(2, 1, 1));
    server.expect(&super::server::packet(2, 1, 1));
}

/// Without an interval, a peer is given up and not pinged before.
pub fn a_peer_with_a_timeout_only_is_not_pinged(lab: &impl Lab) {
    let server = server(lab);
    let (wire, _) = server.add(2, keepalive(NEVER, 2 * SECOND));
    expect_gone(&server, 2, DeleteReason::Expired);
    wire.expect_nothing();
}

/// Two times of zero are no keepalive.
pub fn a_peer_without_times_is_left_alone(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut key) = server.add(2, keepalive(NEVER, NEVER));
    let (_silent, _) = server.add(3, keepalive(NEVER, 2 * SECOND));
    expect_gone(&server, 3, DeleteReason::Expired);
    wire.expect_nothing();
    server.expect_both_ways(2, &wire, &mut key, 1);
}

/// Keepalive can be set, changed and switched off later.
pub fn keepalive_can_be_changed(lab: &impl Lab) {
    let server = server(lab);
    let set = |number: u8, interval, timeout| {
        let change = PeerChange { keepalive: Some(Keepalive { interval, timeout }), ..PeerChange::default() };
        server.offload.peer_set(id(number.into()), &change).unwrap();
    };
    let (wire, key) = server.add(2, |spec| spec);
    set(2, SECOND, NEVER);
    assert_eq!(wire.receive(&key), PING);
    let (_silent, _) = server.add(3, keepalive(NEVER, MINUTE));
    let (saved, mut saved_key) = server.add(4, keepalive(NEVER, SECOND));
    set(4, NEVER, NEVER);
    set(3, NEVER, 2 * SECOND);
    expect_gone(&server, 3, DeleteReason::Expired);
    saved.expect_nothing();
    saved.send(&mut saved_key, &super::server::packet(4, 1, 1));
    server.expect(&super::server::packet(4, 1, 1));
}

/// A deletion by a call is no event, neither of the peer that it ended nor of a successor with the same id.
pub fn a_deletion_of_ones_own_is_no_event(lab: &impl Lab) {
    let server = server(lab);
    let wire = WirePeer::bind(2, server.address);
    for _ in 0..300 {
        server.offload.peer_new(peer(2, server.transport, wire.address())).unwrap();
        server.offload.peer_del(id(2)).unwrap();
    }
    let (wire, mut key) = server.add(2, |spec| spec);
    let (_silent, _) = server.add(3, keepalive(NEVER, SECOND));
    expect_gone(&server, 3, DeleteReason::Expired);
    server.expect_both_ways(2, &wire, &mut key, 1);
}
