//! The one verdict on a peer's certificate, for clients and servers alike, and its way to the session.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    CertProfile, ClientCertificate, PeerIdentity, PeerRules, Revocation, Standing, TlsRole,
    algorithms::{self, MAX_RSA_BITS},
    certificate::{Certificate, KeyKind, Validity, colons},
    distinguished_name, peer_name,
    refusal::Refusal,
    revocation::{Finding, RevocationLists},
    trust::{self, MAX_DEPTH, Trust},
    usage,
};

/// What all connections of a factory check the peer with.
pub(super) struct Checks {
    /// The side that the *peer* has.
    pub peer_role: TlsRole,
    pub rules: PeerRules,
    pub trust: Trust,
    pub profile: CertProfile,
    pub algorithms: &'static WebPkiSupportedAlgorithms,
    /// What a server asks for.
    pub client_certificate: ClientCertificate,
    /// The CAs that a server names in its request.
    pub hints: Vec<DistinguishedName>,
    /// The last CRL text and what it parsed to; most connections find it unchanged.
    pub parsed_lists: Mutex<Option<ParsedText>>,
}

/// A CRL text and what it parsed to.
pub(super) type ParsedText = (Arc<[u8]>, Arc<RevocationLists>);

/// The CRLs as they are now: `None` where there is no file of them, `Some(Err)` when it cannot be read, which denies
/// (SEC-AUTH-6).
pub(super) type CurrentLists = Option<Result<Arc<RevocationLists>, String>>;

impl Checks {
    /// Looks at the file of CRLs. It may be large, or on a disk that hangs: to be called where a handshake's signatures
    /// are worked out, and not where a connection is opened.
    pub(super) fn lists(&self) -> CurrentLists {
        let Some(Revocation::Lists(source)) = &self.rules.revocation else { return None };
        let parsed = || {
            let text = source.current()?;
            let mut known = self.parsed_lists.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((known_text, lists)) = &*known
                && Arc::ptr_eq(known_text, &text)
            {
                return Ok(Arc::clone(lists));
            }
            let lists = Arc::new(RevocationLists::parse(&text)?);
            *known = Some((text, Arc::clone(&lists)));
            Ok(lists)
        };
        Some(parsed())
    }
}

/// The verdict, once there is one.
#[derive(Default)]
pub(super) enum Outcome {
    #[default]
    Pending,
    Accepted(PeerIdentity),
    Refused(Refusal),
}

/// The verifier of one connection.
pub(super) struct PeerVerifier {
    pub checks: Arc<Checks>,
    pub outcome: Arc<Mutex<Outcome>>,
}

impl PeerVerifier {
    /// Judges and leaves the verdict where the session finds it. The *handshake's signature* is verified later: the
    /// session shows an identity only when the handshake is done.
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let verdict = self.identify(leaf, sent, now.as_secs());
        let (outcome, result) = match verdict {
            Ok(identity) => (Outcome::Accepted(identity), Ok(())),
            Err(refusal) => {
                let alert = refusal.alert.clone();
                (Outcome::Refused(refusal), Err(rustls::Error::InvalidCertificate(alert)))
            }
        };
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
        result
    }

    /// Judges a chain (leaf first) that was accepted before. Without one there is nothing to judge: the peer was let in
    /// by its login. Dates are left to the next key exchange; every other reason to refuse it now takes back what it
    /// was granted.
    pub(super) fn judge_again(&self, chain: &[Vec<u8>], now: u64) -> Standing {
        let Some((leaf, issuers)) = chain.split_first() else { return Standing::Good };
        let leaf = CertificateDer::from(leaf.as_slice());
        let issuers: Vec<_> = issuers.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let Err(refusal) = self.identify(&leaf, &issuers, now) else { return Standing::Good };
        let reason = refusal.lines.last().cloned().unwrap_or_default();
        match refusal.alert {
            CertificateError::UnknownRevocationStatus | CertificateError::ExpiredRevocationList => {
                Standing::Unknown(reason)
            }
            CertificateError::Expired | CertificateError::NotValidYet => Standing::Good,
            _ => Standing::Withdrawn(reason),
        }
    }

    fn identify(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: u64,
    ) -> Result<PeerIdentity, Refusal> {
        let checks = &*self.checks;
        if sent.len() >= MAX_DEPTH {
            let line = format!(
                "TLS Error: Convoluted certificate chain detected with depth [{}] greater than {MAX_DEPTH}",
                sent.len()
            );
            return Err(Refusal::new(line, CertificateError::BadEncoding));
        }
        let parsed = Certificate::parse(leaf).ok_or_else(|| unreadable(0))?;
        if parsed.is_version_1() {
            let error = "invalid certificate version";
            return Err(Refusal::verify(0, error, &parsed.subject_lossy(), &parsed.serial(), CertificateError::BadEncoding)
                .hint("the peer's certificate is X.509 version 1: issue it as version 3, that is, with any extension"));
        }
        let pinned_only = checks.trust.is_empty();
        let path = if pinned_only {
            vec![leaf.to_vec()]
        } else {
            checks.trust.path(leaf, sent, now, checks.algorithms.all)?
        };
        let mut identity = PeerIdentity::default();
        let lists = if pinned_only { None } else { checks.lists() };
        for depth in (0..path.len()).rev() {
            self.check_one(&path, depth, now, &lists, &mut identity)
                .map_err(|refusal| refusal.after(std::mem::take(&mut identity.log)))?;
        }
        identity.chain = path;
        Ok(identity)
    }

    /// Checks one certificate of the path, root first as OpenVPN does, and adds its lines to the log.
    fn check_one(
        &self,
        path: &[Vec<u8>],
        depth: usize,
        now: u64,
        lists: &CurrentLists,
        identity: &mut PeerIdentity,
    ) -> Result<(), Refusal> {
        let checks = &*self.checks;
        let certificate =
            path.get(depth).and_then(|der| Certificate::parse(der)).ok_or_else(|| unreadable(depth))?;
        let bad_name = |_| {
            let line = format!(
                "VERIFY ERROR: depth={depth}, the subject holds control characters: {}",
                certificate.subject_lossy()
            );
            Refusal::new(line, CertificateError::BadEncoding)
        };
        let fields = certificate.subject_fields().map_err(bad_name)?;
        let subject = distinguished_name::one_line(&fields);
        let refuse =
            |error: &str, alert| Refusal::verify(depth, error, &subject, &certificate.serial(), alert);

        if !checks.trust.is_empty() {
            check_key(checks.profile, &certificate, depth)?;
            let untimely = match certificate.validity(now) {
                Validity::Current => None,
                Validity::Expired => Some((trust::EXPIRED, CertificateError::Expired)),
                Validity::NotYet => Some((trust::NOT_YET_VALID, CertificateError::NotValidYet)),
            };
            if let Some((error, alert)) = untimely {
                return Err(refuse(error, alert).hint(certificate.dates_hint(now)));
            }
            if depth > 0 && certificate.key_usage().is_some_and(|usage| usage & KEY_CERT_SIGN == 0) {
                return Err(refuse("invalid CA certificate", CertificateError::UnknownIssuer)
                    .hint("that CA's key usage lacks `keyCertSign`"));
            }
            self.check_revocation(path, depth, &certificate, now, lists, &mut identity.log)?;
            if !checks.rules.contrary_usage_allowed {
                usage::check_contrary(checks.peer_role, depth, &certificate)?;
            }
        }
        self.check_hashes(path, depth, &certificate)?;
        if depth == 0 {
            usage::check(&checks.rules, &certificate, &mut identity.log)?;
            if checks.peer_role == TlsRole::Server
                && !checks.trust.is_empty()
                && !usage::is_named(&certificate)
            {
                identity.log.push(format!(
                    "WARNING: the server's certificate ({}) has no extended key usage: any client of the same CA could \
                     pose as the server. Issue it with `serverAuth` and set `remote-cert-tls server` here.",
                    subject
                ));
            }
            identity.common_name =
                peer_name::common_name(&checks.rules.username_fields, &certificate, &fields)?;
            if let Some(rule) = &checks.rules.name {
                peer_name::check(rule, &identity.common_name, &subject, &mut identity.log)?;
            }
        }
        identity.log.push(format!("VERIFY OK: depth={depth}, {subject}"));
        Ok(())
    }

    fn check_revocation(
        &self,
        path: &[Vec<u8>],
        depth: usize,
        certificate: &Certificate<'_>,
        now: u64,
        lists: &CurrentLists,
        log: &mut Vec<String>,
    ) -> Result<(), Refusal> {
        let (subject, serial) = (certificate.subject_lossy(), certificate.serial());
        let refuse = |error: &str, alert| Refusal::verify(depth, error, &subject, &serial, alert);
        if let Some(Revocation::Serials(is_revoked)) = &self.checks.rules.revocation {
            return match is_revoked(&serial) {
                Ok(false) => Ok(()),
                Ok(true) => {
                    let line = format!("VERIFY CRL: depth={depth}, {subject}, serial={serial} is revoked");
                    Err(Refusal::new(line, CertificateError::Revoked))
                }
                Err(error) => Err(Refusal::new(
                    format!("VERIFY CRL: depth={depth}, {subject}, cannot look up serial={serial}: {error}"),
                    CertificateError::UnknownRevocationStatus,
                )),
            };
        }
        let lists = match lists {
            None => return Ok(()),
            Some(Ok(lists)) => lists,
            Some(Err(error)) => {
                return Err(Refusal::new(
                    format!("VERIFY ERROR: CRL not loaded: {error}"),
                    CertificateError::UnknownRevocationStatus,
                )
                .hint("nobody is let in without the file of `crl-verify`: restore it"));
            }
        };
        let issuer = path.get(depth + 1).and_then(|der| Certificate::parse(der));
        let finding = match issuer.as_ref().or_else(|| certificate.is_self_issued().then_some(certificate)) {
            Some(issuer) => lists.find(certificate, issuer, now, self.checks.algorithms.all),
            None => Finding::Unknown,
        };
        match finding {
            Finding::Good => Ok(()),
            // As OpenVPN: a file with the lists of some CAs only is usual while one CA replaces another.
            Finding::Unknown => {
                log.push(format!("VERIFY WARNING: depth={depth}, unable to get certificate CRL: {subject}"));
                Ok(())
            }
            Finding::Bad("certificate revoked") => {
                Err(refuse("certificate revoked", CertificateError::Revoked))
            }
            Finding::Bad(error @ "CRL has expired") => {
                Err(refuse(error, CertificateError::ExpiredRevocationList)
                    .hint("issue the CRL anew (easy-rsa: gen-crl) and put it where `crl-verify` points"))
            }
            Finding::Bad(error @ "CRL is not yet valid") => {
                Err(refuse(error, CertificateError::UnknownRevocationStatus)
                    .hint("check the clock of this machine and of the one that issued the CRL"))
            }
            Finding::Bad(error) => Err(refuse(error, CertificateError::UnknownRevocationStatus)),
        }
    }

    /// `verify-hash` at level 1, `peer-fingerprint` at the leaf.
    fn check_hashes(
        &self,
        path: &[Vec<u8>],
        depth: usize,
        certificate: &Certificate<'_>,
    ) -> Result<(), Refusal> {
        let rules = &self.checks.rules;
        let sha256 = digest::digest(&digest::SHA256, certificate.der);
        let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, certificate.der);
        let is_ours = |hash: &[u8]| {
            verify_slices_are_equal(hash, sha256.as_ref()).is_ok()
                || verify_slices_are_equal(hash, sha1.as_ref()).is_ok()
        };
        let refuse = |got: &[u8]| {
            let line = format!(
                "TLS Error: --tls-verify/--peer-fingerprint certificate hash verification failed. \
                 (got certificate fingerprint: {})",
                colons(got)
            );
            Refusal::new(line, CertificateError::ApplicationVerificationFailure)
        };
        // A chain without a level-1 certificate must not slip past the check of that level.
        let is_level_1 = depth == 1 || (depth == 0 && path.len() == 1);
        if is_level_1 && !rules.level_1_hashes.is_empty() {
            let short = rules.level_1_hashes.iter().all(|hash| hash.len() == sha1.as_ref().len());
            if depth == 0 || !rules.level_1_hashes.iter().any(|hash| is_ours(hash)) {
                return Err(refuse(if short { sha1.as_ref() } else { sha256.as_ref() })
                    .hint("`verify-hash` names another CA certificate: better name the CA with `ca`"));
            }
        }
        if depth == 0
            && !rules.fingerprints.is_empty()
            && !rules.fingerprints.iter().any(|hash| is_ours(hash))
        {
            return Err(refuse(sha256.as_ref())
                .hint("if this is the right peer, add that fingerprint to `peer-fingerprint`"));
        }
        Ok(())
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, self.checks.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, self.checks.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.checks.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.checks.client_certificate == ClientCertificate::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.checks.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, self.checks.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, self.checks.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.checks.algorithms.supported_schemes()
    }
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerVerifier").finish_non_exhaustive()
    }
}

/// RSA length and curve against the profile; the algorithms bound signatures, this bounds the keys themselves.
fn check_key(profile: CertProfile, certificate: &Certificate<'_>, depth: usize) -> Result<(), Refusal> {
    let error = match certificate.key_kind() {
        KeyKind::Rsa(bits) if bits > MAX_RSA_BITS => "certificate key too long",
        KeyKind::Rsa(bits) if profile != CertProfile::SuiteB && bits >= algorithms::min_rsa_bits(profile) => {
            return Ok(());
        }
        KeyKind::Ec("prime256v1" | "secp384r1", _) => return Ok(()),
        KeyKind::Ec(..) | KeyKind::Ed25519 | KeyKind::Other if profile != CertProfile::SuiteB => {
            return Ok(());
        }
        _ if depth == 0 => "EE certificate key too weak",
        _ => "CA certificate key too weak",
    };
    let (subject, serial) = (certificate.subject_lossy(), certificate.serial());
    Err(Refusal::verify(depth, error, &subject, &serial, CertificateError::BadSignature).hint(
        "RSA keys need 2048 to 8192 bits: issue it anew; 1024 are accepted by `tls-cert-profile insecure` together \
             with `tls-version-max 1.2`",
    ))
}

fn unreadable(depth: usize) -> Refusal {
    let line = format!("VERIFY ERROR: depth={depth}, could not extract X509 subject string from certificate");
    Refusal::new(line, CertificateError::BadEncoding)
}

/// Bit 5 of the key usage.
const KEY_CERT_SIGN: u16 = 1 << 5;
