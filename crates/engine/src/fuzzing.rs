//! The pure parts that see foreign bytes, for fuzzing and for tests against an oracle. No part of the interface.

use std::net::Ipv4Addr;

use culvert_offload::{Framing, NatEnd, NatRule};
use culvert_wire::{VlanAccept, Vlans};

use crate::{
    legacy::{Legacy, Scratch, Unframed},
    packet::{
        Coalescer, Joins, Nat, SuperPacket, Way, clamp_mss,
        ethernet::{self, Header, Outbound, TAG_LEN},
    },
};

/// Takes packets as they come out of a tunnel, one after the other, and gives the frames for a device that takes
/// super-packets of these kinds. In between, packets that do not authenticate are opened too.
pub fn join(tcp: bool, udp: bool, packets: &[Vec<u8>], mut write: impl FnMut(&[u8])) {
    let mut coalescer = Coalescer::new(Joins { tcp, udp });
    for packet in packets {
        // A real slot is longer than what is opened there, by the bytes around the ciphertext.
        coalescer.slot(packet.len() + 24).fill(0xEE);
        coalescer.abandon();
        let slot = coalescer.slot(packet.len() + 24);
        if let Some(slot) = slot.get_mut(..packet.len()) {
            slot.copy_from_slice(packet);
            coalescer.commit(packet.len(), &mut write);
        }
    }
    coalescer.flush(write);
}

/// Rewrites the source address of a packet that leaves through the tunnel, or the destination of one that came out of it,
/// by a rule: network, mask, alias.
pub fn rewrite([network, netmask, alias]: [Ipv4Addr; 3], packet: &mut [u8], leaves: bool) {
    if let Some(nat) = Nat::new(&[NatRule { end: NatEnd::Source, network, netmask, alias }]) {
        nat.rewrite(packet, if leaves { Way::Out } else { Way::In });
    }
}

/// Cuts a frame of a device into the packets that a peer is to receive; `None` when it contradicts itself.
#[must_use]
pub fn cut(frame: &[u8]) -> Option<Vec<Vec<u8>>> {
    let packet = SuperPacket::parse(frame)?;
    let write = |index| {
        let mut out = vec![0; packet.len(index)];
        packet.write(index, &mut out);
        out
    };
    Some((0..packet.count()).map(write).collect())
}

/// Takes bytes as an Ethernet frame of the device and of a peer, under every rule about VLANs.
///
/// # Panics
/// When a tag that is put on does not come off again.
pub fn vlan_frame(bytes: &[u8], vlan: u16) {
    if let Some(packet) = ethernet::inner(&mut bytes.to_vec()) {
        clamp_mss(packet, 1000);
    }
    let Some(header) = Header::parse(bytes) else { return };
    for accept in [VlanAccept::All, VlanAccept::Tagged, VlanAccept::Untagged] {
        let vlans = Vlans { accept, pvid: 1 };
        if let Some(inbound) = ethernet::from_device(vlans, header) {
            let len = bytes.len() - if inbound.untag { TAG_LEN } else { 0 };
            ethernet::copy(bytes, inbound.untag, &mut vec![0; len]);
        }
        if header.is_in_vlan() {
            continue; // a peer's frame in a VLAN goes nowhere
        }
        if let Outbound::Tag(vlan) = ethernet::to_device(vlans, vlan) {
            let mut buf = [bytes, &[0; TAG_LEN]].concat();
            let tagged = ethernet::tag(&mut buf, bytes.len(), vlan).map(|len| &buf[..len]);
            let back = tagged.and_then(Header::parse);
            assert_eq!(back, Some(Header { tag: Some(vlan), ..header }), "the tag is not what was put on");
        }
    }
}

/// The most bytes that a compressed payload becomes here.
pub const MOST: u16 = 1600;

/// Takes payloads off the old wire, one after the other at the times given: compression framing by number, whether
/// compressed ones are taken (up to [`MOST`] bytes), and whether they come in pieces. Gives what comes out.
#[must_use]
pub fn unframe(kind: u8, decompress: bool, pieces: bool, payloads: &[(Vec<u8>, u64)]) -> Vec<Vec<u8>> {
    let framing = [Framing::None, Framing::Lzo, Framing::Swap, Framing::V2][usize::from(kind % 4)];
    let legacy = Legacy::new(framing, decompress.then_some(MOST), pieces.then_some(64));
    let mut scratch = Scratch::default();
    let take = |(payload, now): &(Vec<u8>, u64)| {
        scratch.payload.clone_from(payload);
        (legacy.unframe(&mut scratch, *now) == Some(Unframed::Payload)).then(|| scratch.payload.clone())
    };
    payloads.iter().filter_map(take).collect()
}

/// Frames a payload and cuts it, as it is sent.
#[must_use]
pub fn frame(kind: u8, pieces: bool, payload: &[u8]) -> Vec<Vec<u8>> {
    let framing = [Framing::None, Framing::Lzo, Framing::Swap, Framing::V2][usize::from(kind % 4)];
    let legacy = Legacy::new(framing, None, pieces.then_some(64));
    let mut buf = payload.to_vec();
    buf.resize(payload.len() + legacy.room(), 0);
    let len = legacy.frame(&mut buf, payload.len());
    let mut sent = Vec::new();
    // What would take too many pieces is not sent.
    let _ = legacy.pieces(&buf[..len], |header, piece| {
        sent.push([header, piece].concat());
        Ok(())
    });
    sent
}
