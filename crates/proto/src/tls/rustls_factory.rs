use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{ServerName, UnixTime},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use rustls_pki_types::CertificateDer;

use super::{
    ClientCertificate, Expiries, ExternalSigner, OwnCertificate, PeerIdentity, Standing, TlsError,
    TlsFactory, TlsRole, TlsSession, TlsSettings, TlsVersion, algorithms,
    certificate::{Certificate, KeyKind, Validity},
    external_key::ExternalKey,
    groups,
    peer_verifier::{Checks, Outcome, PeerVerifier},
    pem, private_key,
    rustls_session::RustlsSession,
    suites,
    trust::{self, Trust},
};

/// TLS by rustls and aws-lc-rs. Settings are checked once, here; connections then are cheap to open.
pub struct RustlsFactory {
    role: TlsRole,
    clock: Clock,
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    own: Option<Arc<SingleCertAndKey>>,
    /// Our certificate's `notAfter`.
    own_ends: Option<i64>,
    checks: Arc<Checks>,
    warnings: Vec<String>,
}

impl RustlsFactory {
    /// Checks the settings, decrypts the key and parses the certificates.
    ///
    /// # Errors
    /// [`TlsError::Setup`] with the option and a remedy; [`TlsError::Passphrase`] where another passphrase may help.
    pub fn new(settings: TlsSettings) -> Result<Self, TlsError> {
        if settings.own.is_none() && settings.role == TlsRole::Server {
            return Err(TlsError::Setup(
                "a TLS server needs a certificate\nhint: set `cert FILE` and `key FILE`".to_owned(),
            ));
        }
        Self::examine(settings)
    }

    /// Checks the settings as [`Self::new`] does, but for a server's missing certificate: who only looks may not have it at
    /// hand.
    ///
    /// # Errors
    /// As of [`Self::new`].
    pub fn examine(settings: TlsSettings) -> Result<Self, TlsError> {
        let mut warnings = Vec::new();
        let provider = provider(&settings, &mut warnings)?;
        let mut versions = versions(&settings, &mut warnings)?;
        let trust = trust(&settings, &mut warnings)?;
        let now = (settings.clock)();
        let mut own_ends = None;
        let own = match &settings.own {
            Some(own) => {
                let external = settings.external_key.clone();
                let certified =
                    own_certificate(own, external, &provider, &trust, now, &mut versions, &mut warnings)?;
                own_ends = certified.cert.first().and_then(|der| Some(Certificate::parse(der)?.ends()));
                Some(Arc::new(certified.into()))
            }
            None => None,
        };
        if !versions
            .iter()
            .any(|version| provider.cipher_suites.iter().any(|suite| suite.version() == *version))
        {
            return Err(TlsError::Setup("no cipher suite fits the TLS versions".to_owned()));
        }
        let checks = Arc::new(checks(settings.role, &settings, trust));
        Ok(Self {
            role: settings.role,
            clock: Clock(settings.clock),
            provider: Arc::new(provider),
            versions,
            own,
            own_ends,
            checks,
            warnings,
        })
    }

    /// What the log should say at start: unknown cipher names, weak points of the settings.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn client(&self, verifier: Arc<PeerVerifier>) -> Result<rustls::Connection, rustls::Error> {
        let builder =
            ClientConfig::builder_with_details(Arc::clone(&self.provider), Arc::new(self.clock.clone()))
                .with_protocol_versions(&self.versions)?
                .dangerous()
                .with_custom_certificate_verifier(verifier);
        let mut config = match &self.own {
            Some(own) => builder.with_client_cert_resolver(Arc::<SingleCertAndKey>::clone(own)),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        // Names are checked by our own rules; rustls wants one, and with SNI off nobody sees it.
        let name =
            ServerName::try_from("openvpn").map_err(|_| rustls::Error::General("server name".to_owned()))?;
        Ok(ClientConnection::new(Arc::new(config), name)?.into())
    }

    fn server(&self, verifier: Arc<PeerVerifier>) -> Result<rustls::Connection, rustls::Error> {
        let builder =
            ServerConfig::builder_with_details(Arc::clone(&self.provider), Arc::new(self.clock.clone()))
                .with_protocol_versions(&self.versions)?;
        let builder = match self.checks.client_certificate {
            ClientCertificate::NotAsked => builder.with_no_client_auth(),
            ClientCertificate::Optional | ClientCertificate::Required => {
                builder.with_client_cert_verifier(verifier)
            }
        };
        let own = self.own.as_ref().ok_or_else(|| rustls::Error::General("no certificate".to_owned()))?;
        let mut config = builder.with_cert_resolver(Arc::<SingleCertAndKey>::clone(own));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(ServerConnection::new(Arc::new(config))?.into())
    }
}

impl TlsFactory for RustlsFactory {
    fn open(&self) -> Result<Box<dyn TlsSession>, TlsError> {
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let verifier =
            Arc::new(PeerVerifier { checks: Arc::clone(&self.checks), outcome: Arc::clone(&outcome) });
        let connection = match self.role {
            TlsRole::Client => self.client(verifier),
            TlsRole::Server => self.server(verifier),
        };
        let connection = connection.map_err(|error| TlsError::Setup(error.to_string()))?;
        Ok(Box::new(RustlsSession::new(connection, outcome)))
    }

    fn judge_again(&self, identity: &PeerIdentity) -> Standing {
        let verifier = PeerVerifier { checks: Arc::clone(&self.checks), outcome: Arc::default() };
        verifier.judge_again(&identity.chain, (self.clock.0)())
    }

    fn expiries(&self) -> Expiries {
        let lists = self.checks.lists().and_then(Result::ok);
        Expiries { certificate: self.own_ends, crl: lists.and_then(|lists| lists.end()) }
    }
}

impl fmt::Debug for RustlsFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RustlsFactory").field("role", &self.role).finish_non_exhaustive()
    }
}

/// The caller's clock, as rustls wants it.
#[derive(Clone)]
struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs((self.0)())))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

fn provider(settings: &TlsSettings, warnings: &mut Vec<String>) -> Result<CryptoProvider, TlsError> {
    let (list, suites) = (settings.cipher_list.as_deref(), settings.cipher_suites.as_deref());
    let may_be_1_3 = settings.version_max >= TlsVersion::V1_3;
    let cipher_suites = suites::select(list, suites, may_be_1_3, warnings).map_err(TlsError::Setup)?;
    let kx_groups = match &settings.groups {
        Some(list) => groups::parse(list, warnings).map_err(TlsError::Setup)?,
        None => groups::DEFAULT.to_vec(),
    };
    Ok(CryptoProvider { cipher_suites, kx_groups, ..aws_lc_rs::default_provider() })
}

fn versions(
    settings: &TlsSettings,
    warnings: &mut Vec<String>,
) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let (min, max) = (settings.version_min, settings.version_max);
    if min > max && !settings.version_min_or_highest {
        return Err(TlsError::Setup(
            "tls-version-min is above tls-version-max\nhint: raise the maximum or lower the minimum"
                .to_owned(),
        ));
    }
    let min = min.min(max);
    if max < TlsVersion::V1_2 {
        return Err(TlsError::Setup(
            "tls-version-max below 1.2 is not supported: TLS 1.0 and 1.1 are broken\n\
             hint: remove `tls-version-max`, and update the peer if it is older than OpenVPN 2.3.3"
                .to_owned(),
        ));
    }
    if min < TlsVersion::V1_2 {
        warnings.push(
            "tls-version-min below 1.2: TLS 1.0 and 1.1 are not supported here; 1.2 is the minimum"
                .to_owned(),
        );
    }
    let in_range = [(TlsVersion::V1_3, &TLS13), (TlsVersion::V1_2, &TLS12)];
    Ok(in_range
        .into_iter()
        .filter(|(version, _)| (min..=max).contains(version))
        .map(|(_, version)| version)
        .collect())
}

fn trust(settings: &TlsSettings, warnings: &mut Vec<String>) -> Result<Trust, TlsError> {
    let asks = settings.role == TlsRole::Client || settings.client_certificate != ClientCertificate::NotAsked;
    let Some(ca) = &settings.ca else {
        return if settings.peer.fingerprints.is_empty() && asks {
            Err(TlsError::Setup(
                "nothing says which peers to trust\nhint: set `ca FILE`, or `peer-fingerprint HASH`"
                    .to_owned(),
            ))
        } else {
            Ok(Trust::new(Vec::new()).0)
        };
    };
    let failed =
        |reason: &str| TlsError::Setup(format!("Cannot load CA certificate file {}: {reason}", ca.origin));
    let certificates = pem::certificates(&ca.text).map_err(|error| failed(&error))?;
    if certificates.is_empty() {
        return Err(failed("it holds no certificate (`-----BEGIN CERTIFICATE-----`)"));
    }
    let all = certificates.len();
    let (trust, unusable) = Trust::new(certificates);
    if trust.is_empty() {
        return Err(failed("none of its certificates can be read"));
    }
    if unusable > 0 {
        warnings
            .push(format!("{}: {unusable} of {all} certificates cannot be used and are ignored", ca.origin));
    }
    Ok(trust)
}

fn checks(role: TlsRole, settings: &TlsSettings, trust: Trust) -> Checks {
    let peer_role = match role {
        TlsRole::Client => TlsRole::Server,
        TlsRole::Server => TlsRole::Client,
    };
    let rules = settings.peer.clone();
    let hints = trust.subjects().map(rustls::DistinguishedName::in_sequence).collect();
    Checks {
        peer_role,
        rules,
        trust,
        profile: settings.profile,
        algorithms: algorithms::of_profile(settings.profile, settings.version_max),
        client_certificate: settings.client_certificate,
        hints,
        parsed_lists: Mutex::new(None),
    }
}

/// Reads chain and key and makes sure that they belong together and can be used.
fn own_certificate(
    own: &OwnCertificate,
    external: Option<Arc<dyn ExternalSigner>>,
    provider: &CryptoProvider,
    trust: &Trust,
    now: u64,
    versions: &mut Vec<&'static SupportedProtocolVersion>,
    warnings: &mut Vec<String>,
) -> Result<CertifiedKey, TlsError> {
    let origin = &own.certificate.origin;
    let mut chain = pem::certificates(&own.certificate.text).map_err(|error| unloadable(origin, &error))?;
    let Some(leaf) = chain.first().and_then(|der| Certificate::parse(der)) else {
        return Err(unloadable(origin, "it holds no readable certificate (`-----BEGIN CERTIFICATE-----`)"));
    };
    check_own(&leaf, origin, now, warnings)?;
    let kind = leaf.key_kind();
    if let Some(extra) = &own.extra {
        chain.extend(pem::certificates(&extra.text).map_err(|error| unloadable(&extra.origin, &error))?);
    }
    let mut chain: Vec<CertificateDer<'static>> = chain.into_iter().map(CertificateDer::from).collect();
    trust.continue_chain(&mut chain, now);

    if let Some(signer) = external {
        let key = ExternalKey::new(kind, signer).ok_or_else(|| {
            unloadable(origin, "an external key can be RSA, or EC on P-256, P-384 or P-521")
        })?;
        if !key.can_tls_1_3() {
            versions.retain(|version| **version != TLS13);
            warnings.push(
                "WARNING: the external key can do PKCS #1 only, so TLS 1.3 is not offered\n\
                 hint: add `pss` or `nopadding` to `management-external-key` if the client can do that"
                    .to_owned(),
            );
        }
        return Ok(CertifiedKey::new(chain, Arc::new(key)));
    }
    let key = private_key::load(&own.key, own.passphrase.as_ref().map(|passphrase| passphrase.as_str()))?;
    let key_origin = &own.key.origin;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Setup(format!(
            "Private key does not match the certificate: {key_origin}, {origin}\n\
             hint: `key` and `cert` come from different pairs; the certificate's public key must be the key's"
        )),
        error => TlsError::Setup(format!(
            "Cannot load private key file {key_origin}: {error}\n\
             hint: use RSA of 2048 to 8192 bits, EC on P-256, P-384 or P-521, or Ed25519"
        )),
    })
}

/// Whether a certificate of this end can be used; that its time is not now is only warned of.
fn check_own(
    leaf: &Certificate<'_>,
    origin: &str,
    now: u64,
    warnings: &mut Vec<String>,
) -> Result<(), TlsError> {
    if leaf.is_version_1() {
        return Err(unloadable(
            origin,
            "it is an X.509 version 1 certificate, which cannot be used\n\
             hint: issue it as version 3: with openssl, sign with -extfile naming any extension",
        ));
    }
    if matches!(leaf.key_kind(), KeyKind::Rsa(bits) if bits < 2048) {
        return Err(unloadable(
            origin,
            "its RSA key is shorter than 2048 bits and cannot be used\nhint: issue a new certificate with a new key",
        ));
    }
    let problem = match leaf.validity(now) {
        Validity::Current => return Ok(()),
        Validity::NotYet => trust::NOT_YET_VALID,
        Validity::Expired => trust::EXPIRED,
    };
    let hint = leaf.dates_hint(now);
    warnings.push(format!("WARNING: Your {problem}! ({origin})\nhint: {hint}"));
    Ok(())
}

fn unloadable(origin: &str, reason: &str) -> TlsError {
    TlsError::Setup(format!("Cannot load certificate file {origin}: {reason}"))
}
