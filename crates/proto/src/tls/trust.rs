//! From a leaf to a trusted CA. webpki builds and verifies the path; why there is none is said in OpenSSL's words.

use rustls::CertificateError;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};

use super::{
    certificate::{Certificate, Validity},
    refusal::Refusal,
};

/// Longest chain, leaf and CA included (SEC-AUTH-7).
pub(super) const MAX_DEPTH: usize = 16;

/// The certificates of `ca`.
pub(super) struct Trust {
    authorities: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

/// What every path of one configuration is checked with.
pub(super) type Algorithms<'a> = &'a [&'a dyn SignatureVerificationAlgorithm];

impl Trust {
    /// Takes the certificates; also gives how many could not be used.
    pub(super) fn new(certificates: Vec<Vec<u8>>) -> (Self, usize) {
        let mut trust = Self { authorities: Vec::new(), anchors: Vec::new() };
        let all = certificates.len();
        for der in certificates.into_iter().map(CertificateDer::from) {
            let anchor = webpki::anchor_from_trusted_cert(&der).map(|anchor| anchor.to_owned());
            if let (Ok(anchor), Some(_)) = (anchor, Certificate::parse(&der)) {
                trust.anchors.push(anchor);
                trust.authorities.push(der);
            }
        }
        let unusable = all - trust.authorities.len();
        (trust, unusable)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// The subjects of the CAs, DER, for the server's certificate request.
    pub(super) fn subjects(&self) -> impl Iterator<Item = &[u8]> {
        self.anchors.iter().map(|anchor| anchor.subject.as_ref())
    }

    /// Returns the path, leaf first, root last; every signature on it is verified, usages and dates are not.
    pub(super) fn path(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: u64,
        algorithms: Algorithms<'_>,
    ) -> Result<Vec<Vec<u8>>, Refusal> {
        // A self-signed certificate that is itself trusted: no path to build, and webpki takes no CA as a leaf.
        if let Some(parsed) = Certificate::parse(leaf)
            && parsed.is_self_issued()
            && self.authorities.iter().any(|authority| authority == leaf)
        {
            return Ok(vec![leaf.to_vec()]);
        }
        match self.webpki_path(leaf, sent, now, algorithms) {
            Ok(mut path) => {
                self.extend_to_root(&mut path, now);
                Ok(path)
            }
            Err(error) => Err(explain(&error, leaf, sent, now)),
        }
    }

    /// Returns what of `ca` continues a chain of ours: the peer may know the root only. The root itself is left out.
    pub(super) fn continue_chain(&self, chain: &mut Vec<CertificateDer<'static>>, now: u64) {
        let mut path: Vec<Vec<u8>> = chain.iter().map(|certificate| certificate.to_vec()).collect();
        let own = path.len();
        self.extend_to_root(&mut path, now);
        let more = path.drain(own.min(path.len())..);
        let not_root = |der: &Vec<u8>| Certificate::parse(der).is_some_and(|parsed| !parsed.is_self_issued());
        chain.extend(more.filter(not_root).map(CertificateDer::from));
    }

    fn webpki_path(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: u64,
        algorithms: Algorithms<'_>,
    ) -> Result<Vec<Vec<u8>>, webpki::Error> {
        let end_entity = EndEntityCert::try_from(leaf)?;
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        let verified =
            end_entity.verify_for_usage(algorithms, &self.anchors, sent, time, AnyUsage, None, None)?;
        let mut path = vec![leaf.to_vec()];
        path.extend(verified.intermediate_certificates().map(|certificate| certificate.der().to_vec()));
        let anchor = verified.anchor();
        path.extend(self.authority_of(anchor, now).map(|authority| authority.to_vec()));
        Ok(path)
    }

    /// The certificate behind an anchor; of two for the same key, the one that has not expired.
    fn authority_of(&self, anchor: &TrustAnchor<'_>, now: u64) -> Option<&CertificateDer<'static>> {
        let same = |candidate: &TrustAnchor<'_>| {
            candidate.subject == anchor.subject
                && candidate.subject_public_key_info == anchor.subject_public_key_info
        };
        let candidates =
            || self.anchors.iter().zip(&self.authorities).filter(|(candidate, _)| same(candidate));
        let current = candidates().find(|(_, authority)| is_current(authority, now));
        current.or_else(|| candidates().next()).map(|(_, authority)| authority)
    }

    /// Adds the issuers of a trusted intermediate CA, as OpenSSL does, so that depths and log lines agree.
    fn extend_to_root(&self, path: &mut Vec<Vec<u8>>, now: u64) {
        while path.len() < MAX_DEPTH {
            let Some(top) = path.last().and_then(|der| Certificate::parse(der)) else { return };
            if top.is_self_issued() {
                return;
            }
            let issues_top = |authority: &&CertificateDer<'static>| {
                Certificate::parse(authority)
                    .is_some_and(|parsed| parsed.x509.subject().as_raw() == top.x509.issuer().as_raw())
            };
            let candidates = || self.authorities.iter().filter(issues_top);
            let issuer =
                candidates().find(|authority| is_current(authority, now)).or_else(|| candidates().next());
            match issuer.map(|authority| authority.to_vec()) {
                Some(issuer) if !path.contains(&issuer) => path.push(issuer),
                _ => return,
            }
        }
    }
}

/// Usages are checked by [`super::usage`], which can say what is wrong.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

fn is_current(der: &[u8], now: u64) -> bool {
    Certificate::parse(der).is_some_and(|parsed| parsed.validity(now) == Validity::Current)
}

/// Finds the certificate that webpki's error is about, and says it as OpenSSL would.
fn explain(error: &webpki::Error, leaf: &[u8], sent: &[CertificateDer<'_>], now: u64) -> Refusal {
    use webpki::Error as E;
    let chain = presented_chain(leaf, sent);
    let at = |depth: usize, text: &str, alert: CertificateError| match chain.get(depth) {
        Some(found) => Refusal::verify(depth, text, &found.subject_lossy(), &found.serial(), alert),
        None => Refusal::new(format!("VERIFY ERROR: depth={depth}, error={text}"), alert),
    };
    let out_of_date = || chain.iter().rposition(|certificate| certificate.validity(now) != Validity::Current);
    let dated = |text: &str, alert: CertificateError| {
        let depth = out_of_date().unwrap_or(0);
        let refusal = at(depth, text, alert);
        match chain.get(depth) {
            Some(certificate) => refusal.hint(certificate.dates_hint(now)),
            None => refusal,
        }
    };
    match error {
        E::CertExpired { .. } => dated(EXPIRED, CertificateError::Expired),
        E::CertNotValidYet { .. } => dated(NOT_YET_VALID, CertificateError::NotValidYet),
        E::UnknownIssuer => unknown_issuer(&chain, &at),
        // webpki looks at the purpose first; that nobody vouches for the certificate says more.
        E::CaUsedAsEndEntity if chain.first().is_some_and(Certificate::is_self_issued) => {
            unknown_issuer(&chain, &at)
        }
        E::InvalidSignatureForPublicKey => {
            at(0, "certificate signature failure", CertificateError::BadSignature)
                .hint("the issuer's name is known, but another key signed: compare `ca` of both sides")
        }
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | E::SignatureAlgorithmMismatch => weak_signature(&chain, &at),
        E::CaUsedAsEndEntity => at(0, "unsuitable certificate purpose", CertificateError::InvalidPurpose)
            .hint(
                "the peer shows a CA certificate as its own: issue it one with `basicConstraints = CA:FALSE`",
            ),
        E::EndEntityUsedAsCa => at(1, "invalid CA certificate", CertificateError::UnknownIssuer)
            .hint("the issuer lacks `basicConstraints = CA:TRUE`"),
        E::PathLenConstraintViolated => {
            at(1, "path length constraint exceeded", CertificateError::UnknownIssuer)
        }
        E::NameConstraintViolation => at(0, "permitted subtree violation", CertificateError::UnknownIssuer),
        E::UnsupportedCriticalExtension => {
            at(0, "unhandled critical extension", CertificateError::UnhandledCriticalExtension)
        }
        E::UnsupportedCertVersion => at(0, "invalid certificate version", CertificateError::BadEncoding)
            .hint("an intermediate CA is an X.509 version 1 certificate: issue it as version 3"),
        other => at(0, &format!("{other:?}"), CertificateError::BadEncoding),
    }
}

fn unknown_issuer(
    chain: &[Certificate<'_>],
    at: &dyn Fn(usize, &str, CertificateError) -> Refusal,
) -> Refusal {
    let top = chain.len().saturating_sub(1);
    let self_signed = chain.last().is_some_and(Certificate::is_self_issued);
    let text = match (self_signed, top) {
        (true, 0) => "self-signed certificate",
        (true, _) => "self-signed certificate in certificate chain",
        (false, _) => "unable to get local issuer certificate",
    };
    at(top, text, CertificateError::UnknownIssuer).hint(
        "the peer's certificate comes from a CA that `ca` does not hold, or an intermediate CA is missing",
    )
}

fn weak_signature(
    chain: &[Certificate<'_>],
    at: &dyn Fn(usize, &str, CertificateError) -> Refusal,
) -> Refusal {
    let is_weak = |certificate: &Certificate<'_>| {
        let name = certificate.signature_name();
        name.ends_with("SHA1") || name.ends_with("MD5") || name.ends_with("SHA224")
    };
    match chain.iter().position(|certificate| !certificate.is_self_issued() && is_weak(certificate)) {
        Some(depth) => at(depth, "CA signature digest algorithm too weak", CertificateError::BadSignature)
            .hint(HINT_SHA1),
        None => at(0, "unsupported signature algorithm", CertificateError::BadSignature),
    }
}

/// Follows issuers' names through what the peer sent.
fn presented_chain<'a>(leaf: &'a [u8], sent: &'a [CertificateDer<'_>]) -> Vec<Certificate<'a>> {
    let mut chain: Vec<Certificate<'a>> = Certificate::parse(leaf).into_iter().collect();
    let mut left: Vec<Certificate<'a>> = sent.iter().filter_map(|der| Certificate::parse(der)).collect();
    while let Some(issuer) =
        chain.last().filter(|top| !top.is_self_issued()).map(|top| top.x509.issuer().as_raw())
    {
        let Some(index) = left.iter().position(|candidate| candidate.x509.subject().as_raw() == issuer)
        else {
            break;
        };
        chain.push(left.swap_remove(index));
    }
    chain
}

pub(super) const EXPIRED: &str = "certificate has expired";
pub(super) const NOT_YET_VALID: &str = "certificate is not yet valid";
const HINT_SHA1: &str = "issue the chain with SHA-256, or accept it for now with `tls-cert-profile insecure`";
