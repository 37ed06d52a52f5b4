//! The header of datagrams to and from the relay of a SOCKS proxy (RFC 1928, section 7).
//!
//! ```text
//! u16  reserved    0
//! u8   fragment    0: whole
//! u8   type        1: IPv4, 4: IPv6, 3: a name
//!      address     4 or 16 bytes, or a length and so many bytes: where the datagram goes, or came from
//! u16  port
//!      datagram
//! ```

use std::net::{IpAddr, SocketAddr};

use crate::WireError;

/// Bytes of the header of an IPv4 address.
pub const V4_HEADER_LEN: usize = 10;
/// Bytes of the header of an IPv6 address.
pub const V6_HEADER_LEN: usize = 22;

const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
/// Up to the address.
const HEAD_LEN: usize = 4;

/// Appends the header of a datagram for `to`.
pub fn push_header(to: SocketAddr, out: &mut Vec<u8>) {
    match to.ip() {
        IpAddr::V4(v4) => {
            out.extend([0, 0, 0, IPV4]);
            out.extend(v4.octets());
        }
        IpAddr::V6(v6) => {
            out.extend([0, 0, 0, IPV6]);
            out.extend(v6.octets());
        }
    }
    out.extend(to.port().to_be_bytes());
}

/// Returns where a datagram came from, and the datagram. `None`: the proxy tells a name, which says nothing to who sent to an
/// address.
///
/// # Errors
/// When the header is cut off, a fragment's, or of an unknown type.
pub fn split_header(bytes: &[u8]) -> Result<(Option<SocketAddr>, &[u8]), WireError> {
    let truncated = |need| WireError::Truncated { need, have: bytes.len() };
    let (head, rest) = bytes.split_first_chunk::<HEAD_LEN>().ok_or(truncated(HEAD_LEN))?;
    let (ip, rest): (Option<IpAddr>, _) = match *head {
        [_, _, 0, IPV4] => {
            let (ip, rest) = rest.split_first_chunk::<4>().ok_or(truncated(V4_HEADER_LEN))?;
            (Some((*ip).into()), rest)
        }
        [_, _, 0, IPV6] => {
            let (ip, rest) = rest.split_first_chunk::<16>().ok_or(truncated(V6_HEADER_LEN))?;
            (Some((*ip).into()), rest)
        }
        [_, _, 0, NAME] => {
            let (len, rest) = rest.split_first().ok_or(truncated(HEAD_LEN + 1))?;
            let (_, rest) = rest.split_at_checked(usize::from(*len)).ok_or(truncated(HEAD_LEN + 1))?;
            (None, rest)
        }
        [_, _, fragment, kind] => return Err(WireError::SocksHeader { fragment, kind }),
    };
    let (port, rest) = rest.split_first_chunk::<2>().ok_or(truncated(V4_HEADER_LEN))?;
    Ok((ip.map(|ip| SocketAddr::new(ip, u16::from_be_bytes(*port))), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back() {
        for (address, len) in [("192.0.2.7:1194", V4_HEADER_LEN), ("[2001:db8::7]:443", V6_HEADER_LEN)] {
            let address: SocketAddr = address.parse().unwrap();
            let mut bytes = Vec::new();
            push_header(address, &mut bytes);
            assert_eq!(bytes.len(), len);
            bytes.push(7);
            assert_eq!(split_header(&bytes), Ok((Some(address), &[7][..])));
            assert!(matches!(split_header(&bytes[..len - 1]), Err(WireError::Truncated { .. })));
        }
    }

    #[test]
    fn a_name_of_any_length_is_passed_over() {
        assert_eq!(split_header(&[0, 0, 0, NAME, 2, b'a', b'b', 4, 170, 7]), Ok((None, &[7][..])));
        assert_eq!(split_header(&[0, 0, 0, NAME, 0, 4, 170]), Ok((None, &[][..])));
        for cut in [&[0, 0, 0, NAME][..], &[0, 0, 0, NAME, 2, b'a'], &[0, 0, 0, NAME, 1, b'a', 4]] {
            assert!(matches!(split_header(cut), Err(WireError::Truncated { .. })), "{cut:?}");
        }
    }

    #[test]
    fn fragments_and_unknown_types_are_refused() {
        let fragment = split_header(&[0, 0, 1, IPV4, 1, 2, 3, 4, 5, 6]);
        assert_eq!(fragment, Err(WireError::SocksHeader { fragment: 1, kind: IPV4 }));
        let unknown = split_header(&[0, 0, 0, 2, 1, b'a', 0, 0]);
        assert_eq!(unknown, Err(WireError::SocksHeader { fragment: 0, kind: 2 }));
    }
}
