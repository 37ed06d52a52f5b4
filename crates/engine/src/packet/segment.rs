//! Cutting a super-packet of the device into the packets that the peer is to receive.

use super::{
    TCP, UDP,
    checksum::Sum,
    ip::{self, Transport, Version},
    vnet::{Gso, HEADER_LEN, VnetHeader},
};

const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;

/// A packet read from the device, and how to cut it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SuperPacket<'a> {
    packet: &'a [u8],
    cut: Cut,
}

#[derive(Clone, Copy, Debug)]
enum Cut {
    /// One packet; its checksum may have to be finished: where the sum starts, where it goes.
    Single(Option<(usize, usize)>),
    /// Headers to repeat, payload bytes of each segment.
    Segments { transport: Transport, headers: usize, size: usize },
}

impl<'a> SuperPacket<'a> {
    /// Reads a frame: virtio header, packet. `None` when the two contradict each other.
    pub(crate) fn parse(frame: &'a [u8]) -> Option<Self> {
        let (header, packet) = frame.split_first_chunk::<HEADER_LEN>()?;
        let header = VnetHeader::parse(*header)?;
        let cut = match header.gso {
            Gso::None => Cut::Single(match header.partial_checksum {
                None => None,
                Some((start, offset)) => {
                    let at = usize::from(start) + usize::from(offset);
                    (packet.len() >= at + 2).then_some(Some((start.into(), at)))?
                }
            }),
            gso => segments(gso, header, packet)?,
        };
        (!packet.is_empty()).then_some(Self { packet, cut })
    }

    /// The bytes as they were read: right for addresses, not for lengths and checksums.
    pub(crate) const fn bytes(&self) -> &'a [u8] {
        self.packet
    }

    /// How many packets it makes.
    pub(crate) fn count(&self) -> usize {
        match self.cut {
            Cut::Single(_) => 1,
            Cut::Segments { headers, size, .. } => (self.packet.len() - headers).div_ceil(size).max(1),
        }
    }

    /// Length of packet `index`.
    pub(crate) fn len(&self, index: usize) -> usize {
        match self.cut {
            Cut::Single(_) => self.packet.len(),
            Cut::Segments { headers, size, .. } => {
                headers + (self.packet.len() - headers - index * size).min(size)
            }
        }
    }

    /// Writes packet `index` into `out`, which has its length.
    pub(crate) fn write(&self, index: usize, out: &mut [u8]) {
        match self.cut {
            Cut::Single(checksum) => {
                out.copy_from_slice(self.packet);
                if let Some((start, at)) = checksum {
                    finish_checksum(out, start, at);
                }
            }
            Cut::Segments { transport, headers, size } => {
                let payload = &self.packet[headers + index * size..];
                let payload = &payload[..payload.len().min(size)];
                let (head, body) = out.split_at_mut(headers);
                head.copy_from_slice(&self.packet[..headers]);
                let last = index + 1 == self.count();
                patch_headers(head, transport, index, size, last, payload.len());
                let mut sum = transport.pseudo_header(head, headers - transport.start + payload.len());
                sum = sum.add(&head[transport.start..]).add_copying(payload, body);
                let mut checksum = sum.checksum();
                if transport.protocol == UDP && checksum == [0, 0] {
                    checksum = [0xFF, 0xFF]; // zero would mean "no checksum"
                }
                let at = transport.start + transport.checksum_offset();
                head[at..at + 2].copy_from_slice(&checksum);
            }
        }
    }
}

/// Checks that the packet is what its virtio header says. The header's own length is only a hint: it is not used.
fn segments(gso: Gso, header: VnetHeader, packet: &[u8]) -> Option<Cut> {
    let (start, _) = header.partial_checksum?;
    let start = usize::from(start);
    let version = ip::version(packet)?;
    let protocol = match (gso, version) {
        (Gso::TcpV4, Version::V4) | (Gso::TcpV6, Version::V6) => TCP,
        (Gso::Udp, _) => UDP,
        _ => return None,
    };
    // On IPv6, extension headers may stand before the transport header; the kernel says where that begins.
    let least = if version == Version::V4 { usize::from(packet[0] & 0x0F) * 4 } else { ip::IPV6_LEN };
    if start < least || packet.len() < start + if protocol == TCP { 20 } else { 8 } {
        return None;
    }
    let transport = Transport { version, protocol, start };
    let headers = start + transport.header_len(packet)?;
    let size = usize::from(header.gso_size);
    (size > 0 && packet.len() > headers).then_some(Cut::Segments { transport, headers, size })
}

/// Makes the copied headers those of one segment, its transport checksum still zero.
fn patch_headers(
    head: &mut [u8],
    transport: Transport,
    index: usize,
    size: usize,
    last: bool,
    payload: usize,
) {
    let total = head.len() + payload;
    if transport.version == Version::V4 {
        let first = u16::from_be_bytes([head[4], head[5]]);
        // The id wraps by design.
        let id = first.wrapping_add(u16::try_from(index & 0xFFFF).unwrap_or(0));
        head[4..6].copy_from_slice(&id.to_be_bytes());
    }
    ip::set_len(head, transport.version, total);
    let segment = &mut head[transport.start..];
    if transport.protocol == TCP {
        let first = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
        let offset = u32::try_from(index * size).unwrap_or(0); // at most 64 KiB
        segment[4..8].copy_from_slice(&first.wrapping_add(offset).to_be_bytes());
        if !last {
            segment[13] &= !(TCP_FIN | TCP_PSH);
        }
        if index > 0 {
            segment[13] &= !TCP_CWR;
        }
        segment[16..18].fill(0);
    } else {
        let len = u16::try_from(segment.len() + payload).unwrap_or(u16::MAX);
        segment[4..6].copy_from_slice(&len.to_be_bytes());
        segment[6..8].fill(0);
    }
}

/// Replaces the sum over the pseudo header by the checksum over everything from `start`.
fn finish_checksum(packet: &mut [u8], start: usize, at: usize) {
    let mut checksum = Sum::default().add(&packet[start..]).checksum();
    if checksum == [0, 0] {
        checksum = [0xFF, 0xFF]; // the same number, and never "no checksum" where UDP would read it so
    }
    packet[at..at + 2].copy_from_slice(&checksum);
}
