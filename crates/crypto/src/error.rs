use culvert_wire::{CipherName, WireError};
use thiserror::Error;

/// Why a cryptographic operation did not give a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CryptoError {
    /// A packet, key or token is not what the key's owner made. Expected from hostile input.
    #[error("authentication failed")]
    Authentication,
    /// The cipher is not an AEAD cipher, which this crate's data path needs.
    #[error("{0} is not an AEAD cipher")]
    NotAead(CipherName),
    /// The cipher is one with a tag, where one without was asked for.
    #[error("{0} authenticates by itself")]
    NotLegacy(CipherName),
    /// A derived cipher key is all zero: the derivation went wrong.
    #[error("derived cipher key is all zero")]
    ZeroKey,
    /// Key or secret of the wrong length.
    #[error("key of {have} bytes, need {need}")]
    KeyLength {
        /// Bytes needed.
        need: usize,
        /// Bytes given.
        have: usize,
    },
    /// The last epoch is in use, or an epoch beyond the acceptable range was asked for.
    #[error("no such key epoch")]
    Epoch,
    /// A packet counter is outside of its field.
    #[error(transparent)]
    Counter(WireError),
    /// A wrapped client key or token does not have its layout.
    #[error("malformed")]
    Malformed,
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system")]
    Random,
    /// The library refused an operation that cannot fail with valid lengths.
    #[error("the cryptographic library refused")]
    Library,
}

impl From<aws_lc_rs::error::Unspecified> for CryptoError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Library
    }
}
