use aws_lc_rs::{hkdf, hmac};
use zeroize::Zeroizing;

use crate::{AuthDigest, CryptoError, MacKey};

/// The pseudo-random function of TLS 1.0: `P_MD5(first half) xor P_SHA1(second half)` of the secret; an odd secret's
/// halves share the byte in the middle. `seed` is the concatenation of the parts, the label first.
///
/// Source: RFC 2246, section 5.
pub fn tls1_prf(secret: &[u8], seed: &[&[u8]], out: &mut [u8]) {
    let half = secret.len().div_ceil(2);
    let (first, _) = secret.split_at(half);
    let (_, second) = secret.split_at(secret.len().saturating_sub(half));
    out.fill(0);
    xor_p_hash(&MacKey::new(AuthDigest::Md5, first), seed, out);
    xor_p_hash(&MacKey::new(AuthDigest::Sha1, second), seed, out);
}

/// `P_hash` of RFC 2246, xored over `out`.
fn xor_p_hash(key: &MacKey, seed: &[&[u8]], out: &mut [u8]) {
    let mut a = key.mac(seed.iter().copied());
    for chunk in out.chunks_mut(key.digest().len()) {
        let block = key.mac(std::iter::once(a.as_bytes()).chain(seed.iter().copied()));
        for (byte, mask) in chunk.iter_mut().zip(block.as_bytes()) {
            *byte ^= mask;
        }
        a = key.mac([a.as_bytes()]);
    }
}

/// HKDF-Expand with SHA-256.
///
/// Source: RFC 5869, section 2.3.
///
/// # Errors
/// When more than 255 * 32 bytes are asked for.
pub fn hkdf_expand_sha256(prk: &[u8], info: &[&[u8]], out: &mut [u8]) -> Result<(), CryptoError> {
    struct Len(usize);
    impl hkdf::KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, prk);
    prk.expand(info, Len(out.len()))?.fill(out)?;
    Ok(())
}

/// HKDF-Expand-Label as OpenVPN's epoch keys use it: the info is
/// `u16 out_len || u8 label_len || "ovpn " label || u8 0`, where the length includes the prefix.
///
/// Source: RFC 8446, section 7.1, with "ovpn " in place of "tls13 " and an empty context.
///
/// # Errors
/// When label or output are too long for their length fields.
pub fn expand_label(secret: &[u8], label: &str, out: &mut [u8]) -> Result<(), CryptoError> {
    const PREFIX: &[u8] = b"ovpn ";
    let out_len = u16::try_from(out.len()).map_err(|_| CryptoError::Library)?;
    let label_len = u8::try_from(PREFIX.len() + label.len()).map_err(|_| CryptoError::Library)?;
    let info: [&[u8]; 5] = [&out_len.to_be_bytes(), &[label_len], PREFIX, label.as_bytes(), &[0]];
    hkdf_expand_sha256(secret, &info, out)
}

/// HMAC-SHA256, for the derivations that need a single value.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut out = Zeroizing::new([0; 32]);
    out.copy_from_slice(context.sign().as_ref());
    out
}
