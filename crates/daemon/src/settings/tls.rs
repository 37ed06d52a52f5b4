//! From a profile's TLS options to the settings of the TLS library: reads the files, converts the words.

use std::{fs, path::Path, sync::Arc};

use culvert_config::{
    Profile,
    profile::{self, AuthRetry, CertPolicy},
    value::FileOrInline,
};
use culvert_mgmt::Notification;
use culvert_proto::tls::{
    CertProfile, ClientCertificate, ExternalSigner, KeyUsageRule, NameKind, NameRule, OwnCertificate,
    PeerRules, Pem, Revocation, RustlsFactory, SecretPem, TlsError, TlsRole, TlsSettings, TlsVersion,
};
use zeroize::Zeroizing;

use super::{
    SettingsError,
    capath::{self, CaDirectory},
    crl_file::CrlFile,
    own_files::{OwnFiles, from_pkcs12, join, wants_passphrase},
};
use crate::{
    clock, credentials,
    exit::Ended,
    life::Life,
    management::{Management, ManagementKey},
    ovlog, question,
    signals::{Request, Signals},
    token::{self, OnToken},
};

/// Makes the factory of a life: what the management interface has is asked for, a wrong passphrase again; whoever is at the
/// terminal is asked again with `auth-retry interact`.
///
/// # Errors
/// When a signal ends the wait, or the settings cannot be used.
pub(crate) async fn make_factory(
    life: &mut Life,
    role: TlsRole,
    signals: &mut Signals,
) -> Result<RustlsFactory, Ended> {
    loop {
        let own = OwnKey::collect(life, role, signals).await?;
        let asked = own.asked;
        match tls_factory(&life.profile, role, own) {
            Ok(factory) => return Ok(factory),
            Err(SettingsError::Tls(TlsError::Passphrase(text))) if asked => {
                crate::log::log_error_lines(&text);
                let kind = "Private Key".to_owned();
                life.management.tell(&Notification::VerificationFailed { kind, reason: None });
            }
            Err(SettingsError::Tls(TlsError::Passphrase(text))) if was_typed(life, role) => {
                crate::log::log_error_lines(&text);
                let again = Ended::Soft(Request::SoftRestart, "private-key-password-failure");
                again.log();
                again.tell(&life.management);
                let asking = question::ask(|prompter| credentials::passphrase(None, prompter));
                let typed = unless_ended(asking, signals).await?;
                life.secrets.passphrase = Some(typed.map_err(|failure| Ended::Fatal(failure.to_string()))?);
            }
            Err(failure) => return Err(Ended::Fatal(failure.to_string())),
        }
    }
}

/// Waits for somebody, unless a signal ends this life. There is no session that one could restart.
async fn unless_ended<T>(work: impl Future<Output = T>, signals: &mut Signals) -> Result<T, Ended> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            request = signals.next() => match request {
                Request::Statistics | Request::SoftRestart => {}
                request => return Err(Ended::by_signal(request)),
            },
        }
    }
}

/// Whether somebody typed the passphrase of a client's key, and may try again.
fn was_typed(life: &Life, role: TlsRole) -> bool {
    role == TlsRole::Client
        && life.secrets.passphrase.is_some()
        && !matches!(life.profile.tls.askpass, Some(Some(_)))
        && life.management.auth_retry() == AuthRetry::Interact
}

/// Makes the factory anew from another profile, without asking anybody. `None`: it cannot be made without that.
///
/// # Errors
/// When the settings cannot be used.
pub(crate) fn remake_factory(
    unasked: &Unasked,
    profile: &Profile,
    role: TlsRole,
) -> Result<Option<RustlsFactory>, SettingsError> {
    unasked.own_key(profile, role).map(|own| tls_factory(profile, role, own)).transpose()
}

/// Makes the factory of TLS connections, and logs what is weak about its settings.
fn tls_factory(profile: &Profile, role: TlsRole, own: OwnKey) -> Result<RustlsFactory, SettingsError> {
    let factory = RustlsFactory::new(tls_settings(profile, role, own)?)?;
    for line in factory.warnings().iter().flat_map(|warning| warning.lines()) {
        ovlog!(warn 1, "{line}");
    }
    Ok(factory)
}

/// Tells what a start would say about certificates, keys and TLS settings, without starting: its warnings, or why it would
/// fail. Nobody is asked, for a passphrase or anything else, and no token is opened: this end's certificate and key are left
/// out of account where that would be needed.
///
/// # Errors
/// Why it would fail, with a remedy.
pub fn examine(profile: &Profile) -> Result<Vec<String>, String> {
    let Some(role) = profile.tls.role else { return Ok(Vec::new()) };
    let role = match role {
        profile::TlsRole::Server => TlsRole::Server,
        profile::TlsRole::Client => TlsRole::Client,
    };
    let management = &profile.management;
    let elsewhere = token::is_wanted(&profile.tls)
        || management.external_key.is_some()
        || management.external_cert.is_some();
    let made = match examine_with(profile, role, elsewhere) {
        Err(SettingsError::Tls(TlsError::Passphrase(_))) => examine_with(profile, role, true),
        made => made,
    };
    made.map_err(|failure| failure.to_string())
}

/// The warnings; `without_own`: of everything but this end's certificate and key.
fn examine_with(profile: &Profile, role: TlsRole, without_own: bool) -> Result<Vec<String>, SettingsError> {
    if !without_own {
        let settings = tls_settings(profile, role, OwnKey::default())?;
        return Ok(RustlsFactory::new(settings)?.warnings().to_vec());
    }
    let mut others = profile.clone();
    let tls = &mut others.tls;
    if tls.pkcs12.is_some() && tls.ca.is_none() {
        return Ok(Vec::new()); // the file that does not open here holds the authorities as well
    }
    (tls.cert, tls.key, tls.extra_certs, tls.pkcs12) = (None, None, None, None);
    let factory = RustlsFactory::examine(tls_settings(&others, role, OwnKey::default())?)?;
    Ok(factory.warnings().to_vec())
}

/// What belongs to this end's certificate and does not stand in the profile.
#[derive(Default)]
struct OwnKey {
    /// Opens the private key.
    passphrase: Option<Zeroizing<String>>,
    /// Whether somebody was asked for that.
    asked: bool,
    /// The key, where the management interface has it.
    external: Option<Arc<dyn ExternalSigner>>,
    /// The certificate, where the management interface has it.
    certificate: Option<Pem>,
    /// Both, where they are on a token.
    token: Option<OnToken>,
}

impl OwnKey {
    /// Collects it: asks the management interface where the profile says so, until a signal ends that.
    async fn collect(life: &Life, role: TlsRole, signals: &mut Signals) -> Result<Self, Ended> {
        unless_ended(Self::of(life, role), signals).await?.map_err(Ended::Fatal)
    }

    async fn of(life: &Life, role: TlsRole) -> Result<Self, String> {
        let (profile, management) = (&life.profile, &life.management);
        let settings = &profile.management;
        let mut own = Self { passphrase: life.secrets.passphrase.clone(), ..Self::default() };
        own.token = token::open(life, profile).await?;
        if !management.is_configured() {
            return Ok(own);
        }
        if asks_for_passphrase(profile) {
            own.passphrase = Some(management.ask_passphrase().await);
            own.asked = true;
        }
        if let Some(hint) = &settings.external_cert {
            let text = management.ask_certificate(hint).await.into_bytes();
            own.certificate = Some(Pem { origin: "--management-external-cert".to_owned(), text });
        }
        own.external = external_key(management, profile, role);
        Ok(own)
    }
}

/// What a life has for this end's key without asking anybody.
pub(crate) struct Unasked {
    passphrase: Option<Zeroizing<String>>,
    management: Management,
}

impl Unasked {
    pub(crate) fn of(life: &Life) -> Self {
        Self { passphrase: life.secrets.passphrase.clone(), management: life.management.clone() }
    }

    /// `None` where somebody would have to be asked.
    fn own_key(&self, profile: &Profile, role: TlsRole) -> Option<OwnKey> {
        let own = OwnKey { passphrase: self.passphrase.clone(), ..OwnKey::default() };
        if token::is_wanted(&profile.tls) {
            return None;
        }
        if !self.management.is_configured() {
            return Some(own);
        }
        let asks = asks_for_passphrase(profile) || profile.management.external_cert.is_some();
        (!asks).then(|| OwnKey { external: external_key(&self.management, profile, role), ..own })
    }
}

/// Whether the management interface is asked for the passphrase of the key.
fn asks_for_passphrase(profile: &Profile) -> bool {
    // A file that cannot be read is reported by who needs it.
    profile.management.query_passwords && wants_passphrase(&profile.tls).unwrap_or(false)
}

/// The key that the management interface has.
fn external_key(
    management: &Management,
    profile: &Profile,
    role: TlsRole,
) -> Option<Arc<dyn ExternalSigner>> {
    let abilities = profile.management.external_key?;
    Some(Arc::new(ManagementKey::new(management.clone(), abilities, role)))
}

/// Reads everything that TLS needs.
fn tls_settings(profile: &Profile, role: TlsRole, mut own: OwnKey) -> Result<TlsSettings, SettingsError> {
    let tls = &profile.tls;
    let mut settings = TlsSettings::new(role, Arc::new(|| u64::from(clock::unix_seconds())));
    if let Some(OnToken { certificate, origin, key }) = own.token.take() {
        own.external = Some(key);
        // A certificate in a file may go with a key on a token.
        if tls.cert.as_ref().is_none_or(|cert| token::uri(cert).is_some()) {
            own.certificate = Some(Pem { origin, text: certificate });
        }
    }
    settings.external_key = own.external.clone();
    let directory = tls.capath.as_deref().map(capath::read).transpose()?;
    let OwnFiles { own, ca } = match &tls.pkcs12 {
        Some(file) => from_pkcs12(tls, file, own.passphrase.as_ref().map(|text| text.as_str()))?,
        None => OwnFiles { own: own_certificate(tls, own)?, ca: None },
    };
    settings.own = own;
    settings.ca = tls.ca.as_ref().map(|ca| pem("ca", ca)).transpose()?.or(ca);
    settings.client_certificate = match profile.server.client_cert {
        CertPolicy::None => ClientCertificate::NotAsked,
        CertPolicy::Optional => ClientCertificate::Optional,
        CertPolicy::Require => ClientCertificate::Required,
    };
    settings.peer = peer_rules(tls)?;
    if let Some(CaDirectory { authorities, lists }) = directory {
        settings.ca = join(settings.ca.take(), Some(authorities));
        // Those of `crl-verify`, which are named, come before those that are found.
        let found = lists.map(|lists| Revocation::Lists(Arc::new(lists)));
        settings.peer.revocation = settings.peer.revocation.take().or(found);
    }
    settings.version_min = tls.version_min.map_or(TlsVersion::V1_2, version);
    settings.version_min_or_highest = tls.version_min_or_highest;
    settings.version_max = tls.version_max.map_or(TlsVersion::V1_3, version);
    settings.cipher_list.clone_from(&tls.cipher_list);
    settings.cipher_suites.clone_from(&tls.ciphersuites);
    settings.groups = tls.groups.clone().or_else(|| tls.ecdh_curve.clone());
    settings.profile = match tls.cert_profile {
        profile::CertProfile::Insecure => CertProfile::Insecure,
        profile::CertProfile::Legacy => CertProfile::Legacy,
        profile::CertProfile::Preferred => CertProfile::Preferred,
        profile::CertProfile::SuiteB => CertProfile::SuiteB,
    };
    Ok(settings)
}

fn own_certificate(tls: &profile::Tls, own: OwnKey) -> Result<Option<OwnCertificate>, SettingsError> {
    let certificate = match (own.certificate, &tls.cert) {
        (Some(certificate), _) => certificate,
        (None, Some(certificate)) => pem("cert", certificate)?,
        (None, None) => return Ok(None),
    };
    let key = match (&own.external, &tls.key) {
        (Some(_), _) => {
            SecretPem { origin: "--management-external-key".to_owned(), text: Zeroizing::default() }
        }
        (None, Some(key)) => private_key(key)?,
        (None, None) => return Ok(None),
    };
    Ok(Some(OwnCertificate {
        certificate,
        extra: tls.extra_certs.as_ref().map(|extra| pem("extra-certs", extra)).transpose()?,
        key,
        passphrase: own.passphrase,
    }))
}

/// Reads the private key's file.
pub(crate) fn private_key(key: &FileOrInline) -> Result<SecretPem, SettingsError> {
    let text = match key {
        FileOrInline::File(path) => Zeroizing::new(read("key", path)?),
        FileOrInline::Inline(text) => Zeroizing::new(text.expose().as_bytes().to_vec()),
    };
    Ok(SecretPem { origin: origin("key", key), text })
}

fn peer_rules(tls: &profile::Tls) -> Result<PeerRules, SettingsError> {
    let mut rules = PeerRules {
        fingerprints: tls.peer_fingerprints.clone(),
        level_1_hashes: tls.verify_hash.clone(),
        revocation: tls.crl.as_ref().map(revocation).transpose()?,
        key_usage: match &tls.remote_cert_ku {
            None => KeyUsageRule::Any,
            Some(profile::KeyUsage::Present) => KeyUsageRule::Present,
            Some(profile::KeyUsage::AnyOf(bits)) => KeyUsageRule::OneOf(bits.clone()),
        },
        extended_key_usage: tls.remote_cert_eku.clone(),
        netscape_type: tls.ns_cert_type.map(remote_role),
        name: tls.verify_x509_name.as_ref().map(|check| NameRule {
            name: check.name.clone(),
            kind: match check.kind {
                profile::NameCheckKind::Subject => NameKind::Subject,
                profile::NameCheckKind::Name => NameKind::Name,
                profile::NameCheckKind::NamePrefix => NameKind::NamePrefix,
            },
        }),
        username_fields: tls.username_fields.clone(),
        contrary_usage_allowed: tls.any_usage,
    };
    if let Some(peer) = tls.remote_cert_tls {
        rules.require_usual_usages_of(remote_role(peer));
    }
    Ok(rules)
}

fn revocation(source: &profile::CrlSource) -> Result<Revocation, SettingsError> {
    Ok(match source {
        profile::CrlSource::Pem(FileOrInline::Inline(text)) => {
            let text: Arc<[u8]> = text.expose().as_bytes().into();
            Revocation::Lists(Arc::new(text))
        }
        profile::CrlSource::Pem(FileOrInline::File(path)) => {
            Revocation::Lists(Arc::new(CrlFile::open(path)?))
        }
        profile::CrlSource::Directory(directory) => {
            let directory = directory.clone();
            Revocation::Serials(Arc::new(move |serial: &str| {
                // A directory that went away must not read as "nobody is revoked" (SEC-AUTH-6).
                let looked = fs::read_dir(&directory).and_then(|_| directory.join(serial).try_exists());
                looked.map_err(|failure| {
                    format!("cannot look into --crl-verify {}: {failure}", directory.display())
                })
            }))
        }
    })
}

const fn remote_role(role: profile::RemoteRole) -> TlsRole {
    match role {
        profile::RemoteRole::Client => TlsRole::Client,
        profile::RemoteRole::Server => TlsRole::Server,
    }
}

const fn version(version: profile::TlsVersion) -> TlsVersion {
    match version {
        profile::TlsVersion::V1_0 => TlsVersion::V1_0,
        profile::TlsVersion::V1_1 => TlsVersion::V1_1,
        profile::TlsVersion::V1_2 => TlsVersion::V1_2,
        profile::TlsVersion::V1_3 => TlsVersion::V1_3,
    }
}

pub(super) fn pem(option: &'static str, source: &FileOrInline) -> Result<Pem, SettingsError> {
    let text = match source {
        FileOrInline::File(path) => read(option, path)?,
        FileOrInline::Inline(text) => text.expose().as_bytes().to_vec(),
    };
    Ok(Pem { origin: origin(option, source), text })
}

pub(super) fn origin(option: &str, source: &FileOrInline) -> String {
    match source {
        FileOrInline::File(path) => format!("--{option} {}", token::shown(path)),
        FileOrInline::Inline(_) => format!("--{option} [inline]"),
    }
}

/// Reads a file that an option names.
pub(super) fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, SettingsError> {
    fs::read(path).map_err(|source| SettingsError::File { option, path: path.to_owned(), source })
}
