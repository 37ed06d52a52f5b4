//! The pure parts that see foreign bytes, for fuzzing and for tests against an oracle. No part of the interface.

use std::net::Ipv4Addr;

use culvert_offload::{NatEnd, NatRule};

use crate::packet::{Coalescer, Joins, Nat, SuperPacket, Way};

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
