use culvert_wire::{CipherName, KeyId};
use zeroize::Zeroizing;

use crate::{AuthDigest, CryptoError, DataKey, DirectionKey, MacKey, TlsCryptKey};

/// Which side of the TLS connection this end is. Key directions follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsRole {
    /// Speaks first.
    Client,
    /// Answers.
    Server,
}

/// Which half of a tls-auth key sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyDirection {
    /// No direction: both sides use the first half.
    Bidirectional,
    /// Direction 0, by convention the server's.
    Normal,
    /// Direction 1, by convention the client's.
    Inverse,
}

/// Which of the two halves of [`KeyMaterial`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    First,
    Second,
}

/// The format of data packets that keys are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataFormat {
    /// 32-bit packet ids under one key.
    Classic,
    /// Keys that change by epoch, 48-bit counters.
    Epoch,
}

/// 2048 bits of key: a static key file, a tls-crypt-v2 client key, or what a key exchange derived. Wiped on drop.
///
/// ```text
///   0  keys[0].cipher[64]
///  64  keys[0].hmac[64]
/// 128  keys[1].cipher[64]
/// 192  keys[1].hmac[64]
/// ```
///
/// Who sends with which half differs: on the data channel the TLS client sends with `keys[0]`, in tls-crypt (all
/// variants) with `keys[1]`.
pub struct KeyMaterial(Box<Zeroizing<[u8; Self::LEN]>>);

impl KeyMaterial {
    /// Length in bytes.
    pub const LEN: usize = 256;

    /// All zero, to be filled through [`KeyMaterial::as_mut_bytes`].
    #[must_use]
    pub fn zeroed() -> Self {
        Self(Box::new(Zeroizing::new([0; Self::LEN])))
    }

    /// Copies the bytes.
    ///
    /// # Errors
    /// When there are not exactly 256.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, CryptoError> {
        if bytes.len() != Self::LEN {
            return Err(CryptoError::KeyLength { need: Self::LEN, have: bytes.len() });
        }
        let mut material = Self::zeroed();
        material.0.copy_from_slice(bytes);
        Ok(material)
    }

    /// The bytes, for key files and for wrapping.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The bytes, for derivation into place.
    pub fn as_mut_bytes(&mut self) -> &mut [u8; Self::LEN] {
        &mut self.0
    }

    /// Mixes another key in: dynamic tls-crypt keeps the original wrapping key's protection.
    pub fn xor(&mut self, other: &Self) {
        for (byte, mask) in self.0.iter_mut().zip(other.0.iter()) {
            *byte ^= mask;
        }
    }

    /// A second copy, for a key that is configured once and used by each session.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// The data channel's keys: TLS client sends with `keys[0]`, server with `keys[1]`.
    ///
    /// # Errors
    /// When the cipher is not an AEAD cipher, or one of the keys is all zero.
    pub fn data_key(
        &self,
        role: TlsRole,
        cipher: CipherName,
        format: DataFormat,
        id: KeyId,
    ) -> Result<DataKey, CryptoError> {
        if !cipher.is_aead() {
            return Err(CryptoError::NotAead(cipher));
        }
        let (send, recv) = match role {
            TlsRole::Client => (Half::First, Half::Second),
            TlsRole::Server => (Half::Second, Half::First),
        };
        let used = match format {
            DataFormat::Classic => usize::from(cipher.key_len()),
            DataFormat::Epoch => 32,
        };
        let send = self.direction_key(send, used)?;
        let recv = self.direction_key(recv, used)?;
        Ok(match format {
            DataFormat::Classic => DataKey::Classic { id, cipher, send, recv },
            DataFormat::Epoch => DataKey::Epoch { id, cipher, send, recv },
        })
    }

    fn direction_key(&self, half: Half, used: usize) -> Result<DirectionKey, CryptoError> {
        let mut key = DirectionKey { secret: [0; 32], implicit_iv: [0; 8] };
        key.secret.copy_from_slice(&self.cipher(half)[..32]);
        key.implicit_iv.copy_from_slice(&self.hmac(half)[..8]);
        if key.secret.iter().take(used).all(|&byte| byte == 0) {
            return Err(CryptoError::ZeroKey);
        }
        Ok(key)
    }

    /// The keys of tls-auth: `(send, receive)`.
    #[must_use]
    pub fn tls_auth(&self, digest: AuthDigest, direction: KeyDirection) -> (MacKey, MacKey) {
        let (send, recv) = match direction {
            KeyDirection::Bidirectional => (Half::First, Half::First),
            KeyDirection::Normal => (Half::First, Half::Second),
            KeyDirection::Inverse => (Half::Second, Half::First),
        };
        let key = |half| MacKey::new(digest, &self.hmac(half)[..digest.len()]);
        (key(send), key(recv))
    }

    /// The keys of tls-crypt, `(send, receive)`: TLS server sends with `keys[0]`, client with `keys[1]`.
    ///
    /// # Errors
    /// When the library refuses, which it does not.
    pub fn tls_crypt(&self, role: TlsRole) -> Result<(TlsCryptKey, TlsCryptKey), CryptoError> {
        let (send, recv) = match role {
            TlsRole::Server => (Half::First, Half::Second),
            TlsRole::Client => (Half::Second, Half::First),
        };
        let key = |half| TlsCryptKey::new(&self.cipher(half)[..32], &self.hmac(half)[..32]);
        Ok((key(send)?, key(recv)?))
    }

    fn cipher(&self, half: Half) -> &[u8] {
        match half {
            Half::First => &self.0[..64],
            Half::Second => &self.0[128..192],
        }
    }

    fn hmac(&self, half: Half) -> &[u8] {
        match half {
            Half::First => &self.0[64..128],
            Half::Second => &self.0[192..],
        }
    }
}
