//! This end's own certificate and key, from whatever files hold them; and whether somebody has to be asked for a
//! passphrase.

use culvert_config::{profile, value::FileOrInline};
use culvert_proto::tls::{
    OwnCertificate, Pem, Pkcs12, SecretPem, TlsError, needs_passphrase, open_pkcs12, pkcs12_needs_passphrase,
};
use zeroize::Zeroizing;

use crate::token;

use super::{
    SettingsError,
    tls::{origin, pem, private_key, read},
};

/// What the files of one end hold.
#[derive(Default)]
pub(super) struct OwnFiles {
    /// Certificate, chain and key.
    pub(super) own: Option<OwnCertificate>,
    /// The authorities of `pkcs12`, which are trusted where there is no `ca`.
    pub(super) ca: Option<Pem>,
}

/// Returns whether the private key is encrypted.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn wants_passphrase(tls: &profile::Tls) -> Result<bool, SettingsError> {
    match (&tls.pkcs12, &tls.key) {
        (Some(file), _) => Ok(pkcs12_needs_passphrase(&pkcs12(file)?.text)),
        // The PIN of a token is asked for when it is needed.
        (None, Some(key)) if token::uri(key).is_some() => Ok(false),
        (None, Some(key)) => Ok(needs_passphrase(&private_key(key)?.text)),
        (None, None) => Ok(false),
    }
}

/// Opens `pkcs12`.
///
/// # Errors
/// When it cannot be read, or the passphrase is wrong.
pub(super) fn from_pkcs12(
    tls: &profile::Tls,
    file: &FileOrInline,
    passphrase: Option<&str>,
) -> Result<OwnFiles, SettingsError> {
    let file = pkcs12(file)?;
    let Pkcs12 { certificate, key, others } = open_pkcs12(&file, passphrase)?;
    let others = (!others.is_empty()).then(|| Pem { origin: file.origin.clone(), text: others });
    let own_extra = tls.extra_certs.as_ref().map(|extra| pem("extra-certs", extra)).transpose()?;
    // OpenVPN: authorities where no others are named, else what completes the chain.
    let (ca, extra) = if tls.ca.is_none() { (others, own_extra) } else { (None, join(others, own_extra)) };
    let own = OwnCertificate {
        certificate: Pem { origin: file.origin.clone(), text: certificate },
        extra,
        key: SecretPem { origin: file.origin, text: key },
        passphrase: None,
    };
    Ok(OwnFiles { own: Some(own), ca })
}

pub(super) fn join(first: Option<Pem>, second: Option<Pem>) -> Option<Pem> {
    match (first, second) {
        (Some(mut first), Some(second)) => {
            first.origin = format!("{}, {}", first.origin, second.origin);
            first.text.extend(second.text);
            Some(first)
        }
        (first, second) => first.or(second),
    }
}

/// Reads `pkcs12`; an inline block is base64.
fn pkcs12(file: &FileOrInline) -> Result<SecretPem, SettingsError> {
    let origin = origin("pkcs12", file);
    let text = match file {
        FileOrInline::File(path) => Zeroizing::new(read("pkcs12", path)?),
        FileOrInline::Inline(text) => {
            let packed: Zeroizing<Vec<u8>> =
                Zeroizing::new(text.expose().bytes().filter(|byte| !byte.is_ascii_whitespace()).collect());
            let decoded = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &*packed);
            Zeroizing::new(decoded.map_err(|_| {
                TlsError::Setup(format!("Error reading PKCS#12 file {origin}: it is not valid base64"))
            })?)
        }
    };
    Ok(SecretPem { origin, text })
}
