//! Lists of data channel ciphers (`data-ciphers`).

use culvert_wire::CipherName;

/// The list when none is written, and what the word `DEFAULT` stands for.
pub const DEFAULT: &[CipherName] =
    &[CipherName::Aes256Gcm, CipherName::Aes128Gcm, CipherName::ChaCha20Poly1305];
