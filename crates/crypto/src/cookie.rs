use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

use crate::{CryptoError, Secret, random_bytes};

/// Key of the server's session id cookies: SipHash-2-4 with 64 bits of output.
///
/// The cookie is the server's own business; its layout need not match other servers'.
pub struct CookieKey(Secret<[u8; 16]>);

impl CookieKey {
    /// A random key, as each server start makes one.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, CryptoError> {
        let mut key = [0; 16];
        random_bytes(&mut key)?;
        Ok(Self(Secret::new(key)))
    }

    /// A given key.
    #[must_use]
    pub const fn new(key: [u8; 16]) -> Self {
        Self(Secret::new(key))
    }

    /// Authenticates the concatenation of the parts.
    #[must_use]
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 8] {
        let mut hasher = SipHasher24::new_with_key(self.0.expose());
        for part in parts {
            hasher.write(part);
        }
        hasher.finish().to_le_bytes()
    }
}
