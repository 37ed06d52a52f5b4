use culvert_wire::{CipherName, KeyId};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::LegacyKey;

/// The keys of one negotiated data channel key, both directions, as an offload takes them.
///
/// Not `Clone`: an offload starts packet ids at 1 with each installation, so a key must not be installed twice.
#[derive(Debug)]
pub enum DataKey {
    /// Ready keys: the classic AEAD format (protocol document, "Data channel, AEAD").
    Classic {
        /// The id that packets under this key carry.
        id: KeyId,
        /// An AEAD cipher.
        cipher: CipherName,
        /// For packets to the peer.
        send: DirectionKey,
        /// For packets from the peer.
        recv: DirectionKey,
    },
    /// The first epoch's secrets, from which the offload derives its keys itself.
    Epoch {
        /// The id that packets under this key carry.
        id: KeyId,
        /// An AEAD cipher.
        cipher: CipherName,
        /// E1 for packets to the peer: the first 32 bytes of `secret`.
        send: DirectionKey,
        /// E1 for packets from the peer.
        recv: DirectionKey,
    },
    /// Keys of a cipher and of an HMAC.
    Legacy(Box<LegacyKey>),
}

impl DataKey {
    /// The id that packets under this key carry.
    #[must_use]
    pub fn id(&self) -> KeyId {
        match self {
            Self::Classic { id, .. } | Self::Epoch { id, .. } => *id,
            Self::Legacy(key) => key.id,
        }
    }

    /// The cipher.
    #[must_use]
    pub fn cipher(&self) -> CipherName {
        match self {
            Self::Classic { cipher, .. } | Self::Epoch { cipher, .. } => *cipher,
            Self::Legacy(key) => key.cipher,
        }
    }
}

/// One direction's secret (zeroized on drop).
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct DirectionKey {
    /// Cipher key (classic: `key_len` bytes are used) or epoch secret (32 bytes).
    pub secret: [u8; 32],
    /// The constant part of the nonce (classic only).
    pub implicit_iv: [u8; 8],
}

impl std::fmt::Debug for DirectionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DirectionKey(..)")
    }
}
