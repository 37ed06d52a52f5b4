//! Data packets of ciphers without tag: encrypt, then HMAC.
//!
//! ```text
//! CBC       HMAC(n)  IV(16 or 8)  encrypted: packet id(4) payload padding
//! CFB, OFB  HMAC(n)  IV = packet id(4) time(4) zeros  encrypted: payload
//! none      HMAC(n)  packet id(4) payload
//! ```
//!
//! The HMAC covers all that follows it; the opcode and the peer id in front of it are not covered. With `auth none` it is
//! left out, and nothing protects a packet from being changed. Source: protocol document, "CBC / CFB / OFB / none".

mod block;
#[cfg(test)]
mod tests;

use culvert_wire::{CipherName, KeyId};
use zeroize::{Zeroize, ZeroizeOnDrop};

use self::block::{KeyedCipher, Mode};
use crate::{AuthDigest, CryptoError, MacKey, random_bytes};

/// The longest initialisation vector.
const MAX_IV: usize = 16;
/// Length of a packet id.
const ID_LEN: usize = 4;
/// Packet id and time, at the start of a vector.
const LONG_ID_LEN: usize = 8;

/// One direction's keys: half of [`crate::KeyMaterial`], of which cipher and digest use as much as they need.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct LegacyHalf {
    /// For the cipher.
    pub cipher: [u8; 64],
    /// For the HMAC.
    pub hmac: [u8; 64],
}

impl std::fmt::Debug for LegacyHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LegacyHalf(..)")
    }
}

/// A data key of a cipher without tag, both directions.
#[derive(Debug)]
pub struct LegacyKey {
    /// The id that packets under this key carry.
    pub id: KeyId,
    /// The cipher, or none.
    pub cipher: CipherName,
    /// The digest of the HMAC; `None` is `auth none`.
    pub digest: Option<AuthDigest>,
    /// For packets to the peer.
    pub send: LegacyHalf,
    /// For packets from the peer.
    pub recv: LegacyHalf,
}

/// What numbers a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Unix seconds, the same for all packets of a key; CFB and OFB only, else 0.
    pub time: u32,
    /// From 1 on; never twice under one key.
    pub id: u32,
}

/// A packet that decrypted; authentic if there is a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegacyOpened {
    /// Its number.
    pub stamp: Stamp,
    /// Where in the output the payload begins.
    pub start: usize,
    /// Bytes of payload.
    pub len: usize,
}

/// Encrypts data packets of ciphers without tag, under one key.
pub struct LegacySealer(Direction);

/// Decrypts them.
pub struct LegacyOpener(Direction);

struct Direction {
    cipher: Option<Box<dyn KeyedCipher>>,
    mac: Option<MacKey>,
}

impl LegacySealer {
    /// Prepares the key.
    ///
    /// # Errors
    /// When the cipher is one with a tag.
    pub fn new(
        cipher: CipherName,
        digest: Option<AuthDigest>,
        key: &LegacyHalf,
    ) -> Result<Self, CryptoError> {
        Direction::new(cipher, digest, key).map(Self)
    }

    /// Bytes between the packet's header and its payload.
    #[must_use]
    pub fn prefix(&self) -> usize {
        self.0.mac_len() + self.0.iv_len() + if self.0.has_inner_id() { ID_LEN } else { 0 }
    }

    /// The most bytes behind the payload.
    #[must_use]
    pub fn padding(&self) -> usize {
        self.0.padded().map_or(0, |cipher| cipher.block())
    }

    /// Encrypts `len` bytes of payload, which lie behind [`LegacySealer::prefix`] in `body`; behind them are
    /// [`LegacySealer::padding`] bytes more. Returns how many bytes of `body` are the packet, less its header.
    ///
    /// # Errors
    /// When `body` is too short, or there are no random bytes.
    pub fn seal(&self, stamp: Stamp, body: &mut [u8], len: usize) -> Result<usize, CryptoError> {
        let (mac_len, iv_len) = (self.0.mac_len(), self.0.iv_len());
        let mut end = self.prefix() + len;
        let too_short = CryptoError::Malformed;
        if body.len() < end + self.padding() {
            return Err(too_short);
        }
        let (mac, covered) = body.split_at_mut_checked(mac_len).ok_or(too_short)?;
        let (iv, data) = covered.split_at_mut_checked(iv_len).ok_or(too_short)?;
        if self.0.has_inner_id() {
            data.first_chunk_mut::<ID_LEN>().ok_or(too_short)?.copy_from_slice(&stamp.id.to_be_bytes());
        }
        if let Some(cipher) = &self.0.cipher {
            match cipher.mode() {
                Mode::Cbc => random_bytes(iv)?,
                Mode::Stream => write_long_id(stamp, iv)?,
            }
            if self.0.padded().is_some() {
                end += pad(data, end - mac_len - iv_len, cipher.block()).ok_or(too_short)?;
            }
            let data = data.get_mut(..end - mac_len - iv_len).ok_or(too_short)?;
            cipher.encrypt(iv, data)?;
        }
        if let Some(key) = &self.0.mac {
            let covered = covered.get(..end - mac_len).ok_or(too_short)?;
            mac.copy_from_slice(key.mac([covered]).as_bytes());
        }
        Ok(end)
    }
}

impl LegacyOpener {
    /// Prepares the key.
    ///
    /// # Errors
    /// When the cipher is one with a tag.
    pub fn new(
        cipher: CipherName,
        digest: Option<AuthDigest>,
        key: &LegacyHalf,
    ) -> Result<Self, CryptoError> {
        Direction::new(cipher, digest, key).map(Self)
    }

    /// Whether packets are authenticated at all.
    #[must_use]
    pub const fn authenticates(&self) -> bool {
        self.0.mac.is_some()
    }

    /// Decrypts a packet without its header into `out`, which has room for all of it.
    ///
    /// # Errors
    /// [`CryptoError::Authentication`] when it is not the key's owner's; `out` is worthless then.
    pub fn open(&self, body: &[u8], out: &mut [u8]) -> Result<LegacyOpened, CryptoError> {
        let wrong = CryptoError::Authentication;
        let (mac, covered) = body.split_at_checked(self.0.mac_len()).ok_or(wrong)?;
        if let Some(key) = &self.0.mac {
            key.verify([covered], mac)?;
        }
        let (iv, ciphertext) = covered.split_at_checked(self.0.iv_len()).ok_or(wrong)?;
        let data = out.get_mut(..ciphertext.len()).ok_or(wrong)?;
        data.copy_from_slice(ciphertext);
        let mut len = data.len();
        if let Some(cipher) = &self.0.cipher {
            let whole = cipher.mode() == Mode::Stream || len.is_multiple_of(cipher.block());
            if len == 0 || !whole {
                return Err(wrong);
            }
            cipher.decrypt(iv, data)?;
            if self.0.padded().is_some() {
                len -= padding_of(data, cipher.block()).ok_or(wrong)?;
            }
        }
        if self.0.has_inner_id() {
            let id = u32::from_be_bytes(*data.get(..len).and_then(<[u8]>::first_chunk).ok_or(wrong)?);
            return Ok(LegacyOpened { stamp: Stamp { time: 0, id }, start: ID_LEN, len: len - ID_LEN });
        }
        let [a, b, c, d, e, f, g, h] = *iv.first_chunk::<LONG_ID_LEN>().ok_or(wrong)?;
        let (id, time) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        Ok(LegacyOpened { stamp: Stamp { time, id }, start: 0, len })
    }
}

impl Direction {
    fn new(cipher: CipherName, digest: Option<AuthDigest>, key: &LegacyHalf) -> Result<Self, CryptoError> {
        let mac = digest.map(|digest| MacKey::new(digest, key.hmac.get(..digest.len()).unwrap_or(&key.hmac)));
        Ok(Self { cipher: block::keyed(cipher, &key.cipher)?, mac })
    }

    fn mac_len(&self) -> usize {
        self.mac.as_ref().map_or(0, |key| key.digest().len())
    }

    fn iv_len(&self) -> usize {
        self.cipher.as_ref().map_or(0, |cipher| cipher.block())
    }

    /// The cipher, if it pads to whole blocks.
    fn padded(&self) -> Option<&dyn KeyedCipher> {
        self.cipher.as_deref().filter(|cipher| cipher.mode() == Mode::Cbc)
    }

    /// The packet id stands in front of the payload, and not in the vector.
    fn has_inner_id(&self) -> bool {
        self.cipher.as_ref().is_none_or(|cipher| cipher.mode() == Mode::Cbc)
    }
}

/// `packet id, time, zeros`.
fn write_long_id(stamp: Stamp, iv: &mut [u8]) -> Result<(), CryptoError> {
    iv.fill(0);
    let (id, rest) = iv.split_first_chunk_mut::<ID_LEN>().ok_or(CryptoError::Malformed)?;
    *id = stamp.id.to_be_bytes();
    *rest.first_chunk_mut::<ID_LEN>().ok_or(CryptoError::Malformed)? = stamp.time.to_be_bytes();
    Ok(())
}

/// PKCS#7: fills the last block with the number of bytes that were missing, a whole block if none was. Returns that number.
fn pad(data: &mut [u8], len: usize, block: usize) -> Option<usize> {
    let missing = block - len % block;
    data.get_mut(len..len + missing)?.fill(u8::try_from(missing).ok()?);
    Some(missing)
}

/// The length of the padding; `None` when it is none. Asked after the HMAC was right: whoever can try paddings here has the
/// key, or is not held back by anything (`auth none`).
fn padding_of(data: &[u8], block: usize) -> Option<usize> {
    let last = *data.last()?;
    let len = usize::from(last);
    let padding = data.get(data.len().checked_sub(len)?..)?;
    ((1..=block).contains(&len) && padding.iter().all(|byte| *byte == last)).then_some(len)
}

const _: () = assert!(MAX_IV >= LONG_ID_LEN);
