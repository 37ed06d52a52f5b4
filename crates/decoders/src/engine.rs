use std::net::Ipv4Addr;

use culvert_engine::fuzzing;
use culvert_testkit::inner::{Choices, Mix, VnetHeader, compare, cut, deliver, super_frame};

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
