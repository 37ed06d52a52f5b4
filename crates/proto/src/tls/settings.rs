use std::sync::Arc;

use zeroize::Zeroizing;

use super::{ExternalSigner, Revocation};

/// Everything a [`super::RustlsFactory`] needs, already read from files: this crate opens none.
#[derive(Clone)]
pub struct TlsSettings {
    /// Which side of the handshake.
    pub role: TlsRole,
    /// Seconds since 1970, for validity periods. The only clock that TLS sees.
    pub clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Own certificate and key. A client may have none, a server needs one.
    pub own: Option<OwnCertificate>,
    /// The private key of `own` where somebody else has it; the one of `own` is not looked at then.
    pub external_key: Option<Arc<dyn ExternalSigner>>,
    /// `ca`: trusted certificates. May be missing where fingerprints are given.
    pub ca: Option<Pem>,
    /// `verify-client-cert`, for servers; a client always requires the server's certificate.
    pub client_certificate: ClientCertificate,
    /// Which certificates are good.
    pub peer: PeerRules,
    /// `tls-version-min`, 1.2 by default.
    pub version_min: TlsVersion,
    /// `tls-version-min … or-highest`: a minimum above what is available is lowered instead of refused.
    pub version_min_or_highest: bool,
    /// `tls-version-max`.
    pub version_max: TlsVersion,
    /// `tls-cipher`: suites of TLS 1.2, OpenSSL's expression or IANA names with dashes.
    pub cipher_list: Option<String>,
    /// `tls-ciphersuites`: suites of TLS 1.3.
    pub cipher_suites: Option<String>,
    /// `tls-groups`, or the one name of `ecdh-curve`.
    pub groups: Option<String>,
    /// `tls-cert-profile`.
    pub profile: CertProfile,
}

impl TlsSettings {
    /// Returns the defaults of a role. Still without certificates, which a factory then refuses.
    #[must_use]
    pub fn new(role: TlsRole, clock: Arc<dyn Fn() -> u64 + Send + Sync>) -> Self {
        Self {
            role,
            clock,
            own: None,
            external_key: None,
            ca: None,
            client_certificate: ClientCertificate::Required,
            peer: PeerRules::default(),
            version_min: TlsVersion::V1_2,
            version_min_or_highest: false,
            version_max: TlsVersion::V1_3,
            cipher_list: None,
            cipher_suites: None,
            groups: None,
            profile: CertProfile::default(),
        }
    }
}

/// Which side of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsRole {
    /// Starts the handshake.
    Client,
    /// Answers it.
    Server,
}

/// PEM text and where it came from.
#[derive(Clone, Debug, Default)]
pub struct Pem {
    /// How messages name it: `--ca /etc/openvpn/ca.crt`, `--cert [inline]`.
    pub origin: String,
    /// The file's content. Text around the PEM sections is ignored.
    pub text: Vec<u8>,
}

/// PEM text of a private key; zeroized on drop.
#[derive(Clone)]
pub struct SecretPem {
    /// How messages name it: `--key /etc/openvpn/server.key`.
    pub origin: String,
    /// The file's content.
    pub text: Zeroizing<Vec<u8>>,
}

/// Own certificate chain and private key.
#[derive(Clone)]
pub struct OwnCertificate {
    /// `cert`: the certificate, and what follows it in the file.
    pub certificate: Pem,
    /// `extra-certs`: more of the chain.
    pub extra: Option<Pem>,
    /// `key`.
    pub key: SecretPem,
    /// `askpass`: the key's passphrase. Whether one is needed: [`super::needs_passphrase`].
    pub passphrase: Option<Zeroizing<String>>,
}

/// `verify-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Not asked for.
    NotAsked,
    /// Checked if there.
    Optional,
    /// Without one there is no connection.
    #[default]
    Required,
}

/// Which certificates of the peer are good, beyond the path to a CA.
#[derive(Clone, Default)]
pub struct PeerRules {
    /// `peer-fingerprint`: SHA-256 of acceptable leaf certificates. Empty: any.
    pub fingerprints: Vec<[u8; 32]>,
    /// `verify-hash`: SHA-1 (20 bytes) or SHA-256 (32) of the level-1 certificate. Empty: any.
    pub level_1_hashes: Vec<Vec<u8>>,
    /// `crl-verify`.
    pub revocation: Option<Revocation>,
    /// `remote-cert-ku`; `remote-cert-tls` sets [`KeyUsageRule::Present`].
    pub key_usage: KeyUsageRule,
    /// `remote-cert-eku`: an OID, or a name that OpenSSL knows (`TLS Web Server Authentication`, `serverAuth`).
    pub extended_key_usage: Option<String>,
    /// `ns-cert-type`.
    pub netscape_type: Option<TlsRole>,
    /// Accept a certificate whose extended key usage names the other side only (SEC-AUTH-5).
    pub contrary_usage_allowed: bool,
    /// `verify-x509-name`.
    pub name: Option<NameRule>,
    /// `x509-username-field`; empty: `CN`.
    pub username_fields: Vec<String>,
}

impl PeerRules {
    /// Sets what `remote-cert-tls` means: a key usage, and the extended key usage of that side.
    pub fn require_usual_usages_of(&mut self, peer: TlsRole) {
        self.key_usage = KeyUsageRule::Present;
        self.extended_key_usage = Some(
            match peer {
                TlsRole::Client => "TLS Web Client Authentication",
                TlsRole::Server => "TLS Web Server Authentication",
            }
            .to_owned(),
        );
    }
}

/// `remote-cert-ku`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyUsageRule {
    /// Not looked at.
    #[default]
    Any,
    /// The extension must be there.
    Present,
    /// One of these bit sets must be contained, in OpenVPN's numbers (`a0`, `88`).
    OneOf(Vec<u16>),
}

/// `verify-x509-name NAME [KIND]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRule {
    /// What is compared with.
    pub name: String,
    /// What of the certificate is compared.
    pub kind: NameKind,
}

/// What [`NameRule`] compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameKind {
    /// The whole subject, as OpenVPN prints it.
    #[default]
    Subject,
    /// The common name.
    Name,
    /// The beginning of the common name.
    NamePrefix,
}

/// A TLS version that configuration files name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants are the versions' own names")]
pub enum TlsVersion {
    V1_0,
    V1_1,
    V1_2,
    V1_3,
}

/// `tls-cert-profile`: the strength floor for the peer's chain. Differs from OpenVPN: the default takes no SHA-1
/// signatures and no RSA below 2048 bits, whatever the library's level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertProfile {
    /// Also SHA-1 signatures and RSA from 1024 bits, for chains that cannot be replaced yet.
    Insecure,
    /// SHA-2, RSA 2048 to 8192 bits, any of the curves, Ed25519.
    #[default]
    Legacy,
    /// As `Legacy`.
    Preferred,
    /// ECDSA on P-256 and P-384 only.
    SuiteB,
}
