//! Two engines over a TCP stream.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use culvert_engine::EngineConfig;
use culvert_offload::{ControlBatch, DeleteReason, DeviceMode, OffloadEvent, PeerSpec, TransportSpec};
use culvert_wire::{PeerId, Transmit};
use support::{End, Side, device, ipv4, key, numbered, peer, tcp_on, vpn, wait};

fn seven() -> PeerId {
    PeerId::new(7).unwrap()
}

fn stream_pair() -> (TcpStream, TcpStream) {
    support::stream_pair([127, 0, 0, 1].into())
}

fn end(stream: TcpStream, mode: DeviceMode) -> End {
    End::open(&device(mode), EngineConfig::default(), tcp_on(stream))
}

/// Two engines that are each other's peer over a stream.
fn pair() -> (End, End) {
    let (a, b) = stream_pair();
    let (a_remote, b_remote) = (a.peer_addr().unwrap(), b.peer_addr().unwrap());
    let (a, b) = (end(a, DeviceMode::PointToPoint), end(b, DeviceMode::PointToPoint));
    a.add_peer(peer(7, a.transport, a_remote), key(Side::A));
    b.add_peer(peer(7, b.transport, b_remote), key(Side::B));
    (a, b)
}

fn frame(packet: &[u8]) -> Vec<u8> {
    [&u16::try_from(packet.len()).unwrap().to_be_bytes()[..], packet].concat()
}

fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut packet = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut packet).unwrap();
    packet
}

#[test]
fn packets_travel_in_both_directions_and_in_order() {
    let (a, b) = pair();
    (0..1000).for_each(|number| a.host.send(&numbered(number)));
    (0..1000).for_each(|number| b.host.send(&numbered(number)));
    (0..1000).for_each(|number| assert_eq!(b.packet(), numbered(number)));
    (0..1000).for_each(|number| assert_eq!(a.packet(), numbered(number)));
    let stats = b.wait_for_stats(seven(), "all are counted", |s| s.link.tx_packets == 1000);
    assert_eq!(stats.tunnel.tx_packets, 1000);
    assert_eq!(stats.link.tx_bytes, 1000 * 48, "the length prefixes are the stream's");
}

#[test]
fn a_stream_slower_than_the_tunnel_holds_the_tunnel_back() {
    let (stream, mut reader) = stream_pair();
    let remote = stream.peer_addr().unwrap();
    let a = end(stream, DeviceMode::PointToPoint);
    a.add_peer(peer(7, a.transport, remote), key(Side::A));
    // Far more than the socket buffers take, written before anything is read.
    let packet = ipv4([10, 8, 0, 1], [10, 8, 0, 2], &[7; 8000]);
    (0..4000).for_each(|_| a.host.send(&packet));
    for _ in 0..4000 {
        assert_eq!(read_frame(&mut reader).len(), packet.len() + 24);
    }
}

#[test]
fn control_and_data_frames_never_interleave() {
    let (stream, mut reader) = stream_pair();
    let remote = stream.peer_addr().unwrap();
    let a = end(stream, DeviceMode::PointToPoint);
    a.add_peer(peer(7, a.transport, remote), key(Side::A));
    let control = [4 << 3; 900];
    let data = ipv4([10, 8, 0, 1], [10, 8, 0, 2], &[7; 1300]);
    let sender = std::thread::spawn({
        let control_sender = a.sender.clone();
        move || {
            for _ in 0..500 {
                wait(|cx| {
                    control_sender.poll_send(cx, &Transmit { to: remote, from: None, bytes: &control })
                })
                .unwrap();
            }
        }
    });
    (0..2000).for_each(|_| a.host.send(&data));
    let (mut controls, mut datas) = (0, 0);
    while controls + datas < 2500 {
        let packet = read_frame(&mut reader);
        if packet == control {
            controls += 1;
        } else {
            assert_eq!((packet[0] >> 3, packet.len()), (9, data.len() + 24));
            datas += 1;
        }
    }
    sender.join().unwrap();
    assert_eq!((controls, datas), (500, 2000));
}

#[test]
fn a_frame_that_arrives_in_pieces_is_one_packet() {
    let (stream, mut writer) = stream_pair();
    let mut a = end(stream, DeviceMode::MultiPeer);
    writer.set_nodelay(true).unwrap();
    let packet = [7 << 3; 300];
    for byte in frame(&packet) {
        writer.write_all(&[byte]).unwrap();
    }
    assert_eq!(a.control()[0].bytes, packet);
}

#[test]
fn before_there_is_a_peer_a_closed_transport_gives_back_every_byte_that_was_not_handed_up() {
    let (stream, mut writer) = stream_pair();
    let mut a = end(stream, DeviceMode::MultiPeer);
    let first = [7 << 3; 30];
    let second = [4 << 3; 40];
    let half = &frame(&second)[..20];
    writer.write_all(&[&frame(&first)[..], half].concat()).unwrap();
    assert_eq!(a.control()[0].bytes, first);
    let Some(TransportSpec::AdoptTcp { stream, .. }) = a.offload.close_transport(a.transport).unwrap() else {
        panic!("a stream comes back");
    };
    writer.write_all(&frame(&second)[20..]).unwrap();
    let mut stream = TcpStream::from(stream);
    stream.set_nonblocking(false).unwrap();
    assert_eq!(read_frame(&mut stream), second);
}

#[test]
fn an_impossible_frame_length_ends_the_stream() {
    for length in [[0, 0], [0x80, 0]] {
        let (stream, mut writer) = stream_pair();
        let mut a = end(stream, DeviceMode::MultiPeer);
        writer.write_all(&length).unwrap();
        assert!(a.control().is_empty(), "the port is closed");
        assert_eq!(writer.read(&mut [0; 1]).unwrap(), 0, "and so is the stream");
    }
}

#[test]
fn the_end_of_the_stream_is_the_end_of_its_peer() {
    let (a, b) = pair();
    drop(a.offload.close_transport(a.transport).unwrap());
    drop(a);
    let gone = b.event();
    assert!(
        matches!(gone, OffloadEvent::PeerGone(id, DeleteReason::TransportDisconnect, _) if id == seven()),
        "{gone:?}"
    );
    assert!(b.offload.peer_del(seven()).is_err());
}

#[test]
fn a_port_whose_stream_was_closed_by_the_peer_says_so_after_its_last_packet() {
    let (stream, mut writer) = stream_pair();
    let mut a = end(stream, DeviceMode::MultiPeer);
    writer.write_all(&frame(&[7 << 3, 1])).unwrap();
    drop(writer);
    let mut batch = ControlBatch::default();
    while {
        wait(|cx| a.receiver.poll_recv(cx, &mut batch)).unwrap();
        batch.packets.is_empty()
    } {}
    assert_eq!(batch.packets.len(), 1);
    assert!(a.control().is_empty());
}

#[test]
fn a_peer_on_a_stream_that_has_ended_already_is_gone_at_once() {
    let (stream, writer) = stream_pair();
    let mut a = end(stream, DeviceMode::MultiPeer);
    let remote = writer.local_addr().unwrap();
    drop(writer);
    assert!(a.control().is_empty());
    a.offload.peer_new(peer(7, a.transport, remote)).unwrap();
    let gone = a.event();
    assert!(
        matches!(gone, OffloadEvent::PeerGone(id, DeleteReason::TransportDisconnect, _) if id == seven()),
        "{gone:?}"
    );
}

#[test]
fn one_peers_slow_stream_does_not_hold_up_the_others() {
    let (slow, _unread) = stream_pair();
    let slow_remote = slow.peer_addr().unwrap();
    let server = end(slow, DeviceMode::MultiPeer);
    let (fast, mut reader) = stream_pair();
    let fast_remote = fast.peer_addr().unwrap();
    let spec = TransportSpec::AdoptTcp { stream: OwnedFd::from(fast), remote: fast_remote };
    let (fast_transport, ..) = server.offload.open_transport(spec).unwrap();
    let at =
        |id, transport, remote, last| PeerSpec { vpn: vpn([10, 8, 0, last]), ..peer(id, transport, remote) };
    server.add_peer(at(1, server.transport, slow_remote, 2), key(Side::A));
    server.add_peer(at(2, fast_transport, fast_remote, 3), key(Side::A));
    // More than socket buffers and queue take together.
    for _ in 0..3000 {
        server.host.send(&ipv4([10, 8, 0, 1], [10, 8, 0, 2], &[7; 8000]));
    }
    server.host.send(&ipv4([10, 8, 0, 1], [10, 8, 0, 3], b"through"));
    assert_eq!(read_frame(&mut reader).len(), 24 + 20 + 7);
}

/// A waker that remembers.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn whoever_waits_to_send_control_hears_that_the_transport_was_closed() {
    let (slow, _unread) = stream_pair();
    let remote = slow.peer_addr().unwrap();
    let a = end(slow, DeviceMode::MultiPeer);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let packet = Transmit { to: remote, from: None, bytes: &[4 << 3; 2000] };
    // Until socket buffers and queue are full.
    while a.sender.poll_send(&mut cx, &packet).is_ready() {}
    a.offload.close_transport(a.transport).unwrap();
    assert!(woken.0.load(Ordering::SeqCst));
    assert!(matches!(a.sender.poll_send(&mut cx, &packet), Poll::Ready(Err(_))));
}
