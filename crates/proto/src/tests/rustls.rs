use std::{sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};
use zeroize::Zeroizing;

use super::{
    net::{Side, Weather},
    pair::{Pair, Setup, Wrap},
};
use crate::{
    Command,
    tls::{OwnCertificate, Pem, RustlsFactory, SecretPem, TlsFactory, TlsRole, TlsSettings, TlsVersion},
};

/// 2028-01-01.
const TODAY: u64 = 1_830_297_600;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

struct Pki {
    ca: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params("authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        Self { ca, issuer: Issuer::new(params, key) }
    }

    fn factory(&self, role: TlsRole, version_max: TlsVersion) -> Arc<dyn TlsFactory> {
        let key = KeyPair::generate().unwrap();
        let (name, usage) = match role {
            TlsRole::Client => ("client", ExtendedKeyUsagePurpose::ClientAuth),
            TlsRole::Server => ("server", ExtendedKeyUsagePurpose::ServerAuth),
        };
        let mut params = params(name);
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let pem = |text: &str| Pem { origin: "test".to_owned(), text: text.as_bytes().to_vec() };
        let mut settings = TlsSettings::new(role, Arc::new(|| TODAY));
        settings.version_max = version_max;
        settings.ca = Some(pem(&self.ca));
        settings.own = Some(OwnCertificate {
            certificate: pem(&certificate),
            extra: None,
            key: SecretPem {
                origin: "test".to_owned(),
                text: Zeroizing::new(key.serialize_pem().into_bytes()),
            },
            passphrase: None,
        });
        Arc::new(RustlsFactory::new(settings).unwrap())
    }
}

fn setup(server: &Pki, client: &Pki, version: TlsVersion) -> Setup {
    Setup {
        server_tls: server.factory(TlsRole::Server, version),
        client_tls: client.factory(TlsRole::Client, version),
        ..Setup::new()
    }
}

#[test]
fn tunnels_come_up_and_renegotiate_under_both_tls_versions() {
    let pki = Pki::new();
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        for wrap in [Wrap::None, Wrap::TlsAuth, Wrap::TlsCrypt] {
            let setup = Setup { wrap, ..setup(&pki, &pki, version) };
            let mut pair = Pair::new(setup.timing(|timing| timing.reneg_sec = Duration::from_secs(1)));
            pair.establish();
            pair.assert_data_flows();
            assert_eq!(pair.client.peer_common_name(), Some("server"));
            assert_eq!(pair.server().peer_common_name(), Some("client"));
            for side in Side::both() {
                pair.command(side, Command::Renegotiate);
                pair.run_for(Duration::from_secs(2));
                pair.assert_data_flows();
            }
            assert_eq!(pair.at_client.renegotiated.len(), 2);
        }
    }
}

#[test]
fn the_old_derivation_agrees_under_real_tls() {
    let pki = Pki::new();
    let mut setup = setup(&pki, &pki, TlsVersion::V1_2);
    setup.client.peer_info = vec![("IV_NCP".into(), "2".into()), ("IV_PROTO".into(), "2".into())];
    let mut pair = Pair::new(setup);
    pair.establish();
    pair.assert_data_flows();
}

#[test]
fn a_storm_does_not_hinder_real_tls() {
    let pki = Pki::new();
    for seed in 0..6 {
        let weather = Weather { loss: 20, duplication: 10, damage: 5, jitter: 100 };
        let setup = setup(&pki, &pki, TlsVersion::V1_3);
        let mut pair = Pair::new(Setup { wrap: Wrap::TlsCrypt, weather, seed, ..setup });
        pair.establish();
        pair.assert_data_flows();
    }
}

#[test]
fn a_certificate_of_another_authority_is_refused_with_an_alert() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let mut pair = Pair::new(setup(&ours, &theirs, TlsVersion::V1_3));
    pair.run_for(Duration::from_secs(5));
    let Some(crate::CloseReason::Tls(why)) = &pair.at_client.closed else { panic!() };
    assert!(why.contains("VERIFY ERROR"), "{why}");
    assert!(matches!(pair.at_server.closed, Some(crate::CloseReason::Tls(_))), "{:?}", pair.at_server.closed);
}
