//! What certificates and revocation lists say about themselves, for who explains a configuration. Nothing is verified here.

use super::{
    TlsRole,
    certificate::{Certificate, KeyKind},
    pem,
    revocation::RevocationLists,
};

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedCertificate {
    /// Its holder, on one line.
    pub subject: String,
    /// Who signed it, on one line.
    pub issuer: String,
    /// `notBefore`, Unix time in seconds.
    pub starts: i64,
    /// `notAfter`, Unix time in seconds.
    pub ends: i64,
    /// Key and signature: `2048 bits RSA, signature: RSA-SHA256`.
    pub key: String,
    /// Why key or signature are weak, as a clause.
    pub weakness: Option<&'static str>,
    /// For which end of TLS its extended usage is; empty: it names none, both may use it.
    pub roles: Vec<TlsRole>,
}

/// Reads the certificates of a PEM text, in order.
///
/// # Errors
/// What is wrong with the text, with the number of its line.
pub fn inspect_certificates(text: &[u8]) -> Result<Vec<InspectedCertificate>, String> {
    let ders = pem::certificates(text)?;
    let inspected = ders.iter().zip(1..).map(|(der, number)| {
        let certificate =
            Certificate::parse(der).ok_or(format!("certificate {number} is not an X.509 certificate"))?;
        Ok(inspect(&certificate))
    });
    inspected.collect()
}

fn inspect(certificate: &Certificate<'_>) -> InspectedCertificate {
    let usages = certificate.extended_key_usage().unwrap_or_default();
    let roles = [(TlsRole::Server, "1.3.6.1.5.5.7.3.1"), (TlsRole::Client, "1.3.6.1.5.5.7.3.2")];
    let named = |oid: &str| usages.iter().any(|usage| usage == oid);
    let signature = certificate.signature_name();
    let weakness = match certificate.key_kind() {
        KeyKind::Rsa(bits) if bits < 2048 => Some("its RSA key has fewer than 2048 bits"),
        _ if signature.contains("MD5") => Some("it is signed with MD5"),
        _ if signature.contains("SHA1") => Some("it is signed with SHA-1"),
        _ => None,
    };
    InspectedCertificate {
        subject: certificate.subject_lossy(),
        issuer: super::distinguished_name::one_line_lossy(certificate.x509.issuer()),
        starts: certificate.x509.validity().not_before.timestamp(),
        ends: certificate.ends(),
        key: certificate.key_description(),
        weakness,
        roles: roles.into_iter().filter(|(_, oid)| named(oid)).map(|(role, _)| role).collect(),
    }
}

/// Returns when the first of the lists in a file (PEM, or one in DER) ends, Unix time in seconds; `None`: none does.
///
/// # Errors
/// What is wrong with the file.
pub fn crl_end(bytes: &[u8]) -> Result<Option<i64>, String> {
    RevocationLists::parse(bytes).map(|lists| lists.end())
}
