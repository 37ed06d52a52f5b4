//! TLS as a byte machine behind a trait; rustls is named in `rustls_*`, `suites`, `groups` and `algorithms` only.
//!
//! The walk of a connection: [`RustlsFactory::new`] checks [`TlsSettings`] once (suites, groups, own chain and key in any
//! of its wrappings, the CAs). [`TlsFactory::open`] makes a connection with a verifier of its own. When the
//! peer's certificate arrives, it asks for the current CRLs and lets webpki build the path to a CA (`trust`), then goes
//! through it from the root to the leaf as OpenVPN does: key strength, dates, revocation, usages, pinned hashes, names
//! (`peer_verifier` and its neighbours), and collects OpenVPN's log lines on the way. The verdict waits in a cell until
//! the handshake's signature proved that the peer holds the key; [`TlsSession::identity`] shows it from then on.

mod algorithms;
mod ber;
mod certificate;
mod der;
mod distinguished_name;
mod encrypted_key;
mod extensions;
mod external_key;
mod groups;
#[cfg(test)]
mod hostile_tests;
mod inspect;
mod peer_name;
mod peer_verifier;
mod pem;
mod pkcs12;
mod private_key;
mod refusal;
mod revocation;
mod rustls_factory;
mod rustls_session;
mod settings;
mod suites;
mod trust;
mod usage;

pub use certificate::describe as describe_certificate;
pub use distinguished_name::field_name;
pub use external_key::{ExternalSigner, HashName, SignRequest, SignScheme};
pub use groups::group_names;
pub use inspect::{InspectedCertificate, crl_end, inspect_certificates};
pub use pkcs12::{Pkcs12, open_pkcs12, pkcs12_needs_passphrase};
pub use private_key::needs_passphrase;
pub use revocation::{CrlSource, Revocation, SerialLookup};
pub use rustls_factory::RustlsFactory;
pub use settings::{
    CertProfile, ClientCertificate, KeyUsageRule, NameKind, NameRule, OwnCertificate, PeerRules, Pem,
    SecretPem, TlsRole, TlsSettings, TlsVersion,
};
pub use suites::{tls_1_2_suites, tls_1_3_suites};

use std::sync::Arc;

use thiserror::Error;

use self::certificate::Certificate;

/// The libraries below, for `--version` and the log. A test keeps it true.
pub const LIBRARY_VERSIONS: &str = "rustls 0.23.46, aws-lc-rs 1.19.0";

/// Makes one TLS connection per key negotiation.
pub trait TlsFactory: Send + Sync {
    /// Starts a connection.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    fn open(&self) -> Result<Box<dyn TlsSession>, TlsError>;

    /// Judges a peer that was accepted once again, by the rules and revocation lists as they are now.
    fn judge_again(&self, identity: &PeerIdentity) -> Standing;

    /// When what connections rest on ends, Unix time in seconds.
    fn expiries(&self) -> Expiries {
        Expiries::default()
    }
}

/// Ends of validity, Unix time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expiries {
    /// Our own certificate's `notAfter`.
    pub certificate: Option<i64>,
    /// The earliest `nextUpdate` of the CRLs: behind it, clients of that issuer are refused.
    pub crl: Option<i64>,
}

/// What became of an accepted peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It would be accepted again, or is refused for a reason that is left to its next key exchange (its dates).
    Good,
    /// It was revoked, or the rules and CAs no longer let it in: the text says how.
    Withdrawn(String),
    /// The revocation lists cannot be read, so nobody can tell.
    Unknown(String),
}

/// One TLS connection over byte slices.
pub trait TlsSession: Send {
    /// Takes bytes of the peer. May sign and verify: milliseconds of CPU during the handshake.
    ///
    /// # Errors
    /// When the connection failed; [`Self::take`] may still give an alert to send.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), TlsError>;

    /// Appends the bytes to send.
    fn take(&mut self, out: &mut Vec<u8>);

    /// Appends decrypted application data.
    ///
    /// # Errors
    /// When the connection failed.
    fn read(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError>;

    /// Encrypts application data as one record.
    ///
    /// # Errors
    /// When the connection failed.
    fn write(&mut self, plaintext: &[u8]) -> Result<(), TlsError>;

    /// Returns whether the handshake is still going on.
    fn is_handshaking(&self) -> bool;

    /// Exports key material without context (RFC 5705, RFC 8446 7.5).
    ///
    /// # Errors
    /// Before the handshake is done.
    fn export(&self, label: &str, out: &mut [u8]) -> Result<(), TlsError>;

    /// Who the peer is, once its certificate passed the checks. `None` before, and for peers without certificate.
    fn identity(&self) -> Option<&Arc<PeerIdentity>>;

    /// Protocol version, cipher suite, group and key: `TLSv1.3, cipher TLSv1.3 TLS_AES_256_GCM_SHA384, …`.
    fn description(&self) -> String;
}

/// Why TLS failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer's certificate was refused: OpenVPN's `VERIFY …` lines and a remedy.
    #[error("{0}")]
    Certificate(String),
    /// The peer sent an alert.
    #[error("the peer sent the TLS alert {0}")]
    Alert(String),
    /// Anything else in the handshake or records.
    #[error("{0}")]
    Protocol(String),
    /// The private key needs a passphrase, or another one.
    #[error("{0}")]
    Passphrase(String),
    /// Own keys, certificates or settings cannot be used.
    #[error("{0}")]
    Setup(String),
}

/// Who a verified peer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The common name (or the configured `x509-username-field`): printable UTF-8 of 1 to 64 bytes. It may hold `/`, `..` and
    /// blanks: who makes a file's name of it must map those.
    pub common_name: String,
    /// The chain that was verified, leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// The `VERIFY OK: …` lines, in order.
    pub log: Vec<String>,
}

impl PeerIdentity {
    /// What scripts want to know of each certificate, leaf first. It is worked out when they ask, rather than kept for
    /// each idle client of a server that has no scripts. `None` when one of them is not understood: who judges by them
    /// must refuse then (SEC-AUTH-1), though verification should have done so before.
    #[must_use]
    pub fn certificates(&self) -> Option<Vec<CertificateInfo>> {
        let info = |(der, depth): (&Vec<u8>, u8)| Certificate::parse(der)?.info(depth).ok();
        self.chain.iter().zip(0..).map(info).collect()
    }
}

/// One certificate, as scripts and logs see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateInfo {
    /// 0 is the leaf.
    pub depth: u8,
    /// `C=…, O=…, CN=…` as OpenVPN prints it.
    pub subject: String,
    /// Subject fields in order: name and value (`X509_<depth>_<name>`).
    pub fields: Vec<(String, String)>,
    /// Extensions that are understood, by OpenSSL's short name and as OpenSSL prints them (`x509-track`).
    pub extensions: Vec<(String, String)>,
    /// Serial number, decimal.
    pub serial: String,
    /// Serial number, hexadecimal with colons.
    pub serial_hex: String,
    /// SHA-1 fingerprint with colons.
    pub sha1: String,
    /// SHA-256 fingerprint with colons.
    pub sha256: String,
}
