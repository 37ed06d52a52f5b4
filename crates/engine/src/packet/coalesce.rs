//! Joining received packets of a flow into super-packets for the device.
//!
//! The AEAD is the only copy that a payload byte sees: a packet is opened straight to where its payload has to end up.
//! While a run is open, the next packet is opened `headers` bytes before the run's end, after the bytes that lie there
//! were saved. If it continues the run, the saved bytes go back over its header and the run has grown by its payload;
//! if not, it is moved out and begins a run of its own.
//!
//! ```text
//!   vnet | headers | payload 1 | payload 2 |                 the run
//!                            ^ saved ^ end
//!                            | headers | payload 3 |         the next packet, opened
//! ```
//!
//! Joined is only what the kernel's own GRO would join, and only after its checksums were verified: the super-packet
//! goes out with a new IP header and "checksum still to do", which would make a corrupt packet right.

use super::{
    TCP, UDP,
    ip::{self, Transport, Version},
    vnet::{Gso, HEADER_LEN, VnetHeader},
};

/// The largest packet, hence the largest run.
const MAX_PACKET: usize = 65_535;
/// The most datagrams that are joined, as in the kernel (`UDP_MAX_SEGMENTS`): it refuses a frame of more.
const MAX_DATAGRAMS: usize = 64;
/// The longest headers that are joined: IPv6, TCP with all options.
const MAX_HEADERS: usize = 100;
const TCP_ACK: u8 = 0x10;
const TCP_PSH: u8 = 0x08;

/// What the device takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Joins {
    /// TCP super-packets.
    pub(crate) tcp: bool,
    /// UDP super-packets.
    pub(crate) udp: bool,
}

/// Takes packets one after the other and gives frames for the device.
#[derive(Debug)]
pub(crate) struct Coalescer {
    joins: Joins,
    buf: Vec<u8>,
    run: Option<Run>,
    saved: [u8; MAX_HEADERS],
    moved: Vec<u8>,
}

/// An open run: packets joined so far, in the buffer behind the room for the virtio header.
#[derive(Clone, Copy, Debug)]
struct Run {
    transport: Transport,
    headers: usize,
    /// Payload of each packet; a shorter one ends the run.
    size: usize,
    /// End of the run in the buffer.
    end: usize,
    count: usize,
    /// What continues the run: the next TCP sequence number, the next IPv4 id.
    next_seq: u32,
    next_id: u16,
    /// The last packet had PSH set.
    push: bool,
    /// The last packet was short.
    short: bool,
}

impl Coalescer {
    pub(crate) fn new(joins: Joins) -> Self {
        Self {
            joins,
            // A packet of any size fits behind the longest run.
            buf: vec![0; HEADER_LEN + 2 * MAX_PACKET],
            run: None,
            saved: [0; MAX_HEADERS],
            moved: Vec::new(),
        }
    }

    /// Room for the next packet, at least `len` bytes (at most 65,535). What it writes there is either
    /// [committed](Self::commit) or [abandoned](Self::abandon).
    pub(crate) fn slot(&mut self, len: usize) -> &mut [u8] {
        let at = self.position();
        if let Some(run) = self.run {
            self.saved[..run.headers].copy_from_slice(&self.buf[at..run.end]);
        }
        let end = (at + len).min(self.buf.len());
        &mut self.buf[at..end]
    }

    /// The slot again, with what was written there.
    pub(crate) fn opened(&mut self, len: usize) -> &mut [u8] {
        let at = self.position();
        let end = (at + len).min(self.buf.len());
        &mut self.buf[at..end]
    }

    /// Forgets what was written into the slot.
    pub(crate) fn abandon(&mut self) {
        if let Some(run) = self.run {
            let at = self.position();
            self.buf[at..run.end].copy_from_slice(&self.saved[..run.headers]);
        }
    }

    /// Takes the first `len` bytes of the slot as a packet. Frames that became complete are given to `write`.
    pub(crate) fn commit(&mut self, len: usize, mut write: impl FnMut(&[u8])) {
        let at = self.position();
        let Some(run) = self.run else {
            return self.begin(len, write);
        };
        let packet = &self.buf[at..at + len];
        if let Some(joined) = run.join(&self.buf[HEADER_LEN..], packet) {
            self.abandon(); // the saved bytes go back over the packet's header
            self.run = Some(joined);
            if joined.is_complete() {
                self.flush(write);
            }
            return;
        }
        let mut moved = std::mem::take(&mut self.moved);
        moved.clear();
        moved.extend_from_slice(packet);
        self.abandon();
        self.flush(&mut write);
        self.buf[HEADER_LEN..HEADER_LEN + len].copy_from_slice(&moved);
        self.moved = moved;
        self.begin(len, write);
    }

    /// Writes the open run, if there is one.
    pub(crate) fn flush(&mut self, mut write: impl FnMut(&[u8])) {
        let Some(run) = self.run.take() else { return };
        let header =
            if run.count > 1 { run.seal(&mut self.buf[HEADER_LEN..run.end]) } else { VnetHeader::PLAIN };
        self.buf[..HEADER_LEN].copy_from_slice(&header.emit());
        write(&self.buf[..run.end]);
    }

    fn position(&self) -> usize {
        self.run.map_or(HEADER_LEN, |run| run.end - run.headers)
    }

    /// Begins a run with the packet at the buffer's start, or writes it if nothing may follow it.
    fn begin(&mut self, len: usize, mut write: impl FnMut(&[u8])) {
        let packet = &self.buf[HEADER_LEN..HEADER_LEN + len];
        match Run::begin(packet, self.joins) {
            Some(run) => {
                self.run = Some(run);
                if run.push {
                    self.flush(write);
                }
            }
            None => {
                self.buf[..HEADER_LEN].copy_from_slice(&VnetHeader::PLAIN.emit());
                write(&self.buf[..HEADER_LEN + len]);
            }
        }
    }
}

impl Run {
    /// Looks whether others may be joined to this packet.
    fn begin(packet: &[u8], joins: Joins) -> Option<Self> {
        let transport = Transport::find(packet)?;
        let wanted = if transport.protocol == TCP { joins.tcp } else { joins.udp };
        let plain = match transport.version {
            Version::V4 => transport.start == ip::IPV4_LEN,
            Version::V6 => true,
        };
        if !wanted || !plain || !ip::is_sound(packet, transport.version) {
            return None;
        }
        let headers = transport.start + transport.header_len(packet)?;
        let size = packet.len().checked_sub(headers).filter(|size| *size > 0)?;
        let segment = &packet[transport.start..];
        let (next_seq, push) = match transport.protocol {
            TCP => {
                if segment[13] & !TCP_PSH != TCP_ACK {
                    return None;
                }
                (sequence(segment).wrapping_add(u32::try_from(size).ok()?), segment[13] & TCP_PSH != 0)
            }
            _ => {
                // No checksum would become one; a length that differs is not UDP as the kernel makes it.
                if segment[6..8] == [0, 0]
                    || usize::from(u16::from_be_bytes([segment[4], segment[5]])) != size + 8
                {
                    return None;
                }
                (0, false)
            }
        };
        let next_id = identification(packet, transport.version).wrapping_add(1);
        transport.is_valid(packet).then_some(Self {
            transport,
            headers,
            size,
            end: HEADER_LEN + packet.len(),
            count: 1,
            next_seq,
            next_id,
            push,
            short: false,
        })
    }

    /// Returns the run as it is with this packet, if the packet continues it. `first` begins with the run's headers.
    fn join(mut self, first: &[u8], packet: &[u8]) -> Option<Self> {
        let payload = packet.len().checked_sub(self.headers).filter(|len| (1..=self.size).contains(len))?;
        if self.end - HEADER_LEN + payload > MAX_PACKET
            || !self.same_ip(first, packet)
            || !ip::is_sound(packet, self.transport.version)
        {
            return None;
        }
        let (a, b) =
            (&first[self.transport.start..self.headers], &packet[self.transport.start..self.headers]);
        if self.transport.protocol == TCP {
            // Ports; acknowledgement and header length; window; urgent pointer and options.
            let same =
                a[..4] == b[..4] && a[8..13] == b[8..13] && a[14..16] == b[14..16] && a[18..] == b[18..];
            if !same || b[13] & !TCP_PSH != TCP_ACK || sequence(b) != self.next_seq {
                return None;
            }
            self.push = b[13] & TCP_PSH != 0;
        } else if a[..4] != b[..4]
            || b[6..8] == [0, 0]
            || usize::from(u16::from_be_bytes([b[4], b[5]])) != payload + 8
        {
            return None;
        }
        if !self.transport.is_valid(packet) {
            return None;
        }
        self.next_seq = self.next_seq.wrapping_add(u32::try_from(payload).ok()?);
        self.next_id = self.next_id.wrapping_add(1);
        self.end += payload;
        self.count += 1;
        self.short = payload < self.size;
        Some(self)
    }

    /// Compares the IP headers.
    fn same_ip(&self, first: &[u8], packet: &[u8]) -> bool {
        if packet.len() < self.headers {
            return false;
        }
        match self.transport.version {
            Version::V4 => {
                // Version and TOS; flags, TTL and protocol; addresses. With don't-fragment the id means nothing.
                let dont_fragment = packet[6] & 0x40 != 0;
                first[..2] == packet[..2]
                    && first[6..10] == packet[6..10]
                    && first[12..20] == packet[12..20]
                    && (dont_fragment || identification(packet, Version::V4) == self.next_id)
            }
            // Version, traffic class and flow label; next header, hop limit and addresses.
            Version::V6 => first[..4] == packet[..4] && first[6..40] == packet[6..40],
        }
    }

    /// Nothing may follow: the sender pushed, the last packet was short, or the kernel takes no more.
    const fn is_complete(&self) -> bool {
        self.push || self.short || (self.transport.protocol == UDP && self.count == MAX_DATAGRAMS)
    }

    /// Makes the joined headers those of the super-packet.
    fn seal(&self, packet: &mut [u8]) -> VnetHeader {
        let (start, total) = (self.transport.start, packet.len());
        ip::set_len(packet, self.transport.version, total);
        let pseudo = self.transport.pseudo_header(packet, total - start).partial();
        let offset = self.transport.checksum_offset();
        let segment = &mut packet[start..];
        if self.transport.protocol == UDP {
            let len = u16::try_from(total - start).unwrap_or(u16::MAX);
            segment[4..6].copy_from_slice(&len.to_be_bytes());
        } else if self.push {
            segment[13] |= TCP_PSH;
        }
        segment[offset..offset + 2].copy_from_slice(&pseudo);
        // All of these fit: headers are at most `MAX_HEADERS`, a payload at most 65,535.
        let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        VnetHeader {
            gso: match (self.transport.protocol, self.transport.version) {
                (TCP, Version::V4) => Gso::TcpV4,
                (TCP, Version::V6) => Gso::TcpV6,
                _ => Gso::Udp,
            },
            hdr_len: short(self.headers),
            gso_size: short(self.size),
            partial_checksum: Some((short(start), short(offset))),
        }
    }
}

fn sequence(segment: &[u8]) -> u32 {
    u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]])
}

fn identification(packet: &[u8], version: Version) -> u16 {
    match version {
        Version::V4 => u16::from_be_bytes([packet[4], packet[5]]),
        Version::V6 => 0,
    }
}
