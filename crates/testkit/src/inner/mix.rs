//! Packets of all kinds, decided by bytes.

use super::{
    TCP, UDP, VnetHeader, cut, finish,
    headers::{Parts, ones_sum, put16, renew_header_checksum},
};

const ACK: u8 = 0x10;
/// Flows of the world: TCP and UDP over IPv4 and IPv6, and two more of TCP and UDP that differ by a port only.
const FLOWS: usize = 6;
/// Payload sizes: none, tiny, and those of usual links.
const SIZES: [usize; 12] = [0, 1, 2, 3, 64, 100, 101, 536, 1000, 1368, 1400, 8900];

/// Decisions, taken from a slice of bytes until it ends; then all are zero.
#[derive(Clone, Debug)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// Decides by these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// There is nothing to decide by any more.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next decision.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number of 16 bits.
    pub fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// A place below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        usize::from(self.number()) % end
    }
}

/// An endless mixture of packets of a few flows, until its bytes end. Most continue their flow as a stream would; the
/// others differ from it in one of the ways that joining must notice.
#[derive(Clone, Debug)]
pub struct Mix<'a> {
    choices: Choices<'a>,
    /// The longest packet.
    mtu: usize,
    hostile: bool,
    flows: [Flow; FLOWS],
    current: usize,
    /// Stands in the payloads, so that no two packets are equal.
    number: u32,
}

/// What the next packet of a flow looks like.
#[derive(Clone, Debug)]
struct Flow {
    v6: bool,
    protocol: u8,
    port: u16,
    host: u8,
    seq: u32,
    ack: u32,
    window: u16,
    urgent: u16,
    tcp_options: Vec<u8>,
    flags: u8,
    id: u16,
    dont_fragment: bool,
    /// So many packets to come are first fragments (IPv4).
    fragments: u8,
    tos: u8,
    ttl: u8,
    size: usize,
}

impl<'a> Mix<'a> {
    /// Packets of every kind, well-formed or not, up to `mtu` bytes.
    #[must_use]
    pub fn hostile(choices: &'a [u8], mtu: usize) -> Self {
        Self::new(choices, mtu, true)
    }

    /// Only such packets as a kernel forwards untouched: headers are right as far as routers look.
    #[must_use]
    pub fn forwardable(choices: &'a [u8], mtu: usize) -> Self {
        Self::new(choices, mtu, false)
    }

    fn new(choices: &'a [u8], mtu: usize, hostile: bool) -> Self {
        let flow = |number: u8| Flow {
            v6: number % 2 == 1,
            protocol: if number % 4 < 2 { TCP } else { UDP },
            port: 5000 + u16::from(number / 4),
            host: 1 + number % 4 % 2,
            // The number wraps within a test.
            seq: u32::MAX - 20_000,
            ack: 9,
            window: 0x2000,
            urgent: 0,
            tcp_options: Vec::new(),
            flags: ACK,
            id: 0xFFF0,
            dont_fragment: number < 4,
            fragments: 0,
            tos: 0,
            ttl: 64,
            size: 100,
        };
        Self {
            choices: Choices::new(choices),
            mtu,
            hostile,
            flows: [0, 1, 2, 3, 4, 5].map(flow),
            current: 0,
            number: 0,
        }
    }

    /// Adds one packet of the current flow, in order.
    fn packet(&mut self, size: usize) -> Vec<u8> {
        self.number += 1;
        let flow = &mut self.flows[self.current];
        let size = size.min(self.mtu.saturating_sub(flow.headers()));
        flow.packet(self.number, size)
    }

    fn usual(&mut self) -> Vec<u8> {
        self.packet(self.flows[self.current].size)
    }

    /// Changes what the following packets of the flow look like.
    fn change_flow(&mut self) {
        let flow = &mut self.flows[self.current];
        match self.choices.byte() % 14 {
            0 => flow.size = self.choices.pick(&SIZES),
            1 => flow.window = self.choices.number(),
            2 => flow.ack = flow.ack.wrapping_add(1000),
            3 => flow.tos ^= self.choices.pick(&[1, 2, 3, 0xB8]),
            4 => flow.ttl = self.choices.pick(&[2, 63, 255]),
            5 => flow.dont_fragment ^= true,
            6 => flow.id = self.choices.number(),
            7 => flow.seq = flow.seq.wrapping_add(u32::from(self.choices.pick(&[1_u16, 100, 5000]))), // a gap
            8 => flow.seq = flow.seq.wrapping_sub(u32::from(self.choices.pick(&[1_u16, 100, 5000]))), // again
            9 => flow.urgent ^= self.choices.number(),
            10 => flow.flags = ACK | self.choices.pick(&[0, 0x20, 0x40, 0x80]),
            12 => flow.fragments = 2,
            13 => flow.id = flow.id.wrapping_sub(u16::from(self.choices.pick(&[1_u8, 2]))), // an id again
            _ => {
                let timestamps = [1, 1, 8, 10, 0, 0, 0, self.choices.byte(), 0, 0, 0, 1];
                flow.tcp_options =
                    self.choices.pick(&[&timestamps[..], &[1, 1, 1, 0], &[1; 40], &[]]).to_vec();
            }
        }
    }

    /// A packet that only routers' ends may dislike.
    fn odd(&mut self) -> Vec<u8> {
        match self.choices.byte() % 7 {
            0 => {
                let size = self.choices.pick(&SIZES);
                self.packet(size)
            }
            1 => {
                let any = self.choices.byte();
                let flags = self.choices.pick(&[0x18, 0x18, 0x19, 0x11, 0x12, 0x14, any, any]);
                let flow = &mut self.flows[self.current];
                let usual = std::mem::replace(&mut flow.flags, flags);
                let packet = self.usual();
                self.flows[self.current].flags = usual;
                packet
            }
            2 => self.twisted(|packet, parts, choices| {
                // A wrong transport checksum: any difference but that between the two zeros.
                let at = parts.checksum_at();
                packet[at] ^= choices.byte() | 1;
            }),
            3 => self.twisted(|packet, parts, _| put16(packet, parts.checksum_at(), 0)),
            4 => self.twisted(|packet, parts, choices| {
                if !parts.v6 {
                    // More fragments, or an offset: small ones, so that what follows a first fragment exists.
                    packet[6] = choices.pick(&[0x20, 0, 0x20]);
                    packet[7] = choices.pick(&[0, 1, 2, 185]);
                    renew_header_checksum(packet);
                }
            }),
            5 => self.twisted(|packet, parts, _| make_checksum_zero(packet, parts)),
            _ => {
                let size = self.choices.pick(&[65_535, 9000, 1500]);
                self.packet(size)
            }
        }
    }

    /// A packet whose sender made a mistake, or is no friend.
    fn malformed(&mut self) -> Vec<u8> {
        match self.choices.byte() % 10 {
            0 => self.twisted(|packet, parts, choices| {
                if !parts.v6 {
                    packet[10] ^= choices.byte() | 1; // the checksum of the IP header
                }
            }),
            1 => self.twisted(|packet, parts, choices| {
                let len = choices.number();
                put16(packet, if parts.v6 { 4 } else { 2 }, len);
                if !parts.v6 {
                    renew_header_checksum(packet);
                }
            }),
            2 => self.twisted(|packet, parts, choices| {
                // The length of UDP, or TCP's header length and reserved bits.
                packet[parts.ip + if parts.protocol == UDP { 5 } else { 12 }] ^= choices.byte();
                let sum = parts.checksum(packet);
                put16(packet, parts.checksum_at(), sum);
            }),
            3 => self.twisted(|packet, _, choices| packet.truncate(1 + choices.below(60))),
            4 => self
                .twisted(|packet, _, choices| packet.extend(std::iter::repeat_n(0, 1 + choices.below(20)))),
            5 => self.with_ip_options(),
            6 => {
                let len = 1 + self.choices.below(99);
                (0..len).map(|_| self.choices.byte()).collect()
            }
            7 => self.twisted(|packet, parts, choices| {
                let at = choices.below(parts.payload);
                packet[at] ^= choices.byte(); // nothing made right afterwards
            }),
            8 => self.twisted(|packet, parts, choices| {
                let at = choices.below(parts.payload);
                packet[at] = choices.byte();
                finish(packet); // as far as there are still fields to make right
            }),
            _ => self.twisted(|packet, parts, choices| {
                if !parts.v6 {
                    packet[6] |= choices.pick(&[0x80, 0x40]); // the reserved bit
                    renew_header_checksum(packet);
                }
            }),
        }
    }

    /// The flow's next packet, changed. The flow goes on as if it had been whole.
    fn twisted(&mut self, twist: impl FnOnce(&mut Vec<u8>, Parts, &mut Choices<'a>)) -> Vec<u8> {
        let mut packet = self.usual();
        if let Some(parts) = Parts::find(&packet) {
            twist(&mut packet, parts, &mut self.choices);
        }
        packet.truncate(self.mtu);
        packet
    }

    /// IPv4 with options, IPv6 with an extension header.
    fn with_ip_options(&mut self) -> Vec<u8> {
        let (mut packet, v6) = (self.usual(), self.flows[self.current].v6);
        if packet.len() + 8 > self.mtu {
            return packet;
        }
        if v6 {
            let extension = [packet[6], 0, 1, 4, 0, 0, 0, 0]; // of eight bytes, padding
            packet[6] = self.choices.pick(&[0, 43, 60]);
            packet.splice(40..40, extension);
        } else {
            packet[0] = 0x46;
            packet.splice(20..20, self.choices.pick(&[[1, 1, 1, 0], [148, 4, 0, 0]]));
        }
        finish(&mut packet);
        packet
    }
}

impl Iterator for Mix<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.choices.is_over() {
            return None;
        }
        Some(match self.choices.byte() {
            0..=139 => self.usual(),
            140..=169 => {
                self.current = usize::from(self.choices.byte()) % FLOWS;
                self.usual()
            }
            170..=199 => {
                self.change_flow();
                self.usual()
            }
            200..=225 => self.odd(),
            _ if self.hostile => self.malformed(),
            _ => self.usual(),
        })
    }
}

impl Flow {
    const fn headers(&self) -> usize {
        (if self.v6 { 40 } else { 20 }) + if self.protocol == TCP { 20 + self.tcp_options.len() } else { 8 }
    }

    /// The flow's next packet; the flow moves on.
    fn packet(&mut self, number: u32, size: usize) -> Vec<u8> {
        let mut packet = self.ip();
        packet.extend_from_slice(&self.port.to_be_bytes());
        packet.extend_from_slice(&5001_u16.to_be_bytes());
        if self.protocol == TCP {
            packet.extend_from_slice(&self.seq.to_be_bytes());
            packet.extend_from_slice(&self.ack.to_be_bytes());
            let words = u8::try_from(5 + self.tcp_options.len() / 4).unwrap_or(5);
            packet.extend_from_slice(&[words << 4, self.flags]);
            packet.extend_from_slice(&self.window.to_be_bytes());
            packet.extend_from_slice(&[0, 0]);
            packet.extend_from_slice(&self.urgent.to_be_bytes());
            packet.extend_from_slice(&self.tcp_options);
            self.seq = self.seq.wrapping_add(u32::try_from(size).unwrap_or(0));
        } else {
            packet.extend_from_slice(&[0; 4]);
        }
        packet.extend(number.to_be_bytes().into_iter().cycle().take(size.min(8)));
        packet.extend((8..size).map(|at| (at % 251).to_le_bytes()[0]));
        self.id = self.id.wrapping_add(1);
        finish(&mut packet);
        if self.fragments > 0 && !self.v6 {
            self.fragments -= 1;
            packet[6] = 0x20; // as if the transport checksum were that of the whole
            renew_header_checksum(&mut packet);
        }
        packet
    }

    /// From 10.95.0.x to 10.97.0.x, or the same with `fd`.
    fn ip(&self) -> Vec<u8> {
        let Self { tos, ttl, protocol, host, .. } = *self;
        if self.v6 {
            let mut packet = vec![0x60 | tos >> 4, tos << 4, 0, 7, 0, 0, protocol, ttl];
            for net in [0x95, 0x97] {
                packet.extend_from_slice(&[0xFD, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
            }
            return packet;
        }
        let [high, low] = self.id.to_be_bytes();
        let flags = if self.dont_fragment { 0x40 } else { 0 };
        vec![0x45, tos, 0, 0, high, low, flags, 0, ttl, protocol, 0, 0, 10, 95, 0, host, 10, 97, 0, host]
    }
}

/// A frame as a kernel hands it to a tunnel, of at most `mtu` bytes per segment: a TCP or UDP super-packet, or one
/// packet whose checksum is still to be made.
#[must_use]
pub fn super_frame(choices: &mut Choices<'_>, mtu: usize) -> Vec<u8> {
    let mut any = || choices.byte();
    let steps = [140, any(), 170, 11, any(), any(), 170, any(), any(), any()];
    let mut mix = Mix::forwardable(&steps, 65_535);
    mix.by_ref().for_each(drop);
    let flow = &mut mix.flows[mix.current];
    flow.fragments = 0;
    if flow.protocol == TCP {
        flow.flags = choices.pick(&[ACK, ACK | 0x08, ACK | 0x09, ACK | 0x80, ACK | 0x48]);
    }
    let headers = flow.headers();
    let size = choices.pick(&[1, 100, 536, 1000, 1368, 1400]).min(mtu - headers);
    let most = 64 * size;
    let payload = match choices.byte() % 8 {
        0 => choices.below(size + 1),
        1 => most.min(65_535 - headers),
        _ => 1 + choices.below(most.min(65_535 - headers)),
    };
    let mut packet = flow.packet(u32::from(choices.number()), payload);
    let Some(parts) = Parts::find(&packet) else { return packet };
    let pseudo = ones_sum(&parts.pseudo_header(&packet, packet.len() - parts.ip));
    put16(&mut packet, parts.checksum_at(), pseudo);
    let number = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    let kind = match (flow.protocol, flow.v6) {
        (TCP, false) => VnetHeader::TCPV4,
        (TCP, true) => VnetHeader::TCPV6,
        _ => VnetHeader::UDP,
    };
    let ecn = if flow.protocol == TCP && flow.flags & 0x80 != 0 { VnetHeader::ECN } else { 0 };
    let (gso_type, gso_size) = if payload > size { (kind | ecn, number(size)) } else { (0, 0) };
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        gso_type,
        hdr_len: number(parts.payload),
        gso_size,
        csum_start: number(parts.ip),
        csum_offset: number(parts.checksum_at() - parts.ip),
    };
    let mut frame = header.with(&packet);
    if choices.byte() % 4 == 1
        && let Ok(mut packets) = cut(&frame)
        && let Some(first) = packets.first_mut()
        && let Some(parts) = Parts::find(first)
    {
        make_checksum_zero(first, parts);
        let payload = frame.len() - packet.len() + parts.payload;
        let first = &first[parts.payload..];
        frame[payload..payload + first.len()].copy_from_slice(first);
    }
    frame
}

/// Changes two bytes of the payload so that the transport checksum comes out as zero: what UDP has to write otherwise.
fn make_checksum_zero(packet: &mut [u8], parts: Parts) {
    let at = parts.payload + 8; // behind the number
    if packet.len() < at + 2 {
        return;
    }
    put16(packet, at, 0);
    let sum = parts.checksum(packet);
    put16(packet, at, sum);
    finish(packet);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        inner::{cut, is_valid},
        sim::SimRandom,
    };

    fn random(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        SimRandom::new(seed).fill(&mut bytes);
        bytes
    }

    #[test]
    fn no_two_packets_of_a_mixture_with_payload_are_equal_and_none_is_too_long() {
        let bytes = random(1, 8000);
        for mtu in [576, 1500, 65_535] {
            let packets: Vec<_> = Mix::forwardable(&bytes, mtu).filter(|packet| packet.len() > 100).collect();
            assert!(packets.len() > 1000 && packets.iter().all(|packet| packet.len() <= mtu));
            assert_eq!(packets.iter().collect::<BTreeSet<_>>().len(), packets.len());
        }
    }

    #[test]
    fn a_mixture_has_right_and_wrong_packets() {
        let bytes = random(2, 8000);
        let (right, wrong): (Vec<_>, Vec<_>) =
            Mix::hostile(&bytes, 1500).partition(|packet| is_valid(packet));
        assert!(right.len() > 5 * wrong.len() && wrong.len() > 100, "{} {}", right.len(), wrong.len());
    }

    #[test]
    fn super_frames_are_what_a_kernel_would_take() {
        let bytes = random(3, 4000);
        let mut choices = Choices::new(&bytes);
        let mut most = 0;
        while !choices.is_over() {
            let packets = cut(&super_frame(&mut choices, 1500)).unwrap();
            assert!(packets.iter().all(|packet| is_valid(packet) && packet.len() <= 1500));
            most = most.max(packets.len());
        }
        assert!((60..=64).contains(&most), "{most}");
    }
}
