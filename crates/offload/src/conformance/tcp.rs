//! Peers at the other end of a stream.
//!
//! What becomes of a stream that is out of step, or whose peer expired, is left open beyond the end of the peer: the Linux module
//! gives up such streams without a word, or hands them back in the middle of a frame.

use std::{net::Shutdown, time::Duration};

use super::{
    Lab,
    ends::{expect_gone, keepalive},
    event, id,
    server::{Server, packet, packet_of, server, tcp_server},
    wire_peer::{TcpPeer, WireKey, frame},
};
use crate::{DeleteReason, OffloadEvent};

const SECOND: Duration = Duration::from_secs(1);

/// A control packet of this many bytes.
fn control(mark: u8, len: usize) -> Vec<u8> {
    let mut packet = vec![mark; len];
    packet[0] = 4 << 3;
    packet
}

fn expect_both_ways(server: &Server, wire: &mut TcpPeer, key: &mut WireKey, mark: u32) {
    wire.send(key, &packet(2, 1, mark));
    server.expect(&packet(2, 1, mark));
    server.tunnel.send(&packet(1, 2, mark));
    assert_eq!(wire.receive(key), packet(1, 2, mark));
}

/// What one end sends over the stream the other end receives, and both are counted without the stream's framing.
pub fn packets_go_both_ways_over_a_stream(lab: &impl Lab) {
    let (server, mut wire) = tcp_server(lab, 2);
    let mut key = server.add_stream(&wire, 2, |spec| spec);
    (0..100).for_each(|mark| expect_both_ways(&server, &mut wire, &mut key, mark));
    for len in [21, 700, 1500] {
        wire.send(&mut key, &packet_of(2, 1, len));
        server.expect(&packet_of(2, 1, len));
        server.tunnel.send(&packet_of(1, 2, len));
        assert_eq!(wire.receive(&key), packet_of(1, 2, len));
    }
    let bytes = 100 * (24 + 24) + (21 + 700 + 1500) + 3 * 24;
    let stats = server.wait_for(2, "all are counted", |s| {
        s.link.rx_packets == 103 && s.link.tx_packets == 103 && s.tunnel.tx_packets == 103
    });
    assert_eq!((stats.link.rx_bytes, stats.link.tx_bytes), (bytes, bytes));
}

/// Control packets come up and go down before there is a peer on the stream, and afterwards.
pub fn control_goes_both_ways_before_and_after_the_peer_exists(lab: &impl Lab) {
    let (mut server, mut wire) = tcp_server(lab, 2);
    let both_ways = |server: &mut Server, wire: &mut TcpPeer| {
        // The longest is the longest that a stranger may send.
        for (mark, len) in [(1, 14), (2, 100), (3, 1400), (4, 2048)] {
            wire.send_raw(&control(mark, len));
            let packets = server.control(1);
            assert_eq!((&packets[0].bytes, packets[0].from), (&control(mark, len), wire.address()));
            server.send_control(wire.address(), &control(mark, len));
            assert_eq!(wire.receive_raw(), control(mark, len));
        }
    };
    both_ways(&mut server, &mut wire);
    let mut key = server.add_stream(&wire, 2, |spec| spec);
    both_ways(&mut server, &mut wire);
    expect_both_ways(&server, &mut wire, &mut key, 1);
    both_ways(&mut server, &mut wire);
}

/// Frames that arrive byte by byte are whole packets, with and without a peer.
pub fn frames_may_come_in_any_pieces(lab: &impl Lab) {
    let (mut server, mut wire) = tcp_server(lab, 2);
    let in_bytes = |wire: &mut TcpPeer, packet: &[u8]| {
        frame(packet).iter().for_each(|byte| wire.write(&[*byte]));
    };
    in_bytes(&mut wire, &control(1, 40));
    assert_eq!(server.control(1)[0].bytes, control(1, 40));
    let mut key = server.add_stream(&wire, 2, |spec| spec);
    in_bytes(&mut wire, &control(2, 40));
    assert_eq!(server.control(1)[0].bytes, control(2, 40));
    let data = key.seal(id(2), &packet(2, 1, 1));
    in_bytes(&mut wire, &data);
    server.expect(&packet(2, 1, 1));

    let data = key.seal(id(2), &packet(2, 1, 2));
    wire.write(&[frame(&control(3, 40)), frame(&data), frame(&control(4, 40))].concat());
    server.expect(&packet(2, 1, 2));
    let packets = server.control(2);
    assert_eq!((&packets[0].bytes, &packets[1].bytes), (&control(3, 40), &control(4, 40)));
}

/// Control packets that nobody has read yet when the peer is added come up, in order, before later ones.
pub fn frames_that_wait_when_the_peer_is_added_are_not_lost(lab: &impl Lab) {
    let (mut server, mut wire) = tcp_server(lab, 2);
    for mark in 1..=3 {
        wire.send_raw(&control(mark, 60));
    }
    let mut key = server.add_stream(&wire, 2, |spec| spec);
    wire.send_raw(&control(4, 60));
    let packets = server.control(4);
    assert!(packets.iter().zip(1..).all(|(packet, mark)| packet.bytes == control(mark, 60)));
    expect_both_ways(&server, &mut wire, &mut key, 1);
}

/// A frame of which a part has arrived when the peer is added is a whole one in the end.
pub fn a_frame_may_be_under_way_when_the_peer_is_added(lab: &impl Lab) {
    let mut server = server(lab);
    let whole = frame(&control(1, 60));
    for split in [1, 2, 3, 30, whole.len() - 1] {
        let (mut wire, spec) = TcpPeer::connect(2);
        let _former = server.open(spec);
        wire.send_raw(&control(2, 60));
        assert_eq!(server.control(1)[0].bytes, control(2, 60));
        wire.write(&whole[..split]);
        let mut key = server.add_stream(&wire, 2, |spec| spec);
        wire.write(&whole[split..]);
        assert_eq!(server.control(1)[0].bytes, control(1, 60), "split at {split}");
        expect_both_ways(&server, &mut wire, &mut key, 1);
        server.offload.peer_del(id(2)).unwrap();
    }
}

/// Control and data share the stream in both directions without getting into each other's way.
pub fn control_goes_both_ways_while_data_flows(lab: &impl Lab) {
    const COUNT: u8 = 100;
    let (mut server, mut wire) = tcp_server(lab, 2);
    let mut key = server.add_stream(&wire, 2, |spec| spec);
    for mark in 0..COUNT {
        wire.send(&mut key, &packet(2, 1, mark.into()));
        wire.send_raw(&control(mark, 300));
        server.tunnel.send(&packet(1, 2, mark.into()));
        server.send_control(wire.address(), &control(mark, 300));
    }
    (0..COUNT).for_each(|mark| server.expect(&packet(2, 1, mark.into())));
    let packets = server.control(COUNT.into());
    assert!(packets.iter().zip(0..).all(|(packet, mark)| packet.bytes == control(mark, 300)));
    let (mut controls, mut datas) = (0, 0);
    while controls < COUNT || datas < COUNT {
        let received = wire.receive_raw();
        if received[0] >> 3 == 9 {
            assert_eq!(key.open(id(2), &received), packet(1, 2, datas.into()));
            datas += 1;
        } else {
            assert_eq!(received, control(controls, 300));
            controls += 1;
        }
    }
}

/// A stream whose peer was removed carries control, and can have a peer again.
pub fn a_stream_outlives_its_peer(lab: &impl Lab) {
    let (mut server, mut wire) = tcp_server(lab, 2);
    for round in 1..=3 {
        let mut key = server.add_stream(&wire, 2, |spec| spec);
        expect_both_ways(&server, &mut wire, &mut key, round.into());
        server.offload.peer_del(id(2)).unwrap();
        wire.send_raw(&control(round, 60));
        assert_eq!(server.control(1)[0].bytes, control(round, 60));
        server.send_control(wire.address(), &control(round, 60));
        assert_eq!(wire.receive_raw(), control(round, 60));
    }
}

/// A silent peer expires over TCP, too.
pub fn a_silent_peer_expires_over_a_stream(lab: &impl Lab) {
    let (server, wire) = tcp_server(lab, 2);
    let _key = server.add_stream(&wire, 2, keepalive(Duration::ZERO, SECOND));
    expect_gone(&server, 2, DeleteReason::Expired);
}

/// When the other end closes the stream, its control port ends, after the last packet. Kernels say nothing else: the peer
/// is removed by whoever hears that.
pub fn a_port_ends_with_its_stream(lab: &impl Lab) {
    for with_peer in [false, true] {
        let (mut server, mut wire) = tcp_server(lab, 2);
        let _key = with_peer.then(|| server.add_stream(&wire, 2, |spec| spec));
        wire.send_raw(&control(1, 60));
        wire.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(server.control(1)[0].bytes, control(1, 60));
        server.port_ends();
        // An implementation that noticed has removed it already.
        let _gone = server.offload.peer_del(id(2));
        drop(server.offload.close_transport(server.transport).unwrap());
    }
}

/// A length that no frame has ends the peer: at once, or by its keepalive.
pub fn a_stream_out_of_step_ends_its_peer(lab: &impl Lab) {
    for length in [[0, 0], [0, 1]] {
        let (server, mut wire) = tcp_server(lab, 2);
        let _key = server.add_stream(&wire, 2, keepalive(Duration::ZERO, SECOND));
        wire.write(&length);
        wire.write(&frame(&control(1, 60)));
        let gone = event(&*server.offload);
        assert!(matches!(gone, OffloadEvent::PeerGone(peer, ..) if peer == id(2)), "{gone:?}");
    }
}
