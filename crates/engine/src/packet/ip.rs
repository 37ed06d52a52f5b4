//! The few fields of IP headers that routing and joining look at.

use std::net::IpAddr;

use super::{TCP, UDP, checksum::Sum};

/// Bytes of an IPv4 header without options.
pub(super) const IPV4_LEN: usize = 20;
/// Bytes of an IPv6 header.
pub(super) const IPV6_LEN: usize = 40;

/// IP versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

/// Reads the version, if the header is there as a whole.
pub(super) fn version(packet: &[u8]) -> Option<Version> {
    match packet.first()? >> 4 {
        4 if packet.len() >= IPV4_LEN => Some(Version::V4),
        6 if packet.len() >= IPV6_LEN => Some(Version::V6),
        _ => None,
    }
}

/// The destination address; `None` for what is not IP.
pub(crate) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match version(packet)? {
        Version::V4 => Some(IpAddr::from(*packet.get(16..)?.first_chunk::<4>()?)),
        Version::V6 => Some(IpAddr::from(*packet.get(24..)?.first_chunk::<16>()?)),
    }
}

/// The source address; `None` for what is not IP.
pub(crate) fn source(packet: &[u8]) -> Option<IpAddr> {
    match version(packet)? {
        Version::V4 => Some(IpAddr::from(*packet.get(12..)?.first_chunk::<4>()?)),
        Version::V6 => Some(IpAddr::from(*packet.get(8..)?.first_chunk::<16>()?)),
    }
}

/// A packet whose transport header could be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transport {
    /// IP version.
    pub(super) version: Version,
    /// Protocol number: TCP or UDP.
    pub(super) protocol: u8,
    /// Where its header begins.
    pub(super) start: usize,
}

impl Transport {
    /// Finds a TCP or UDP header directly behind the IP header, in a packet that is no fragment.
    pub(super) fn find(packet: &[u8]) -> Option<Self> {
        let (version, protocol, start) = match version(packet)? {
            Version::V4 => {
                let fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3FFF; // more fragments, or an offset
                let start = usize::from(packet[0] & 0x0F) * 4;
                (Version::V4, packet[9], (fragment == 0 && start >= IPV4_LEN).then_some(start)?)
            }
            Version::V6 => (Version::V6, packet[6], IPV6_LEN),
        };
        let least = match protocol {
            TCP => 20,
            UDP => 8,
            _ => return None,
        };
        (packet.len() >= start + least).then_some(Self { version, protocol, start })
    }

    /// Length of the transport header; `None` when a TCP header is inconsistent.
    pub(super) fn header_len(self, packet: &[u8]) -> Option<usize> {
        if self.protocol == UDP {
            return Some(8);
        }
        let len = usize::from(packet.get(self.start + 12)? >> 4) * 4;
        (len >= 20 && packet.len() >= self.start + len).then_some(len)
    }

    /// Where the checksum stands within the transport header.
    pub(super) const fn checksum_offset(self) -> usize {
        if self.protocol == TCP { 16 } else { 6 }
    }

    /// The sum over the pseudo header, for `len` bytes of transport header and payload.
    pub(super) fn pseudo_header(self, packet: &[u8], len: usize) -> Sum {
        let addresses = match self.version {
            Version::V4 => &packet[12..20],
            Version::V6 => &packet[8..40],
        };
        // Lengths here come from packets of at most 65,535 bytes.
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        Sum::default().add(addresses).add_u16(u16::from(self.protocol)).add_u16(len)
    }

    /// Returns whether the transport checksum is right. UDP over IPv4 may go without one, which is right too.
    pub(super) fn is_valid(self, packet: &[u8]) -> bool {
        let body = &packet[self.start..];
        if self.protocol == UDP && self.version == Version::V4 && body[6..8] == [0, 0] {
            return true;
        }
        self.pseudo_header(packet, body.len()).add(body).is_valid()
    }
}

/// Writes the length of the whole packet into the IP header and, on IPv4, renews the header checksum.
pub(super) fn set_len(packet: &mut [u8], version: Version, len: usize) {
    let len = u16::try_from(len).unwrap_or(u16::MAX);
    match version {
        Version::V4 => {
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            renew_header_checksum(packet);
        }
        Version::V6 => packet[4..6].copy_from_slice(&len.saturating_sub(40).to_be_bytes()),
    }
}

/// Renews the checksum of an IPv4 header.
pub(super) fn renew_header_checksum(packet: &mut [u8]) {
    let header_len = (usize::from(packet[0] & 0x0F) * 4).min(packet.len());
    packet[10..12].fill(0);
    let sum = Sum::default().add(&packet[..header_len]);
    packet[10..12].copy_from_slice(&sum.checksum());
}

/// Returns whether the length in the IP header is that of the packet, and the checksum of an IPv4 header is right.
pub(super) fn is_sound(packet: &[u8], version: Version) -> bool {
    let header = match version {
        Version::V4 => packet.get(..usize::from(packet[0] & 0x0F) * 4),
        Version::V6 => return has_len(packet, version),
    };
    has_len(packet, version) && header.is_some_and(|header| Sum::default().add(header).is_valid())
}

/// Returns whether the length in the IP header is that of the packet.
pub(super) fn has_len(packet: &[u8], version: Version) -> bool {
    let (at, extra) = match version {
        Version::V4 => (2, 0),
        Version::V6 => (4, IPV6_LEN),
    };
    usize::from(u16::from_be_bytes([packet[at], packet[at + 1]])) + extra == packet.len()
}
