//! IP packets, just as much as these tests need: UDP datagrams, TCP segments with the option "maximum segment size",
//! and ICMPv6 errors.

use std::net::{IpAddr, Ipv6Addr};

const UDP: u8 = 17;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
const DESTINATION_UNREACHABLE: u8 = 1;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// The numbers of a TCP segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) from: u16,
    pub(crate) to: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    /// Bytes; 0 leaves the option out.
    pub(crate) mss: u16,
    /// Whether the checksum is right (of one that was read).
    pub(crate) valid: bool,
}

impl Segment {
    pub(crate) fn syn(from: u16, to: u16) -> Self {
        Self { from, to, sequence: 1000, acknowledgement: 0, flags: SYN, mss: 0, valid: true }
    }

    /// The third segment of a handshake, in answer to this one.
    pub(crate) fn acknowledged(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            sequence: self.acknowledgement,
            acknowledgement: self.sequence.wrapping_add(1),
            flags: ACK,
            mss: 0,
            valid: true,
        }
    }

    /// Reads a TCP segment whose option, if any, is the first; `None` for other packets.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        let v4 = packet[0] >> 4 == 4;
        let (protocol, start) = if v4 { (packet[9], 20) } else { (packet[6], 40) };
        if protocol != TCP {
            return None;
        }
        let addresses = if v4 { &packet[12..20] } else { &packet[8..40] };
        let tcp = &packet[start..];
        let u16_at = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) << 16 | u32::from(u16_at(at + 2));
        let has_mss = tcp.len() >= 24 && tcp[20..22] == [2, 4];
        Some(Self {
            from: u16_at(0),
            to: u16_at(2),
            sequence: u32_at(4),
            acknowledgement: u32_at(8),
            flags: tcp[13],
            mss: if has_mss { u16_at(22) } else { 0 },
            valid: checksum(addresses, TCP, tcp) == 0,
        })
    }
}

/// The ICMPv6 error "destination unreachable".
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreachable {
    pub(crate) code: u8,
    /// Who is told.
    pub(crate) to: Ipv6Addr,
    /// Where the packet that it quotes was sent.
    pub(crate) about: Ipv6Addr,
}

impl Unreachable {
    /// Reads one whose checksum is right; `None` for other packets.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        if packet[0] >> 4 != 6 || packet[6] != ICMPV6 {
            return None;
        }
        let message = &packet[40..];
        let intact = checksum(&packet[8..40], ICMPV6, message) == 0;
        let address = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).map(Ipv6Addr::from).ok();
        // The quoted packet follows a header of 8 bytes (RFC 4443, 3.1); its destination stands at 24.
        (message[0] == DESTINATION_UNREACHABLE && intact).then_some(())?;
        Some(Self { code: message[1], to: address(&packet[24..40])?, about: address(&message[32..48])? })
    }
}

/// A UDP datagram, ports 1234.
pub(crate) fn udp(source: &str, destination: &str, text: &[u8]) -> Vec<u8> {
    let len = u16::try_from(text.len() + 8).expect("a short text");
    let mut body = [1234_u16, 1234, len, 0].map(u16::to_be_bytes).concat();
    body.extend_from_slice(text);
    packet(source, destination, UDP, body, 6)
}

/// Reads what a UDP datagram carries; `None` for other packets.
pub(crate) fn udp_text(packet: &[u8]) -> Option<&[u8]> {
    let (protocol, start) = if packet[0] >> 4 == 4 { (packet[9], 20) } else { (packet[6], 40) };
    (protocol == UDP).then(|| &packet[start + 8..])
}

pub(crate) fn segment(source: &str, destination: &str, segment: Segment) -> Vec<u8> {
    let mut body = [segment.from, segment.to].map(u16::to_be_bytes).concat();
    body.extend([segment.sequence, segment.acknowledgement].map(u32::to_be_bytes).concat());
    let option = if segment.mss == 0 { 0 } else { 4 };
    body.extend([(20 + option) << 2, segment.flags, 0x40, 0, 0, 0, 0, 0]);
    if option != 0 {
        body.extend([2, 4]);
        body.extend(segment.mss.to_be_bytes());
    }
    packet(source, destination, TCP, body, 16)
}

/// Puts an IP header before `body` and fills in the checksum at `sum`.
fn packet(source: &str, destination: &str, protocol: u8, mut body: Vec<u8>, sum: usize) -> Vec<u8> {
    let octets = |text: &str| match text.parse().expect("an address") {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let addresses = [octets(source), octets(destination)].concat();
    let value = checksum(&addresses, protocol, &body);
    body[sum..sum + 2].copy_from_slice(&value.to_be_bytes());
    let len = u16::try_from(body.len()).expect("a short packet");
    let mut header = if addresses.len() == 8 {
        let [high, low] = (len + 20).to_be_bytes();
        let mut header = vec![0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        let value = !fold(sum_words(&header) + sum_words(&addresses));
        header[10..12].copy_from_slice(&value.to_be_bytes());
        header
    } else {
        let [high, low] = len.to_be_bytes();
        vec![0x60, 0, 0, 0, high, low, protocol, 64]
    };
    header.extend(addresses);
    header.extend(body);
    header
}

/// The internet checksum with the pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1); 0 over a packet that is intact.
fn checksum(addresses: &[u8], protocol: u8, body: &[u8]) -> u16 {
    let len = u32::try_from(body.len()).expect("a short packet");
    !fold(sum_words(addresses) + u32::from(protocol) + len + sum_words(body))
}

fn sum_words(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}
