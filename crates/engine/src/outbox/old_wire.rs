//! Sealing for peers of the old wire: payloads are framed aside and then sealed in the buffer.

use super::{MAX_PACKET, Outbox};
use crate::{
    engine::Shared,
    key::Sending,
    legacy::Legacy,
    outbox::Payloads,
    packet::{Way, clamp_mss},
    peer::Peer,
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
            if payloads.is_tunnel()
                && let Some(nat) = &peer.nat
            {
                nat.rewrite(&mut scratch.payload[..len], Way::Out);
            }
            if let Some(mss) = mss {
                clamp_mss(&mut scratch.payload[..len], mss);
            }
            if legacy.passes_tos() {
                self.set_tos(tos(&scratch.payload[..len]).filter(|_| payloads.is_tunnel()));
            }
            let framed = legacy.frame(&mut scratch.payload, len);
            let whole = legacy.pieces(&scratch.payload[..framed], |header, piece| {
                self.seal_piece((shared, backpressure), (index, peer), sending, [header, piece])
            });
            if !whole {
                break;
            }
            packets += 1;
            bytes += len as u64;
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

    /// Seals one packet, whose payload comes in two parts, at the buffer's end; `false`: the key sends no more.
    fn seal_piece(
        &mut self,
        (shared, backpressure): (&Shared, Backpressure<'_>),
        (index, peer): (usize, &Peer),
        sending: &mut Sending<'_>,
        payload: [&[u8]; 2],
    ) -> bool {
        let layout = sending.layout(peer.header);
        let [head, rest] = payload;
        let payload_len = head.len() + rest.len();
        let prefix = peer.transport.prefix();
        let room = prefix + layout.overhead() + payload_len;
        if room > MAX_PACKET {
            return true; // no datagram is that large
        }
        if self.len + room > self.buf.len() {
            self.send_all(shared, backpressure);
        }
        let buf = &mut self.buf[self.len..self.len + room];
        let (stream_prefix, packet) = buf.split_at_mut(prefix);
        let body = &mut packet[layout.prefix..];
        body[..head.len()].copy_from_slice(head);
        body[head.len()..payload_len].copy_from_slice(rest);
        let Some(len) = sending.seal_in(peer.header, packet, payload_len) else { return false };
        if !stream_prefix.is_empty() {
            let Ok(length) = frame_prefix(len) else { return true };
            stream_prefix.copy_from_slice(&length);
        }
        self.append(index, prefix + len, peer.transport.is_udp());
        true
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
