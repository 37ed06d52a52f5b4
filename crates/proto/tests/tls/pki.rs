//! A certificate authority for tests.

use std::sync::Arc;

use culvert_proto::tls::{OwnCertificate, Pem, SecretPem, TlsRole, TlsSettings};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use zeroize::Zeroizing;

/// The tests' present: 2028-01-01.
pub(crate) const NOW: u64 = 1_830_297_600;

/// A CA, and what it is called.
pub(crate) struct Authority {
    pub(crate) certificate: Certificate,
    pub(crate) issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(crate) struct Identity {
    pub(crate) certificate: Certificate,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority_params(name);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority_params(name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn issue(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    pub(crate) fn issue_with(
        &self,
        params: &CertificateParams,
        algorithm: &'static SignatureAlgorithm,
    ) -> Identity {
        let key = KeyPair::generate_for(algorithm).unwrap();
        Identity { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    pub(crate) fn server(&self) -> Identity {
        self.issue(&leaf("server", 1, Some(TlsRole::Server)))
    }

    pub(crate) fn client(&self) -> Identity {
        self.issue(&leaf("client", 2, Some(TlsRole::Client)))
    }

    pub(crate) fn pem(&self) -> Pem {
        Pem { origin: "--ca ca.crt".to_owned(), text: self.certificate.pem().into_bytes() }
    }
}

impl Identity {
    pub(crate) fn own(&self) -> OwnCertificate {
        OwnCertificate {
            certificate: Pem {
                origin: "--cert own.crt".to_owned(),
                text: self.certificate.pem().into_bytes(),
            },
            extra: None,
            key: SecretPem {
                origin: "--key own.key".to_owned(),
                text: Zeroizing::new(self.key.serialize_pem().into_bytes()),
            },
            passphrase: None,
        }
    }

    /// SHA-256 of the certificate.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.certificate.der());
        digest.as_ref().try_into().unwrap()
    }
}

pub(crate) fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

/// A leaf valid at [`NOW`].
pub(crate) fn leaf(name: &str, serial: u64, usage: Option<TlsRole>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match usage {
        Some(TlsRole::Server) => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Some(TlsRole::Client) => vec![ExtendedKeyUsagePurpose::ClientAuth],
        None => Vec::new(),
    };
    params
}

pub(crate) fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// Settings of both sides with certificates of one CA.
pub(crate) struct Both {
    pub(crate) authority: Authority,
    pub(crate) client: TlsSettings,
    pub(crate) server: TlsSettings,
}

pub(crate) fn both() -> Both {
    let authority = Authority::new("Test CA");
    let (client, server) = (authority.client(), authority.server());
    Both {
        client: settings(TlsRole::Client, &authority, Some(&client)),
        server: settings(TlsRole::Server, &authority, Some(&server)),
        authority,
    }
}

pub(crate) fn settings(role: TlsRole, authority: &Authority, own: Option<&Identity>) -> TlsSettings {
    let mut settings = TlsSettings::new(role, Arc::new(|| NOW));
    settings.ca = Some(authority.pem());
    settings.own = own.map(Identity::own);
    settings
}
