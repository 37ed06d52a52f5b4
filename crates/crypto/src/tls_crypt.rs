//! The construction behind tls-crypt and tls-crypt-v2: a tag over the plaintext that is also the counter's start.
//!
//! ```text
//! tag        = HMAC-SHA256(Ka, clear || body)
//! ciphertext = AES-256-CTR(Ke, IV = tag[0..16], body)
//! ```

use aws_lc_rs::{
    cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey},
    iv::FixedLength,
};

use crate::{AuthDigest, CryptoError, KeyMaterial, MacKey};

/// Length of the tag of tls-crypt.
pub const TLS_CRYPT_TAG_LEN: usize = 32;

/// One direction's keys of tls-crypt.
pub struct TlsCryptKey {
    encrypt: EncryptingKey,
    mac: MacKey,
}

impl TlsCryptKey {
    pub(crate) fn new(encrypt: &[u8], mac: &[u8]) -> Result<Self, CryptoError> {
        let encrypt = EncryptingKey::ctr(UnboundCipherKey::new(&AES_256, encrypt)?)?;
        Ok(Self { encrypt, mac: MacKey::new(AuthDigest::Sha256, mac) })
    }

    /// Encrypts `body` in place and returns the tag over `clear` and the plaintext.
    ///
    /// # Errors
    /// When the library refuses, which it does not.
    pub fn seal(&self, clear: &[&[u8]], body: &mut [u8]) -> Result<[u8; TLS_CRYPT_TAG_LEN], CryptoError> {
        let computed = self.mac.mac(clear.iter().copied().chain([&*body]));
        let mut tag = [0; TLS_CRYPT_TAG_LEN];
        tag.copy_from_slice(computed.as_bytes());
        self.keystream(&tag, body)?;
        Ok(tag)
    }

    /// Decrypts `body` in place and checks the tag in constant time.
    ///
    /// # Errors
    /// [`CryptoError::Authentication`] when the tag is wrong; `body` is worthless then.
    pub fn open(
        &self,
        clear: &[&[u8]],
        tag: &[u8; TLS_CRYPT_TAG_LEN],
        body: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.keystream(tag, body)?;
        self.mac.verify(clear.iter().copied().chain([&*body]), tag)
    }

    /// Counter mode is its own inverse.
    fn keystream(&self, tag: &[u8; TLS_CRYPT_TAG_LEN], body: &mut [u8]) -> Result<(), CryptoError> {
        let mut iv = [0; 16];
        iv.copy_from_slice(&tag[..16]);
        self.encrypt.less_safe_encrypt(body, EncryptionContext::Iv128(FixedLength::from(iv)))?;
        Ok(())
    }
}

/// The server's key of tls-crypt-v2, which wraps client keys.
///
/// File content of 128 bytes: Ke = bytes 0..32, Ka = bytes 64..96.
pub struct TlsCryptV2ServerKey(TlsCryptKey);

/// A client key as the server finds it inside a wrapped client key.
pub struct UnwrappedClientKey {
    /// The client's tls-crypt key Kc.
    pub key: KeyMaterial,
    /// `u8 type || data`, or empty: type 0 is the administrator's bytes, type 1 a u64 Unix time of creation.
    pub metadata: Vec<u8>,
}

impl TlsCryptV2ServerKey {
    /// Length of the key.
    pub const LEN: usize = 128;
    /// Longest wrapped client key.
    pub const MAX_WKC: usize = 1024;
    /// Shortest: tag, Kc, length.
    pub const MIN_WKC: usize = TLS_CRYPT_TAG_LEN + KeyMaterial::LEN + 2;
    /// Most metadata, its type byte included.
    pub const MAX_METADATA: usize = Self::MAX_WKC - Self::MIN_WKC;

    /// Prepares the key out of the file's 128 bytes.
    ///
    /// # Errors
    /// When there are not exactly 128 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, CryptoError> {
        if bytes.len() != Self::LEN {
            return Err(CryptoError::KeyLength { need: Self::LEN, have: bytes.len() });
        }
        Ok(Self(TlsCryptKey::new(&bytes[..32], &bytes[64..96])?))
    }

    /// Wraps a client key: `T[32] || AES-256-CTR(Ke, T[0..16], Kc || metadata) || u16 len`,
    /// `T = HMAC-SHA256(Ka, len || Kc || metadata)`, `len` counting everything.
    ///
    /// # Errors
    /// When the metadata is longer than [`Self::MAX_METADATA`].
    pub fn wrap(&self, key: &KeyMaterial, metadata: &[u8]) -> Result<Vec<u8>, CryptoError> {
        if metadata.len() > Self::MAX_METADATA {
            return Err(CryptoError::Malformed);
        }
        let total = Self::MIN_WKC + metadata.len();
        let len = u16::try_from(total).map_err(|_| CryptoError::Malformed)?.to_be_bytes();
        let mut wkc = vec![0; TLS_CRYPT_TAG_LEN];
        wkc.extend_from_slice(key.as_bytes());
        wkc.extend_from_slice(metadata);
        let tag = self.0.seal(&[&len], &mut wkc[TLS_CRYPT_TAG_LEN..])?;
        wkc[..TLS_CRYPT_TAG_LEN].copy_from_slice(&tag);
        wkc.extend_from_slice(&len);
        Ok(wkc)
    }

    /// Unwraps a client key. Nothing that it allocates outlives the returned value.
    ///
    /// # Errors
    /// When the length is not what the last two bytes say, or the tag is wrong.
    pub fn unwrap(&self, wkc: &[u8]) -> Result<UnwrappedClientKey, CryptoError> {
        let (front, len) = wkc.split_last_chunk::<2>().ok_or(CryptoError::Malformed)?;
        let in_range = (Self::MIN_WKC..=Self::MAX_WKC).contains(&wkc.len());
        if !in_range || usize::from(u16::from_be_bytes(*len)) != wkc.len() {
            return Err(CryptoError::Malformed);
        }
        let (tag, body) = front.split_first_chunk().ok_or(CryptoError::Malformed)?;
        let mut body = zeroize::Zeroizing::new(body.to_vec());
        self.0.open(&[len], tag, &mut body)?;
        let (key, metadata) = body.split_at(KeyMaterial::LEN);
        Ok(UnwrappedClientKey { key: KeyMaterial::from_slice(key)?, metadata: metadata.to_vec() })
    }

    /// Splits a packet into the tls-crypt packet and the wrapped client key appended to it, whose last two bytes say
    /// its length.
    ///
    /// # Errors
    /// When the length is impossible.
    pub fn split_packet(packet: &[u8]) -> Result<(&[u8], &[u8]), CryptoError> {
        let (_, len) = packet.split_last_chunk::<2>().ok_or(CryptoError::Malformed)?;
        let len = usize::from(u16::from_be_bytes(*len));
        if !(Self::MIN_WKC..=Self::MAX_WKC).contains(&len) {
            return Err(CryptoError::Malformed);
        }
        let at = packet.len().checked_sub(len).ok_or(CryptoError::Malformed)?;
        Ok(packet.split_at(at))
    }
}
