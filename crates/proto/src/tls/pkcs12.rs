//! PKCS #12 files (RFC 7292): a key, its certificate, and others, under a password.
//!
//! ```text
//! PFX { version, data { SafeContents: data | encrypted data … }, MAC { digest, salt, iterations } }
//! SafeContents { bag { kind, value, attributes } … }    kinds: key, encrypted key, certificate
//! ```

use aws_lc_rs::{
    digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512},
    hmac,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::{
    SecretPem, TlsError, ber, der,
    encrypted_key::{self, Failure},
};

/// What such a file holds, as PEM.
pub struct Pkcs12 {
    /// The certificate of the key.
    pub certificate: Vec<u8>,
    /// The private key, PKCS #8.
    pub key: Zeroizing<Vec<u8>>,
    /// The other certificates: authorities, usually.
    pub others: Vec<u8>,
}

/// Opens a file. As with OpenSSL an empty password is tried before the given one.
///
/// # Errors
/// [`TlsError::Passphrase`] where another password may help.
pub fn open_pkcs12(file: &SecretPem, passphrase: Option<&str>) -> Result<Pkcs12, TlsError> {
    let origin = &file.origin;
    let opened = match (contents(&file.text, ""), passphrase) {
        (Err(Failure::WrongPassphrase), Some(passphrase)) => contents(&file.text, passphrase),
        (Err(Failure::WrongPassphrase), None) => Err(Failure::NoPassphrase),
        (opened, _) => opened,
    };
    let setup = |reason: &str| TlsError::Setup(format!("Error reading PKCS#12 file {origin}: {reason}"));
    let contents = opened.map_err(|failure| match failure {
        Failure::NoPassphrase => TlsError::Passphrase(format!(
            "Error reading PKCS#12 file {origin}: it has a password and none is given\n\
             hint: put the password into a file for `askpass FILE`"
        )),
        Failure::WrongPassphrase => {
            TlsError::Passphrase(format!("Error reading PKCS#12 file {origin}: wrong password"))
        }
        Failure::Unsupported(what) => setup(&format!(
            "{what} is not supported\n\
             hint: write it anew: openssl pkcs12 -legacy -in FILE -nodes -out PEM && openssl pkcs12 -export -in PEM -out NEW"
        )),
        Failure::Malformed => setup("it is malformed"),
    })?;
    let Contents { key, certificates } = contents;
    let Key { bytes: key, id: key_id } = key.ok_or_else(|| setup("it holds no private key"))?;
    let is_own = |certificate: &Certificate| key_id.is_some() && certificate.id == key_id;
    let own = certificates.iter().position(is_own).unwrap_or(0);
    let mut others = Vec::new();
    let mut certificate = None;
    for (index, found) in certificates.into_iter().enumerate() {
        let text = pem("CERTIFICATE", &found.bytes);
        if index == own {
            certificate = Some(text.to_vec());
        } else {
            others.extend_from_slice(&text);
        }
    }
    let certificate = certificate.ok_or_else(|| setup("it holds no certificate"))?;
    Ok(Pkcs12 { certificate, key: pem("PRIVATE KEY", &key), others })
}

/// Returns whether a file has a password, so that it has to be asked for.
#[must_use]
pub fn pkcs12_needs_passphrase(file: &[u8]) -> bool {
    matches!(contents(file, ""), Err(Failure::WrongPassphrase))
}

#[derive(Default)]
struct Contents {
    key: Option<Key>,
    certificates: Vec<Certificate>,
}

struct Key {
    /// PKCS #8.
    bytes: Zeroizing<Vec<u8>>,
    /// The `localKeyID`.
    id: Option<Vec<u8>>,
}

struct Certificate {
    bytes: Vec<u8>,
    /// The `localKeyID`.
    id: Option<Vec<u8>>,
}

fn contents(file: &[u8], password: &str) -> Result<Contents, Failure> {
    let file = ber::to_der(file).ok_or(Failure::Malformed)?;
    let (pfx, _) = expect(&file, der::SEQUENCE)?;
    let (_version, rest) = expect(pfx, der::INTEGER)?;
    let (info, mac) = expect(rest, der::SEQUENCE)?;
    let (kind, content) = expect(info, der::OID)?;
    if kind != DATA {
        return Err(Failure::Unsupported("its protection by a public key".to_owned()));
    }
    let (content, _) = expect(content, EXPLICIT_0)?;
    let (safe, _) = expect(content, der::OCTET_STRING)?;
    if !mac.is_empty() {
        check_mac(mac, safe, password)?;
    }
    let safe = ber::to_der(safe).ok_or(Failure::Malformed)?;
    let mut contents = Contents::default();
    let (mut infos, _) = expect(&safe, der::SEQUENCE)?;
    while !infos.is_empty() {
        let (info, rest) = expect(infos, der::SEQUENCE)?;
        infos = rest;
        let (kind, content) = expect(info, der::OID)?;
        let (content, _) = expect(content, EXPLICIT_0)?;
        let bags = match kind {
            DATA => Zeroizing::new(expect(content, der::OCTET_STRING)?.0.to_vec()),
            ENCRYPTED_DATA => decrypt(content, password)?,
            _ => return Err(Failure::Unsupported("one of its parts".to_owned())),
        };
        contents.add(&bags, password)?;
    }
    Ok(contents)
}

/// The parts of an EncryptedData.
fn decrypt(content: &[u8], password: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let (data, _) = expect(content, der::SEQUENCE)?;
    let (_version, data) = expect(data, der::INTEGER)?;
    let (info, _) = expect(data, der::SEQUENCE)?;
    let (_kind, info) = expect(info, der::OID)?;
    let (scheme, ciphertext) = der::split(info).ok_or(Failure::Malformed)?;
    // [0] IMPLICIT OCTET STRING; in pieces it is constructed.
    let (ciphertext, _) = der::split(ciphertext).ok_or(Failure::Malformed)?;
    let ciphertext = match ciphertext.tag {
        IMPLICIT_0 => ciphertext.content.to_vec(),
        EXPLICIT_0 => {
            let (mut pieces, mut whole) = (ciphertext.content, Vec::new());
            while !pieces.is_empty() {
                let (piece, rest) = expect(pieces, der::OCTET_STRING)?;
                whole.extend_from_slice(piece);
                pieces = rest;
            }
            whole
        }
        _ => return Err(Failure::Malformed),
    };
    let plain = encrypted_key::decrypt_scheme(scheme.whole, &ciphertext, password)?;
    // One wrong password in 256 leaves valid padding; without a MAC this tells it.
    if ber::to_der(&plain).is_none() {
        return Err(Failure::WrongPassphrase);
    }
    Ok(plain)
}

impl Contents {
    /// Adds the bags of a SafeContents.
    fn add(&mut self, bags: &[u8], password: &str) -> Result<(), Failure> {
        let bags = ber::to_der(bags).ok_or(Failure::Malformed)?;
        let (mut bags, _) = expect(&bags, der::SEQUENCE)?;
        while !bags.is_empty() {
            let (bag, rest) = expect(bags, der::SEQUENCE)?;
            bags = rest;
            let (kind, bag) = expect(bag, der::OID)?;
            let (value, attributes) = expect(bag, EXPLICIT_0)?;
            let id = local_key_id(attributes);
            match kind {
                KEY_BAG => self.set_key(Zeroizing::new(value.to_vec()), id),
                ENCRYPTED_KEY_BAG => self.set_key(encrypted_key::pkcs8(value, password)?, id),
                CERTIFICATE_BAG => {
                    let (bag, _) = expect(value, der::SEQUENCE)?;
                    let (kind, value) = expect(bag, der::OID)?;
                    if kind == X509_CERTIFICATE {
                        let (value, _) = expect(value, EXPLICIT_0)?;
                        let bytes = expect(value, der::OCTET_STRING)?.0.to_vec();
                        self.certificates.push(Certificate { bytes, id });
                    }
                }
                _ => {} // revocation lists and secrets: not for TLS
            }
        }
        Ok(())
    }

    /// The first key is the one.
    fn set_key(&mut self, key: Zeroizing<Vec<u8>>, id: Option<Vec<u8>>) {
        self.key.get_or_insert(Key { bytes: key, id });
    }
}

/// `localKeyID`, which the key and its certificate share.
fn local_key_id(attributes: &[u8]) -> Option<Vec<u8>> {
    let (mut attributes, _) = der::expect(attributes, SET)?;
    while !attributes.is_empty() {
        let (attribute, rest) = der::expect(attributes, der::SEQUENCE)?;
        attributes = rest;
        let (kind, values) = der::expect(attribute, der::OID)?;
        if kind == LOCAL_KEY_ID {
            let (values, _) = der::expect(values, SET)?;
            return der::expect(values, der::OCTET_STRING).map(|(id, _)| id.to_vec());
        }
    }
    None
}

/// The MAC tells a wrong password. One of a kind that is not known here is left to the decryption to tell.
fn check_mac(mac: &[u8], content: &[u8], password: &str) -> Result<(), Failure> {
    let (mac, _) = expect(mac, der::SEQUENCE)?;
    let (info, rest) = expect(mac, der::SEQUENCE)?;
    let (salt, rest) = expect(rest, der::OCTET_STRING)?;
    let iterations = match rest {
        [] => 1,
        rest => encrypted_key::iterations(expect(rest, der::INTEGER)?.0)?,
    };
    let (algorithm, digest) = expect(info, der::SEQUENCE)?;
    let (digest, _) = expect(digest, der::OCTET_STRING)?;
    let (oid, _) = expect(algorithm, der::OID)?;
    let Some((algorithm, mac)) = mac_algorithm(oid) else { return Ok(()) };
    let purpose = encrypted_key::PURPOSE_MAC;
    let len = algorithm.output_len();
    let key = encrypted_key::pkcs12_kdf(algorithm, purpose, password, salt, iterations, len);
    hmac::verify(&hmac::Key::new(mac, &key), content, digest).map_err(|_| Failure::WrongPassphrase)
}

fn mac_algorithm(oid: &[u8]) -> Option<(&'static Algorithm, hmac::Algorithm)> {
    match oid {
        [0x2b, 14, 3, 2, 26] => Some((&SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY)),
        [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1] => Some((&SHA256, hmac::HMAC_SHA256)),
        [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2] => Some((&SHA384, hmac::HMAC_SHA384)),
        [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3] => Some((&SHA512, hmac::HMAC_SHA512)),
        _ => None,
    }
}

fn expect(bytes: &[u8], tag: u8) -> Result<(&[u8], &[u8]), Failure> {
    der::expect(bytes, tag).ok_or(Failure::Malformed)
}

fn pem(label: &str, bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let base64 = Zeroizing::new(BASE64_STANDARD.encode(bytes));
    let mut text = Zeroizing::new(Vec::with_capacity(base64.len() + base64.len() / 64 + 80));
    text.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
    for line in base64.as_bytes().chunks(64) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    text
}

const SET: u8 = 0x31;
const EXPLICIT_0: u8 = 0xa0;
const IMPLICIT_0: u8 = 0x80;
/// 1.2.840.113549.1.7.1
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
/// 1.2.840.113549.1.7.6
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 6];
/// 1.2.840.113549.1.12.10.1.1
const KEY_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 1];
/// 1.2.840.113549.1.12.10.1.2
const ENCRYPTED_KEY_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 2];
/// 1.2.840.113549.1.12.10.1.3
const CERTIFICATE_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 3];
/// 1.2.840.113549.1.9.22.1
const X509_CERTIFICATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 22, 1];
/// 1.2.840.113549.1.9.21
const LOCAL_KEY_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 21];
