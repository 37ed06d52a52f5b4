//! Keys of the epoch data format: a chain of secrets per direction, each giving one data key and the next secret.
//!
//! ```text
//! Label(secret, L, n) = HKDF-Expand-Label with "ovpn "
//! E[i+1]  = Label(E[i], "datakey upd", 32)
//! key[i]  = Label(E[i], "data_key", key_len)      iv[i] = Label(E[i], "data_iv", 12)
//! nonce   = (epoch:16 || counter:48 || 0:32) xor iv
//! ```
//!
//! [`EpochSealer`] walks the chain forward only, so that no send epoch is derived twice. [`EpochOpener`] keeps the
//! current, one retiring and the next few keys, and moves only after a packet under a future key authenticated.
//! Prepared keys are shared ([`Arc`]), so that data threads can hold a snapshot. Counters and replay windows are the
//! caller's: it owns one counter for the send key, and a window for the current and the retiring receive key.
//!
//! Source: OpenVPN 2.7's epoch data format.

use std::{collections::VecDeque, sync::Arc};

use aws_lc_rs::aead::LessSafeKey;
use culvert_wire::{
    CipherName, EpochId,
    data::{TAG_LEN, epoch_packet_id},
};
use zeroize::Zeroizing;

use crate::{
    CryptoError, DirectionKey,
    aead::{aead_key, open_gather, open_in_place, seal_in_place, seal_scatter},
    kdf::expand_label,
};

/// Future receive keys that stock OpenVPN keeps.
pub const FUTURE_EPOCHS: u16 = 4;

/// The prepared data key of one epoch in one direction.
#[derive(Debug)]
pub struct EpochKey {
    epoch: EpochId,
    key: LessSafeKey,
    iv: [u8; 12],
}

impl EpochKey {
    /// Its epoch.
    #[must_use]
    pub const fn epoch(&self) -> EpochId {
        self.epoch
    }

    /// Encrypts in place and writes the tag where the caller wants it (behind the ciphertext, on the wire).
    /// `aad`: the 12 bytes in front of the ciphertext.
    ///
    /// # Errors
    /// When the counter is 0 or above 2^48 - 1.
    pub fn seal_in_place(
        &self,
        counter: u64,
        aad: &[u8],
        in_out: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), CryptoError> {
        seal_in_place(&self.key, self.nonce(counter)?, aad, in_out, tag)
    }

    /// Encrypts from one buffer into another of the same length.
    ///
    /// # Errors
    /// When the counter is 0 or above 2^48 - 1, or the lengths differ.
    pub fn seal_scatter(
        &self,
        counter: u64,
        aad: &[u8],
        plaintext: &[u8],
        ciphertext: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), CryptoError> {
        seal_scatter(&self.key, self.nonce(counter)?, aad, plaintext, ciphertext, tag)
    }

    /// Decrypts in place.
    ///
    /// # Errors
    /// [`CryptoError::Authentication`]; `in_out` is worthless then.
    pub fn open_in_place(
        &self,
        counter: u64,
        aad: &[u8],
        tag: &[u8; TAG_LEN],
        in_out: &mut [u8],
    ) -> Result<(), CryptoError> {
        open_in_place(&self.key, self.nonce(counter)?, aad, tag, in_out)
    }

    /// Decrypts from one buffer into another of the same length.
    ///
    /// # Errors
    /// [`CryptoError::Authentication`], also when the lengths differ; `plaintext` is worthless then.
    pub fn open_gather(
        &self,
        counter: u64,
        aad: &[u8],
        tag: &[u8; TAG_LEN],
        ciphertext: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), CryptoError> {
        open_gather(&self.key, self.nonce(counter)?, aad, tag, ciphertext, plaintext)
    }

    fn nonce(&self, counter: u64) -> Result<[u8; 12], CryptoError> {
        let mut nonce = self.iv;
        let id = epoch_packet_id(self.epoch, counter).map_err(CryptoError::Counter)?;
        for (byte, mask) in nonce.iter_mut().zip(id) {
            *byte ^= mask;
        }
        Ok(nonce)
    }
}

/// One link of the chain.
#[derive(Clone)]
struct EpochSecret {
    epoch: EpochId,
    secret: Zeroizing<[u8; 32]>,
}

impl EpochSecret {
    fn first(key: &DirectionKey) -> Self {
        Self { epoch: EpochId::FIRST, secret: Zeroizing::new(key.secret) }
    }

    fn next(&self) -> Result<Self, CryptoError> {
        let epoch = self.epoch.next().ok_or(CryptoError::Epoch)?;
        let mut secret = Zeroizing::new([0; 32]);
        expand_label(&*self.secret, "datakey upd", &mut *secret)?;
        Ok(Self { epoch, secret })
    }

    fn key(&self, cipher: CipherName) -> Result<Arc<EpochKey>, CryptoError> {
        if !cipher.is_aead() {
            return Err(CryptoError::NotAead(cipher));
        }
        let (mut key, mut iv) = (Zeroizing::new([0; 32]), [0; 12]);
        let key_len = usize::from(cipher.key_len());
        expand_label(&*self.secret, "data_key", &mut key[..key_len])?;
        expand_label(&*self.secret, "data_iv", &mut iv)?;
        Ok(Arc::new(EpochKey { epoch: self.epoch, key: aead_key(cipher, &key[..key_len])?, iv }))
    }
}

/// The send side of an epoch key: its current data key, and the way to the next.
pub struct EpochSealer {
    cipher: CipherName,
    secret: EpochSecret,
    key: Arc<EpochKey>,
}

impl EpochSealer {
    /// Starts at epoch 1.
    ///
    /// # Errors
    /// When the cipher is not an AEAD cipher.
    pub fn new(cipher: CipherName, first: &DirectionKey) -> Result<Self, CryptoError> {
        let secret = EpochSecret::first(first);
        let key = secret.key(cipher)?;
        Ok(Self { cipher, secret, key })
    }

    /// The key to send with. Its counter starts at 1.
    #[must_use]
    pub const fn key(&self) -> &Arc<EpochKey> {
        &self.key
    }

    /// Moves to the next epoch: the usage limit or the counter's end is reached. The caller restarts its counter at 1.
    ///
    /// # Errors
    /// [`CryptoError::Epoch`] after the last epoch, 0xFFFF.
    pub fn advance(&mut self) -> Result<&Arc<EpochKey>, CryptoError> {
        let secret = self.secret.next()?;
        self.key = secret.key(self.cipher)?;
        self.secret = secret;
        Ok(&self.key)
    }

    /// Follows the peer to a higher epoch. Returns whether the key changed, so that the counter restarts at 1;
    /// an epoch not above the own changes nothing.
    ///
    /// # Errors
    /// When the library refuses, which it does not.
    pub fn follow(&mut self, peer: EpochId) -> Result<bool, CryptoError> {
        if peer <= self.secret.epoch {
            return Ok(false);
        }
        let mut secret = self.secret.next()?;
        while secret.epoch < peer {
            secret = secret.next()?;
        }
        self.key = secret.key(self.cipher)?;
        self.secret = secret;
        Ok(true)
    }
}

/// Where a packet's epoch stands in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochPlace {
    /// The epoch that the peer sends under.
    Current,
    /// The one before: late packets.
    Retiring,
    /// Not seen yet. If the packet authenticates, call [`EpochOpener::advance_to`].
    Future,
}

/// The receive side of an epoch key: a window of data keys.
///
/// `Clone` because data threads share immutable snapshots: a writer clones, advances the clone and publishes it.
#[derive(Clone)]
pub struct EpochOpener {
    cipher: CipherName,
    retiring: Option<Arc<EpochKey>>,
    current: Arc<EpochKey>,
    /// Consecutive epochs after `current`.
    future: VecDeque<Arc<EpochKey>>,
    /// How many future keys to hold.
    window: u16,
    /// The secret of the last derived key.
    last: EpochSecret,
}

impl EpochOpener {
    /// Starts at epoch 1 with `window` future keys; stock peers use [`FUTURE_EPOCHS`].
    ///
    /// # Errors
    /// When the cipher is not an AEAD cipher.
    pub fn new(cipher: CipherName, first: &DirectionKey, window: u16) -> Result<Self, CryptoError> {
        let last = EpochSecret::first(first);
        let current = last.key(cipher)?;
        let mut opener = Self { cipher, retiring: None, current, future: VecDeque::new(), window, last };
        opener.refill()?;
        Ok(opener)
    }

    /// The epoch that the peer sends under, as far as its packets proved.
    #[must_use]
    pub fn current(&self) -> EpochId {
        self.current.epoch
    }

    /// The epoch before it whose late packets are still accepted.
    #[must_use]
    pub fn retiring(&self) -> Option<EpochId> {
        self.retiring.as_ref().map(|key| key.epoch)
    }

    /// Finds the key of a packet's epoch; `None` means drop.
    #[must_use]
    pub fn find(&self, epoch: EpochId) -> Option<(EpochPlace, &Arc<EpochKey>)> {
        if epoch == self.current.epoch {
            return Some((EpochPlace::Current, &self.current));
        }
        if let Some(key) = self.retiring.as_ref().filter(|key| key.epoch == epoch) {
            return Some((EpochPlace::Retiring, key));
        }
        let ahead = epoch.get().checked_sub(self.current.epoch.get())?.checked_sub(1)?;
        self.future.get(usize::from(ahead)).map(|key| (EpochPlace::Future, key))
    }

    /// Makes a future epoch current after a packet under it authenticated: current retires (its replay window with
    /// it), skipped epochs are gone, the new epoch's replay window is fresh. Afterwards the send side follows:
    /// [`EpochSealer::follow`].
    ///
    /// # Errors
    /// [`CryptoError::Epoch`] when the epoch is not among the future ones.
    pub fn advance_to(&mut self, epoch: EpochId) -> Result<(), CryptoError> {
        let Some((EpochPlace::Future, key)) = self.find(epoch) else {
            return Err(CryptoError::Epoch);
        };
        let key = Arc::clone(key);
        while self.future.pop_front().is_some_and(|skipped| skipped.epoch != epoch) {}
        self.retiring = Some(std::mem::replace(&mut self.current, key));
        self.refill()
    }

    /// Derives future keys up to the window, but none above 65535 - window - 1: the peer has to renegotiate earlier.
    fn refill(&mut self) -> Result<(), CryptoError> {
        let highest = u16::MAX.saturating_sub(self.window).saturating_sub(1);
        while self.future.len() < usize::from(self.window) && self.last.epoch.get() < highest {
            self.last = self.last.next()?;
            self.future.push_back(self.last.key(self.cipher)?);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "epoch_tests.rs"]
mod tests;
