use std::sync::Arc;

use culvert_wire::{CipherName, PeerId};

/// What both ends agreed about the data channel.
#[derive(Clone, Debug)]
pub struct NegotiatedParams {
    /// The cipher.
    pub cipher: CipherName,
    /// Whether data packets carry a peer id (`DATA_V2`).
    pub data_v2: bool,
    /// Client and point-to-point: the peer id. A server assigns it in [`crate::Command::Configured`].
    pub peer_id: Option<PeerId>,
    /// Protocol features in use.
    pub flags: ProtocolFlags,
    /// What the peer says of itself.
    pub peer_info: Arc<PeerInfo>,
    /// The peer's options string.
    pub peer_options: String,
}

/// Protocol features, as `protocol-flags` pushes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProtocolFlags {
    /// Exit notification over the control channel.
    pub cc_exit: bool,
    /// Data keys by TLS exporter.
    pub tls_ekm: bool,
    /// Renegotiations wrapped by dynamic tls-crypt.
    pub dyn_tls_crypt: bool,
    /// The epoch data format.
    pub aead_epoch: bool,
}

/// The part of a push reply that the session itself acts on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushedProtocol {
    /// `peer-id`.
    pub peer_id: Option<PeerId>,
    /// `cipher`.
    pub cipher: Option<CipherName>,
    /// `protocol-flags` and `key-derivation`.
    pub flags: ProtocolFlags,
}

/// `NAME=value` lines of the key exchange (IV_ variables), in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerInfo {
    /// The lines.
    pub lines: Vec<(String, String)>,
}

impl PeerInfo {
    /// The value of a variable.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.lines.iter().find(|line| line.0 == name).map(|line| line.1.as_str())
    }

    /// The `IV_PROTO` bit field; 0 when absent.
    #[must_use]
    pub fn proto(&self) -> u32 {
        self.value("IV_PROTO").and_then(|v| v.parse().ok()).unwrap_or(0)
    }
}
