use std::net::SocketAddr;

use culvert_wire::{KeyId, PeerId};

use crate::{MeasuredSizes, PeerStats, Station};

/// Something that happened in the data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OffloadEvent {
    /// The offload let a peer go; it no longer exists there. Its last counters come along where they are known.
    PeerGone(PeerId, DeleteReason, Option<Box<PeerStats>>),
    /// The peer said over the data channel (OCC_EXIT) that it leaves. It still exists here.
    ExitNotified(PeerId),
    /// A key nears the end of its packet ids or its cipher's usage limit: renegotiate.
    KeyExhausted(PeerId, KeyId),
    /// The peer sends from a new address; authenticated data proved it.
    Floated(PeerId, SocketAddr),
    /// An address was first seen, or seen at another peer than before, on an Ethernet device.
    Learned {
        /// Who sends from it now.
        peer: PeerId,
        /// The address.
        station: Station,
        /// It was another peer's before.
        moved: bool,
    },
    /// A learned address was idle for too long. Those of a peer that goes are forgotten without a word.
    Forgotten(PeerId, Station),
    /// The largest packets that reach the peer, outer headers included, where tests found that larger ones do not;
    /// `None`: they do again.
    PathMtu(PeerId, Option<u16>),
    /// What `mtu-test` measured; `None`: the peer does not answer.
    SizesMeasured(PeerId, Option<MeasuredSizes>),
    /// The device vanished, with its peers and keys. Nothing follows.
    DeviceGone,
}

/// Why a peer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteReason {
    /// Deleted by a call.
    Userspace,
    /// Nothing was heard within the keepalive timeout.
    Expired,
    /// Its transport failed.
    TransportError,
    /// Its TCP stream was closed by the peer.
    TransportDisconnect,
    /// The device was torn down.
    Teardown,
}
