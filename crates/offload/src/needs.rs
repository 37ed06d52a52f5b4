//! What a peer needs, held against what an offload can carry.

use std::fmt;

use culvert_wire::{CipherName, OffloadKind, PeerId};

use crate::{Capabilities, Framing, PeerSpec, Protocol};

/// One thing that a peer needs and an offload lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// Its packets carry no peer id (`DATA_V1`).
    DataV1,
    /// Its cipher.
    Cipher(CipherName),
    /// Compression framing around its payloads.
    Framing,
    /// Packets that are cut and put together (`fragment`).
    Fragments,
    /// The epoch data format.
    Epoch,
    /// TCP.
    Tcp,
    /// Another id for sending than for receiving.
    TxId,
    /// Addresses of its packets are rewritten (`client-nat`).
    Nat,
}

/// Where an offload puts a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The lowest id that the peer may get; ids up to the next such bound are of one kind.
    pub first_id: PeerId,
    /// Which kind of data plane carries it.
    pub kind: OffloadKind,
    /// Why it is not where most peers are; empty when it is.
    pub because: Vec<Shortfall>,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataV1 => f.write_str("its packets carry no peer id (DATA_V2 is missing)"),
            Self::Cipher(cipher) => write!(f, "its cipher is {cipher}"),
            Self::Framing => f.write_str("it frames packets for compression"),
            Self::Fragments => f.write_str("its packets are cut (fragment)"),
            Self::Epoch => f.write_str("it uses the epoch data format"),
            Self::Tcp => f.write_str("it is connected over TCP"),
            Self::Nat => f.write_str("addresses of its packets are rewritten (client-nat)"),
            Self::TxId => f.write_str("it wants to be sent another peer id than its own"),
        }
    }
}

impl Capabilities {
    /// Returns everything that such a peer needs and this offload lacks; empty when the offload can carry it.
    #[must_use]
    pub fn shortfalls(&self, peer: &PeerSpec, protocol: Protocol) -> Vec<Shortfall> {
        let shape = peer.shape;
        [
            (shape.data_v1 && !self.data_v1, Shortfall::DataV1),
            (!self.ciphers.contains(&peer.cipher), Shortfall::Cipher(peer.cipher)),
            (shape.framing != Framing::None && !self.framing, Shortfall::Framing),
            (shape.fragment.is_some() && !self.framing, Shortfall::Fragments),
            (shape.epoch && !self.epoch, Shortfall::Epoch),
            (protocol == Protocol::Tcp && !self.tcp, Shortfall::Tcp),
            // Kernels leave that to the firewall.
            (!peer.nat.is_empty() && self.kind != OffloadKind::Engine, Shortfall::Nat),
            (peer.tx_id.is_some_and(|tx_id| tx_id != peer.id) && !self.tx_id, Shortfall::TxId),
        ]
        .into_iter()
        .filter_map(|(lacking, shortfall)| lacking.then_some(shortfall))
        .collect()
    }
}
