//! What the module tells without being asked.

use std::net::SocketAddr;

use culvert_wire::{KeyId, PeerId};
use netlink_bindings::ovpn;

use super::{
    commands::remote,
    netlink::{Message, attributes, unsigned},
};
use crate::DeleteReason;

/// A notification about a peer of our device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notification {
    /// `PEER_DEL_NTF`
    Deleted(PeerId, DeleteReason),
    /// `PEER_FLOAT_NTF`: the module sends there already.
    Floated(PeerId, SocketAddr),
    /// `KEY_SWAP_NTF`: the key is used up and gone; nothing is sent any more.
    KeyUsedUp(PeerId, KeyId),
}

impl Notification {
    /// Reads one; `None` when it is about another device, or is none that we know.
    pub(super) fn read(message: &Message<'_>, family: u16, ifindex: u32) -> Option<Self> {
        if message.header.r#type != family {
            return None;
        }
        match *message.payload.first()? {
            ovpn::OpPeerDelNotif::CMD => {
                let event = ovpn::OpPeerDelNotif::decode_notif(message.payload);
                let peer = event.get_peer().ok().filter(|_| event.get_ifindex() == Ok(ifindex))?;
                Some(Self::Deleted(PeerId::new(peer.get_id().ok()?)?, reason(peer.get_del_reason().ok()?)))
            }
            ovpn::OpPeerFloatNotif::CMD => {
                let event = ovpn::OpPeerFloatNotif::decode_notif(message.payload);
                let peer = event.get_peer().ok().filter(|_| event.get_ifindex() == Ok(ifindex))?;
                Some(Self::Floated(PeerId::new(peer.get_id().ok()?)?, remote(peer)?))
            }
            ovpn::OpKeySwapNotif::CMD => Self::read_key_swap(message.payload, ifindex),
            _ => None,
        }
    }

    /// Its key id is narrower than the generated reader takes it for.
    fn read_key_swap(payload: &[u8], ifindex: u32) -> Option<Self> {
        // ovpn.yaml: attributes of the event, and of the nest `keyconf`
        const KEYCONF: u16 = 3;
        const PEER_ID: u16 = 1;
        const KEY_ID: u16 = 3;
        const GENERIC_HEADER: usize = 4;
        let event = ovpn::OpKeySwapNotif::decode_notif(payload);
        if event.get_ifindex() != Ok(ifindex) {
            return None;
        }
        let (_, nest) = attributes(payload.get(GENERIC_HEADER..)?).find(|(kind, _)| *kind == KEYCONF)?;
        let number = |wanted| {
            let (_, value) = attributes(nest).find(|(kind, _)| *kind == wanted)?;
            u32::try_from(unsigned(value)?).ok()
        };
        let key = KeyId::new(u8::try_from(number(KEY_ID)?).ok()?)?;
        Some(Self::KeyUsedUp(PeerId::new(number(PEER_ID)?)?, key))
    }
}

const fn reason(number: u32) -> DeleteReason {
    match number {
        1 => DeleteReason::Userspace,
        2 => DeleteReason::Expired,
        3 => DeleteReason::TransportError,
        4 => DeleteReason::TransportDisconnect,
        _ => DeleteReason::Teardown,
    }
}

/// Whether a message of the group of links says that a device is gone.
pub(super) fn is_removal(message: &Message<'_>, ifindex: u32) -> bool {
    // linux/rtnetlink.h
    const RTM_DELLINK: u16 = 17;
    // `struct ifinfomsg`: family and type, then the index.
    message.header.r#type == RTM_DELLINK
        && message.payload.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes)
            == i32::try_from(ifindex).ok()
}
