//! One certificate, taken apart into what the checks, the scripts and the log want to know.

use aws_lc_rs::digest;
use x509_parser::{
    certificate::X509Certificate, extensions::ParsedExtension, prelude::FromDer as _, public_key::PublicKey,
    time::ASN1Time, x509::X509Version,
};

use super::{
    CertificateInfo, TlsRole,
    distinguished_name::{self, BadName, Field},
    extensions,
};

/// A parsed certificate and its bytes.
pub(super) struct Certificate<'a> {
    pub der: &'a [u8],
    pub x509: X509Certificate<'a>,
}

/// What a public key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// Modulus in bits.
    Rsa(usize),
    /// Curve by OpenSSL's name, field size in bits.
    Ec(&'static str, usize),
    Ed25519,
    Other,
}

impl<'a> Certificate<'a> {
    /// Parses; `None` for what is not one certificate.
    pub(super) fn parse(der: &'a [u8]) -> Option<Self> {
        let (rest, x509) = X509Certificate::from_der(der).ok()?;
        rest.is_empty().then_some(Self { der, x509 })
    }

    /// X.509 version 1: no extensions at all, hence no usages and no path lengths.
    pub(super) fn is_version_1(&self) -> bool {
        self.x509.version() == X509Version::V1
    }

    pub(super) fn is_self_issued(&self) -> bool {
        self.x509.subject().as_raw() == self.x509.issuer().as_raw()
    }

    /// Bit 0 of the extension is bit 0 here (`digitalSignature`); `None` where it is missing.
    pub(super) fn key_usage(&self) -> Option<u16> {
        self.x509.key_usage().ok().flatten().map(|extension| extension.value.flags)
    }

    /// The object identifiers of the extended key usage; `None` where it is missing.
    pub(super) fn extended_key_usage(&self) -> Option<Vec<String>> {
        let usage = self.x509.extended_key_usage().ok().flatten()?.value;
        let named = [
            (usage.any, "2.5.29.37.0"),
            (usage.server_auth, "1.3.6.1.5.5.7.3.1"),
            (usage.client_auth, "1.3.6.1.5.5.7.3.2"),
            (usage.code_signing, "1.3.6.1.5.5.7.3.3"),
            (usage.email_protection, "1.3.6.1.5.5.7.3.4"),
            (usage.time_stamping, "1.3.6.1.5.5.7.3.8"),
            (usage.ocsp_signing, "1.3.6.1.5.5.7.3.9"),
        ];
        let named = named.into_iter().filter(|(present, _)| *present).map(|(_, oid)| oid.to_owned());
        Some(named.chain(usage.other.iter().map(|oid| oid.to_id_string())).collect())
    }

    /// Whether Netscape's certificate type names that side.
    pub(super) fn is_netscape_type(&self, role: TlsRole) -> bool {
        self.x509.extensions().iter().any(|extension| match (extension.parsed_extension(), role) {
            (ParsedExtension::NSCertType(kind), TlsRole::Client) => kind.ssl_client(),
            (ParsedExtension::NSCertType(kind), TlsRole::Server) => kind.ssl_server(),
            _ => false,
        })
    }

    pub(super) fn subject_fields(&self) -> Result<Vec<Field>, BadName> {
        distinguished_name::fields(self.x509.subject())
    }

    /// The subject for messages; unshowable characters as `?`.
    pub(super) fn subject_lossy(&self) -> String {
        distinguished_name::one_line_lossy(self.x509.subject())
    }

    /// Decimal.
    pub(super) fn serial(&self) -> String {
        self.x509.tbs_certificate.serial.to_string()
    }

    /// The serial number's bytes without leading zeros.
    pub(super) fn serial_bytes(&self) -> &[u8] {
        trim_zeros(self.x509.tbs_certificate.raw_serial())
    }

    /// `notAfter`, Unix time in seconds.
    pub(super) fn ends(&self) -> i64 {
        self.x509.validity().not_after.timestamp()
    }

    /// Whether `now` (Unix seconds) lies in the validity period.
    pub(super) fn validity(&self, now: u64) -> Validity {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let validity = self.x509.validity();
        if now < validity.not_before.timestamp() {
            Validity::NotYet
        } else if now > validity.not_after.timestamp() {
            Validity::Expired
        } else {
            Validity::Current
        }
    }

    /// What to do about a certificate that is not valid at `now`: the one clock or the other is wrong, or its time is over.
    pub(super) fn dates_hint(&self, now: u64) -> String {
        let shown = |time: Option<ASN1Time>| time.map(|time| time.to_string()).unwrap_or_default();
        let clock = shown(i64::try_from(now).ok().and_then(|now| ASN1Time::from_timestamp(now).ok()));
        let validity = self.x509.validity();
        match self.validity(now) {
            Validity::NotYet => format!(
                "check the clock of this machine and of the one that issued it: this one says {clock}, the certificate \
                 begins {}",
                shown(Some(validity.not_before))
            ),
            Validity::Expired | Validity::Current => format!(
                "issue that certificate anew, and check this machine's clock: it says {clock}, the certificate ended {}",
                shown(Some(validity.not_after))
            ),
        }
    }

    pub(super) fn key_kind(&self) -> KeyKind {
        let key = self.x509.public_key();
        match key.algorithm.algorithm.to_id_string().as_str() {
            "1.3.101.112" => KeyKind::Ed25519,
            "1.2.840.113549.1.1.1" => match key.parsed() {
                Ok(PublicKey::RSA(rsa)) => KeyKind::Rsa(modulus_bits(rsa.modulus)),
                _ => KeyKind::Other,
            },
            "1.2.840.10045.2.1" => {
                let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
                match curve.map(|oid| oid.to_id_string()).as_deref() {
                    Some("1.2.840.10045.3.1.7") => KeyKind::Ec("prime256v1", 256),
                    Some("1.3.132.0.34") => KeyKind::Ec("secp384r1", 384),
                    Some("1.3.132.0.35") => KeyKind::Ec("secp521r1", 521),
                    _ => KeyKind::Other,
                }
            }
            _ => KeyKind::Other,
        }
    }

    /// OpenSSL's name of the algorithm that signed this certificate.
    pub(super) fn signature_name(&self) -> String {
        let oid = self.x509.signature_algorithm.algorithm.to_id_string();
        SIGNATURES.iter().find(|(known, _)| *known == oid).map_or(oid.as_str(), |(_, name)| name).to_owned()
    }

    /// What scripts and the log want to know.
    pub(super) fn info(&self, depth: u8) -> Result<CertificateInfo, BadName> {
        let fields = self.subject_fields()?;
        Ok(CertificateInfo {
            depth,
            subject: distinguished_name::one_line(&fields),
            fields: fields.into_iter().map(|field| (field.name, field.value)).collect(),
            extensions: extensions::shown(&self.x509),
            serial: self.serial(),
            serial_hex: colons(self.serial_bytes()),
            sha1: colons(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, self.der).as_ref()),
            sha256: colons(digest::digest(&digest::SHA256, self.der).as_ref()),
        })
    }

    /// `256 bits ECprime256v1, signature: ecdsa-with-SHA256`, as in OpenVPN's `Control Channel:` line.
    pub(super) fn key_description(&self) -> String {
        let key = match self.key_kind() {
            KeyKind::Rsa(bits) => format!("{bits} bits RSA"),
            KeyKind::Ec(curve, bits) => format!("{bits} bits EC{curve}"),
            KeyKind::Ed25519 => "256 bits ED25519".to_owned(),
            KeyKind::Other => "unknown key".to_owned(),
        };
        format!("{key}, signature: {}", self.signature_name())
    }
}

/// Where a moment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validity {
    Current,
    NotYet,
    Expired,
}

/// Bytes as `aa:bb:cc`.
/// Returns subject and serial number (hexadecimal digits) of a certificate in DER, for lists of certificates; `None` for
/// what is none.
#[must_use]
pub fn describe(der: &[u8]) -> Option<(String, String)> {
    let certificate = Certificate::parse(der)?;
    let serial =
        certificate.serial_bytes().iter().fold(String::new(), |text, byte| format!("{text}{byte:02X}"));
    Some((certificate.subject_lossy(), serial))
}

pub(super) fn colons(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// An unsigned number's bytes without leading zeros, one zero at least.
pub(super) fn trim_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len().saturating_sub(1));
    bytes.get(zeros..).unwrap_or_default()
}

fn modulus_bits(modulus: &[u8]) -> usize {
    let modulus = trim_zeros(modulus);
    let leading = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    (modulus.len() * 8).saturating_sub(leading)
}

/// OID and OpenSSL's short name.
const SIGNATURES: &[(&str, &str)] = &[
    ("1.2.840.113549.1.1.4", "RSA-MD5"),
    ("1.2.840.113549.1.1.5", "RSA-SHA1"),
    ("1.2.840.113549.1.1.10", "RSASSA-PSS"),
    ("1.2.840.113549.1.1.11", "RSA-SHA256"),
    ("1.2.840.113549.1.1.12", "RSA-SHA384"),
    ("1.2.840.113549.1.1.13", "RSA-SHA512"),
    ("1.2.840.113549.1.1.14", "RSA-SHA224"),
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1"),
    ("1.2.840.10045.4.3.1", "ecdsa-with-SHA224"),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256"),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384"),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
    ("1.3.101.112", "ED25519"),
];
