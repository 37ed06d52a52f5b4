//! Decryption of private keys by a passphrase. Old algorithms live here because old key files do; nothing here writes.

use aes::{Aes128, Aes192, Aes256};
use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY};
use cbc::cipher::{BlockModeDecrypt as _, KeyInit, KeyIvInit as _, block_padding::Pkcs7};
use des::{TdesEde2, TdesEde3};
use md5::{Digest as _, Md5};
use pkcs8::pkcs5::EncryptionScheme;
use zeroize::Zeroizing;

use super::der;

/// Why a key stays closed.
pub(super) enum Failure {
    NoPassphrase,
    WrongPassphrase,
    Unsupported(String),
    Malformed,
}

/// `-----BEGIN ENCRYPTED PRIVATE KEY-----`: PBES2 (RFC 8018), or one of PKCS #12's schemes (RFC 7292, appendix B).
pub(super) fn pkcs8(bytes: &[u8], passphrase: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let (info, _) = der::expect(bytes, der::SEQUENCE).ok_or(Failure::Malformed)?;
    let (scheme, rest) = der::split(info).ok_or(Failure::Malformed)?;
    let (ciphertext, _) = der::expect(rest, der::OCTET_STRING).ok_or(Failure::Malformed)?;
    let plain = decrypt_scheme(scheme.whole, ciphertext, passphrase)?;
    // One wrong passphrase in 256 leaves valid padding: a key is a SEQUENCE that fills the plaintext.
    match der::split(&plain) {
        Some((element, [])) if element.tag == der::SEQUENCE => Ok(plain),
        _ => Err(Failure::WrongPassphrase),
    }
}

/// Decrypts by an AlgorithmIdentifier: PBES2, or one of PKCS #12's schemes.
pub(super) fn decrypt_scheme(
    scheme: &[u8],
    ciphertext: &[u8],
    passphrase: &str,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let (content, _) = der::expect(scheme, der::SEQUENCE).ok_or(Failure::Malformed)?;
    let (oid, parameters) = der::expect(content, der::OID).ok_or(Failure::Malformed)?;
    match oid {
        PBE_SHA1_3DES => pkcs12::<24>(parameters, passphrase, ciphertext, decrypt::<TdesEde3>),
        PBE_SHA1_2DES => pkcs12::<16>(parameters, passphrase, ciphertext, decrypt::<TdesEde2>),
        PBES2 => {
            let scheme = EncryptionScheme::try_from(scheme).map_err(|_| {
                Failure::Unsupported("its encryption (PBES2 with this cipher or key derivation)".to_owned())
            })?;
            let plain = scheme.decrypt(passphrase, ciphertext).map_err(|_| Failure::WrongPassphrase)?;
            Ok(Zeroizing::new(plain))
        }
        _ => Err(Failure::Unsupported("its encryption (an old PBES1 or RC2 scheme)".to_owned())),
    }
}

/// `Proc-Type: 4,ENCRYPTED` and `DEK-Info: AES-256-CBC,0123…`: one round of MD5 over passphrase and salt.
pub(super) fn old_pem(bytes: &[u8], info: &str, passphrase: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let (cipher, iv) = info.split_once(',').ok_or(Failure::Malformed)?;
    let iv = from_hex(iv.trim()).ok_or(Failure::Malformed)?;
    let salt = iv.get(..8).ok_or(Failure::Malformed)?;
    let key = |len| md5_key(passphrase.as_bytes(), salt, len);
    let plain = match cipher.trim().to_ascii_uppercase().as_str() {
        "DES-EDE3-CBC" => decrypt::<TdesEde3>(&key(24), &iv, bytes),
        "AES-128-CBC" => decrypt::<Aes128>(&key(16), &iv, bytes),
        "AES-192-CBC" => decrypt::<Aes192>(&key(24), &iv, bytes),
        "AES-256-CBC" => decrypt::<Aes256>(&key(32), &iv, bytes),
        other => return Err(Failure::Unsupported(format!("its encryption ({other})"))),
    }?;
    // One wrong passphrase in 256 leaves valid padding: a key begins as a SEQUENCE that fills the plaintext.
    match der::split(&plain) {
        Some((element, [])) if element.tag == der::SEQUENCE => Ok(plain),
        _ => Err(Failure::WrongPassphrase),
    }
}

type Decrypt = fn(&[u8], &[u8], &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure>;

fn pkcs12<const KEY: usize>(
    parameters: &[u8],
    passphrase: &str,
    ciphertext: &[u8],
    decrypt: Decrypt,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let (parameters, _) = der::expect(parameters, der::SEQUENCE).ok_or(Failure::Malformed)?;
    let (salt, rest) = der::expect(parameters, der::OCTET_STRING).ok_or(Failure::Malformed)?;
    let (count, _) = der::expect(rest, der::INTEGER).ok_or(Failure::Malformed)?;
    let iterations = iterations(count)?;
    let sha1 = &SHA1_FOR_LEGACY_USE_ONLY;
    let key = pkcs12_kdf(sha1, PURPOSE_KEY, passphrase, salt, iterations, KEY);
    let iv = pkcs12_kdf(sha1, PURPOSE_IV, passphrase, salt, iterations, 8);
    decrypt(&key, &iv, ciphertext)
}

/// The number of rounds of a key derivation.
pub(super) fn iterations(integer: &[u8]) -> Result<u32, Failure> {
    let iterations = integer.iter().try_fold(0_u32, |sum, &byte| {
        sum.checked_mul(256)
            .and_then(|sum| sum.checked_add(u32::from(byte)))
            .filter(|sum| *sum <= MAX_ITERATIONS)
    });
    iterations.ok_or_else(|| Failure::Unsupported("so many iterations of its key derivation".to_owned()))
}

/// RFC 7292 B.2: blocks as long as the hash's, and as much output a time as it gives.
pub(super) fn pkcs12_kdf(
    hash: &'static digest::Algorithm,
    purpose: u8,
    passphrase: &str,
    salt: &[u8],
    iterations: u32,
    len: usize,
) -> Zeroizing<Vec<u8>> {
    let block = hash.block_len();
    let password: Zeroizing<Vec<u8>> =
        Zeroizing::new(passphrase.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect());
    let fill = |bytes: &[u8]| {
        bytes.iter().copied().cycle().take(bytes.len().div_ceil(block) * block).collect::<Vec<u8>>()
    };
    let mut input = Zeroizing::new(fill(salt));
    input.extend_from_slice(&Zeroizing::new(fill(&password)));
    let mut out = Zeroizing::new(Vec::with_capacity(len + hash.output_len()));
    loop {
        let mut context = digest::Context::new(hash);
        context.update(&vec![purpose; block]);
        context.update(&input);
        let mut round = context.finish();
        for _ in 1..iterations {
            round = digest::digest(hash, round.as_ref());
        }
        out.extend_from_slice(round.as_ref());
        if out.len() >= len {
            out.truncate(len);
            return out;
        }
        // Each block of the input becomes itself plus the repeated output plus one, modulo its size.
        for block in input.chunks_mut(block) {
            let mut carry = 1_u16;
            for (index, byte) in block.iter_mut().enumerate().rev() {
                let addend = round.as_ref().get(index % hash.output_len()).copied().unwrap_or_default();
                let [high, low] = (u16::from(*byte) + u16::from(addend) + carry).to_be_bytes();
                *byte = low;
                carry = u16::from(high);
            }
        }
    }
}

/// OpenSSL's `EVP_BytesToKey` with MD5 and one iteration.
fn md5_key(passphrase: &[u8], salt: &[u8], len: usize) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(Vec::with_capacity(len + 16));
    while key.len() < len {
        let mut hash = Md5::new();
        hash.update(key.get(key.len().saturating_sub(16)..).unwrap_or_default());
        hash.update(passphrase);
        hash.update(salt);
        key.extend_from_slice(&hash.finalize());
    }
    key.truncate(len);
    key
}

fn decrypt<C>(key: &[u8], iv: &[u8], ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure>
where
    C: cbc::cipher::BlockCipherDecrypt + KeyInit,
    cbc::Decryptor<C>: cbc::cipher::KeyIvInit + cbc::cipher::BlockModeDecrypt,
{
    let cipher = cbc::Decryptor::<C>::new_from_slices(key, iv).map_err(|_| Failure::Malformed)?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let len = cipher.decrypt_padded::<Pkcs7>(&mut buffer).map_err(|_| Failure::WrongPassphrase)?.len();
    buffer.truncate(len);
    Ok(buffer)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let (pairs, rest) = digits.as_ref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

const PURPOSE_KEY: u8 = 1;
const PURPOSE_IV: u8 = 2;
pub(super) const PURPOSE_MAC: u8 = 3;

/// A file may ask for any number; OpenSSL writes 2048, tools 100 000.
const MAX_ITERATIONS: u32 = 10_000_000;

/// 1.2.840.113549.1.5.13
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
/// 1.2.840.113549.1.12.1.3
const PBE_SHA1_3DES: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 1, 3];
/// 1.2.840.113549.1.12.1.4
const PBE_SHA1_2DES: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 1, 4];
