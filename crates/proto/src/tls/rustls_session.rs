use std::{
    io::{Read as _, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{AlertDescription, Connection, Error, PeerIncompatible, ProtocolVersion};
use zeroize::Zeroizing;

use super::{
    PeerIdentity, TlsError, TlsSession, certificate::Certificate, groups, peer_verifier::Outcome, suites,
};

/// Decrypted bytes that wait for [`TlsSession::read`]: far more than any key exchange message and its companions.
const MAX_UNREAD: usize = 256 * 1024;

/// One TLS connection over rustls.
pub(super) struct RustlsSession {
    connection: Connection,
    /// What the verifier of this connection found.
    outcome: Arc<Mutex<Outcome>>,
    /// Set when the handshake is done: only then does the certificate's holder have proven to hold the key.
    identity: Option<Arc<PeerIdentity>>,
    /// Decrypted, not yet read: passwords and key material pass here.
    plaintext: Zeroizing<Vec<u8>>,
}

impl RustlsSession {
    pub(super) fn new(mut connection: Connection, outcome: Arc<Mutex<Outcome>>) -> Self {
        // Control packets are queued by the layer below; nothing may be refused here.
        connection.set_buffer_limit(None);
        Self { connection, outcome, identity: None, plaintext: Zeroizing::new(Vec::new()) }
    }

    /// Moves what rustls decrypted into our buffer: its own is small and stops reading when it is full.
    fn drain(&mut self) -> Result<(), TlsError> {
        let mut chunk = Zeroizing::new([0; 4096]);
        loop {
            match self.connection.reader().read(&mut *chunk) {
                // Closed by the peer in order: the control channel says it in its own words.
                Ok(0) => return Ok(()),
                Ok(len) => self.plaintext.extend_from_slice(chunk.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                // A missing close_notify is no news on a control channel.
                Err(_) => return Ok(()),
            }
            if self.plaintext.len() > MAX_UNREAD {
                return Err(TlsError::Protocol("the peer sends more than is read".to_owned()));
            }
        }
    }

    /// Gives back what the handshake's messages made rustls's input buffer grow to. It does so itself when it is asked
    /// to read into the empty buffer, before it looks for bytes; and sessions are idle for hours before that.
    fn shrink(&mut self) {
        let _nothing_to_read = self.connection.read_tls(&mut NothingYet);
    }

    fn explain(&self, error: Error) -> TlsError {
        if let Outcome::Refused(refusal) = &*self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
            && matches!(error, Error::InvalidCertificate(_))
        {
            return TlsError::Certificate(refusal.text());
        }
        match error {
            Error::InvalidCertificate(error) => {
                TlsError::Certificate(format!("VERIFY ERROR: depth=0, error={error}"))
            }
            Error::NoCertificatesPresented => TlsError::Certificate(
                "VERIFY ERROR: peer did not return a certificate\n\
                 hint: the client needs `cert` and `key`, or this server `verify-client-cert none`"
                    .to_owned(),
            ),
            Error::AlertReceived(alert) => TlsError::Alert(alert_text(alert)),
            Error::PeerIncompatible(reason) => TlsError::Protocol(incompatible(&reason)),
            error => TlsError::Protocol(error.to_string()),
        }
    }
}

/// A stream that has no bytes now.
struct NothingYet;

impl std::io::Read for NothingYet {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::WouldBlock.into())
    }
}

impl TlsSession for RustlsSession {
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), TlsError> {
        while !bytes.is_empty() {
            let taken = self
                .connection
                .read_tls(&mut bytes)
                .map_err(|error| TlsError::Protocol(error.to_string()))?;
            self.connection.process_new_packets().map_err(|error| self.explain(error))?;
            self.drain()?;
            if taken == 0 {
                break; // after close_notify nothing is read any more
            }
        }
        if !self.connection.is_handshaking() {
            self.shrink();
        }
        if self.identity.is_none() && !self.connection.is_handshaking() {
            let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
            if let Outcome::Accepted(identity) = std::mem::take(&mut *outcome) {
                self.identity = Some(Arc::new(identity));
            }
        }
        Ok(())
    }

    fn take(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            match self.connection.write_tls(out) {
                Ok(written) if written > 0 => {}
                _ => return, // writing to a Vec does not fail; never spin
            }
        }
    }

    fn read(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        out.extend_from_slice(&self.plaintext);
        self.plaintext = Zeroizing::new(Vec::new());
        Ok(())
    }

    fn write(&mut self, plaintext: &[u8]) -> Result<(), TlsError> {
        self.connection.writer().write_all(plaintext).map_err(|error| TlsError::Protocol(error.to_string()))
    }

    fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    fn export(&self, label: &str, out: &mut [u8]) -> Result<(), TlsError> {
        let exported = self.connection.export_keying_material(out, label.as_bytes(), None);
        exported.map(drop).map_err(|error| TlsError::Protocol(error.to_string()))
    }

    fn identity(&self) -> Option<&Arc<PeerIdentity>> {
        self.identity.as_ref()
    }

    fn description(&self) -> String {
        let version = match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLS",
        };
        let suite = self.connection.negotiated_cipher_suite().map(suites::description).unwrap_or_default();
        let leaf = self.connection.peer_certificates().and_then(|chain| chain.first());
        let certificate = leaf
            .and_then(|der| Certificate::parse(der))
            .map(|leaf| format!(", peer certificate: {}", leaf.key_description()))
            .unwrap_or_default();
        let group = self.connection.negotiated_key_exchange_group();
        let group = group.map(|group| groups::description(group.name())).unwrap_or_default();
        format!("{version}, cipher {suite}{certificate}{group}")
    }
}

/// `certificate expired`, with what it means where that is not plain.
fn alert_text(alert: AlertDescription) -> String {
    let mut name = String::new();
    let mut after_lowercase = false;
    for letter in format!("{alert:?}").chars() {
        if letter.is_uppercase() && after_lowercase {
            name.push(' ');
        }
        name.push(letter.to_ascii_lowercase());
        after_lowercase = letter.is_lowercase();
    }
    let meaning = match alert {
        AlertDescription::UnknownCA => "its `ca` does not know who issued our certificate",
        AlertDescription::CertificateExpired => "our certificate has expired, or the peer's clock is wrong",
        AlertDescription::CertificateRevoked => "our certificate is on its revocation list",
        AlertDescription::CertificateRequired => "it wants a certificate: set `cert` and `key`",
        AlertDescription::ProtocolVersion => "no TLS version in common: compare `tls-version-min` and `-max`",
        AlertDescription::HandshakeFailure => {
            "no cipher suite or group in common, or it did not like our certificate"
        }
        AlertDescription::UnsupportedCertificate | AlertDescription::BadCertificate => {
            "it does not accept our certificate: see its log, the usages in the certificate, and the clocks of both ends"
        }
        _ => return name,
    };
    format!("{name} ({meaning})")
}

fn incompatible(reason: &PeerIncompatible) -> String {
    let hint = match reason {
        PeerIncompatible::NoCipherSuitesInCommon => {
            "compare `tls-cipher` and `tls-ciphersuites` of both sides"
        }
        PeerIncompatible::NoKxGroupsInCommon | PeerIncompatible::NoEcPointFormatsInCommon => {
            "compare `tls-groups` of both sides; finite-field Diffie-Hellman is not available"
        }
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            "no TLS version in common: compare `tls-version-min` and `tls-version-max`; 1.0 and 1.1 are not available"
        }
        PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
            "the certificate's key type does not suit the other side: RSA, P-256 or P-384 suit everybody"
        }
        _ => return format!("the peer is incompatible: {reason:?}"),
    };
    format!("the peer is incompatible: {reason:?}\nhint: {hint}")
}
