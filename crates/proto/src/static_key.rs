//! Key files: static keys (tls-auth, tls-crypt), tls-crypt-v2 server and client keys, the auth-token secret.
//!
//! A file has one block between a begin and an end line; everything outside of it is ignored. Static keys are
//! hexadecimal, the others base64. Secrets that pass through here are wiped.
//!
//! Source: protocol document, "Static key file" and "tls-crypt-v2".

use base64::{Engine as _, engine::general_purpose::STANDARD};
use culvert_crypto::{AuthTokenKey, CryptoError, KeyMaterial, TlsCryptV2ServerKey, random_bytes};
use thiserror::Error;
use zeroize::Zeroizing;

const STATIC_KEY: &str = "OpenVPN Static key V1";
const V2_SERVER_KEY: &str = "OpenVPN tls-crypt-v2 server key";
const V2_CLIENT_KEY: &str = "OpenVPN tls-crypt-v2 client key";
const AUTH_TOKEN_KEY: &str = "OpenVPN auth-token server key";

/// Why a key file was not read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// No `-----BEGIN …-----` line.
    #[error("no '-----BEGIN {0}-----' line")]
    NoBegin(&'static str),
    /// No `-----END …-----` line after it.
    #[error("no '-----END {0}-----' line")]
    NoEnd(&'static str),
    /// A character that is neither hexadecimal nor white space.
    #[error("line {line}: not a hexadecimal digit")]
    Hex {
        /// Counted from 1.
        line: usize,
    },
    /// Broken base64.
    #[error("the key is not valid base64")]
    Base64,
    /// Too short or too long.
    #[error("the key has {have} bytes, expected are {need}")]
    Length {
        /// Bytes needed (the least, where it may vary).
        need: usize,
        /// Bytes found.
        have: usize,
    },
    /// The library refused.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// A tls-crypt-v2 client's key: what it wraps with, and the same wrapped for the server.
pub struct TlsCryptV2ClientKey {
    /// Kc.
    pub key: KeyMaterial,
    /// WKc, opaque to the client.
    pub wkc: Vec<u8>,
}

/// Reads a static key (`tls-auth`, `tls-crypt`). Longer files are read as far as needed, as OpenVPN does.
///
/// # Errors
/// When the block is missing, short, or not hexadecimal.
pub fn parse_static_key(text: &str) -> Result<KeyMaterial, KeyFileError> {
    let (block, first_line) = block(text, STATIC_KEY)?;
    let mut key = KeyMaterial::zeroed();
    let mut have = 0;
    let mut high = None;
    for (at, line) in block.lines().enumerate() {
        for c in line.chars().filter(|c| !c.is_whitespace()) {
            let digit = c.to_digit(16).and_then(|d| u8::try_from(d).ok());
            let digit = digit.ok_or(KeyFileError::Hex { line: first_line + at })?;
            match high.take() {
                None => high = Some(digit),
                Some(upper) => {
                    if let Some(byte) = key.as_mut_bytes().get_mut(have) {
                        *byte = upper << 4 | digit;
                    }
                    have += 1;
                }
            }
        }
    }
    if have < KeyMaterial::LEN {
        return Err(KeyFileError::Length { need: KeyMaterial::LEN, have });
    }
    Ok(key)
}

/// Prints a static key as a file.
#[must_use]
pub fn format_static_key(key: &KeyMaterial) -> Zeroizing<String> {
    use std::fmt::Write as _;
    let mut text = Zeroizing::new(String::with_capacity(700));
    text.push_str("#\n# 2048 bit OpenVPN static key\n#\n-----BEGIN OpenVPN Static key V1-----\n");
    for line in key.as_bytes().chunks(16) {
        for byte in line {
            // Writing into a String does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    text.push_str("-----END OpenVPN Static key V1-----\n");
    text
}

/// Makes a new static key.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn generate_static_key() -> Result<KeyMaterial, KeyFileError> {
    let mut key = KeyMaterial::zeroed();
    random_bytes(key.as_mut_bytes())?;
    Ok(key)
}

/// Reads a tls-crypt-v2 server key.
///
/// # Errors
/// When the block is missing or not 128 bytes of base64.
pub fn parse_tls_crypt_v2_server_key(text: &str) -> Result<TlsCryptV2ServerKey, KeyFileError> {
    let bytes = base64_block(text, V2_SERVER_KEY)?;
    exactly(&bytes, TlsCryptV2ServerKey::LEN)?;
    Ok(TlsCryptV2ServerKey::from_slice(&bytes)?)
}

/// Makes a new tls-crypt-v2 server key, as a file.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn generate_tls_crypt_v2_server_key() -> Result<Zeroizing<String>, KeyFileError> {
    let mut key = Zeroizing::new([0; TlsCryptV2ServerKey::LEN]);
    random_bytes(&mut *key)?;
    Ok(format_base64(V2_SERVER_KEY, &*key))
}

/// Reads a tls-crypt-v2 client key.
///
/// # Errors
/// When the block is missing, not base64, or the lengths inside contradict each other.
pub fn parse_tls_crypt_v2_client_key(text: &str) -> Result<TlsCryptV2ClientKey, KeyFileError> {
    let bytes = base64_block(text, V2_CLIENT_KEY)?;
    let need = KeyMaterial::LEN + TlsCryptV2ServerKey::MIN_WKC;
    let Some((key, wkc)) = bytes.split_at_checked(KeyMaterial::LEN) else {
        return Err(KeyFileError::Length { need, have: bytes.len() });
    };
    let told = wkc.last_chunk().map_or(0, |len| usize::from(u16::from_be_bytes(*len)));
    if told != wkc.len() || !(TlsCryptV2ServerKey::MIN_WKC..=TlsCryptV2ServerKey::MAX_WKC).contains(&told) {
        return Err(KeyFileError::Length { need: need.max(KeyMaterial::LEN + told), have: bytes.len() });
    }
    Ok(TlsCryptV2ClientKey { key: KeyMaterial::from_slice(key)?, wkc: wkc.to_vec() })
}

/// Makes a new tls-crypt-v2 client key for a server, as a file. `metadata` begins with its type byte.
///
/// # Errors
/// When the metadata is too long, or the operating system gives no randomness.
pub fn generate_tls_crypt_v2_client_key(
    server: &TlsCryptV2ServerKey,
    metadata: &[u8],
) -> Result<Zeroizing<String>, KeyFileError> {
    let key = generate_static_key()?;
    let wkc = server.wrap(&key, metadata)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(KeyMaterial::LEN + wkc.len()));
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(&wkc);
    Ok(format_base64(V2_CLIENT_KEY, &bytes))
}

/// Reads the secret of `auth-gen-token-secret`.
///
/// # Errors
/// When the block is missing or too short.
pub fn parse_auth_token_key(text: &str) -> Result<AuthTokenKey, KeyFileError> {
    let bytes = base64_block(text, AUTH_TOKEN_KEY)?;
    let have = bytes.len();
    let need = AuthTokenKey::SECRET_LEN;
    let secret = bytes.get(..need).ok_or(KeyFileError::Length { need, have })?;
    Ok(AuthTokenKey::from_secret(secret)?)
}

/// Makes a new secret for authentication tokens, as a file.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn generate_auth_token_key() -> Result<Zeroizing<String>, KeyFileError> {
    let mut secret = Zeroizing::new([0; AuthTokenKey::SECRET_LEN]);
    random_bytes(&mut *secret)?;
    Ok(format_base64(AUTH_TOKEN_KEY, &*secret))
}

/// Finds the text between the begin and end lines, and the number of its first line.
fn block<'t>(text: &'t str, label: &'static str) -> Result<(&'t str, usize), KeyFileError> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let (before, rest) = text.split_once(&begin).ok_or(KeyFileError::NoBegin(label))?;
    let (inside, _) = rest.split_once(&end).ok_or(KeyFileError::NoEnd(label))?;
    Ok((inside, before.matches('\n').count() + 1))
}

fn base64_block(text: &str, label: &'static str) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let (inside, _) = block(text, label)?;
    let plain = Zeroizing::new(inside.chars().filter(|c| !c.is_whitespace()).collect::<String>());
    STANDARD.decode(plain.as_bytes()).map(Zeroizing::new).map_err(|_| KeyFileError::Base64)
}

fn format_base64(label: &str, bytes: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(STANDARD.encode(bytes));
    let mut text =
        Zeroizing::new(String::with_capacity(encoded.len() + encoded.len() / 32 + 2 * label.len() + 64));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for (at, c) in encoded.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(c);
    }
    text.push_str("\n-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

fn exactly(bytes: &[u8], need: usize) -> Result<(), KeyFileError> {
    if bytes.len() == need { Ok(()) } else { Err(KeyFileError::Length { need, have: bytes.len() }) }
}

#[cfg(test)]
#[path = "static_key_tests.rs"]
mod tests;
