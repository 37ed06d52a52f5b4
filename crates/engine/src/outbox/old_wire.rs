//! Sealing for peers of the old wire: payloads are framed aside and then sealed in the buffer.

use super::{MAX_PACKET, Outbox, adjust};
use crate::{
    engine::Shared,
    key::Sending,
    legacy::{Legacy, Unsent},
    outbox::Payloads,
    peer::{DropReason, Peer},
    transport::Backpressure,
};
use culvert_wire::tcp::frame_prefix;

impl Outbox {
    /// As the loop of [`Outbox::seal`]; returns packets and bytes of payload.
    pub(super) fn seal_old(
        &mut self,
        (shared, backpressure): (&Shared, Backpressure<'_>),
        (index, peer, legacy): (usize, &Peer, &Legacy),
        sending: &mut Sending<'_>,
        payloads: &impl Payloads,
        mss: Option<u16>,
    ) -> (u64, u64) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let (mut packets, mut bytes) = (0, 0);
        for i in 0..payloads.count() {
            let len = payloads.len(i);
            if len == 0 {
                continue;
            }
            scratch.payload.clear();
            scratch.payload.resize(len + legacy.room(), 0);
            payloads.write(i, &mut scratch.payload[..len]);
            let tunnel = payloads.is_tunnel();
            let inner = payloads.inner(&mut scratch.payload[..len]).filter(|_| tunnel);
            let inner_tos = inner.and_then(|packet| {
                adjust(packet, peer.nat.as_ref(), mss);
                tos(packet)
            });
            if legacy.passes_tos() {
                self.set_tos(inner_tos);
            }
            let framed = legacy.frame(&mut scratch.payload, len);
            let sent = legacy.pieces(&scratch.payload[..framed], |header, piece| {
                self.seal_piece((shared, backpressure), (index, peer), sending, [header, piece])
            });
            match sent {
                Ok(()) => {
                    packets += 1;
                    bytes += len as u64;
                }
                Err(Unsent::TooLarge) => peer.count_drop(DropReason::TooLarge),
                Err(Unsent::KeySpent) => break,
            }
        }
        self.scratch = scratch;
        self.set_tos(None);
        (packets, bytes)
    }

    /// Packets of another TOS byte are another train.
    fn set_tos(&mut self, tos: Option<u8>) {
        if self.tos != tos {
            self.tos = tos;
            if let Some(train) = self.trains.last_mut() {
                train.closed = true;
            }
        }
    }

    /// Seals one packet, whose payload comes in two parts, at the buffer's end.
    fn seal_piece(
        &mut self,
        (shared, backpressure): (&Shared, Backpressure<'_>),
        (index, peer): (usize, &Peer),
        sending: &mut Sending<'_>,
        payload: [&[u8]; 2],
    ) -> Result<(), Unsent> {
        let layout = sending.layout(peer.header);
        let [head, rest] = payload;
        let payload_len = head.len() + rest.len();
        let prefix = peer.transport.prefix();
        let room = prefix + layout.overhead() + payload_len;
        if room > MAX_PACKET {
            return Err(Unsent::TooLarge);
        }
        if self.len + room > self.buf.len() {
            self.send_all(shared, backpressure);
        }
        let buf = &mut self.buf[self.len..self.len + room];
        let (stream_prefix, packet) = buf.split_at_mut(prefix);
        let body = &mut packet[layout.prefix..];
        body[..head.len()].copy_from_slice(head);
        body[head.len()..payload_len].copy_from_slice(rest);
        let Some(len) = sending.seal_in(peer.header, packet, payload_len) else {
            return Err(Unsent::KeySpent);
        };
        if !stream_prefix.is_empty() {
            let length = frame_prefix(len).map_err(|_| Unsent::TooLarge)?;
            stream_prefix.copy_from_slice(&length);
        }
        self.append(index, prefix + len, peer.transport.is_udp());
        Ok(())
    }
}

/// The TOS byte of an IPv4 packet, or the traffic class of an IPv6 packet.
fn tos(packet: &[u8]) -> Option<u8> {
    match *packet {
        [first, tos, ..] if first >> 4 == 4 => Some(tos),
        [first, second, ..] if first >> 4 == 6 => Some(first << 4 | second >> 4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bridge::Frame, outbox::Single};

    fn inner_tos(payloads: &impl Payloads) -> Option<u8> {
        let mut bytes = vec![0; payloads.len(0)];
        payloads.write(0, &mut bytes);
        payloads.inner(&mut bytes).and_then(|packet| tos(packet))
    }

    /// The addresses of the frames begin as IPv4 packets with the TOS byte 11 do.
    #[test]
    fn the_tos_byte_of_a_frame_is_that_of_the_packet_in_it() {
        let (v4, v6) = ([&[0x45, 0xB8][..], &[0; 18]].concat(), [&[0x6B, 0x80][..], &[0; 38]].concat());
        for packet in [&v4, &v6] {
            assert_eq!(inner_tos(&Single { payload: packet, is_tunnel: true }), Some(0xB8));
        }
        let addresses = [0x45, 0x11].repeat(6);
        for (kind, packet) in [([8, 0], &v4), ([0x86, 0xDD], &v6)] {
            let plain = [&addresses[..], &kind, packet].concat();
            let tagged = [&addresses[..], &[0x81, 0, 0, 5], &kind, packet].concat();
            assert_eq!(inner_tos(&Frame { bytes: &plain, untag: false }), Some(0xB8));
            assert_eq!(inner_tos(&Frame { bytes: &tagged, untag: false }), Some(0xB8));
            assert_eq!(inner_tos(&Frame { bytes: &tagged, untag: true }), Some(0xB8));
        }
        let arp = [&addresses[..], &[8, 6], &v4].concat();
        assert_eq!(inner_tos(&Frame { bytes: &arp, untag: false }), None);
    }
}
