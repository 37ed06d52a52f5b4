//! A private key that somebody else has: what is to be signed goes out, the signature comes back.

use std::{fmt, sync::Arc};

use aws_lc_rs::{digest, rand};
use rustls::{
    Error, SignatureAlgorithm, SignatureScheme,
    sign::{Signer, SigningKey},
};

use super::certificate::KeyKind;

/// Signs with a key that is elsewhere. Called within the handshake, on a thread that may wait.
pub trait ExternalSigner: Send + Sync {
    /// Whether it can sign in this way at all.
    fn can(&self, scheme: SignScheme) -> bool;

    /// Returns the signature as TLS carries it: RSA's number, or the DER of ECDSA.
    ///
    /// # Errors
    /// Why there is none, for the log.
    fn sign(&self, request: &SignRequest<'_>) -> Result<Vec<u8>, String>;
}

/// How to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignScheme {
    /// RSA with PKCS #1 version 1.5 padding.
    RsaPkcs1(HashName),
    /// RSA with PSS padding, the salt as long as the hash.
    RsaPss(HashName),
    /// ECDSA.
    Ecdsa(HashName),
}

/// The hash within a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "names of hashes")]
pub enum HashName {
    Sha256,
    Sha384,
    Sha512,
}

impl HashName {
    /// Returns OpenSSL's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA256",
            Self::Sha384 => "SHA384",
            Self::Sha512 => "SHA512",
        }
    }

    const fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn of(self, data: &[u8]) -> Vec<u8> {
        digest::digest(self.algorithm(), data).as_ref().to_vec()
    }

    /// What stands before the hash in a DigestInfo (RFC 8017, section 9.2, note 1): its arc ends with this number.
    fn digest_info(self, hash: &[u8]) -> Vec<u8> {
        let (arc, len) = match self {
            Self::Sha256 => (1, 0x20),
            Self::Sha384 => (2, 0x30),
            Self::Sha512 => (3, 0x40),
        };
        // SEQUENCE { SEQUENCE { OID 2.16.840.1.101.3.4.2.arc, NULL }, OCTET STRING }
        let mut info =
            vec![0x30, 0x11 + len, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
        info.extend([arc, 0x05, 0x00, 0x04, len]);
        info.extend_from_slice(hash);
        info
    }
}

impl SignScheme {
    /// Returns the hash.
    #[must_use]
    pub const fn hash(self) -> HashName {
        match self {
            Self::RsaPkcs1(hash) | Self::RsaPss(hash) | Self::Ecdsa(hash) => hash,
        }
    }

    /// Those that a key of this kind has, the usual first.
    fn of(kind: KeyKind) -> &'static [(SignatureScheme, Self)] {
        use HashName::{Sha256, Sha384, Sha512};
        match kind {
            KeyKind::Rsa(_) => &[
                (SignatureScheme::RSA_PSS_SHA256, Self::RsaPss(Sha256)),
                (SignatureScheme::RSA_PSS_SHA384, Self::RsaPss(Sha384)),
                (SignatureScheme::RSA_PSS_SHA512, Self::RsaPss(Sha512)),
                (SignatureScheme::RSA_PKCS1_SHA256, Self::RsaPkcs1(Sha256)),
                (SignatureScheme::RSA_PKCS1_SHA384, Self::RsaPkcs1(Sha384)),
                (SignatureScheme::RSA_PKCS1_SHA512, Self::RsaPkcs1(Sha512)),
            ],
            KeyKind::Ec(_, 256) => &[(SignatureScheme::ECDSA_NISTP256_SHA256, Self::Ecdsa(Sha256))],
            KeyKind::Ec(_, 384) => &[(SignatureScheme::ECDSA_NISTP384_SHA384, Self::Ecdsa(Sha384))],
            KeyKind::Ec(_, 521) => &[(SignatureScheme::ECDSA_NISTP521_SHA512, Self::Ecdsa(Sha512))],
            KeyKind::Ec(..) | KeyKind::Ed25519 | KeyKind::Other => &[],
        }
    }
}

/// What is to be signed.
#[derive(Clone, Copy, Debug)]
pub struct SignRequest<'a> {
    /// How.
    pub scheme: SignScheme,
    /// The message, not hashed.
    pub message: &'a [u8],
    /// The length of the RSA modulus in bits; of no meaning for others.
    modulus_bits: usize,
}

impl SignRequest<'_> {
    /// Returns the hash of the message.
    #[must_use]
    pub fn digest(&self) -> Vec<u8> {
        self.scheme.hash().of(self.message)
    }

    /// Returns the hash as a DigestInfo: what a PKCS #1 signature holds.
    #[must_use]
    pub fn digest_info(&self) -> Vec<u8> {
        self.scheme.hash().digest_info(&self.digest())
    }

    /// Returns the padded block of a PKCS #1 signature, for bare RSA (RFC 8017, section 9.2).
    ///
    /// # Errors
    /// When the key is too short.
    pub fn padded_pkcs1(&self) -> Result<Vec<u8>, String> {
        let (info, len) = (self.digest_info(), self.modulus_bits.div_ceil(8));
        let padding =
            len.checked_sub(info.len() + 3).filter(|&n| n >= 8).ok_or("the RSA key is too short")?;
        let mut block = vec![0, 1];
        block.extend(std::iter::repeat_n(0xff, padding));
        block.push(0);
        block.extend(info);
        Ok(block)
    }

    /// Returns the padded block of a PSS signature, for bare RSA (RFC 8017, section 9.1.1).
    ///
    /// # Errors
    /// When the key is too short, or there is no randomness.
    pub fn padded_pss(&self) -> Result<Vec<u8>, String> {
        let (hash, digest) = (self.scheme.hash(), self.digest());
        let mut salt = vec![0; digest.len()];
        rand::fill(&mut salt).map_err(|_| "no randomness")?;
        // One bit shorter than the modulus: the number must be smaller.
        let bits = self.modulus_bits.saturating_sub(1);
        let len = bits.div_ceil(8);
        let zeros = len.checked_sub(2 * digest.len() + 2).ok_or("the RSA key is too short")?;
        let seed = hash.of(&[&[0; 8][..], &digest, &salt].concat());
        let mut block = vec![0; zeros];
        block.push(1);
        block.extend(salt);
        let mask = mgf1(hash, &seed, block.len());
        block.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        if let Some(first) = block.first_mut() {
            *first &= 0xff >> (8 * len - bits);
        }
        block.extend(seed);
        block.push(0xbc);
        // Bare RSA wants as many bytes as the modulus has.
        let missing = self.modulus_bits.div_ceil(8) - block.len();
        Ok([vec![0; missing], block].concat())
    }
}

/// The mask of PSS (RFC 8017, appendix B.2.1).
fn mgf1(hash: HashName, seed: &[u8], len: usize) -> Vec<u8> {
    let mut mask = Vec::with_capacity(len);
    let mut counter = 0_u32;
    while mask.len() < len {
        mask.extend(hash.of(&[seed, &counter.to_be_bytes()].concat()));
        counter += 1;
    }
    mask.truncate(len);
    mask
}

/// The key, as rustls sees it.
pub(super) struct ExternalKey {
    kind: KeyKind,
    signer: Arc<dyn ExternalSigner>,
}

impl ExternalKey {
    /// Returns the key of a certificate with this kind of key; `None` when it cannot sign here.
    pub(super) fn new(kind: KeyKind, signer: Arc<dyn ExternalSigner>) -> Option<Self> {
        (!SignScheme::of(kind).is_empty()).then_some(Self { kind, signer })
    }

    /// Whether it can do what TLS 1.3 wants; RSA may be limited to PKCS #1.
    pub(super) fn can_tls_1_3(&self) -> bool {
        SignScheme::of(self.kind)
            .iter()
            .any(|(_, scheme)| !matches!(scheme, SignScheme::RsaPkcs1(_)) && self.signer.can(*scheme))
    }
}

impl fmt::Debug for ExternalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalKey").finish_non_exhaustive()
    }
}

impl SigningKey for ExternalKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let modulus_bits = if let KeyKind::Rsa(bits) = self.kind { bits } else { 0 };
        SignScheme::of(self.kind)
            .iter()
            .find(|(name, scheme)| offered.contains(name) && self.signer.can(*scheme))
            .map(|&(name, scheme)| -> Box<dyn Signer> {
                Box::new(Chosen { name, scheme, modulus_bits, signer: Arc::clone(&self.signer) })
            })
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.kind {
            KeyKind::Rsa(_) => SignatureAlgorithm::RSA,
            KeyKind::Ec(..) | KeyKind::Ed25519 | KeyKind::Other => SignatureAlgorithm::ECDSA,
        }
    }
}

struct Chosen {
    name: SignatureScheme,
    scheme: SignScheme,
    modulus_bits: usize,
    signer: Arc<dyn ExternalSigner>,
}

impl fmt::Debug for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chosen").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Signer for Chosen {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let request = SignRequest { scheme: self.scheme, message, modulus_bits: self.modulus_bits };
        self.signer.sign(&request).map_err(|reason| Error::General(format!("external key: {reason}")))
    }

    fn scheme(&self) -> SignatureScheme {
        self.name
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::{AsDer, Pkcs8V1Der},
        rsa::KeySize,
        signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey},
    };

    use super::*;

    /// Bare RSA, as a token without padding does it.
    fn bare_rsa(pkcs8: &[u8], block: &[u8]) -> Vec<u8> {
        use std::{io::Write as _, process::Command};
        let folder = std::env::temp_dir().join(format!(
            "culvert-bare-rsa-{}-{}",
            std::process::id(),
            block.len() + usize::from(block[1])
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
            path
        };
        let (key, input) = (file("key", pkcs8), file("block", block));
        let output = Command::new("openssl")
            .args(["rsautl", "-sign", "-raw", "-keyform", "DER", "-inkey"])
            .arg(key)
            .arg("-in")
            .arg(input)
            .output()
            .unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn what_is_padded_here_verifies_after_bare_rsa() {
        let key = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).unwrap();
        let public = key.public_key().as_ref().to_vec();
        let request = |scheme| SignRequest { scheme, message: b"a message", modulus_bits: 2048 };
        let pss = request(SignScheme::RsaPss(HashName::Sha256)).padded_pss().unwrap();
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &public)
            .verify(b"a message", &bare_rsa(pkcs8.as_ref(), &pss))
            .unwrap();
        let pkcs1 = request(SignScheme::RsaPkcs1(HashName::Sha256)).padded_pkcs1().unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public)
            .verify(b"a message", &bare_rsa(pkcs8.as_ref(), &pkcs1))
            .unwrap();
    }

    #[test]
    fn a_key_that_is_too_short_is_refused() {
        let scheme = SignScheme::RsaPss(HashName::Sha512);
        let request = SignRequest { scheme, message: b"", modulus_bits: 512 };
        assert!(request.padded_pss().is_err() && request.padded_pkcs1().is_err());
    }
}
