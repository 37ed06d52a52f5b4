//! Ancillary data of datagrams (`cmsg(3)`), read and written as bytes.
//!
//! Layout of one message: `len: usize` (header included), `level: i32`, `type: i32`, data, padding to the size of a
//! `usize`. A buffer holds one after the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Room for a segment size and the largest packet information, with padding.
pub(crate) const CAPACITY: usize = 128;
const HEADER: usize = size_of::<usize>() + 8;
const SOL_UDP: i32 = 17;
const UDP_SEGMENT: i32 = 103;
const UDP_GRO: i32 = 104;

/// A buffer of ancillary data, aligned as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control(pub(crate) [u8; CAPACITY]);

/// What a received datagram's ancillary data told.
#[derive(Clone, Copy, Default)]
pub(crate) struct Told {
    /// Size of each segment of a joined train (`UDP_GRO`).
    pub(crate) segment: Option<usize>,
    /// The local address that the datagram was sent to, and the interface that it arrived on.
    pub(crate) to: Option<(IpAddr, u32)>,
}

impl Control {
    pub(crate) const EMPTY: Self = Self([0; CAPACITY]);

    /// Writes what a datagram to send needs; returns how many bytes count.
    pub(crate) fn write(
        &mut self,
        segment: Option<u16>,
        from: Option<(IpAddr, u32)>,
        tos: Option<u8>,
        v6_socket: bool,
    ) -> usize {
        let mut at = 0;
        if let Some(size) = segment {
            at = self.push(at, SOL_UDP, UDP_SEGMENT, &size.to_ne_bytes());
        }
        if let Some(tos) = tos {
            let value = i32::from(tos).to_ne_bytes();
            at = self.push(at, libc::IPPROTO_IP, libc::IP_TOS, &value);
            if v6_socket {
                // Each protocol reads its own: such a socket sends to both kinds of addresses.
                at = self.push(at, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &value);
            }
        }
        match from {
            // in_pktinfo: interface index, source to use, destination (not used when sending)
            Some((IpAddr::V4(ip), interface)) if !v6_socket => {
                let mut info = [0; 12];
                info[..4].copy_from_slice(&interface.to_ne_bytes());
                info[4..8].copy_from_slice(&ip.octets());
                at = self.push(at, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            // in6_pktinfo: source address, interface index
            Some((ip, interface)) if v6_socket => {
                let ip = match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                let mut info = [0; 20];
                info[..16].copy_from_slice(&ip.octets());
                info[16..].copy_from_slice(&interface.to_ne_bytes());
                at = self.push(at, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            _ => {}
        }
        at
    }

    fn push(&mut self, at: usize, level: i32, kind: i32, data: &[u8]) -> usize {
        let len = HEADER + data.len();
        let word = size_of::<usize>();
        let buf = &mut self.0[at..];
        buf[..word].copy_from_slice(&len.to_ne_bytes());
        buf[word..word + 4].copy_from_slice(&level.to_ne_bytes());
        buf[word + 4..word + 8].copy_from_slice(&kind.to_ne_bytes());
        buf[HEADER..len].copy_from_slice(data);
        at + len.next_multiple_of(word)
    }

    /// Reads the first `len` bytes.
    pub(crate) fn read(&self, len: usize) -> Told {
        let mut told = Told::default();
        let mut rest = &self.0[..len.min(CAPACITY)];
        while let Some((level, kind, data, next)) = split(rest) {
            match (level, kind) {
                (SOL_UDP, UDP_GRO) => {
                    told.segment = data
                        .first_chunk::<4>()
                        .and_then(|size| usize::try_from(i32::from_ne_bytes(*size)).ok())
                        .filter(|size| *size > 0);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let ip = data.get(8..12).and_then(|b| b.first_chunk::<4>());
                    told.to = ip.map(|ip| (Ipv4Addr::from(*ip).into(), index(data.get(..4))));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let ip = data.first_chunk::<16>().map(|b| IpAddr::V6(Ipv6Addr::from(*b)).to_canonical());
                    told.to = ip.map(|ip| (ip, index(data.get(16..20))));
                }
                _ => {}
            }
            rest = next;
        }
        told
    }
}

/// Reads the index of an interface.
fn index(bytes: Option<&[u8]>) -> u32 {
    bytes.and_then(<[u8]>::first_chunk::<4>).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// Splits off the first message: level, type, data, what follows.
fn split(buf: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let word = size_of::<usize>();
    let len = usize::from_ne_bytes(*buf.first_chunk()?);
    let level = i32::from_ne_bytes(*buf.get(word..)?.first_chunk()?);
    let kind = i32::from_ne_bytes(*buf.get(word + 4..)?.first_chunk()?);
    let data = buf.get(HEADER..len)?;
    let next = buf.get(len.next_multiple_of(word)..).unwrap_or_default();
    Some((level, kind, data, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_garbled_length_ends_the_walk() {
        let mut control = Control::EMPTY;
        for len in [0_usize, 1, HEADER - 1, CAPACITY + 1, usize::MAX - 2] {
            control.0[..size_of::<usize>()].copy_from_slice(&len.to_ne_bytes());
            assert!(control.read(CAPACITY).segment.is_none());
        }
    }

    #[test]
    fn a_source_address_is_written_in_the_form_of_the_sockets_family() {
        let mut control = Control::EMPTY;
        let from = Some(("192.0.2.1".parse().unwrap(), 7));
        let len = control.write(Some(1400), from, Some(0x10), true);
        // The kernel's own form of a mapped address on receipt is the same message.
        assert_eq!(control.read(len).to, from);
    }
}
