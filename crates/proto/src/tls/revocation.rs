use std::{collections::HashSet, sync::Arc};

use rustls_pki_types::SignatureVerificationAlgorithm;
use x509_parser::{
    extensions::ParsedExtension, prelude::FromDer as _, revocation_list::CertificateRevocationList,
};

use super::{
    certificate::{Certificate, trim_zeros},
    der, pem,
};

/// Where revocations come from (`crl-verify`). Asked whenever a certificate is judged, so that changes take effect
/// without restart.
#[derive(Clone)]
pub enum Revocation {
    /// PEM text of one or more CRLs.
    Lists(Arc<dyn CrlSource>),
    /// `crl-verify DIR dir`: whether a file is named as this decimal serial number. An error means deny.
    Serials(SerialLookup),
}

/// Tells whether a certificate with this decimal serial number is revoked.
pub type SerialLookup = Arc<dyn Fn(&str) -> Result<bool, String> + Send + Sync>;

/// Gives the current CRL file.
pub trait CrlSource: Send + Sync {
    /// Returns the file's bytes. The *same* `Arc` while nothing changed, which spares parsing.
    ///
    /// # Errors
    /// A sentence; nobody is let in then (SEC-AUTH-6).
    fn current(&self) -> Result<Arc<[u8]>, String>;
}

/// A list that never changes (`<crl-verify>` inline).
impl CrlSource for Arc<[u8]> {
    fn current(&self) -> Result<Self, String> {
        Ok(Self::clone(self))
    }
}

/// The parsed lists.
pub(super) struct RevocationLists {
    lists: Vec<List>,
}

/// One CRL: enough to check its signature, its age, and a serial number.
struct List {
    /// The issuer's name, DER.
    issuer: Vec<u8>,
    this_update: i64,
    next_update: Option<i64>,
    signed: Vec<u8>,
    /// The content of the signature's AlgorithmIdentifier.
    algorithm: Vec<u8>,
    signature: Vec<u8>,
    /// Serial numbers without leading zeros.
    revoked: HashSet<Vec<u8>>,
    /// Why the list cannot speak for all certificates of its issuer.
    unusable: Option<&'static str>,
}

/// What the lists say of one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Not revoked.
    Good,
    /// No list of this issuer is there.
    Unknown,
    /// Not to be trusted; OpenSSL's words.
    Bad(&'static str),
}

impl RevocationLists {
    /// Parses a PEM text, or one DER list.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let lists = if bytes.first() == Some(&der::SEQUENCE) {
            vec![List::parse(bytes)?]
        } else {
            let sections = pem::sections(bytes)?;
            let of_crl = sections.iter().filter(|section| section.label == "X509 CRL");
            of_crl.map(|section| List::parse(&section.bytes)).collect::<Result<Vec<_>, _>>()?
        };
        if lists.is_empty() {
            return Err("it holds no CRL (`-----BEGIN X509 CRL-----`)".to_owned());
        }
        Ok(Self { lists })
    }

    /// The earliest time at which one of them ends.
    pub(super) fn end(&self) -> Option<i64> {
        self.lists.iter().filter_map(|list| list.next_update).min()
    }

    /// Looks a certificate up in the newest list that its issuer signed.
    pub(super) fn find(
        &self,
        certificate: &Certificate<'_>,
        issuer: &Certificate<'_>,
        now: u64,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Finding {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let name = certificate.x509.issuer().as_raw();
        let mut of_issuer = self.lists.iter().filter(|list| list.issuer == name).peekable();
        if of_issuer.peek().is_none() {
            return Finding::Unknown;
        }
        let key = issuer.x509.public_key().raw;
        let signed = of_issuer.filter(|list| list.is_signed_by(key, algorithms));
        let Some(list) = signed.max_by_key(|list| list.this_update) else {
            return Finding::Bad("CRL signature failure");
        };
        if list.revoked.contains(certificate.serial_bytes()) {
            Finding::Bad("certificate revoked")
        } else if now < list.this_update {
            Finding::Bad("CRL is not yet valid")
        } else if list.next_update.is_some_and(|next| now > next) {
            Finding::Bad("CRL has expired")
        } else if let Some(reason) = list.unusable {
            Finding::Bad(reason)
        } else {
            Finding::Good
        }
    }
}

impl List {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let broken = || "a CRL in it is malformed".to_owned();
        let (_, list) = CertificateRevocationList::from_der(bytes).map_err(|_| broken())?;
        let (outer, _) = der::expect(bytes, der::SEQUENCE).ok_or_else(broken)?;
        let (signed, rest) = der::split(outer).ok_or_else(broken)?;
        let (algorithm, rest) = der::expect(rest, der::SEQUENCE).ok_or_else(broken)?;
        let (signature, _) = der::expect(rest, der::BIT_STRING).ok_or_else(broken)?;
        let revoked = list.iter_revoked_certificates();
        Ok(Self {
            issuer: list.issuer().as_raw().to_vec(),
            this_update: list.last_update().timestamp(),
            next_update: list.next_update().map(|time| time.timestamp()),
            signed: signed.whole.to_vec(),
            algorithm: algorithm.to_vec(),
            signature: der::whole_bits(signature).ok_or_else(broken)?.to_vec(),
            revoked: revoked.map(|entry| trim_zeros(entry.raw_serial()).to_vec()).collect(),
            unusable: unusable(&list),
        })
    }

    fn is_signed_by(&self, key_info: &[u8], algorithms: &[&dyn SignatureVerificationAlgorithm]) -> bool {
        let key = || {
            let (info, _) = der::expect(key_info, der::SEQUENCE)?;
            let (algorithm, rest) = der::expect(info, der::SEQUENCE)?;
            let (bits, _) = der::expect(rest, der::BIT_STRING)?;
            Some((algorithm, der::whole_bits(bits)?))
        };
        let Some((key_algorithm, key)) = key() else { return false };
        algorithms.iter().any(|algorithm| {
            algorithm.signature_alg_id().as_ref() == self.algorithm
                && algorithm.public_key_alg_id().as_ref() == key_algorithm
                && algorithm.verify_signature(key, &self.signed, &self.signature).is_ok()
        })
    }
}

/// Lists that speak for some certificates or reasons only, and extensions that must be understood and are not.
fn unusable(list: &CertificateRevocationList<'_>) -> Option<&'static str> {
    let in_list = list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::IssuingDistributionPoint(point) => {
            (point.only_some_reasons.is_some() || point.indirect_crl || point.only_contains_attribute_certs)
                .then_some("Different CRL scope")
        }
        ParsedExtension::CRLNumber(_) | ParsedExtension::AuthorityKeyIdentifier(_) => None,
        _ if extension.critical => Some("unhandled critical CRL extension"),
        _ => None,
    });
    // An indirect list names another issuer per entry, by a critical extension.
    let in_entries = || {
        let mut extensions = list.iter_revoked_certificates().flat_map(|entry| entry.extensions());
        let foreign = extensions.any(|extension| {
            extension.critical && !matches!(extension.parsed_extension(), ParsedExtension::ReasonCode(_))
        });
        foreign.then_some("unhandled critical CRL extension")
    };
    in_list.or_else(in_entries)
}
