//! Ends of peers that only the module brings about.

use std::{collections::BTreeSet, net::Ipv4Addr, task::Poll, time::Duration};

use culvert_offload::{
    ControlBatch, DeleteReason, DeviceMode, OffloadError, OffloadEvent, PeerSpec, VpnAddresses,
    conformance::{
        Lab as _, device,
        ends::{expect_gone, keepalive},
        event, id, peer,
        server::{server, tcp_server},
        udp, wait,
        wire_peer::TcpPeer,
    },
};

use crate::lab::{KernelLab, run};

const NEVER: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_frame_that_the_module_cannot_stand_ends_peer_and_stream() {
    // Data without a peer id, and frames too short to be looked at.
    for frame in [&[6 << 3; 60][..], &[9 << 3, 0, 0], &[4 << 3, 0]] {
        let lab = KernelLab::new();
        let (mut server, mut wire) = tcp_server(&lab, 2);
        let _key = server.add_stream(&wire, 2, |spec| spec);
        wire.send_raw(frame);
        expect_gone(&server, 2, DeleteReason::TransportError);
        server.port_ends();
    }
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_stream_that_the_module_does_not_hear_any_more_ends_by_keepalive() {
    let lab = KernelLab::new();
    let (mut server, mut wire) = tcp_server(&lab, 2);
    let mut key = server.add_stream(&wire, 2, keepalive(NEVER, SECOND));
    wire.write(&[0, 0]);
    wire.send(&mut key, &culvert_offload::conformance::server::packet(2, 1, 1));
    expect_gone(&server, 2, DeleteReason::Expired);
    server.port_ends();
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn peers_end_with_the_last_descriptor_of_their_socket() {
    let lab = KernelLab::new();
    let mut server = server(&lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    let udp_transport = server.transport;
    let (stream, spec) = TcpPeer::connect(3);
    let _udp_port = server.open(spec);
    let _key = server.add_stream(&stream, 3, |spec| spec);
    let given_back = server.offload.close_transport(udp_transport).unwrap();
    server.expect_both_ways(2, &wire, &mut key, 1);
    drop(given_back);
    expect_gone(&server, 2, DeleteReason::TransportDisconnect);
    drop(server.offload.close_transport(server.transport).unwrap());
    expect_gone(&server, 3, DeleteReason::TransportDisconnect);
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_deleted_device_is_one_event_however_many_peers_it_had() {
    for (mode, count) in [(DeviceMode::MultiPeer, 50), (DeviceMode::PointToPoint, 1)] {
        let lab = KernelLab::new();
        let offload = lab.open(device(mode));
        let (transport, mut udp_port, _) = offload.open_transport(udp()).unwrap();
        for number in 2..2 + count {
            offload.peer_new(peer(number, transport, ([127, 0, 0, 1], 9).into())).unwrap();
        }
        run("ip", &["link", "del", &offload.device().name]);
        assert_eq!(event(&*offload), OffloadEvent::DeviceGone);
        assert_eq!(wait(|cx| offload.poll_event(cx)), None, "nothing follows");
        let refused = offload.peer_new(peer(99, transport, ([127, 0, 0, 1], 9).into()));
        assert!(matches!(refused, Err(OffloadError::DeviceGone)), "{refused:?}");
        // The socket outlives the device.
        assert!(offload.close_transport(transport).unwrap().is_some());
        let mut batch = ControlBatch::default();
        wait(|cx| udp_port.poll_recv(cx, &mut batch)).unwrap();
        assert!(batch.packets.is_empty());
    }
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_stream_goes_with_the_device_that_its_peer_was_on() {
    let lab = KernelLab::new();
    let (mut server, wire) = tcp_server(&lab, 2);
    let _key = server.add_stream(&wire, 2, |spec| spec);
    run("ip", &["link", "del", &server.offload.device().name]);
    assert_eq!(event(&*server.offload), OffloadEvent::DeviceGone);
    server.port_ends();
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn calls_after_the_end_of_the_device_say_that_it_is_gone() {
    let lab = KernelLab::new();
    let server = server(&lab);
    let (_wire, _key) = server.add(2, |spec| spec);
    run("ip", &["link", "del", &server.offload.device().name]);
    let refused = server.offload.peer_new(peer(3, server.transport, server.address));
    assert!(matches!(refused, Err(OffloadError::DeviceGone)), "{refused:?}");
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_thousand_peers_that_end_at_once_are_told_once_each() {
    // The module takes its time for each: it waits for its readers.
    const COUNT: u32 = 1000;
    let lab = KernelLab::new();
    let server = server(&lab);
    for number in 0..COUNT {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 9, 0, 1)) + number);
        let spec = PeerSpec {
            id: id(number),
            vpn: VpnAddresses { v4: Some(address), v6: None },
            ..peer(2, server.transport, ([127, 0, 0, 1], 9).into())
        };
        server.offload.peer_new(spec).unwrap();
    }
    drop(server.offload.close_transport(server.transport).unwrap());
    let mut left = (0..COUNT).map(id).collect::<BTreeSet<_>>();
    while !left.is_empty() {
        match event(&*server.offload) {
            OffloadEvent::PeerGone(peer, DeleteReason::TransportDisconnect, _) => {
                assert!(left.remove(&peer), "{peer} once");
            }
            other => panic!("{other:?}"),
        }
    }
    let mut peers = Vec::new();
    server.offload.stats(None, &mut peers).unwrap();
    assert!(peers.is_empty());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(server.offload.poll_event(&mut cx), Poll::Pending));
}
