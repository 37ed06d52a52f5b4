//! Private keys of every wrapping that `key` files come in: PKCS #1, SEC 1, PKCS #8; encrypted PKCS #8 (PBES2, and
//! PKCS #12's triple DES), and OpenSSL's old encrypted PEM.

use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use zeroize::Zeroizing;

use super::{
    SecretPem, TlsError,
    encrypted_key::{self, Failure},
    pem::{self, Section},
};

/// Returns whether the PEM text holds an encrypted private key, so that a passphrase has to be asked for.
#[must_use]
pub fn needs_passphrase(pem: &[u8]) -> bool {
    let has = |needle: &[u8]| pem.windows(needle.len()).any(|window| window == needle);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

/// Reads the first private key of a file.
pub(super) fn load(file: &SecretPem, passphrase: Option<&str>) -> Result<PrivateKeyDer<'static>, TlsError> {
    let origin = &file.origin;
    let setup = |reason: &str| TlsError::Setup(format!("Cannot load private key file {origin}: {reason}"));
    let sections = pem::sections(&file.text).map_err(|error| setup(&error))?;
    let section = sections.iter().find(|section| section.label.ends_with("PRIVATE KEY")).ok_or_else(|| {
        setup(if sections.iter().any(|section| section.label == "CERTIFICATE") {
            "it holds a certificate and no private key\nhint: `key` names the private key, `cert` the certificate"
        } else {
            "it holds no private key (`-----BEGIN PRIVATE KEY-----`)"
        })
    })?;
    let bytes = plain_bytes(section, passphrase).map_err(|failure| match failure {
        Failure::NoPassphrase => TlsError::Passphrase(format!(
            "Cannot load private key file {origin}: it is encrypted and no passphrase is given\n\
             hint: put the passphrase into a file for `askpass FILE`, or decrypt the key: openssl pkey -in FILE -out NEW"
        )),
        Failure::WrongPassphrase => {
            TlsError::Passphrase(format!("Cannot load private key file {origin}: wrong passphrase"))
        }
        Failure::Unsupported(what) => setup(&format!(
            "{what} is not supported\nhint: encrypt it anew: openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out NEW"
        )),
        Failure::Malformed => setup("it is malformed"),
    })?;
    let bytes = bytes.to_vec();
    match section.label.as_str() {
        "RSA PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(bytes))),
        "EC PRIVATE KEY" => Ok(PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(bytes))),
        "PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(bytes))),
        other => Err(setup(&format!(
            "`{other}` is not supported\nhint: use an RSA, EC or Ed25519 key; convert it by: openssl pkey -in FILE -out NEW"
        ))),
    }
}

fn plain_bytes(section: &Section, passphrase: Option<&str>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if section.label == "ENCRYPTED PRIVATE KEY" {
        return encrypted_key::pkcs8(&section.bytes, passphrase.ok_or(Failure::NoPassphrase)?);
    }
    if section.header("Proc-Type").is_some_and(|value| value.replace(' ', "") == "4,ENCRYPTED") {
        let info = section.header("DEK-Info").ok_or(Failure::Malformed)?;
        return encrypted_key::old_pem(&section.bytes, info, passphrase.ok_or(Failure::NoPassphrase)?);
    }
    Ok(section.bytes.clone())
}
