use std::net::Ipv4Addr;

use culvert_crypto::{AuthDigest, LegacyHalf, LegacyOpener, LegacySealer, Stamp};
use culvert_engine::fuzzing;
use culvert_testkit::inner::{Choices, Mix, VnetHeader, compare, cut, deliver, super_frame};
use culvert_wire::CipherName;

/// Decisions, or bytes of packets, that one input is worth: more of them tell nothing new, and take long.
const ENOUGH: usize = 400;

/// Received packets are joined so that the kernel makes the same packets of them again. The bytes are taken twice: as
/// decisions about packets of a few flows, and as packets, each with a byte of length in front.
pub(crate) fn joined_packets(bytes: &[u8]) {
    let bytes = bytes.get(..ENOUGH).unwrap_or(bytes);
    let mut rest = bytes;
    let raw = std::iter::from_fn(|| {
        let (len, behind) = rest.split_first()?;
        let (packet, behind) = behind.split_at(behind.len().min(usize::from(*len)));
        rest = behind;
        Some(packet.to_vec())
    });
    for packets in
        [raw.filter(|packet| !packet.is_empty()).collect(), Mix::hostile(bytes, 1500).collect::<Vec<_>>()]
    {
        for (tcp, udp) in [(false, false), (true, false), (true, true)] {
            let mut delivered = Vec::new();
            fuzzing::join(tcp, udp, &packets, |frame| match deliver(frame) {
                Ok(packets) => delivered.extend(packets),
                Err(error) => panic!("the kernel would not take this frame: {error}"),
            });
            assert_eq!(compare(&packets, &delivered), Ok(()));
        }
    }
}

pub(crate) fn packets_to_join() -> Vec<Vec<u8>> {
    let with_len = |packet: Vec<u8>| [&[u8::try_from(packet.len()).unwrap_or(0)][..], &packet].concat();
    let raw = Mix::forwardable(&[0, 0, 140, 3, 0, 0, 140, 1, 0, 140, 2, 0], 255).flat_map(with_len).collect();
    vec![raw, vec![0; 20], vec![0, 0, 200, 1, 0, 226, 5, 0, 0, 170, 1, 7, 7, 0]]
}

/// A frame of the device is cut as the kernel would, if the kernel would. The bytes are taken twice: as a frame, and
/// as decisions about one.
pub(crate) fn super_packet(bytes: &[u8]) {
    let frames = [bytes.to_vec(), super_frame(&mut Choices::new(bytes), 1500)];
    for frame in frames {
        let packets = fuzzing::cut(&frame);
        if let Ok(expected) = cut(&frame) {
            assert_eq!(packets, Some(expected));
        }
    }
}

pub(crate) fn super_packets() -> Vec<Vec<u8>> {
    let frames =
        (0..12).map(|flow| super_frame(&mut Choices::new(&[flow, 1, 3, 2, 0, 0, 0, 1, 2, 0, 200]), 1500));
    let short = VnetHeader::default().with(&[0x45; 20]);
    frames.chain([short]).collect()
}

/// Ethernet frames of a device and of a peer, under every rule about VLANs; the VLAN stands in front.
pub(crate) fn ethernet_frame(bytes: &[u8]) {
    if let Some((vlan, frame)) = bytes.split_first_chunk() {
        fuzzing::vlan_frame(frame, u16::from_be_bytes(*vlan) & 0x0FFF);
    }
}

pub(crate) fn ethernet_frames() -> Vec<Vec<u8>> {
    let packet = Mix::forwardable(&[0, 0, 140, 3], 100).next().unwrap_or_default();
    let addresses = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let with = |header: &[u8]| [&[0, 7][..], &addresses, header, &packet].concat();
    vec![with(&[8, 0]), with(&[0x81, 0, 0x60, 0, 8, 0]), with(&[0x81, 0, 0, 7, 8, 0]), with(&[0x81, 0])]
}

/// Payloads of the old wire: a byte of decisions, then payloads, each with a byte of length in front. Whatever comes out is
/// a packet in size, and would come out again if it were sent.
pub(crate) fn old_wire(bytes: &[u8]) {
    let Some((decisions, mut rest)) = bytes.split_first() else { return };
    let (kind, decompress, pieces) = (decisions & 3, decisions & 4 != 0, decisions & 8 != 0);
    let mut now = 0;
    let payloads: Vec<_> = std::iter::from_fn(|| {
        let (len, behind) = rest.split_first()?;
        let (payload, behind) = behind.split_at(behind.len().min(usize::from(*len)));
        rest = behind;
        now += u64::from(*len) * 20;
        Some((payload.to_vec(), now))
    })
    .collect();
    for payload in fuzzing::unframe(kind, decompress, pieces, &payloads) {
        assert!((1..=65_535).contains(&payload.len()));
        let sent: Vec<_> =
            fuzzing::frame(kind, pieces, &payload).into_iter().map(|piece| (piece, 0)).collect();
        if !sent.is_empty() {
            assert_eq!(fuzzing::unframe(kind, false, pieces, &sent), [payload]);
        }
    }
}

pub(crate) fn old_wire_payloads() -> Vec<Vec<u8>> {
    let lzo = b"\x66\x02\x45\x45\x45\x45\x45\x20\x02\0\0\x03end\x11\0\0";
    let lz4 = b"\x50\x01\x1F\x45\x01\0\x14\x50EEend";
    let with = |decisions: u8, payloads: &[&[u8]]| {
        let mut bytes = vec![decisions];
        for payload in payloads {
            bytes.push(u8::try_from(payload.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(payload);
        }
        bytes
    };
    let pieces = fuzzing::frame(0, true, &[0x45; 150]);
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    vec![
        with(1, &[b"\xFA\x45abc"]),
        with(5, &[lzo]),
        with(6, &[b"\xFBabc\x45", b"\x69abc\x45"]),
        with(7, &[lz4, b"\x50\0\x50"]),
        with(8, &pieces),
        with(8, &[b"\0\0\0\0\x45abc"]),
    ]
}

/// Data packets of ciphers without tag: those made with the key come back, and nothing else does.
pub(crate) fn old_packet(bytes: &[u8]) {
    let (kind, packet) = bytes.split_first().unwrap_or((&0, &[]));
    for digest in [None, Some(AuthDigest::Sha1)] {
        let (sealer, opener) = old_ends(*kind, digest);
        let mut out = vec![0; packet.len()];
        if let Ok(opened) = opener.open(packet, &mut out) {
            assert!(opened.start + opened.len <= packet.len());
        }
        let mut sealed = vec![0; sealer.prefix() + packet.len() + sealer.padding()];
        sealed[sealer.prefix()..][..packet.len()].copy_from_slice(packet);
        let Ok(len) = sealer.seal(Stamp { time: 1, id: 1 }, &mut sealed, packet.len()) else { continue };
        let mut out = vec![0; len];
        if let Ok(opened) = opener.open(&sealed[..len], &mut out) {
            assert_eq!(&out[opened.start..][..opened.len], packet);
        } else {
            assert!(packet.is_empty(), "CFB and OFB have no packets without payload");
        }
    }
}

fn old_ends(kind: u8, digest: Option<AuthDigest>) -> (LegacySealer, LegacyOpener) {
    let ciphers = [CipherName::Aes128Cbc, CipherName::DesEde3Cbc, CipherName::Aes256Cfb, CipherName::None];
    let cipher = ciphers[usize::from(kind) % ciphers.len()];
    let half = || LegacyHalf { cipher: [7; 64], hmac: [8; 64] };
    let (sealer, opener) =
        (LegacySealer::new(cipher, digest, &half()), LegacyOpener::new(cipher, digest, &half()));
    match (sealer, opener) {
        (Ok(sealer), Ok(opener)) => (sealer, opener),
        (Err(error), _) | (_, Err(error)) => panic!("{cipher}: {error}"),
    }
}

pub(crate) fn old_packets() -> Vec<Vec<u8>> {
    let digests = [None, Some(AuthDigest::Sha1)].into_iter();
    digests
        .flat_map(|digest| (0..4).map(move |kind| (kind, digest)))
        .filter_map(|(kind, digest)| {
            let (sealer, _) = old_ends(kind, digest);
            let mut packet = vec![0; sealer.prefix() + 40 + sealer.padding()];
            let len = sealer.seal(Stamp { time: 1, id: 1 }, &mut packet, 40).ok()?;
            packet.truncate(len);
            packet.insert(0, kind);
            Some(packet)
        })
        .collect()
}

/// Three addresses (network, mask, alias), then a packet. Only an address and checksums of it may change.
pub(crate) fn rewritten_packet(bytes: &[u8]) {
    let Some((rule, packet)) = bytes.split_first_chunk::<12>() else { return };
    let address = |at: usize| {
        rule.get(at..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map_or(Ipv4Addr::UNSPECIFIED, |ip| (*ip).into())
    };
    for leaves in [true, false] {
        let mut rewritten = packet.to_vec();
        fuzzing::rewrite([address(0), address(4), address(8)], &mut rewritten, leaves);
        assert_eq!(rewritten.len(), packet.len());
        let header = packet.first().map_or(0, |first| usize::from(first & 0x0F) * 4);
        let changed = packet.iter().zip(&rewritten).enumerate().filter(|(_, (old, new))| old != new);
        for (at, _) in changed {
            let is_checksum =
                (10..12).contains(&at) || [6, 7, 16, 17].iter().any(|&field| header + field == at);
            assert!((12..20).contains(&at) || is_checksum, "byte {at} of {packet:?} became {rewritten:?}");
        }
    }
}

pub(crate) fn packets_to_rewrite() -> Vec<Vec<u8>> {
    let rule = [10, 8, 0, 0, 255, 255, 0, 0, 10, 9, 0, 0];
    let packets = Mix::forwardable(&[0, 0, 140, 3, 0, 0, 140, 1, 0, 140, 2, 0], 255);
    packets.map(|packet| [&rule[..], &packet].concat()).collect()
}
