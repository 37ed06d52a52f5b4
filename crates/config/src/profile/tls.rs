use std::{path::PathBuf, time::Duration};

use crate::value::{Command, FileOrInline};

/// Certificates and TLS.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// `tls-server`, `tls-client`, also from `server` and `client`.
    pub role: Option<TlsRole>,
    /// `ca`.
    pub ca: Option<FileOrInline>,
    /// `capath`.
    pub capath: Option<PathBuf>,
    /// `cert`.
    pub cert: Option<FileOrInline>,
    /// `key`.
    pub key: Option<FileOrInline>,
    /// `extra-certs`.
    pub extra_certs: Option<FileOrInline>,
    /// `pkcs12`; an inline block is base64.
    pub pkcs12: Option<FileOrInline>,
    /// Certificates and keys on tokens.
    pub pkcs11: Pkcs11,
    /// `dh`.
    pub dh: Option<Dh>,
    /// `askpass`: `Some(None)` asks the user.
    pub askpass: Option<Option<FileOrInline>>,
    /// `crl-verify`.
    pub crl: Option<CrlSource>,
    /// `peer-fingerprint`: SHA-256 of acceptable leaf certificates; empty: not used.
    pub peer_fingerprints: Vec<[u8; 32]>,
    /// `verify-hash`: fingerprints of the level-1 certificate, 20 or 32 bytes each.
    pub verify_hash: Vec<Vec<u8>>,
    /// `verify-x509-name`.
    pub verify_x509_name: Option<NameCheck>,
    /// `x509-username-field`; empty: `CN`.
    pub username_fields: Vec<String>,
    /// `remote-cert-tls`.
    pub remote_cert_tls: Option<RemoteRole>,
    /// `remote-cert-tls none`: a certificate whose extended usage names the other side only is accepted.
    pub any_usage: bool,
    /// `ns-cert-type`.
    pub ns_cert_type: Option<RemoteRole>,
    /// `remote-cert-ku`.
    pub remote_cert_ku: Option<KeyUsage>,
    /// `remote-cert-eku`: an OID, or a name that OpenSSL knows.
    pub remote_cert_eku: Option<String>,
    /// `tls-version-min`.
    pub version_min: Option<TlsVersion>,
    /// `tls-version-min … or-highest`: not above what the library can.
    pub version_min_or_highest: bool,
    /// `tls-version-max`.
    pub version_max: Option<TlsVersion>,
    /// `tls-cipher`, TLS 1.2 and below, as written.
    pub cipher_list: Option<String>,
    /// `tls-ciphersuites`, TLS 1.3, as written.
    pub ciphersuites: Option<String>,
    /// `tls-groups`, as written.
    pub groups: Option<String>,
    /// `ecdh-curve`.
    pub ecdh_curve: Option<String>,
    /// `tls-cert-profile`.
    pub cert_profile: CertProfile,
    /// `keying-material-exporter LABEL LEN`.
    pub keying_material_exporter: Option<(String, u16)>,
    /// `tls-crypt-v2-max-age` in days.
    pub tls_crypt_v2_max_age: Option<u32>,
    /// `tls-crypt-v2-verify`.
    pub tls_crypt_v2_verify: Option<Command>,
    /// `tls-exit`: leave when a negotiation fails.
    pub exit_on_failure: bool,
    /// `single-session`.
    pub single_session: bool,
}

impl Tls {
    /// Returns whether anything tells a server from a client that the same authority signed (`remote-cert-tls` and its
    /// kin). Without, a client is warned.
    pub fn tells_servers_from_clients(&self, tls_verify: bool) -> bool {
        tls_verify
            || self.verify_x509_name.is_some()
            || self.ns_cert_type.is_some()
            || self.remote_cert_tls.is_some()
            || self.remote_cert_eku.is_some()
            || !self.peer_fingerprints.is_empty()
    }
}

/// Certificates and keys on tokens (PKCS #11).
#[derive(Clone, Debug, Default)]
pub struct Pkcs11 {
    /// `pkcs11-providers`: the modules to load; empty: p11-kit's.
    pub providers: Vec<PathBuf>,
    /// `pkcs11-protected-authentication`, by provider: the PIN is entered on the token.
    pub protected: Vec<bool>,
    /// `pkcs11-cert-private`, by provider: certificates are seen after a login only.
    pub cert_private: Vec<bool>,
    /// `pkcs11-id`: the certificate.
    pub id: Option<String>,
    /// `pkcs11-id-management`: the management interface is asked which certificate.
    pub id_management: bool,
    /// `pkcs11-pin-cache`: how long a PIN is kept; `None`: as long as the token stays.
    pub pin_cache: Option<Duration>,
}

impl Pkcs11 {
    /// Returns whether own certificate and key are on a token.
    pub fn is_used(&self) -> bool {
        !self.providers.is_empty() || self.id.is_some() || self.id_management
    }
}

/// Who is the TLS server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsRole {
    /// `tls-server`.
    Server,
    /// `tls-client`.
    Client,
}

/// `dh`: accepted with a note, key exchange is by elliptic curves.
#[derive(Clone, Debug)]
pub enum Dh {
    /// `dh none`.
    None,
    /// Parameters in a file.
    Parameters(FileOrInline),
}

/// `crl-verify`.
#[derive(Clone, Debug)]
pub enum CrlSource {
    /// A PEM file, read again when it changes, or an inline block.
    Pem(FileOrInline),
    /// `crl-verify DIR dir`: a file named after the decimal serial number means revoked.
    Directory(PathBuf),
}

/// `verify-x509-name NAME [KIND]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameCheck {
    /// What is compared with.
    pub name: String,
    /// How.
    pub kind: NameCheckKind,
}

/// What [`NameCheck`] compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameCheckKind {
    /// The whole subject.
    #[default]
    Subject,
    /// The common name.
    Name,
    /// The beginning of the common name.
    NamePrefix,
}

/// What a certificate's holder must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteRole {
    /// A client.
    Client,
    /// A server.
    Server,
}

/// `remote-cert-ku`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyUsage {
    /// The extension must be there (`remote-cert-ku` without a value, `remote-cert-tls`).
    Present,
    /// One of these bit sets must be contained.
    AnyOf(Vec<u16>),
}

/// A TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants are the versions' own names")]
pub enum TlsVersion {
    V1_0,
    V1_1,
    V1_2,
    V1_3,
}

/// `tls-cert-profile`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertProfile {
    /// Everything.
    Insecure,
    /// SHA-1 and RSA from 2048 bits; OpenVPN's default.
    #[default]
    Legacy,
    /// SHA-2 and RSA from 2048 bits.
    Preferred,
    /// P-256 and P-384 only.
    SuiteB,
}

/// Times and limits of the control channel.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// `tls-timeout`: first retransmission.
    pub tls_timeout: Duration,
    /// `hand-window`: time for a key exchange.
    pub hand_window: Duration,
    /// `tran-window`: how long an old key stays valid.
    pub tran_window: Duration,
    /// `reneg-sec MAX`; `None` is off.
    pub reneg: Option<Duration>,
    /// `reneg-sec MAX MIN`; `None`: 90 % of the maximum on a server, the maximum else.
    pub reneg_min: Option<Duration>,
    /// `reneg-bytes`; `None` was not written, 0 is off.
    pub reneg_bytes: Option<u64>,
    /// `reneg-pkts`; 0 is off.
    pub reneg_packets: u64,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            tls_timeout: Duration::from_secs(2),
            hand_window: Duration::from_secs(60),
            tran_window: Duration::from_secs(3600),
            reneg: Some(Duration::from_secs(3600)),
            reneg_min: None,
            reneg_bytes: None,
            reneg_packets: 0,
        }
    }
}
