//! Segmentation and joining against each other and against a plain oracle.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::{
    Coalescer, SuperPacket, TCP, UDP,
    coalesce::Joins,
    ip::{self, Transport, Version},
    vnet::{Gso, VnetHeader},
};

/// Finishes lengths and checksums of a packet whose other fields are set.
pub(super) fn finish(packet: &mut [u8]) {
    let version = ip::version(packet).unwrap();
    ip::set_len(packet, version, packet.len());
    let transport = Transport::find(packet).unwrap();
    if transport.protocol == UDP {
        let len = u16::try_from(packet.len() - transport.start).unwrap();
        packet[transport.start + 4..][..2].copy_from_slice(&len.to_be_bytes());
    }
    let at = transport.start + transport.checksum_offset();
    packet[at..at + 2].fill(0);
    let mut sum = transport
        .pseudo_header(packet, packet.len() - transport.start)
        .add(&packet[transport.start..])
        .checksum();
    if transport.protocol == UDP && sum == [0, 0] {
        sum = [0xFF, 0xFF];
    }
    packet[at..at + 2].copy_from_slice(&sum);
}

fn v4(protocol: u8) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
    ip.extend_from_slice(&Ipv4Addr::new(10, 8, 0, 6).octets());
    ip.extend_from_slice(&Ipv4Addr::new(10, 8, 0, 1).octets());
    ip
}

fn v6(protocol: u8) -> Vec<u8> {
    let mut ip = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
    ip.extend_from_slice(&"fd00::6".parse::<Ipv6Addr>().unwrap().octets());
    ip.extend_from_slice(&"fd00::1".parse::<Ipv6Addr>().unwrap().octets());
    ip
}

fn with_tcp(mut packet: Vec<u8>, seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    packet.extend_from_slice(&[0x13, 0x88, 0x14, 0x51]);
    packet.extend_from_slice(&seq.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 9, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    packet.extend_from_slice(payload);
    finish(&mut packet);
    packet
}

fn with_udp(mut packet: Vec<u8>, payload: &[u8]) -> Vec<u8> {
    packet.extend_from_slice(&[0x13, 0x88, 0x14, 0x51, 0, 0, 0, 0]);
    packet.extend_from_slice(payload);
    finish(&mut packet);
    packet
}

pub(super) fn tcp4(seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    with_tcp(v4(TCP), seq, flags, payload)
}

pub(super) fn tcp6(seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    with_tcp(v6(TCP), seq, flags, payload)
}

const BOTH: Joins = Joins { tcp: true, udp: true };

/// Feeds packets through a coalescer; returns the frames for the device.
fn join(joins: Joins, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut coalescer = Coalescer::new(joins);
    let mut frames = Vec::new();
    for packet in packets {
        coalescer.slot(packet.len() + 16)[..packet.len()].copy_from_slice(packet);
        coalescer.commit(packet.len(), |frame| frames.push(frame.to_vec()));
    }
    coalescer.flush(|frame| frames.push(frame.to_vec()));
    frames
}

/// Cuts a frame as the kernel would.
fn cut(frame: &[u8]) -> Vec<Vec<u8>> {
    let packet = SuperPacket::parse(frame).expect("a frame that the kernel would take");
    (0..packet.count())
        .map(|i| {
            let mut out = vec![0; packet.len(i)];
            packet.write(i, &mut out);
            out
        })
        .collect()
}

fn header(frame: &[u8]) -> VnetHeader {
    VnetHeader::parse(*frame.first_chunk().unwrap()).unwrap()
}

#[test]
fn segments_of_one_stream_become_one_super_packet() {
    for make in [tcp4, tcp6] {
        let packets: Vec<_> = (0..5_u8).map(|i| make(u32::from(i) * 100, 0x10, &[i; 100])).collect();
        let frames = join(BOTH, &packets);
        assert_eq!(frames.len(), 1);
        assert_eq!(header(&frames[0]).gso_size, 100);
    }
}

#[test]
fn a_short_or_pushed_segment_ends_the_run_at_once() {
    let mut coalescer = Coalescer::new(BOTH);
    let mut written = 0;
    for packet in [tcp4(0, 0x10, &[1; 100]), tcp4(100, 0x18, &[2; 100])] {
        coalescer.slot(packet.len())[..packet.len()].copy_from_slice(&packet);
        coalescer.commit(packet.len(), |_| written += 1);
    }
    assert_eq!(written, 1);
}

#[test]
fn a_packet_with_a_wrong_checksum_is_passed_on_as_it_came() {
    let mut bad = tcp4(100, 0x10, &[2; 100]);
    bad[60] ^= 1;
    let packets = vec![tcp4(0, 0x10, &[1; 100]), bad.clone(), tcp4(200, 0x10, &[3; 100])];
    let frames = join(BOTH, &packets);
    assert_eq!(frames.iter().flat_map(|f| cut(f)).collect::<Vec<_>>(), packets);
}

#[test]
fn an_abandoned_slot_leaves_the_run_as_it_was() {
    let packets = [tcp4(0, 0x10, &[1; 100]), tcp4(100, 0x10, &[2; 100])];
    let mut coalescer = Coalescer::new(BOTH);
    let mut frames = Vec::new();
    for packet in &packets {
        coalescer.slot(packet.len())[..packet.len()].copy_from_slice(packet);
        coalescer.commit(packet.len(), |_| panic!("nothing is complete"));
        coalescer.slot(500).fill(0xEE);
        coalescer.abandon();
    }
    coalescer.flush(|frame| frames.push(frame.to_vec()));
    let whole = |packets: Vec<Vec<u8>>| packets.into_iter().map(comparable).collect::<Vec<_>>();
    assert_eq!(whole(cut(&frames[0])), whole(packets.to_vec()));
}

#[test]
fn nothing_is_joined_for_a_device_that_takes_single_packets() {
    let packets: Vec<_> = (0..3_u32).map(|i| tcp4(i * 100, 0x10, &[0; 100])).collect();
    let frames = join(Joins { tcp: false, udp: false }, &packets);
    assert_eq!(frames.len(), 3);
    assert!(frames.iter().all(|f| header(f) == VnetHeader::PLAIN));
}

#[test]
fn only_the_last_segment_keeps_fin_and_push() {
    let packet = tcp4(1000, 0x19, &[7; 250]);
    let header = VnetHeader { gso: Gso::TcpV4, hdr_len: 40, gso_size: 100, partial_checksum: Some((20, 16)) };
    let frame = [&header.emit()[..], &packet].concat();
    let flags: Vec<u8> = cut(&frame).iter().map(|p| p[33]).collect();
    assert_eq!(flags, [0x10, 0x10, 0x19]);
    let ids: Vec<u8> = cut(&frame).iter().map(|p| p[5]).collect();
    assert_eq!(ids, [0x34, 0x35, 0x36]);
}

#[test]
fn a_partial_checksum_of_a_single_packet_is_finished() {
    let whole = with_udp(v4(UDP), b"hello");
    let mut partial = whole.clone();
    let transport = Transport::find(&partial).unwrap();
    let pseudo = transport.pseudo_header(&partial, 13).partial();
    partial[26..28].copy_from_slice(&pseudo);
    let header = VnetHeader { gso: Gso::None, hdr_len: 0, gso_size: 0, partial_checksum: Some((20, 6)) };
    assert_eq!(cut(&[&header.emit()[..], &partial].concat()), [whole]);
}

#[test]
fn frames_that_contradict_themselves_are_refused() {
    let packet = tcp4(0, 0x10, &[0; 100]);
    let parse = |header: VnetHeader, packet: &[u8]| {
        SuperPacket::parse(&[&header.emit()[..], packet].concat()).is_some()
    };
    let good = VnetHeader { gso: Gso::TcpV4, hdr_len: 40, gso_size: 50, partial_checksum: Some((20, 16)) };
    assert!(parse(good, &packet));
    assert!(!parse(VnetHeader { gso_size: 0, ..good }, &packet));
    assert!(!parse(VnetHeader { gso: Gso::TcpV6, ..good }, &packet));
    assert!(!parse(VnetHeader { partial_checksum: None, ..good }, &packet));
    assert!(!parse(VnetHeader { partial_checksum: Some((200, 16)), ..good }, &packet));
    assert!(!parse(good, &packet[..40]));
    assert!(!parse(VnetHeader { partial_checksum: Some((65_535, 65_535)), ..VnetHeader::PLAIN }, &packet));
    assert!(!parse(VnetHeader::PLAIN, b""));
}

/// A packet of a small world in which runs, gaps, interleaving and corruption are all likely.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let sizes = prop_oneof![Just(0_usize), Just(50), Just(100), Just(101)];
    (0_u32..6, sizes, prop_oneof![6 => Just(0x10_u8), 1 => Just(0x18), 1 => Just(0x11)], 0_u8..3, 0_u8..20)
        .prop_map(|(n, size, flags, kind, oddity)| {
            let payload = vec![u8::try_from(n).unwrap(); size];
            let mut packet = match kind {
                0 => tcp4(n * 100, flags, &payload),
                1 => tcp6(n * 100, flags, &payload),
                _ => with_udp(v4(UDP), &payload),
            };
            match oddity {
                0 => *packet.last_mut().unwrap() ^= 0x55,
                1 => packet[1] = 0x02,
                2 => packet.truncate(30),
                3 => packet.push(0),
                _ => {}
            }
            packet
        })
}

/// What may change on the way: IPv4 ids where don't-fragment makes them meaningless.
fn comparable(mut packet: Vec<u8>) -> Vec<u8> {
    if ip::version(&packet) == Some(Version::V4) {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

proptest! {
    #[test]
    fn the_kernel_gets_back_exactly_the_packets_that_came_in(packets in prop::collection::vec(packet(), 0..40)) {
        let frames = join(BOTH, &packets);
        let out: Vec<_> = frames.iter().flat_map(|frame| cut(frame)).map(comparable).collect();
        let expected: Vec<_> = packets.into_iter().map(comparable).collect();
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn segments_carry_the_payload_and_right_checksums(len in 1_usize..20_000, size in 1_u16..3000, v6 in any::<bool>()) {
        let payload: Vec<u8> = (0..len).map(|i| u8::try_from(i % 253).unwrap()).collect();
        let packet = if v6 { tcp6(5, 0x18, &payload) } else { tcp4(5, 0x18, &payload) };
        let (gso, start) = if v6 { (Gso::TcpV6, 40) } else { (Gso::TcpV4, 20) };
        let header = VnetHeader { gso, hdr_len: 0, gso_size: size, partial_checksum: Some((start, 16)) };
        let segments = cut(&[&header.emit()[..], &packet].concat());
        let mut joined = Vec::new();
        for segment in &segments {
            let transport = Transport::find(segment).unwrap();
            prop_assert!(transport.is_valid(segment));
            prop_assert!(ip::has_len(segment, transport.version));
            joined.extend_from_slice(&segment[usize::from(start) + 20..]);
        }
        prop_assert_eq!(joined, payload);
        prop_assert_eq!(segments.len(), len.div_ceil(size.into()));
    }

    #[test]
    fn no_frame_makes_segmentation_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(packet) = SuperPacket::parse(&frame) {
            for i in 0..packet.count() {
                packet.write(i, &mut vec![0; packet.len(i)]);
            }
        }
    }

    #[test]
    fn no_packet_makes_joining_panic(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..8)) {
        join(BOTH, &packets);
    }
}
