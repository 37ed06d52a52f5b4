//! The fields of headers, by their definitions: RFC 791, 8200, 9293, 768, 1071.

use super::{TCP, UDP};

/// The Internet checksum of some bytes (RFC 1071), 16 bits at a time.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    !ones_sum(bytes)
}

/// The one's complement sum, folded.
pub(super) fn ones_sum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u64 = bytes.chunks(2).map(word).sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Reads a 16-bit field.
pub(super) fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Writes a 16-bit field.
pub(super) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Lengths of test packets fit by construction.
pub(super) fn short(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// The parts of a packet that is well-formed as far as its transport header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) v6: bool,
    pub(super) protocol: u8,
    /// Length of the IP header: where the transport header begins.
    pub(super) ip: usize,
    /// Where the payload begins.
    pub(super) payload: usize,
}

impl Parts {
    /// Finds a whole TCP or UDP header directly behind the IP header of a packet that is no fragment.
    pub(super) fn find(packet: &[u8]) -> Option<Self> {
        let v6 = match packet.first()? >> 4 {
            4 if packet.len() >= 20 => false,
            6 if packet.len() >= 40 => true,
            _ => return None,
        };
        let (protocol, ip) =
            if v6 { (packet[6], 40) } else { (packet[9], usize::from(packet[0] & 0x0F) * 4) };
        let fragment = !v6 && get16(packet, 6) & 0x3FFF != 0;
        if fragment || ip < 20 {
            return None;
        }
        let header = match protocol {
            TCP => usize::from(*packet.get(ip + 12)? >> 4) * 4,
            UDP => 8,
            _ => return None,
        };
        let least = if protocol == TCP { 20 } else { 8 };
        (header >= least && packet.len() >= ip + header).then_some(Self {
            v6,
            protocol,
            ip,
            payload: ip + header,
        })
    }

    /// Where the transport checksum stands.
    pub(super) const fn checksum_at(self) -> usize {
        self.ip + if self.protocol == TCP { 16 } else { 6 }
    }

    /// The pseudo header (RFC 9293, section 3.1; RFC 8200, section 8.1) of a segment of `len` bytes.
    pub(super) fn pseudo_header(self, packet: &[u8], len: usize) -> Vec<u8> {
        let addresses = if self.v6 { &packet[8..40] } else { &packet[12..20] };
        [addresses, &[0, self.protocol], &short(len).to_be_bytes()].concat()
    }

    /// The transport checksum as it should be, whatever stands there.
    pub(super) fn checksum(self, packet: &[u8]) -> u16 {
        let mut covered = self.pseudo_header(packet, packet.len() - self.ip);
        covered.extend_from_slice(&packet[self.ip..]);
        let at = self.checksum_at() + covered.len() - packet.len();
        put16(&mut covered, at, 0);
        match (checksum(&covered), self.protocol) {
            (0, UDP) => 0xFFFF, // zero is "no checksum" there
            (sum, _) => sum,
        }
    }
}

/// Writes lengths and checksums of a packet whose other fields are set. Leaves alone what it has no names for.
pub fn finish(packet: &mut [u8]) {
    let len = packet.len();
    match packet.first().map(|byte| byte >> 4) {
        Some(4) if len >= 20 => {
            put16(packet, 2, short(len));
            renew_header_checksum(packet);
        }
        Some(6) if len >= 40 => put16(packet, 4, short(len - 40)),
        _ => return,
    }
    let Some(parts) = Parts::find(packet) else { return };
    if parts.protocol == UDP {
        put16(packet, parts.ip + 4, short(len - parts.ip));
    }
    let sum = parts.checksum(packet);
    put16(packet, parts.checksum_at(), sum);
}

/// Writes the checksum of an IPv4 header.
pub(super) fn renew_header_checksum(packet: &mut [u8]) {
    put16(packet, 10, 0);
    let header = (usize::from(packet[0] & 0x0F) * 4).clamp(20, packet.len());
    let sum = checksum(&packet[..header]);
    put16(packet, 10, sum);
}

/// Returns whether every checksum of a packet is right, as far as it has any that is known here.
#[must_use]
pub fn is_valid(packet: &[u8]) -> bool {
    has_valid_header(packet) && has_valid_transport(packet)
}

/// Returns whether the checksum of an IPv4 header is right; IPv6 has none.
pub(super) fn has_valid_header(packet: &[u8]) -> bool {
    if packet.first().map(|byte| byte >> 4) != Some(4) || packet.len() < 20 {
        return true;
    }
    let header = usize::from(packet[0] & 0x0F) * 4;
    packet.get(..header).is_some_and(|header| ones_sum(header) == 0xFFFF)
}

pub(super) fn has_valid_transport(packet: &[u8]) -> bool {
    let Some(parts) = Parts::find(packet) else { return true };
    let stands = get16(packet, parts.checksum_at());
    if parts.protocol == UDP && stands == 0 && !parts.v6 {
        return true; // there is none
    }
    let mut covered = parts.pseudo_header(packet, packet.len() - parts.ip);
    covered.extend_from_slice(&packet[parts.ip..]);
    ones_sum(&covered) == 0xFFFF
}

/// The packet as a router passes it on: one hop less to live.
#[must_use]
pub fn one_hop_further(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        packet[8] -= 1;
        renew_header_checksum(&mut packet);
    } else {
        packet[7] -= 1;
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_example_in_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7]), 0x220D);
    }

    #[test]
    fn a_finished_packet_is_valid_and_a_damaged_one_is_not() {
        // A datagram of four bytes from 10.0.0.1:7 to 10.0.0.2:9.
        let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend_from_slice(&[0, 7, 0, 9, 0, 0, 0, 0, 1, 2, 3, 4]);
        finish(&mut packet);
        assert_eq!((get16(&packet, 2), get16(&packet, 24)), (32, 12));
        assert!(is_valid(&packet) && is_valid(&one_hop_further(packet.clone())));
        for at in [8, 30] {
            let mut damaged = packet.clone();
            damaged[at] ^= 1;
            assert!(!is_valid(&damaged));
        }
    }
}
