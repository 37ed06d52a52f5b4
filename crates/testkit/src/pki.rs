//! Certificates, keys and shared secrets for tests.
//!
//! Everything is made anew for each [`Pki`], so that no private key lies in the repository.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
    PKCS_RSA_SHA256, RevokedCertParams, SerialNumber, date_time_ymd,
};
use sha2::{Digest, Sha256};

use crate::{Failure, Result, TempDir};

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA of 2048 bits, signed with SHA-256.
    Rsa,
    /// ECDSA on P-256.
    Ec,
    /// Ed25519.
    Ed25519,
}

impl Algorithm {
    fn key(self) -> Result<KeyPair> {
        let algorithm = match self {
            Self::Rsa => &PKCS_RSA_SHA256,
            Self::Ec => &PKCS_ECDSA_P256_SHA256,
            Self::Ed25519 => &PKCS_ED25519,
        };
        Ok(KeyPair::generate_for(algorithm)?)
    }
}

/// A certificate with its private key, as files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, PEM.
    pub cert: PathBuf,
    /// Its private key, PKCS#8 PEM.
    pub key: PathBuf,
    /// SHA-256 of the certificate's DER as `peer-fingerprint` wants it: upper-case hexadecimal with colons.
    pub fingerprint: String,
    serial: u64,
}

/// A certificate authority and its work, in a folder of its own.
pub struct Pki {
    folder: TempDir,
    algorithm: Algorithm,
    issuer: Issuer<'static, KeyPair>,
    next_serial: AtomicU64,
    /// The authority's certificate.
    pub ca: PathBuf,
    /// `CN=server` with the extended key usage of a TLS server.
    pub server: Identity,
    /// `CN=client` with the extended key usage of a TLS client.
    pub client: Identity,
}

/// What a certificate may be used for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Usage {
    Server,
    Client,
}

/// When a certificate is valid.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Validity {
    Now,
    Past,
    Future,
}

impl Pki {
    /// Makes an authority, a server and a client with keys of one kind.
    pub fn new(algorithm: Algorithm) -> Result<Self> {
        let folder = TempDir::new()?;
        let key = algorithm.key()?;
        let mut params = params("culvert test CA", 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = folder.write("ca.crt", &params.self_signed(&key)?.pem())?;
        let issuer = Issuer::new(params, key);
        let next_serial = AtomicU64::new(2);
        let placeholder =
            Identity { cert: PathBuf::new(), key: PathBuf::new(), fingerprint: String::new(), serial: 0 };
        let (server, client) = (placeholder.clone(), placeholder);
        let mut pki = Self { folder, algorithm, issuer, next_serial, ca, server, client };
        pki.server = pki.issue("server", "server", Usage::Server, Validity::Now)?;
        pki.client = pki.issue("client", "client", Usage::Client, Validity::Now)?;
        Ok(pki)
    }

    /// The folder in which everything lies.
    pub fn folder(&self) -> &TempDir {
        &self.folder
    }

    /// Issues one more client certificate, `CN=name`.
    pub fn another_client(&self, name: &str) -> Result<Identity> {
        self.issue(name, name, Usage::Client, Validity::Now)
    }

    /// Issues one more server certificate, `CN=name`.
    pub fn another_server(&self, name: &str) -> Result<Identity> {
        self.issue(&format!("another-{name}"), name, Usage::Server, Validity::Now)
    }

    /// Issues a client certificate that expired years ago.
    pub fn expired_client(&self) -> Result<Identity> {
        self.issue("expired-client", "client", Usage::Client, Validity::Past)
    }

    /// Issues a server certificate that expired years ago.
    pub fn expired_server(&self) -> Result<Identity> {
        self.issue("expired-server", "server", Usage::Server, Validity::Past)
    }

    /// Issues a client certificate that begins years from now: to its peers, one of both clocks is wrong.
    pub fn future_client(&self) -> Result<Identity> {
        self.issue("future-client", "client", Usage::Client, Validity::Future)
    }

    /// Issues a server certificate that begins years from now.
    pub fn future_server(&self) -> Result<Identity> {
        self.issue("future-server", "server", Usage::Server, Validity::Future)
    }

    /// Makes a self-signed certificate, as `peer-fingerprint` is used with.
    ///
    /// It is marked as an authority, for that is what `openssl req -x509` does.
    pub fn self_signed(&self, name: &str) -> Result<Identity> {
        let key = self.algorithm.key()?;
        let mut params = params(name, self.take_serial());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key)?;
        self.write(&format!("self-{name}"), &certificate, &key, 0)
    }

    /// Writes a list that revokes `identity`, and returns its path.
    pub fn revoke(&self, identity: &Identity) -> Result<PathBuf> {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2049, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(identity.serial),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.folder.write("crl.pem", &list.signed_by(&self.issuer)?.pem()?)
    }

    fn issue(&self, file: &str, name: &str, usage: Usage, validity: Validity) -> Result<Identity> {
        let key = self.algorithm.key()?;
        let serial = self.take_serial();
        let mut params = params(name, serial);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        if self.algorithm == Algorithm::Rsa && usage == Usage::Server {
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        match validity {
            Validity::Now => {}
            Validity::Past => {
                params.not_before = date_time_ymd(2001, 1, 1);
                params.not_after = date_time_ymd(2002, 1, 1);
            }
            Validity::Future => {
                params.not_before = date_time_ymd(2047, 1, 1);
                params.not_after = date_time_ymd(2048, 1, 1);
            }
        }
        let certificate = params.signed_by(&key, &self.issuer)?;
        self.write(file, &certificate, &key, serial)
    }

    fn write(
        &self,
        file: &str,
        certificate: &rcgen::Certificate,
        key: &KeyPair,
        serial: u64,
    ) -> Result<Identity> {
        let digest = Sha256::digest(certificate.der());
        let fingerprint = digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        Ok(Identity {
            cert: self.folder.write(&format!("{file}.crt"), &certificate.pem())?,
            key: self.folder.write(&format!("{file}.key"), &key_pem(key))?,
            fingerprint,
            serial,
        })
    }

    fn take_serial(&self) -> u64 {
        self.next_serial.fetch_add(1, Ordering::Relaxed)
    }
}

/// Returns a private key as PKCS#8 version 1.
///
/// For Ed25519 the library writes version 2, with the public key in it, which OpenSSL 1.1 and 3.0 refuse.
fn key_pem(key: &KeyPair) -> String {
    const V2_HEAD: [u8; 16] = *b"\x30\x51\x02\x01\x01\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    const V1_HEAD: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    const SEED_LEN: usize = 32;
    let der = key.serialized_der();
    match der.strip_prefix(&V2_HEAD).and_then(|rest| rest.get(..SEED_LEN)) {
        Some(seed) => {
            let text = BASE64_STANDARD.encode([&V1_HEAD, seed].concat());
            format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
        }
        None => key.serialize_pem(),
    }
}

fn params(name: &str, serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 1, 1);
    params
}

/// Returns a new 2048-bit static key in OpenVPN's text form, for `tls-auth` and `tls-crypt`.
pub fn static_key() -> Result<String> {
    let mut bytes = [0; 256];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut text =
        String::from("#\n# 2048 bit OpenVPN static key\n#\n-----BEGIN OpenVPN Static key V1-----\n");
    for row in bytes.chunks(16) {
        text.extend(row.iter().map(|byte| format!("{byte:02x}")));
        text.push('\n');
    }
    text.push_str("-----END OpenVPN Static key V1-----\n");
    Ok(text)
}

/// Makes a `tls-crypt-v2` server key with a real `openvpn` and returns its path.
pub fn tls_crypt_v2_server_key(openvpn: &Path, folder: &TempDir) -> Result<PathBuf> {
    let path = folder.path().join("v2-server.key");
    genkey(Command::new(openvpn).args(["--genkey", "tls-crypt-v2-server"]).arg(&path))?;
    Ok(path)
}

/// Makes a `tls-crypt-v2` client key of a server key, and returns its path.
pub fn tls_crypt_v2_client_key(openvpn: &Path, server_key: &Path, folder: &TempDir) -> Result<PathBuf> {
    let path = folder.path().join("v2-client.key");
    let mut command = Command::new(openvpn);
    command.arg("--tls-crypt-v2").arg(server_key).args(["--genkey", "tls-crypt-v2-client"]).arg(&path);
    genkey(&mut command)?;
    Ok(path)
}

fn genkey(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )))
}
