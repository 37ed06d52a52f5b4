//! The virtio header in front of each packet that a TUN device exchanges (`struct virtio_net_hdr`).
//!
//! Layout, numbers in the machine's byte order: `flags: u8`, `gso_type: u8`, `hdr_len: u16`, `gso_size: u16`,
//! `csum_start: u16`, `csum_offset: u16`.

/// Bytes of the header.
pub(crate) const HEADER_LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Set beside the type on TCP with congestion notification.
const GSO_ECN: u8 = 0x80;

/// How a super-packet is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gso {
    /// Not at all.
    None,
    /// Into TCP segments over IPv4.
    TcpV4,
    /// Into TCP segments over IPv6.
    TcpV6,
    /// Into UDP datagrams.
    Udp,
}

/// The header's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VnetHeader {
    /// How to cut.
    pub(crate) gso: Gso,
    /// Length of the headers that each segment repeats: a hint when reading.
    pub(crate) hdr_len: u16,
    /// Payload bytes of each segment but the last.
    pub(crate) gso_size: u16,
    /// Where the transport header begins and, within it, its checksum field, which holds the sum over the pseudo
    /// header only; `None` when the checksum is complete.
    pub(crate) partial_checksum: Option<(u16, u16)>,
}

impl VnetHeader {
    /// A single packet with complete checksums.
    pub(crate) const PLAIN: Self = Self { gso: Gso::None, hdr_len: 0, gso_size: 0, partial_checksum: None };

    /// Reads the header; `None` for types that were not asked for.
    pub(crate) fn parse(raw: [u8; HEADER_LEN]) -> Option<Self> {
        let number = |at: usize| u16::from_ne_bytes([raw[at], raw[at + 1]]);
        let gso = match raw[1] & !GSO_ECN {
            0 => Gso::None,
            GSO_TCPV4 => Gso::TcpV4,
            GSO_TCPV6 => Gso::TcpV6,
            GSO_UDP_L4 => Gso::Udp,
            _ => return None,
        };
        Some(Self {
            gso,
            hdr_len: number(2),
            gso_size: number(4),
            partial_checksum: (raw[0] & NEEDS_CSUM != 0).then(|| (number(6), number(8))),
        })
    }

    /// Writes the header.
    pub(crate) fn emit(self) -> [u8; HEADER_LEN] {
        let mut raw = [0; HEADER_LEN];
        raw[1] = match self.gso {
            Gso::None => 0,
            Gso::TcpV4 => GSO_TCPV4,
            Gso::TcpV6 => GSO_TCPV6,
            Gso::Udp => GSO_UDP_L4,
        };
        raw[2..4].copy_from_slice(&self.hdr_len.to_ne_bytes());
        raw[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        if let Some((start, offset)) = self.partial_checksum {
            raw[0] = NEEDS_CSUM;
            raw[6..8].copy_from_slice(&start.to_ne_bytes());
            raw[8..10].copy_from_slice(&offset.to_ne_bytes());
        }
        raw
    }
}
