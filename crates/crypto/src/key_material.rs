use culvert_wire::{CipherName, KeyId};
use zeroize::Zeroizing;

use crate::{AuthDigest, CryptoError, DataKey, DirectionKey, LegacyHalf, LegacyKey, MacKey, TlsCryptKey};

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

    /// The data channel's keys for a cipher without tag, in the same directions.
    ///
    /// # Errors
    /// When the cipher is one with a tag, or one of the keys is all zero.
    pub fn legacy_data_key(
        &self,
        role: TlsRole,
        cipher: CipherName,
        digest: Option<AuthDigest>,
        id: KeyId,
    ) -> Result<DataKey, CryptoError> {
        if cipher.is_aead() {
            return Err(CryptoError::NotLegacy(cipher));
        }
        let half = |half| {
            let mut key = LegacyHalf { cipher: [0; 64], hmac: [0; 64] };
            key.cipher.copy_from_slice(self.cipher(half));
            key.hmac.copy_from_slice(self.hmac(half));
            let used = usize::from(cipher.key_len());
            if used > 0 && key.cipher.iter().take(used).all(|&byte| byte == 0) {
                return Err(CryptoError::ZeroKey);
            }
            Ok(key)
        };
        let (first, second) = (half(Half::First)?, half(Half::Second)?);
        let (send, recv) = match role {
            TlsRole::Client => (first, second),
            TlsRole::Server => (second, first),
        };
        Ok(DataKey::Legacy(Box::new(LegacyKey { id, cipher, digest, send, recv })))
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

#[cfg(test)]
mod tests {
    use culvert_wire::PacketId;

    use super::*;
    use crate::{Opener, Sealer};

    const AEAD: [CipherName; 4] =
        [CipherName::Aes128Gcm, CipherName::Aes192Gcm, CipherName::Aes256Gcm, CipherName::ChaCha20Poly1305];

    fn material() -> KeyMaterial {
        let mut material = KeyMaterial::zeroed();
        for (at, byte) in material.as_mut_bytes().iter_mut().enumerate() {
            *byte = u8::try_from(at % 251 + 1).unwrap();
        }
        material
    }

    fn directions(key: DataKey) -> (DirectionKey, DirectionKey) {
        match key {
            DataKey::Classic { send, recv, .. } | DataKey::Epoch { send, recv, .. } => (send, recv),
            DataKey::Legacy(_) => panic!("keys of an AEAD cipher were asked for"),
        }
    }

    #[test]
    fn what_one_role_sends_the_other_receives() {
        for cipher in AEAD {
            let key = |role| material().data_key(role, cipher, DataFormat::Classic, KeyId::FIRST).unwrap();
            let (client_send, client_recv) = directions(key(TlsRole::Client));
            let (server_send, server_recv) = directions(key(TlsRole::Server));
            assert_eq!(client_send.secret[..], material().as_bytes()[..32]);
            for (send, recv) in [(client_send, server_recv), (server_send, client_recv)] {
                let (mut data, mut tag) = (*b"payload", [0; 16]);
                let sealer = Sealer::new(cipher, &send).unwrap();
                sealer.seal_in_place(PacketId::FIRST, b"aad", &mut data, &mut tag).unwrap();
                let opener = Opener::new(cipher, &recv).unwrap();
                opener.open_in_place(PacketId::FIRST, b"aad", &tag, &mut data).unwrap();
                assert_eq!(&data, b"payload", "{cipher}");
            }
        }
    }

    #[test]
    fn a_cipher_key_of_zeros_is_refused() {
        let mut zero = material();
        zero.as_mut_bytes()[128..144].fill(0);
        let key = |cipher, format| zero.data_key(TlsRole::Client, cipher, format, KeyId::FIRST);
        let zero_key = |key: Result<DataKey, CryptoError>| matches!(key, Err(CryptoError::ZeroKey));
        assert!(zero_key(key(CipherName::Aes128Gcm, DataFormat::Classic)));
        assert!(!zero_key(key(CipherName::Aes256Gcm, DataFormat::Classic)));
        assert!(!zero_key(key(CipherName::Aes128Gcm, DataFormat::Epoch)));
    }

    #[test]
    fn ciphers_without_tag_are_refused() {
        let key =
            material().data_key(TlsRole::Client, CipherName::Aes256Cbc, DataFormat::Classic, KeyId::FIRST);
        assert!(matches!(key, Err(CryptoError::NotAead(CipherName::Aes256Cbc))));
    }

    #[test]
    fn a_packet_with_one_wrong_bit_does_not_open() {
        let (send, _) = directions(
            material().data_key(TlsRole::Client, AEAD[0], DataFormat::Classic, KeyId::FIRST).unwrap(),
        );
        let (mut data, mut tag, aad) = (*b"payload", [0; 16], *b"\x48\0\0\0\0\0\0\x01");
        Sealer::new(AEAD[0], &send)
            .unwrap()
            .seal_in_place(PacketId::FIRST, &aad, &mut data, &mut tag)
            .unwrap();
        let opener = Opener::new(AEAD[0], &send).unwrap();
        let packet = [&aad[..], &tag, &data].concat();
        for bit in 0..packet.len() * 8 {
            let mut wrong = packet.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let tag = wrong[8..24].try_into().unwrap();
            let (aad, data) = (wrong[..8].to_vec(), &mut wrong[24..]);
            let opened = opener.open_in_place(PacketId::FIRST, &aad, &tag, data);
            assert_eq!(opened, Err(CryptoError::Authentication), "bit {bit}");
        }
    }
}
