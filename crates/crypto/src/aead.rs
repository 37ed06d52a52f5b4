use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use culvert_wire::{CipherName, PacketId, data::TAG_LEN};

use crate::{CryptoError, DirectionKey};

/// Encrypts data packets of the classic format under one key, in one direction.
///
/// Shared between threads as it is; the caller hands out packet ids and never uses one twice (SEC-DATA-2).
/// Nonce: `packet_id:32 || implicit_iv[8]`.
#[derive(Debug)]
pub struct Sealer(ClassicKey);

impl Sealer {
    /// Prepares the key.
    ///
    /// # Errors
    /// When the cipher is not an AEAD cipher.
    pub fn new(cipher: CipherName, key: &DirectionKey) -> Result<Self, CryptoError> {
        ClassicKey::new(cipher, key).map(Self)
    }

    /// Encrypts in place and writes the tag where the caller wants it (in front of the ciphertext, on the wire).
    /// `aad`: DATA_V2 header and packet id; DATA_V1: the packet id alone.
    ///
    /// # Errors
    /// When the library refuses, which it does not for packets that fit into a datagram.
    pub fn seal_in_place(
        &self,
        id: PacketId,
        aad: &[u8],
        in_out: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), CryptoError> {
        seal_in_place(&self.0.key, self.0.nonce(id), aad, in_out, tag)
    }

    /// Encrypts from one buffer into another of the same length.
    ///
    /// # Errors
    /// When the lengths differ.
    pub fn seal_scatter(
        &self,
        id: PacketId,
        aad: &[u8],
        plaintext: &[u8],
        ciphertext: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), CryptoError> {
        seal_scatter(&self.0.key, self.0.nonce(id), aad, plaintext, ciphertext, tag)
    }
}

/// Decrypts data packets of the classic format under one key, in one direction.
///
/// Replay is checked by the caller, after a packet authenticated.
#[derive(Debug)]
pub struct Opener(ClassicKey);

impl Opener {
    /// Prepares the key.
    ///
    /// # Errors
    /// When the cipher is not an AEAD cipher.
    pub fn new(cipher: CipherName, key: &DirectionKey) -> Result<Self, CryptoError> {
        ClassicKey::new(cipher, key).map(Self)
    }

    /// Decrypts in place.
    ///
    /// # Errors
    /// [`CryptoError::Authentication`]; `in_out` is worthless then.
    pub fn open_in_place(
        &self,
        id: PacketId,
        aad: &[u8],
        tag: &[u8; TAG_LEN],
        in_out: &mut [u8],
    ) -> Result<(), CryptoError> {
        open_in_place(&self.0.key, self.0.nonce(id), aad, tag, in_out)
    }

    /// Decrypts from one buffer into another of the same length.
    ///
    /// # Errors
    /// [`CryptoError::Authentication`], also when the lengths differ; `plaintext` is worthless then.
    pub fn open_gather(
        &self,
        id: PacketId,
        aad: &[u8],
        tag: &[u8; TAG_LEN],
        ciphertext: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), CryptoError> {
        open_gather(&self.0.key, self.0.nonce(id), aad, tag, ciphertext, plaintext)
    }
}

#[derive(Debug)]
struct ClassicKey {
    key: LessSafeKey,
    implicit_iv: [u8; 8],
}

impl ClassicKey {
    fn new(cipher: CipherName, key: &DirectionKey) -> Result<Self, CryptoError> {
        Ok(Self { key: aead_key(cipher, &key.secret)?, implicit_iv: key.implicit_iv })
    }

    const fn nonce(&self, id: PacketId) -> [u8; 12] {
        let [a, b, c, d] = id.get().to_be_bytes();
        let [e, f, g, h, i, j, k, l] = self.implicit_iv;
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }
}

/// Makes a library key out of the first `key_len` bytes of a secret.
pub(crate) fn aead_key(cipher: CipherName, secret: &[u8]) -> Result<LessSafeKey, CryptoError> {
    let algorithm = match cipher {
        CipherName::Aes128Gcm => &aead::AES_128_GCM,
        CipherName::Aes192Gcm => &aead::AES_192_GCM,
        CipherName::Aes256Gcm => &aead::AES_256_GCM,
        CipherName::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        other => return Err(CryptoError::NotAead(other)),
    };
    let need = algorithm.key_len();
    let key = secret.get(..need).ok_or(CryptoError::KeyLength { need, have: secret.len() })?;
    Ok(LessSafeKey::new(UnboundKey::new(algorithm, key)?))
}

pub(crate) fn seal_in_place(
    key: &LessSafeKey,
    nonce: [u8; 12],
    aad: &[u8],
    in_out: &mut [u8],
    tag: &mut [u8; TAG_LEN],
) -> Result<(), CryptoError> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_scatter(nonce, Aad::from(aad), in_out, &[], tag)?;
    Ok(())
}

pub(crate) fn seal_scatter(
    key: &LessSafeKey,
    nonce: [u8; 12],
    aad: &[u8],
    plaintext: &[u8],
    ciphertext: &mut [u8],
    tag: &mut [u8; TAG_LEN],
) -> Result<(), CryptoError> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_out_of_place_scatter(nonce, Aad::from(aad), plaintext, ciphertext, &[], tag)?;
    Ok(())
}

pub(crate) fn open_in_place(
    key: &LessSafeKey,
    nonce: [u8; 12],
    aad: &[u8],
    tag: &[u8; TAG_LEN],
    in_out: &mut [u8],
) -> Result<(), CryptoError> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.open_in_place_separate_tag(nonce, Aad::from(aad), tag, in_out)
        .map(|_| ())
        .map_err(|_| CryptoError::Authentication)
}

pub(crate) fn open_gather(
    key: &LessSafeKey,
    nonce: [u8; 12],
    aad: &[u8],
    tag: &[u8; TAG_LEN],
    ciphertext: &[u8],
    plaintext: &mut [u8],
) -> Result<(), CryptoError> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, plaintext)
        .map_err(|_| CryptoError::Authentication)
}
