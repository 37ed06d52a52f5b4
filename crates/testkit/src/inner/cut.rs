//! What a kernel does with a frame that is written to a TUN device, and with one that it hands out: segmentation.
//!
//! Facts: virtio specification 1.2, section 5.1.6 (the header); Linux's documentation of segmentation offloads.

use super::{
    TCP, UDP,
    headers::{Parts, get16, has_valid_header, ones_sum, put16, renew_header_checksum, short},
};

/// `struct virtio_net_hdr` as it stands in front of a packet, numbers in the machine's byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// Bit 0: the checksum at `csum_start + csum_offset` is still to be made.
    pub flags: u8,
    /// 0: one packet. 1: TCP over IPv4. 4: TCP over IPv6. 5: UDP. Bit 7, with TCP: congestion was notified.
    pub gso_type: u8,
    /// Bytes that each segment repeats.
    pub hdr_len: u16,
    /// Payload bytes of each segment.
    pub gso_size: u16,
    /// Where what the checksum covers begins.
    pub csum_start: u16,
    /// Where the checksum stands, counted from `csum_start`.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// Bytes of the header.
    pub const LEN: usize = 10;
    /// [`VnetHeader::flags`]: the checksum is to be made.
    pub const NEEDS_CSUM: u8 = 1;
    /// [`VnetHeader::gso_type`].
    pub const TCPV4: u8 = 1;
    /// [`VnetHeader::gso_type`].
    pub const TCPV6: u8 = 4;
    /// [`VnetHeader::gso_type`].
    pub const UDP: u8 = 5;
    /// [`VnetHeader::gso_type`], beside another.
    pub const ECN: u8 = 0x80;

    /// Splits a frame.
    #[must_use]
    pub fn split(frame: &[u8]) -> Option<(Self, &[u8])> {
        let (raw, packet) = frame.split_first_chunk::<{ Self::LEN }>()?;
        let number = |at: usize| u16::from_ne_bytes([raw[at], raw[at + 1]]);
        let header = Self {
            flags: raw[0],
            gso_type: raw[1],
            hdr_len: number(2),
            gso_size: number(4),
            csum_start: number(6),
            csum_offset: number(8),
        };
        Some((header, packet))
    }

    /// Puts the header in front of a packet.
    #[must_use]
    pub fn with(self, packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![self.flags, self.gso_type];
        for number in [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset] {
            frame.extend_from_slice(&number.to_ne_bytes());
        }
        frame.extend_from_slice(packet);
        frame
    }
}

/// Cuts a frame into the packets that the network gets to see.
///
/// # Errors
/// Why a kernel would refuse or misread the frame.
pub fn cut(frame: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let (header, packet) = VnetHeader::split(frame).ok_or("no virtio header")?;
    if packet.is_empty() {
        return Err("no packet".to_owned());
    }
    match header.gso_type & !VnetHeader::ECN {
        0 => single(header, packet).map(|packet| vec![packet]),
        VnetHeader::TCPV4 | VnetHeader::TCPV6 | VnetHeader::UDP => segments(header, packet),
        other => Err(format!("nobody asked for segments of type {other}")),
    }
}

/// One packet, whose checksum may be the kernel's to make.
fn single(header: VnetHeader, packet: &[u8]) -> Result<Vec<u8>, String> {
    let mut packet = packet.to_vec();
    if header.flags & VnetHeader::NEEDS_CSUM != 0 {
        let start = usize::from(header.csum_start);
        let at = start + usize::from(header.csum_offset);
        if at + 2 > packet.len() {
            return Err("the checksum lies outside".to_owned());
        }
        let sum = match !ones_sum(&packet[start..]) {
            0 => 0xFFFF,
            sum => sum,
        };
        put16(&mut packet, at, sum);
    }
    Ok(packet)
}

/// A super-packet: everything that its header and the virtio header say has to agree.
fn segments(header: VnetHeader, packet: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let check = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("{what}: {header:?}")) };
    let parts = Parts::find(packet).ok_or("no transport header")?;
    let kind = match (parts.protocol, parts.v6) {
        (TCP, false) => VnetHeader::TCPV4,
        (TCP, true) => VnetHeader::TCPV6,
        _ => VnetHeader::UDP,
    };
    check(header.gso_type & !VnetHeader::ECN == kind, "another kind of packet")?;
    check(header.flags & VnetHeader::NEEDS_CSUM != 0, "segments need their checksums made")?;
    check(usize::from(header.csum_start) == parts.ip, "not where the transport header begins")?;
    check(parts.ip + usize::from(header.csum_offset) == parts.checksum_at(), "not where the checksum is")?;
    check(usize::from(header.hdr_len) <= packet.len(), "longer headers than the packet")?;
    check(header.gso_size > 0, "segments of nothing")?;
    check(packet.len() > parts.payload, "no payload to cut")?;
    check(has_valid_header(packet), "a wrong checksum of the IP header")?;
    let stated = if parts.v6 { usize::from(get16(packet, 4)) + 40 } else { get16(packet, 2).into() };
    check(stated == packet.len(), "the IP length is not the packet's")?;
    let transport_len = packet.len() - parts.ip;
    let pseudo = ones_sum(&parts.pseudo_header(packet, transport_len));
    let stands = get16(packet, parts.checksum_at());
    // Zero may be written in two ways.
    check(stands % 0xFFFF == pseudo % 0xFFFF, "not the pseudo header's sum")?;
    if parts.protocol == UDP {
        check(usize::from(get16(packet, parts.ip + 4)) == transport_len, "a wrong UDP length")?;
    }
    let payloads: Vec<&[u8]> = packet[parts.payload..].chunks(header.gso_size.into()).collect();
    let last = payloads.len() - 1;
    Ok((0..payloads.len())
        .map(|index| segment(packet, parts, payloads[index], index, index == last, header))
        .collect())
}

/// Segment `index`, with `payload`.
fn segment(
    packet: &[u8],
    parts: Parts,
    payload: &[u8],
    index: usize,
    last: bool,
    header: VnetHeader,
) -> Vec<u8> {
    let mut out = [&packet[..parts.payload], payload].concat();
    let len = out.len();
    if parts.v6 {
        put16(&mut out, 4, short(len - 40));
    } else {
        put16(&mut out, 2, short(len));
        let id = get16(packet, 4).wrapping_add(short(index));
        put16(&mut out, 4, id);
        renew_header_checksum(&mut out);
    }
    if parts.protocol == TCP {
        let at = parts.ip + 4;
        let first = u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
        let offset = u32::try_from(index * usize::from(header.gso_size)).unwrap_or(u32::MAX);
        out[at..at + 4].copy_from_slice(&first.wrapping_add(offset).to_be_bytes());
        let flags = &mut out[parts.ip + 13];
        if !last {
            *flags &= !0x09; // FIN and PSH belong to the end
        }
        if index > 0 {
            *flags &= !0x80; // CWR belongs to the beginning
        }
    } else {
        put16(&mut out, parts.ip + 4, short(len - parts.ip));
    }
    let sum = parts.checksum(&out);
    put16(&mut out, parts.checksum_at(), sum);
    out
}
