use culvert_wire::CipherName;

use crate::value::Compression;

/// Ciphers and framing of data packets.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// What may be negotiated.
    pub ciphers: CipherPolicy,
    /// `providers legacy`: the ciphers of OpenSSL's legacy provider may be used.
    pub legacy_provider: bool,
    /// `auth`: HMAC of `tls-auth` and of data packets without AEAD.
    pub auth: DigestName,
    /// `replay-window N [SECONDS]`, when written.
    pub replay_window: Option<(u32, u32)>,
    /// `comp-lzo`, `compress`.
    pub compression: Compression,
    /// `allow-compression`.
    pub allow_compression: AllowCompression,
    /// A server may push compression: `allow-compression asym`, an option that compresses, or old compatibility.
    pub accepts_compression: bool,
    /// Say to servers that compressed data may come in.
    pub advertises_decompression: bool,
    /// `force-tls-key-material-export`.
    pub force_tls_export: bool,
}

/// What may be negotiated: see the rules in [`crate::cipher_list`].
#[derive(Clone, Debug)]
pub struct CipherPolicy {
    /// `data-ciphers`, normalised, in order of preference.
    pub list: Vec<CipherName>,
    /// `data-ciphers-fallback`, or `cipher` where that acts as one (point-to-point, `compat-mode`).
    pub fallback: Option<CipherName>,
    /// `cipher`, when written: told to old peers.
    pub cipher: Option<CipherName>,
}

impl Default for CipherPolicy {
    fn default() -> Self {
        Self { list: crate::cipher_list::DEFAULT.to_vec(), fallback: None, cipher: None }
    }
}

/// `allow-compression`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowCompression {
    /// Framing stubs only.
    #[default]
    No,
    /// Compressed data may come in.
    Asym,
    /// Both ways; culvert treats it as `asym`.
    Yes,
}

/// The digests that `auth` knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the digests' own names")]
pub enum DigestName {
    #[default]
    Sha1,
    Md5,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    /// No HMAC.
    None,
}
