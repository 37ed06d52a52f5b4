use std::{fmt, str::FromStr};

use thiserror::Error;

/// A data channel cipher that culvert knows by name, whether or not an offload can carry it.
///
/// `Display` gives OpenVPN's normalised spelling; `FromStr` ignores case and knows OpenVPN's aliases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are the ciphers' own names")]
pub enum CipherName {
    Aes128Gcm,
    Aes192Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
    Aes128Cbc,
    Aes192Cbc,
    Aes256Cbc,
    Aes128Cfb,
    Aes192Cfb,
    Aes256Cfb,
    Aes128Ofb,
    Aes192Ofb,
    Aes256Ofb,
    BfCbc,
    DesEde3Cbc,
    Cast5Cbc,
    Camellia128Cbc,
    Camellia192Cbc,
    Camellia256Cbc,
    /// No encryption.
    None,
}

/// A name that no cipher known to culvert has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown cipher '{0}'")]
pub struct UnknownCipher(pub String);

/// Name, variant, key bytes.
const TABLE: [(&str, CipherName, u16); 20] = [
    ("AES-128-GCM", CipherName::Aes128Gcm, 16),
    ("AES-192-GCM", CipherName::Aes192Gcm, 24),
    ("AES-256-GCM", CipherName::Aes256Gcm, 32),
    ("CHACHA20-POLY1305", CipherName::ChaCha20Poly1305, 32),
    ("AES-128-CBC", CipherName::Aes128Cbc, 16),
    ("AES-192-CBC", CipherName::Aes192Cbc, 24),
    ("AES-256-CBC", CipherName::Aes256Cbc, 32),
    ("AES-128-CFB", CipherName::Aes128Cfb, 16),
    ("AES-192-CFB", CipherName::Aes192Cfb, 24),
    ("AES-256-CFB", CipherName::Aes256Cfb, 32),
    ("AES-128-OFB", CipherName::Aes128Ofb, 16),
    ("AES-192-OFB", CipherName::Aes192Ofb, 24),
    ("AES-256-OFB", CipherName::Aes256Ofb, 32),
    ("BF-CBC", CipherName::BfCbc, 16),
    ("DES-EDE3-CBC", CipherName::DesEde3Cbc, 24),
    ("CAST5-CBC", CipherName::Cast5Cbc, 16),
    ("CAMELLIA-128-CBC", CipherName::Camellia128Cbc, 16),
    ("CAMELLIA-192-CBC", CipherName::Camellia192Cbc, 24),
    ("CAMELLIA-256-CBC", CipherName::Camellia256Cbc, 32),
    ("none", CipherName::None, 0),
];

impl CipherName {
    /// OpenVPN's spelling of the name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        TABLE.iter().find(|row| row.1 == self).map_or("none", |row| row.0)
    }

    /// Length of its key, in bytes.
    #[must_use]
    pub fn key_len(self) -> u16 {
        TABLE.iter().find(|row| row.1 == self).map_or(0, |row| row.2)
    }

    /// Returns whether this is an AEAD cipher: one that every offload's fast path can carry.
    #[must_use]
    pub const fn is_aead(self) -> bool {
        matches!(self, Self::Aes128Gcm | Self::Aes192Gcm | Self::Aes256Gcm | Self::ChaCha20Poly1305)
    }

    /// Returns whether this cipher is one of those that OpenSSL 3 has in its `legacy` provider: broken by the length of their
    /// blocks or keys, and negotiated only where `providers legacy` asks for it.
    #[must_use]
    pub const fn needs_opt_in(self) -> bool {
        matches!(self, Self::BfCbc | Self::Cast5Cbc)
    }

    /// Length of a block, in bytes, for ciphers that fill whole blocks (CBC).
    #[must_use]
    pub const fn padded_block(self) -> Option<u8> {
        match self {
            Self::Aes128Cbc
            | Self::Aes192Cbc
            | Self::Aes256Cbc
            | Self::Camellia128Cbc
            | Self::Camellia192Cbc
            | Self::Camellia256Cbc => Some(16),
            Self::BfCbc | Self::DesEde3Cbc | Self::Cast5Cbc => Some(8),
            _ => None,
        }
    }

    /// Returns whether the AES-GCM usage limit applies (NIST SP 800-38D by way of CFRG's AEAD limits).
    #[must_use]
    pub const fn is_gcm(self) -> bool {
        matches!(self, Self::Aes128Gcm | Self::Aes192Gcm | Self::Aes256Gcm)
    }
}

impl fmt::Display for CipherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for CipherName {
    type Err = UnknownCipher;

    fn from_str(name: &str) -> Result<Self, UnknownCipher> {
        // OpenSSL's own spelling of two names that OpenVPN normalises.
        let plain = match name.to_ascii_lowercase().as_str() {
            "id-aes128-gcm" => "AES-128-GCM",
            "id-aes192-gcm" => "AES-192-GCM",
            "id-aes256-gcm" => "AES-256-GCM",
            "[null-cipher]" => "none",
            _ => name,
        };
        TABLE
            .iter()
            .find(|row| row.0.eq_ignore_ascii_case(plain))
            .map(|row| row.1)
            .ok_or_else(|| UnknownCipher(name.to_owned()))
    }
}
