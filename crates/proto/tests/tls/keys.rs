//! Own certificates and keys: every wrapping, and what is said when they cannot be used.

use std::path::Path;

use culvert_proto::tls::{
    RustlsFactory, SecretPem, TlsError, TlsSettings, needs_passphrase, open_pkcs12, pkcs12_needs_passphrase,
};
use zeroize::Zeroizing;

use crate::{
    pair::connect,
    pki::{Authority, both},
};

/// A file made by the openssl program; see `make` beside it.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)).unwrap()
}

fn with_key(certificate: &str, key: &str, passphrase: Option<&str>) -> TlsSettings {
    let mut settings = both().server;
    let own = settings.own.as_mut().unwrap();
    own.certificate.text = fixture(certificate);
    own.key.text = Zeroizing::new(fixture(key));
    own.passphrase = passphrase.map(|passphrase| Zeroizing::new(passphrase.to_owned()));
    settings
}

fn refused(settings: TlsSettings) -> TlsError {
    match RustlsFactory::new(settings) {
        Ok(_) => panic!("expected an error"),
        Err(error) => error,
    }
}

const ENCRYPTED: &[(&str, &str)] = &[
    ("ec.crt.pem", "ec.des3.pem"),
    ("ec.crt.pem", "ec.aes128.pem"),
    ("ec.crt.pem", "ec.aes192.pem"),
    ("ec.crt.pem", "ec.aes256.pem"),
    ("ec.crt.pem", "ec.pbes2-aes256.pem"),
    ("ec.crt.pem", "ec.pbes2-aes128-sha1.pem"),
    ("ec.crt.pem", "ec.pbes2-des3.pem"),
    ("ec.crt.pem", "ec.pbes2-scrypt.pem"),
    ("ec.crt.pem", "ec.pbe-3des.pem"),
    ("ec.crt.pem", "ec.pbe-2des.pem"),
    ("rsa.crt.pem", "rsa.aes256.pem"),
];

#[test]
fn plain_keys_load() {
    for (certificate, key) in
        [("ec.crt.pem", "ec.sec1.pem"), ("ec.crt.pem", "ec.pkcs8.pem"), ("rsa.crt.pem", "rsa.pkcs1.pem")]
    {
        assert!(!needs_passphrase(&fixture(key)));
        RustlsFactory::new(with_key(certificate, key, None)).unwrap();
    }
}

#[test]
fn encrypted_keys_load_with_their_passphrase() {
    for (certificate, key) in ENCRYPTED {
        assert!(needs_passphrase(&fixture(key)), "{key}");
        let loaded = RustlsFactory::new(with_key(certificate, key, Some("culvert")));
        assert!(loaded.is_ok(), "{key}: {:?}", loaded.err());
    }
}

#[test]
fn a_wrong_passphrase_is_called_that() {
    for (certificate, key) in ENCRYPTED {
        let error = refused(with_key(certificate, key, Some("Culvert")));
        assert!(matches!(error, TlsError::Passphrase(_)), "{key}: {error:?}");
        assert!(error.to_string().contains("--key own.key: wrong passphrase"), "{key}: {error}");
    }
}

#[test]
fn an_encrypted_key_without_passphrase_says_what_to_do() {
    for (certificate, key) in ENCRYPTED {
        let error = refused(with_key(certificate, key, None));
        assert!(matches!(error, TlsError::Passphrase(_)), "{key}: {error:?}");
        assert!(error.to_string().contains("askpass"), "{error}");
    }
}

#[test]
fn a_key_in_single_des_is_refused_with_a_remedy() {
    let error = refused(with_key("ec.crt.pem", "ec.pbe-md5-des.pem", Some("culvert"))).to_string();
    assert!(error.contains("not supported") && error.contains("openssl pkcs8 -topk8"), "{error}");
}

#[test]
fn a_key_of_another_certificate_is_noticed() {
    let error = refused(with_key("ec.crt.pem", "rsa.pkcs1.pem", None)).to_string();
    assert!(
        error.starts_with("Private key does not match the certificate: --key own.key, --cert own.crt"),
        "{error}"
    );
}

#[test]
fn a_short_rsa_key_is_refused_with_a_remedy() {
    let error = refused(with_key("rsa1024.crt.pem", "rsa1024.pem", None)).to_string();
    assert!(error.contains("shorter than 2048 bits") && error.contains("hint: "), "{error}");
}

#[test]
fn a_version_1_certificate_is_refused_with_a_remedy() {
    let error = refused(with_key("v1.crt.pem", "ec.sec1.pem", None)).to_string();
    assert!(error.contains("X.509 version 1") && error.contains("hint: "), "{error}");
}

#[test]
fn certificate_and_key_exchanged_are_explained() {
    let error = refused(with_key("ec.crt.pem", "ec.crt.pem", None)).to_string();
    assert!(error.contains("it holds a certificate and no private key"), "{error}");
    let error = refused(with_key("ec.sec1.pem", "ec.sec1.pem", None)).to_string();
    assert!(error.contains("Cannot load certificate file --cert own.crt"), "{error}");
}

#[test]
fn broken_pem_names_the_line() {
    let mut settings = with_key("ec.crt.pem", "ec.sec1.pem", None);
    settings.ca.as_mut().unwrap().text =
        b"# my CA\n-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n".to_vec();
    let error = refused(settings).to_string();
    assert!(
        error.contains(
            "Cannot load CA certificate file --ca ca.crt: line 2: `CERTIFICATE` is not valid base64"
        ),
        "{error}"
    );
}

#[test]
fn every_truncation_of_an_encrypted_key_is_an_error() {
    let whole = fixture("ec.pbe-3des.pem");
    for len in (0..whole.len() - 30).step_by(7) {
        let mut settings = with_key("ec.crt.pem", "ec.pbe-3des.pem", Some("culvert"));
        settings.own.as_mut().unwrap().key.text = Zeroizing::new(whole[..len].to_vec());
        refused(settings);
    }
}

#[test]
fn pem_with_windows_line_ends_and_prose_is_read() {
    let mut both = both();
    let ca = both.server.ca.as_mut().unwrap();
    let text = String::from_utf8(ca.text.clone()).unwrap();
    ca.text = format!("Certificate: Data: Version 3\nSubject: x\n{text}").replace('\n', "\r\n").into_bytes();
    connect(both.client, both.server);
}

#[test]
fn an_expired_certificate_of_our_own_is_a_warning() {
    let authority = Authority::new("Test CA");
    let mut params = crate::pki::leaf("server", 1, None);
    params.not_after = rcgen::date_time_ymd(2026, 1, 1);
    let own = authority.issue(&params);
    let settings = crate::pki::settings(culvert_proto::tls::TlsRole::Server, &authority, Some(&own));
    let factory = RustlsFactory::new(settings).unwrap();
    assert!(
        factory.warnings()[0].starts_with("WARNING: Your certificate has expired!"),
        "{:?}",
        factory.warnings()
    );
}

fn p12(name: &str) -> SecretPem {
    SecretPem { origin: format!("--pkcs12 {name}"), text: Zeroizing::new(fixture(name)) }
}

/// Those with the password `culvert`, then those without.
const PKCS12: [&[&str]; 2] =
    [&["ec.aes.p12", "ec.3des.p12", "ec.nomac.p12"], &["ec.empty.p12", "ec.open.p12"]];

#[test]
fn pkcs_12_files_hold_a_key_with_its_certificate_and_others() {
    for (names, passphrase) in PKCS12.iter().zip([Some("culvert"), None]) {
        for name in *names {
            assert_eq!(pkcs12_needs_passphrase(&fixture(name)), passphrase.is_some(), "{name}");
            let opened =
                open_pkcs12(&p12(name), passphrase).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut settings = both().server;
            let own = settings.own.as_mut().unwrap();
            own.certificate.text = opened.certificate;
            own.key.text = opened.key;
            RustlsFactory::new(settings).unwrap_or_else(|error| panic!("{name}: {error}"));
            let other = String::from_utf8(fixture("rsa.crt.pem")).unwrap();
            assert_eq!(String::from_utf8(opened.others).unwrap().trim(), other.trim(), "{name}");
        }
    }
}

#[test]
fn pkcs_12_files_stay_closed_to_a_wrong_password() {
    for name in PKCS12[0] {
        for passphrase in [Some("Culvert"), None] {
            let error = open_pkcs12(&p12(name), passphrase).err().unwrap();
            assert!(matches!(&error, TlsError::Passphrase(_)), "{name}: {error}");
        }
    }
}

#[test]
fn pkcs_12_files_that_cannot_be_read_say_why() {
    let rc2 = open_pkcs12(&p12("ec.rc2.p12"), Some("culvert")).err().unwrap().to_string();
    assert!(rc2.contains("RC2") && rc2.contains("openssl pkcs12 -export"), "{rc2}");
    let pem = open_pkcs12(&p12("ec.crt.pem"), None).err().unwrap().to_string();
    assert!(pem.contains("it is malformed"), "{pem}");
}
