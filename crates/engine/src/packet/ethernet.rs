//! Ethernet frames and their 802.1Q tags.
//!
//! ```text
//!   destination: 48 | source: 48 |                                     type: 16 | payload     untagged
//!   destination: 48 | source: 48 | 0x8100: 16 | priority: 4 | VLAN: 12 | type: 16 | payload     tagged
//! ```
//!
//! A tag with VLAN 0 carries a priority only. Source of the rules: OpenVPN 2.7 `vlan.c`, `proto.c`.

use culvert_wire::{VlanAccept, Vlans};

/// Bytes of an untagged header.
pub(crate) const HEADER_LEN: usize = 14;
/// Bytes of a tag.
pub(crate) const TAG_LEN: usize = 4;
/// Where a tag begins.
const TAG_AT: usize = 12;

const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86DD;
const TYPE_TAGGED: u16 = 0x8100;
const VLAN_MASK: u16 = 0x0FFF;

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) destination: Mac,
    pub(crate) source: Mac,
    /// The VLAN of its tag: 0 is a priority alone, `None` no tag.
    pub(crate) tag: Option<u16>,
}

impl Header {
    /// Reads a frame's header; `None` when it is too short for one. A type that promises a tag which is not there is a
    /// type like any other.
    pub(crate) fn parse(frame: &[u8]) -> Option<Self> {
        let destination = *frame.first_chunk()?;
        let source = *frame.get(6..)?.first_chunk()?;
        let kind = number(frame, TAG_AT)?;
        let tag = (kind == TYPE_TAGGED && frame.len() >= HEADER_LEN + TAG_LEN)
            .then(|| number(frame, TAG_AT + 2))
            .flatten();
        Some(Self { destination, source, tag: tag.map(|control| control & VLAN_MASK) })
    }

    /// It belongs to a VLAN, not to a priority alone.
    pub(crate) fn is_in_vlan(&self) -> bool {
        self.tag.is_some_and(|vlan| vlan != 0)
    }
}

/// Goes to many: a multicast or the broadcast address.
pub(crate) const fn is_group(mac: Mac) -> bool {
    mac[0] & 1 != 0
}

/// What a device's frame is to peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inbound {
    /// The VLAN that it belongs to.
    pub(crate) vlan: u16,
    /// Its tag says that VLAN, and is not for peers.
    pub(crate) untag: bool,
}

/// Judges a frame that the device gave; `None` drops it.
pub(crate) fn from_device(vlans: Vlans, header: Header) -> Option<Inbound> {
    let own = Some(Inbound { vlan: vlans.pvid, untag: false });
    match (header.tag, vlans.accept) {
        (None, VlanAccept::Tagged) => None,
        // A priority is kept for who looks at it.
        (None | Some(0), _) => own,
        (Some(_), VlanAccept::Untagged) => None,
        (Some(vlan), VlanAccept::All | VlanAccept::Tagged) => Some(Inbound { vlan, untag: true }),
    }
}

/// What is to be done with a frame of a peer on its way to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outbound {
    /// It goes as it is.
    AsItIs,
    /// It goes with a tag of this VLAN.
    Tag(u16),
    /// It is not for this device.
    Drop,
}

/// Judges a frame of a peer in `vlan` that goes to the device.
pub(crate) fn to_device(vlans: Vlans, vlan: u16) -> Outbound {
    match (vlans.accept, vlan == vlans.pvid) {
        (VlanAccept::Untagged | VlanAccept::All, true) => Outbound::AsItIs,
        (VlanAccept::Untagged, false) => Outbound::Drop,
        (VlanAccept::All, false) | (VlanAccept::Tagged, _) => Outbound::Tag(vlan),
    }
}

/// Tags the frame in the first `len` bytes of the buffer, or writes the VLAN into a tag that is a priority alone; returns
/// its new length. `None`: it has no header, or the buffer no room.
pub(crate) fn tag(buf: &mut [u8], len: usize, vlan: u16) -> Option<usize> {
    let header = Header::parse(buf.get(..len)?)?;
    let (len, priority) = match header.tag {
        Some(_) => (len, number(buf, TAG_AT + 2)? & !VLAN_MASK),
        None => {
            let tagged = buf.get_mut(..len + TAG_LEN)?;
            tagged.copy_within(TAG_AT..len, TAG_AT + TAG_LEN);
            (len + TAG_LEN, 0)
        }
    };
    buf.get_mut(TAG_AT..TAG_AT + 2)?.copy_from_slice(&TYPE_TAGGED.to_be_bytes());
    buf.get_mut(TAG_AT + 2..TAG_AT + 4)?.copy_from_slice(&(priority | vlan & VLAN_MASK).to_be_bytes());
    Some(len)
}

/// Writes a frame, without its tag if `untag`; `out` is as long as the result.
pub(crate) fn copy(frame: &[u8], untag: bool, out: &mut [u8]) {
    if !untag {
        return out.copy_from_slice(frame);
    }
    out[..TAG_AT].copy_from_slice(&frame[..TAG_AT]);
    out[TAG_AT..].copy_from_slice(&frame[TAG_AT + TAG_LEN..]);
}

/// The IP packet in a frame, behind at most one tag; the frame's padding may follow it.
pub(crate) fn inner(frame: &mut [u8]) -> Option<&mut [u8]> {
    let (kind, at) = match number(frame, TAG_AT)? {
        TYPE_TAGGED => (number(frame, TAG_AT + TAG_LEN)?, HEADER_LEN + TAG_LEN),
        kind => (kind, HEADER_LEN),
    };
    let packet = frame.get_mut(at..)?;
    let version = packet.first()? >> 4;
    matches!((kind, version), (TYPE_IPV4, 4) | (TYPE_IPV6, 6)).then_some(packet)
}

fn number(frame: &[u8], at: usize) -> Option<u16> {
    frame.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

#[cfg(test)]
#[path = "ethernet_tests.rs"]
mod tests;
