use std::{io, net::IpAddr};

use culvert_wire::{CipherName, PeerId};
use thiserror::Error;

use crate::TransportId;

/// Why a call into an offload failed. Every error belongs to the call's peer or device; none is fatal to others.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OffloadError {
    /// The system refused.
    #[error("{what}")]
    System {
        /// What was tried, with its object: "open /dev/net/tun".
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No such peer.
    #[error("peer {0} is unknown to the offload")]
    UnknownPeer(PeerId),
    /// The peer id or one of the peer's VPN addresses is in use.
    #[error("peer {0} collides with an existing peer")]
    PeerExists(PeerId),
    /// No host can have this address, so no peer can have it inside the tunnel.
    #[error("{0} cannot be a peer's address inside the tunnel")]
    UnusableAddress(IpAddr),
    /// No such transport.
    #[error("{0:?} is unknown to the offload")]
    UnknownTransport(TransportId),
    /// A swap without a second key.
    #[error("peer {0} has no secondary key")]
    NoSecondaryKey(PeerId),
    /// The offload does not carry this cipher.
    #[error("this offload does not carry {0}")]
    Cipher(CipherName),
    /// The offload cannot do this at all.
    #[error("this offload does not support {0}")]
    Unsupported(&'static str),
    /// A device of the wanted name is there, and cannot be used.
    #[error("{note}")]
    WrongDevice {
        /// Its name.
        device: String,
        /// What is wrong with it, and what to do; in OpenVPN's words where it has some.
        note: String,
    },
    /// The process may not use this offload here.
    #[error("{0}")]
    NotPermitted(&'static str),
    /// The device is gone.
    #[error("the device is gone")]
    DeviceGone,
}

impl OffloadError {
    /// Makes a [`Self::System`] out of what was tried and what the system said.
    pub fn system(what: impl Into<String>, source: io::Error) -> Self {
        Self::System { what: what.into(), source }
    }
}
