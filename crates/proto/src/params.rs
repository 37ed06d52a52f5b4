use std::sync::Arc;

use culvert_wire::{CipherName, PeerId, ProtocolFlags};
use zeroize::Zeroizing;

use crate::{
    DataConfig,
    negotiate::{self, Agreement},
};

/// What both ends agreed about the data channel.
#[derive(Clone, Debug)]
pub struct NegotiatedParams {
    /// The cipher. `None`: a server shares none with this client by what all are offered, and [`crate::Command::Offer`] has
    /// to follow; with other ends there always is one.
    pub cipher: Option<CipherName>,
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
    /// What [`crate::SessionConfig::exporter`] asked for.
    pub exported: Option<Arc<ExportedKey>>,
}

impl NegotiatedParams {
    /// A server's decision with other offers than the first; `None`: there is no common ground.
    #[must_use]
    pub fn offered(&self, own: &DataConfig) -> Option<Self> {
        let agreed = negotiate::server(own, &self.peer_info, &self.peer_options).ok()?;
        let Agreement { cipher, data_v2, peer_id: _, flags } = agreed;
        Some(Self { cipher: Some(cipher), data_v2, flags, ..self.clone() })
    }
}

/// Keying material out of TLS (RFC 5705), for other programs. Wiped on drop, never shown.
pub struct ExportedKey(pub(crate) Zeroizing<Vec<u8>>);

impl ExportedKey {
    /// Returns it in lower-case hexadecimal, as OpenVPN hands it over.
    #[must_use]
    pub fn hex(&self) -> Zeroizing<String> {
        use std::fmt::Write as _;
        // With its final size: text that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(self.0.len() * 2));
        for byte in self.0.iter() {
            // Writing into a String does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

impl std::fmt::Debug for ExportedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExportedKey({} bytes)", self.0.len())
    }
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
