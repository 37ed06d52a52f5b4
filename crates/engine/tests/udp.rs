//! Two engines over loopback UDP.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use culvert_crypto::AuthDigest;
use culvert_engine::EngineConfig;
use culvert_offload::{
    DeleteReason, DeviceMode, Framing, Keepalive, MeasuredSizes, OffloadEvent, PeerSpec, Shape, SizeTest,
    SocksRelay, TransportSpec, UdpOptions,
};
use culvert_wire::{CipherName, PeerId, Slot, Transmit};
use support::{End, PATIENCE, Side, classic, device, epoch, key, loopback, numbered, old, pair, peer};

fn seven() -> PeerId {
    PeerId::new(7).unwrap()
}

/// Sends numbered packets and expects all of them, in order.
fn expect_all(from: &End, to: &End, numbers: std::ops::Range<u32>) {
    for number in numbers.clone() {
        from.host.send(&numbered(number));
    }
    for number in numbers {
        assert_eq!(to.packet(), numbered(number));
    }
}

#[test]
fn packets_travel_in_both_directions_and_in_order() {
    let (a, b) = pair(EngineConfig::default(), key, Shape::PLAIN);
    expect_all(&a, &b, 0..500);
    expect_all(&b, &a, 500..1000);
    let stats = b
        .wait_for_stats(seven(), "all counted", |s| s.tunnel.tx_packets == 500 && s.tunnel.rx_packets == 500);
    assert_eq!(stats.tunnel.rx_bytes, 500 * 24);
    assert_eq!(stats.link.rx_bytes, 500 * 48);
    assert_eq!(stats.key.tx_packets, 500);
}

#[test]
fn every_cipher_and_format_carries_packets() {
    for cipher in
        [CipherName::Aes128Gcm, CipherName::Aes192Gcm, CipherName::Aes256Gcm, CipherName::ChaCha20Poly1305]
    {
        let (a, b) = pair(EngineConfig::default(), |side| classic(cipher, 3, 9, side), Shape::PLAIN);
        expect_all(&a, &b, 0..20);
        let (a, b) = pair(EngineConfig::default(), |side| epoch(cipher, 3, 9, side), Shape::PLAIN);
        expect_all(&a, &b, 0..20);
        expect_all(&b, &a, 0..20);
    }
}

#[test]
fn legacy_shapes_carry_packets() {
    for data_v1 in [false, true] {
        for framing in [Framing::None, Framing::Lzo, Framing::Swap, Framing::V2] {
            let (a, b) = pair(EngineConfig::default(), key, Shape { data_v1, framing, ..Shape::PLAIN });
            expect_all(&a, &b, 0..20);
        }
    }
}

#[test]
fn ciphers_without_tag_carry_packets_of_either_header() {
    for cipher in culvert_engine::capabilities().ciphers.into_iter().filter(|cipher| !cipher.is_aead()) {
        for (digest, data_v1) in
            [(Some(AuthDigest::Sha1), false), (Some(AuthDigest::Sha512), true), (None, false)]
        {
            let shape = Shape { data_v1, framing: Framing::Lzo, ..Shape::PLAIN };
            let (a, b) = pair(EngineConfig::default(), |side| old(cipher, digest, 9, side), shape);
            expect_all(&a, &b, 0..20);
            expect_all(&b, &a, 0..20);
        }
    }
}

#[test]
fn packets_that_are_cut_fit_and_come_back() {
    for cipher in [CipherName::Aes256Gcm, CipherName::Aes128Cbc] {
        let shape = Shape { fragment: Some(100), framing: Framing::Lzo, ..Shape::PLAIN };
        let make =
            |side| if cipher.is_aead() { key(side) } else { old(cipher, Some(AuthDigest::Sha1), 9, side) };
        let (a, b) = pair(EngineConfig::default(), make, shape);
        expect_all(&a, &b, 0..5);
        let large = support::ipv4([10, 8, 0, 1], [10, 8, 0, 2], &[7; 1480]);
        for _ in 0..300 {
            a.host.send(&large);
            assert_eq!(b.packet(), large);
        }
        let link = b.wait_for_stats(seven(), "16 pieces of each", |s| s.link.rx_packets == 5 + 300 * 16);
        assert!(link.link.rx_bytes / link.link.rx_packets < 100 + 4 + 24 + 44);
        assert_eq!(link.tunnel.rx_packets, 305);
    }
}

#[test]
fn what_cannot_be_cut_is_counted_as_dropped_and_not_as_sent() {
    let shape = Shape { fragment: Some(100), ..Shape::PLAIN };
    let (a, b) = pair(EngineConfig::default(), key, shape);
    a.host.send(&support::ipv4([10, 8, 0, 1], [10, 8, 0, 2], &[7; 3300]));
    expect_all(&a, &b, 0..5);
    let stats = a.wait_for_stats(seven(), "five sent", |s| s.link.tx_packets == 5);
    assert_eq!((stats.tunnel.tx_packets, stats.drops.too_large), (5, 1));
}

#[test]
fn a_key_swap_under_traffic_loses_nothing() {
    let (a, b) = pair(EngineConfig::default(), key, Shape::PLAIN);
    for round in 1..=20_u8 {
        let first = u32::from(round) * 100;
        (first..first + 50).for_each(|number| a.host.send(&numbered(number)));
        let new = |side| classic(CipherName::Aes256Gcm, round % 7 + 1, round, side);
        b.offload.key_new(seven(), Slot::Secondary, new(Side::B)).unwrap();
        a.offload.key_new(seven(), Slot::Secondary, new(Side::A)).unwrap();
        a.offload.key_swap(seven()).unwrap();
        (first + 50..first + 100).for_each(|number| a.host.send(&numbered(number)));
        (first..first + 100).for_each(|number| assert_eq!(b.packet(), numbered(number)));
        b.offload.key_swap(seven()).unwrap();
    }
}

/// An engine and a socket that plays its peer: what the engine sends can be looked at, kept and sent again.
fn engine_and_socket(spec: impl FnOnce(PeerSpec) -> PeerSpec) -> (End, UdpSocket) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let end = End::udp(DeviceMode::PointToPoint);
    end.add_peer(spec(peer(7, end.transport, socket.local_addr().unwrap())), key(Side::A));
    (end, socket)
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buf = [0; 2048];
    let len = socket.recv(&mut buf).unwrap();
    buf[..len].to_vec()
}

/// Sealed packets of side A, as they stand on the wire.
fn sealed(count: u32) -> Vec<Vec<u8>> {
    let (a, socket) = engine_and_socket(|peer| peer);
    (0..count)
        .map(|number| {
            a.host.send(&numbered(number));
            receive(&socket)
        })
        .collect()
}

/// An engine on side B that takes packets from anywhere.
fn side_b(remote: SocketAddr) -> End {
    let b = End::udp(DeviceMode::PointToPoint);
    b.add_peer(peer(7, b.transport, remote), key(Side::B));
    b
}

#[test]
fn a_packet_is_delivered_once() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let b = side_b(socket.local_addr().unwrap());
    let packets = sealed(2);
    for packet in [&packets[0], &packets[0], &packets[1], &packets[0]] {
        socket.send_to(packet, b.address()).unwrap();
    }
    assert_eq!(b.packet(), numbered(0));
    assert_eq!(b.packet(), numbered(1));
    b.wait_for_stats(seven(), "two replays", |s| s.drops.replay == 2);
    assert!(b.host.try_recv().is_none());
}

#[test]
fn damaged_short_and_keyless_packets_are_counted_and_dropped() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let b = side_b(socket.local_addr().unwrap());
    let good = sealed(1).remove(0);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut other_key = good.clone();
    other_key[0] |= 5;
    for packet in [&damaged, &good[..20].to_vec(), &other_key, &Vec::new(), &vec![9 << 3], &vec![0xFF; 50]] {
        socket.send_to(packet, b.address()).unwrap();
    }
    b.wait_for_stats(seven(), "all counted", |s| {
        (s.drops.auth, s.drops.malformed, s.drops.no_key) == (1, 1, 1)
    });
    socket.send_to(&good, b.address()).unwrap();
    assert_eq!(b.packet(), numbered(0));
}

#[test]
fn data_before_keys_is_counted() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let b = End::udp(DeviceMode::PointToPoint);
    b.offload.peer_new(peer(7, b.transport, socket.local_addr().unwrap())).unwrap();
    socket.send_to(&sealed(1)[0], b.address()).unwrap();
    b.wait_for_stats(seven(), "counted", |s| s.drops.no_key == 1);
}

#[test]
fn an_authenticated_packet_from_elsewhere_moves_the_peer() {
    let (old, new) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let b = side_b(old.local_addr().unwrap());
    let packets = sealed(2);
    // A replay from elsewhere moves nothing.
    old.send_to(&packets[0], b.address()).unwrap();
    assert_eq!(b.packet(), numbered(0));
    new.send_to(&packets[0], b.address()).unwrap();
    b.wait_for_stats(seven(), "the replay", |s| s.drops.replay == 1);
    assert_eq!(b.stats(seven()).remote, old.local_addr().unwrap());

    new.send_to(&packets[1], b.address()).unwrap();
    assert_eq!(b.event(), OffloadEvent::Floated(seven(), new.local_addr().unwrap()));
    assert_eq!(b.stats(seven()).remote, new.local_addr().unwrap());
    new.set_read_timeout(Some(PATIENCE)).unwrap();
    b.host.send(&numbered(5));
    assert!(receive(&new).len() > 24);
}

#[test]
fn a_peer_that_must_not_float_is_heard_at_its_address_only() {
    let (old, new) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let b = End::udp(DeviceMode::PointToPoint);
    b.add_peer(PeerSpec { float: false, ..peer(7, b.transport, old.local_addr().unwrap()) }, key(Side::B));
    let packets = sealed(2);
    new.send_to(&packets[0], b.address()).unwrap();
    old.send_to(&packets[1], b.address()).unwrap();
    assert_eq!(b.packet(), numbered(1));
    assert!(b.host.try_recv().is_none());
}

#[test]
fn silence_is_broken_by_pings_and_ends_in_expiry() {
    let keepalive = |interval, timeout| {
        Some(Keepalive { interval: Duration::from_millis(interval), timeout: Duration::from_millis(timeout) })
    };
    let (_a, socket) = engine_and_socket(|peer| PeerSpec { keepalive: keepalive(20, 0), ..peer });
    let b = End::udp(DeviceMode::PointToPoint);
    let b_peer = peer(7, b.transport, socket.local_addr().unwrap());
    b.add_peer(PeerSpec { keepalive: keepalive(0, 300), ..b_peer }, key(Side::B));
    // Several pings, and nothing of them comes out of the tunnel.
    for _ in 0..3 {
        socket.send_to(&receive(&socket), b.address()).unwrap();
    }
    b.wait_for_stats(seven(), "pings arrive", |s| s.link.rx_packets == 3);
    assert_eq!(b.stats(seven()).tunnel.rx_packets, 0);
    let gone = b.event();
    assert!(
        matches!(gone, OffloadEvent::PeerGone(id, DeleteReason::Expired, Some(_)) if id == seven()),
        "{gone:?}"
    );
    assert!(b.offload.peer_del(seven()).is_err());
}

#[test]
fn an_exit_message_is_reported() {
    let (a, b) = pair(EngineConfig::default(), key, Shape::PLAIN);
    a.offload.notify_exit(seven()).unwrap();
    assert_eq!(b.event(), OffloadEvent::ExitNotified(seven()));
}

/// A peer with `mtu-test` asks with OCC messages, which here come out of a second engine's device.
#[test]
fn a_peer_that_tests_sizes_is_answered() {
    const MAGIC: [u8; 16] =
        [0x28, 0x7F, 0x34, 0x6B, 0xD4, 0xEF, 0x7A, 0x81, 0x2D, 0x56, 0xB8, 0xD3, 0xAF, 0xC5, 0x45, 0x9C];
    let (tester, subject) = pair(EngineConfig::default(), key, Shape::PLAIN);
    let say = |words: &[u8]| tester.host.send(&[&MAGIC, words].concat());
    let link = |packets| {
        let stats = tester.wait_for_stats(seven(), "the answer", |s| s.link.rx_packets >= packets);
        (stats.link.rx_packets, stats.link.rx_bytes)
    };
    say(&[2, 0x04, 0x00]); // a packet of 1024 bytes, please
    assert_eq!(link(1), (1, 1024));
    say(&[2, 0xFF, 0xFF]); // more than the tunnel carries, and other ends count in addition
    assert_eq!(link(2), (2, 1024 + 1500 + 24 + 32));
    say(&[3]); // a packet of the test: 41 bytes
    say(&[4]); // what were the largest?
    assert_eq!(link(3).0, 3);
    assert!(subject.host.try_recv().is_none(), "none of it reaches the device");
}

#[test]
fn sizes_are_measured_in_both_directions() {
    let (a, b) = pair(EngineConfig::default(), key, Shape::PLAIN);
    let test = SizeTest { mtu: 1500, measure: Some(Duration::from_millis(2)) };
    a.offload.test_sizes(seven(), test).unwrap();
    // With header, packet id and tag.
    let all = MeasuredSizes { sent: 1524, sent_arrived: 1524, returned: 1524, returned_arrived: 1524 };
    assert_eq!(a.event(), OffloadEvent::SizesMeasured(seven(), Some(all)));
    assert!(b.host.try_recv().is_none(), "none of it reaches the device");
    assert!(a.offload.test_sizes(PeerId::FIRST, test).is_err());
}

#[test]
fn control_packets_pass_by_the_data_plane() {
    let (mut a, mut b) = (End::udp(DeviceMode::MultiPeer), End::udp(DeviceMode::PointToPoint));
    let hello = [7 << 3, 1, 2, 3];
    let to = a.address();
    support::wait(|cx| b.sender.poll_send(cx, &Transmit { to, from: None, bytes: &hello })).unwrap();
    let packets = a.control();
    assert_eq!(packets.len(), 1);
    assert_eq!((packets[0].from, &packets[0].bytes[..]), (b.address(), &hello[..]));

    let reply = [8 << 3, 4, 5];
    let to = packets[0].from;
    support::wait(|cx| a.sender.poll_send(cx, &Transmit { to, from: None, bytes: &reply })).unwrap();
    assert_eq!(b.control()[0].bytes, reply);
}

#[test]
fn a_closed_transport_gives_its_socket_to_another_engine() {
    let mut a = End::udp(DeviceMode::PointToPoint);
    let address = a.address();
    let spec = a.offload.close_transport(a.transport).unwrap().unwrap();
    assert!(matches!(spec, TransportSpec::AdoptUdp { .. }));
    assert!(a.control().is_empty(), "the old port says that it is closed");

    let mut b = End::open(&device(DeviceMode::PointToPoint), EngineConfig::default(), spec);
    assert_eq!(b.address(), address);
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[7 << 3], address).unwrap();
    assert_eq!(b.control()[0].bytes, [7 << 3]);
}

#[test]
fn a_dual_stack_socket_reports_plain_ipv4_addresses() {
    let spec = TransportSpec::BindUdp {
        local: "[::]:0".parse().unwrap(),
        remote: None,
        options: culvert_offload::UdpOptions { multihome: true, ..Default::default() },
    };
    let mut a = End::open(&device(DeviceMode::MultiPeer), EngineConfig::default(), spec);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&[7 << 3], SocketAddr::from(([127, 0, 0, 1], a.address().port()))).unwrap();
    let packet = a.control().remove(0);
    assert_eq!(packet.from, socket.local_addr().unwrap());
    assert_eq!(packet.to.map(|local| local.ip), Some([127, 0, 0, 1].into()));
}

#[test]
fn large_packets_survive_a_path_that_does_not_take_trains_of_them() {
    // On loopback nothing is refused; what is checked is that odd sizes in any order come through.
    let (a, b) = pair(EngineConfig::default(), key, Shape::PLAIN);
    let packet = |len: usize| support::ipv4([10, 8, 0, 1], [10, 8, 0, 2], &vec![0xAB; len]);
    for len in [1, 1400, 1400, 9000, 30_000, 64_000, 1400, 2, 1400] {
        a.host.send(&packet(len));
        assert_eq!(b.packet(), packet(len));
    }
}

#[test]
fn dropping_the_engine_ends_its_workers_and_closes_its_ports() {
    let mut a = End::udp(DeviceMode::PointToPoint);
    let address = a.address();
    let transport = a.offload.close_transport(a.transport).unwrap();
    drop(transport);
    assert!(a.control().is_empty());
    drop((a.offload, a.sender, a.receiver));
    UdpSocket::bind(address).expect("the port is free again");
    let _ = loopback();
}

#[test]
fn packet_ids_leave_in_order_and_once_however_many_threads_send() {
    // SEC-DATA-2: the transmit worker, the keepalive timer and callers all send to the same peer.
    let keepalive = Some(Keepalive { interval: Duration::from_millis(1), timeout: Duration::ZERO });
    let (a, socket) = engine_and_socket(|peer| PeerSpec { keepalive, ..peer });
    let enough = AtomicBool::new(false);
    let until_enough = |mut send: Box<dyn FnMut() + '_>| {
        while !enough.load(Ordering::Relaxed) {
            send();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| until_enough(Box::new(|| a.offload.notify_exit(seven()).unwrap())));
        }
        scope.spawn(|| until_enough(Box::new(|| a.host.send(&numbered(1)))));
        // A full socket may lose some; none may come twice or late.
        let (mut last, mut data, mut other) = (0, 0, 0);
        while data < 500 || other < 500 {
            let packet = receive(&socket);
            let id = u32::from_be_bytes(packet[4..8].try_into().unwrap());
            assert!(id > last, "{id} after {last}");
            last = id;
            if packet.len() == 24 + 24 { data += 1 } else { other += 1 }
        }
        enough.store(true, Ordering::Relaxed);
    });
}

#[test]
fn no_datagram_stops_the_engine() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let b = side_b(socket.local_addr().unwrap());
    let good = sealed(1).remove(0);
    // A simple generator: the same datagrams in every run.
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    for _ in 0..3000 {
        let mut datagram = good.clone();
        datagram.truncate(usize::try_from(random()).unwrap() % (good.len() + 1));
        for _ in 0..random() % 4 {
            let at = usize::try_from(random()).unwrap();
            if let Some(len) = std::num::NonZero::new(datagram.len()) {
                datagram[at % len] = u8::try_from(random() & 0xFF).unwrap();
            }
        }
        if datagram != good {
            socket.send_to(&datagram, b.address()).unwrap();
        }
    }
    socket.send_to(&good, b.address()).unwrap();
    assert_eq!(b.packet(), numbered(0));
}

#[test]
fn a_socks_relay_is_spoken_to_in_headers_and_strangers_are_not_heard() {
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
    relay.set_read_timeout(Some(PATIENCE)).unwrap();
    let server = SocketAddr::from(([192, 0, 2, 7], 1194));
    let at = relay.local_addr().unwrap();
    let options = UdpOptions { socks_relay: Some(SocksRelay { at, server }), ..UdpOptions::default() };
    let local = "127.0.0.1:0".parse().unwrap();
    let mut a = End::open(
        &device(DeviceMode::PointToPoint),
        EngineConfig::default(),
        TransportSpec::BindUdp { local, remote: None, options },
    );
    support::wait(|cx| a.sender.poll_send(cx, &Transmit { to: server, from: None, bytes: &[7 << 3, 1] }))
        .unwrap();
    let mut header = Vec::new();
    culvert_wire::socks::push_header(server, &mut header);
    let mut buffer = [0; 64];
    let (len, from) = relay.recv_from(&mut buffer).unwrap();
    assert_eq!(buffer[..len], [&header[..], &[7 << 3, 1]].concat());
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(&[&header[..], &[7 << 3, 2]].concat(), from).unwrap();
    relay.send_to(&[&header[..4], &[7 << 3, 3]].concat(), from).unwrap(); // cut off
    relay.send_to(&[&header[..], &[7 << 3, 4]].concat(), from).unwrap();
    let mut heard = |number: u8| {
        let packet = a.control().remove(0);
        assert_eq!((packet.from, &packet.bytes[..]), (server, &[7 << 3, number][..]));
    };
    heard(4);
    // Other ways to write where it came from: as IPv6's, and as a name.
    let mut mapped = Vec::new();
    let as_v6 = std::net::Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped();
    culvert_wire::socks::push_header((as_v6, 1194).into(), &mut mapped);
    relay.send_to(&[&mapped[..], &[7 << 3, 5]].concat(), from).unwrap();
    heard(5);
    relay.send_to(&[&[0, 0, 0, 3, 1, b'a', 4, 170][..], &[7 << 3, 6]].concat(), from).unwrap();
    heard(6);
}
