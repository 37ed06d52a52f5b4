//! Socket addresses as the kernel's bytes, encoded and decoded without casts between C structures.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Bytes of a `sockaddr_in6`, the larger of the two families.
pub(crate) const LEN: usize = 28;
/// Bytes of a `sockaddr_in`.
const SIZE_V4: u32 = 16;
/// [`LEN`] as the kernel's `socklen_t`.
pub(crate) const SIZE: u32 = 28;

/// A socket address as the kernel reads and writes it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct RawAddr(pub(crate) [u8; LEN]);

impl RawAddr {
    pub(crate) const EMPTY: Self = Self([0; LEN]);

    /// Encodes an address for a socket of the given family; returns the bytes and how many of them count.
    pub(crate) fn encode(address: SocketAddr, v6_socket: bool) -> (Self, u32) {
        let mut raw = [0; LEN];
        match (address, v6_socket) {
            (SocketAddr::V4(a), false) => {
                put(&mut raw, 0, &family(libc::AF_INET).to_ne_bytes());
                put(&mut raw, 2, &a.port().to_be_bytes());
                put(&mut raw, 4, &a.ip().octets());
                (Self(raw), SIZE_V4)
            }
            (SocketAddr::V4(a), true) => {
                let mapped = SocketAddrV6::new(a.ip().to_ipv6_mapped(), a.port(), 0, 0);
                Self::encode(SocketAddr::V6(mapped), true)
            }
            (SocketAddr::V6(a), _) => {
                put(&mut raw, 0, &family(libc::AF_INET6).to_ne_bytes());
                put(&mut raw, 2, &a.port().to_be_bytes());
                put(&mut raw, 4, &a.flowinfo().to_be_bytes());
                put(&mut raw, 8, &a.ip().octets());
                put(&mut raw, 24, &a.scope_id().to_ne_bytes());
                (Self(raw), SIZE)
            }
        }
    }

    /// Decodes an address; mapped IPv4 becomes IPv4. `None` for other families and for nothing at all.
    pub(crate) fn decode(&self) -> Option<SocketAddr> {
        let raw = &self.0;
        let port = u16::from_be_bytes([raw[2], raw[3]]);
        match i32::from(u16::from_ne_bytes([raw[0], raw[1]])) {
            libc::AF_INET => {
                let ip = Ipv4Addr::new(raw[4], raw[5], raw[6], raw[7]);
                Some(SocketAddr::new(ip.into(), port))
            }
            libc::AF_INET6 => {
                let octets: [u8; 16] = raw[8..24].try_into().ok()?;
                let ip = Ipv6Addr::from(octets);
                if let Some(v4) = ip.to_ipv4_mapped() {
                    return Some(SocketAddr::new(v4.into(), port));
                }
                let scope = u32::from_ne_bytes([raw[24], raw[25], raw[26], raw[27]]);
                Some(SocketAddrV6::new(ip, port, 0, scope).into())
            }
            _ => None,
        }
    }
}

/// Turns a mapped IPv4 address into the IPv4 address it stands for.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port()).with_scope_of(address)
}

trait WithScope {
    fn with_scope_of(self, other: SocketAddr) -> SocketAddr;
}

impl WithScope for SocketAddr {
    fn with_scope_of(mut self, other: SocketAddr) -> SocketAddr {
        if let (Self::V6(me), Self::V6(other)) = (&mut self, other) {
            me.set_scope_id(other.scope_id());
        }
        self
    }
}

/// Makes an address fit for a socket of the given family: IPv4 is mapped on an IPv6 socket.
pub(crate) fn for_family(address: SocketAddr, v6_socket: bool) -> SocketAddr {
    match (address.ip(), v6_socket) {
        (IpAddr::V4(ip), true) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        _ => address,
    }
}

fn put(raw: &mut [u8; LEN], at: usize, bytes: &[u8]) {
    raw[at..at + bytes.len()].copy_from_slice(bytes);
}

/// `sa_family_t` is 16 bits wide on Linux; the two families used here are 2 and 10.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "AF_INET is 2, AF_INET6 is 10")]
const fn family(af: i32) -> u16 {
    af as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_survives_a_dual_stack_socket() {
        let address: SocketAddr = "192.0.2.7:1194".parse().unwrap();
        let (raw, len) = RawAddr::encode(address, true);
        assert_eq!(len, 28);
        assert_eq!(raw.decode(), Some(address));
    }

    #[test]
    fn addresses_of_both_families_come_back_as_they_went_in() {
        for text in ["192.0.2.7:1194", "[2001:db8::1]:443"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddr::encode(address, address.is_ipv6()).0.decode(), Some(address));
        }
        let scoped: SocketAddr = SocketAddrV6::new("fe80::1".parse().unwrap(), 1, 0, 3).into();
        assert_eq!(RawAddr::encode(scoped, true).0.decode(), Some(scoped));
    }
}
