//! Block ciphers in the modes of the data channel, one interface for all.

use aes::cipher::{
    BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt as _, BlockModeEncrypt as _, InnerIvInit as _,
    KeyInit, StreamCipherCore as _, array::Array,
};
use culvert_wire::CipherName;

use crate::CryptoError;

/// How a mode uses the initialisation vector, and with it where the packet id stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Random vector, the packet id is encrypted, padding to whole blocks.
    Cbc,
    /// CFB and OFB: the packet id is the vector.
    Stream,
}

/// A keyed cipher in its mode. Vectors have [`KeyedCipher::block`] bytes.
pub(super) trait KeyedCipher: Send + Sync {
    fn mode(&self) -> Mode;

    /// Bytes of a block, and of the initialisation vector.
    fn block(&self) -> usize;

    /// Encrypts in place; CBC: whole blocks only, else nothing happens to the rest.
    fn encrypt(&self, iv: &[u8], data: &mut [u8]) -> Result<(), CryptoError>;

    /// Decrypts in place, as above.
    fn decrypt(&self, iv: &[u8], data: &mut [u8]) -> Result<(), CryptoError>;
}

/// Keys a cipher; `None` is the cipher `none`.
///
/// # Errors
/// When the cipher is one with a tag.
pub(super) fn keyed(cipher: CipherName, key: &[u8]) -> Result<Option<Box<dyn KeyedCipher>>, CryptoError> {
    use CipherName as C;
    let need = usize::from(cipher.key_len());
    let key = key.get(..need).ok_or(CryptoError::KeyLength { need, have: key.len() })?;
    Ok(Some(match cipher {
        C::Aes128Cbc => Box::new(Cbc(init::<aes::Aes128>(key)?)),
        C::Aes192Cbc => Box::new(Cbc(init::<aes::Aes192>(key)?)),
        C::Aes256Cbc => Box::new(Cbc(init::<aes::Aes256>(key)?)),
        C::Aes128Cfb => Box::new(Cfb(init::<aes::Aes128>(key)?)),
        C::Aes192Cfb => Box::new(Cfb(init::<aes::Aes192>(key)?)),
        C::Aes256Cfb => Box::new(Cfb(init::<aes::Aes256>(key)?)),
        C::Aes128Ofb => Box::new(Ofb(init::<aes::Aes128>(key)?)),
        C::Aes192Ofb => Box::new(Ofb(init::<aes::Aes192>(key)?)),
        C::Aes256Ofb => Box::new(Ofb(init::<aes::Aes256>(key)?)),
        C::BfCbc => Box::new(Cbc(init::<blowfish::Blowfish>(key)?)),
        C::Cast5Cbc => Box::new(Cbc(init::<cast5::Cast5>(key)?)),
        C::DesEde3Cbc => Box::new(Cbc(init::<des::TdesEde3>(key)?)),
        C::Camellia128Cbc => Box::new(Cbc(init::<camellia::Camellia128>(key)?)),
        C::Camellia192Cbc => Box::new(Cbc(init::<camellia::Camellia192>(key)?)),
        C::Camellia256Cbc => Box::new(Cbc(init::<camellia::Camellia256>(key)?)),
        C::None => return Ok(None),
        C::Aes128Gcm | C::Aes192Gcm | C::Aes256Gcm | C::ChaCha20Poly1305 => {
            return Err(CryptoError::NotLegacy(cipher));
        }
    }))
}

fn init<C: KeyInit>(key: &[u8]) -> Result<C, CryptoError> {
    C::new_from_slice(key).map_err(|_| CryptoError::Library)
}

struct Cbc<C>(C);
struct Cfb<C>(C);
struct Ofb<C>(C);

impl<C: BlockCipherEncrypt + BlockCipherDecrypt + Send + Sync> KeyedCipher for Cbc<C> {
    fn mode(&self) -> Mode {
        Mode::Cbc
    }

    fn block(&self) -> usize {
        C::block_size()
    }

    fn encrypt(&self, iv: &[u8], data: &mut [u8]) -> Result<(), CryptoError> {
        let mut mode = cbc::Encryptor::inner_iv_slice_init(&self.0, iv).map_err(|_| CryptoError::Library)?;
        mode.encrypt_blocks(Array::slice_as_chunks_mut(data).0);
        Ok(())
    }

    fn decrypt(&self, iv: &[u8], data: &mut [u8]) -> Result<(), CryptoError> {
        let mut mode = cbc::Decryptor::inner_iv_slice_init(&self.0, iv).map_err(|_| CryptoError::Library)?;
        mode.decrypt_blocks(Array::slice_as_chunks_mut(data).0);
        Ok(())
    }
}

impl<C: BlockCipherEncrypt + Send + Sync> KeyedCipher for Cfb<C> {
    fn mode(&self) -> Mode {
        Mode::Stream
    }

    fn block(&self) -> usize {
        C::block_size()
    }

    fn encrypt(&self, iv: &[u8], data: &mut [u8]) -> Result<(), CryptoError> {
        let mode = cfb_mode::Encryptor::inner_iv_slice_init(&self.0, iv).map_err(|_| CryptoError::Library)?;
        mode.encrypt(data);
        Ok(())
    }

    fn decrypt(&self, iv: &[u8], data: &mut [u8]) -> Result<(), CryptoError> {
        let mode = cfb_mode::Decryptor::inner_iv_slice_init(&self.0, iv).map_err(|_| CryptoError::Library)?;
        mode.decrypt(data);
        Ok(())
    }
}

impl<C: BlockCipherEncrypt + Send + Sync> KeyedCipher for Ofb<C> {
    fn mode(&self) -> Mode {
        Mode::Stream
    }

    fn block(&self) -> usize {
        C::block_size()
    }

    fn encrypt(&self, iv: &[u8], data: &mut [u8]) -> Result<(), CryptoError> {
        let core = ofb::OfbCore::inner_iv_slice_init(&self.0, iv).map_err(|_| CryptoError::Library)?;
        core.try_apply_keystream_partial(data.into()).map_err(|_| CryptoError::Library)
    }

    fn decrypt(&self, iv: &[u8], data: &mut [u8]) -> Result<(), CryptoError> {
        self.encrypt(iv, data)
    }
}
