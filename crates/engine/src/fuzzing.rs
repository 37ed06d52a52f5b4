//! The pure parts that see foreign bytes, for fuzzing and for tests against an oracle. No part of the interface.

use crate::packet::{Coalescer, Joins, SuperPacket};

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
