use culvert_proto::tls::{ClientCertificate, RustlsFactory, TlsError, TlsFactory as _, TlsRole, TlsVersion};

use crate::{
    keys::fixture,
    pair::{Pair, connect},
    pki::{self, Authority, both, leaf, settings},
};

#[test]
fn both_ends_know_each_other_and_export_the_same_keys() {
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let mut both = both();
        both.client.version_max = version;
        let pair = connect(both.client, both.server);
        assert_eq!(pair.client.identity().unwrap().common_name, "server");
        assert_eq!(pair.server.identity().unwrap().common_name, "client");
        let (mut of_client, mut of_server) = ([0; 256], [1; 256]);
        pair.client.export("EXPORTER-OpenVPN-datakeys", &mut of_client).unwrap();
        pair.server.export("EXPORTER-OpenVPN-datakeys", &mut of_server).unwrap();
        assert_eq!(of_client, of_server);
    }
}

#[test]
fn application_data_passes_both_ways() {
    let both = both();
    let mut pair = connect(both.client, both.server);
    let long = vec![7; 40_000];
    pair.client.write(&long).unwrap();
    pair.server.write(b"reply").unwrap();
    pair.run();
    let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
    pair.server.read(&mut at_server).unwrap();
    pair.client.read(&mut at_client).unwrap();
    assert_eq!(at_server, long);
    assert_eq!(at_client, b"reply");
}

#[test]
fn data_that_nobody_reads_ends_the_connection_before_it_fills_the_memory() {
    let both = both();
    let mut pair = connect(both.client, both.server);
    for _ in 0..30 {
        pair.client.write(&[0; 10_000]).unwrap();
        pair.run();
    }
    assert!(matches!(pair.server_error, Some(TlsError::Protocol(_))));
}

#[test]
fn there_is_nothing_to_export_before_the_handshake() {
    let factory = RustlsFactory::new(both().client).unwrap();
    let session = factory.open().unwrap();
    assert!(session.export("label", &mut [0; 32]).is_err());
    assert!(session.identity().is_none());
}

#[test]
fn every_key_type_works_in_both_versions() {
    let authority = Authority::new("Test CA");
    for algorithm in [
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
    ] {
        let server = authority.issue_with(&leaf("server", 1, Some(TlsRole::Server)), algorithm);
        let client = authority.issue_with(&leaf("client", 2, Some(TlsRole::Client)), algorithm);
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let mut client = settings(TlsRole::Client, &authority, Some(&client));
            client.version_max = version;
            connect(client, settings(TlsRole::Server, &authority, Some(&server)));
        }
    }
}

#[test]
fn every_group_works_in_both_versions() {
    for group in culvert_proto::tls::group_names() {
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            if version == TlsVersion::V1_2 && group.contains("MLKEM") {
                continue; // these are defined for TLS 1.3 only
            }
            let mut both = both();
            both.server.groups = Some(group.to_owned());
            both.client.groups = Some(group.to_owned());
            both.client.version_max = version;
            let pair = connect(both.client, both.server);
            let description = pair.client.description();
            assert!(description.contains(group), "{group}: {description}");
        }
    }
}

#[test]
fn the_default_key_exchange_is_hybrid() {
    let both = both();
    let pair = connect(both.client, both.server);
    assert_eq!(
        pair.client.description(),
        "TLSv1.3, cipher TLSv1.3 TLS_AES_256_GCM_SHA384, peer certificate: 256 bits ECprime256v1, signature: \
         ecdsa-with-SHA256, key agreement: X25519MLKEM768"
    );
}

#[test]
fn the_description_is_openvpns() {
    let mut both = both();
    both.client.version_max = TlsVersion::V1_2;
    both.client.groups = Some("X25519".to_owned());
    let pair = connect(both.client, both.server);
    assert_eq!(
        pair.server.description(),
        "TLSv1.2, cipher TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384, peer certificate: 256 bits ECprime256v1, signature: \
         ecdsa-with-SHA256, peer temporary key: 253 bits X25519"
    );
}

#[test]
fn cipher_options_choose_the_suite() {
    let mut by_1_3 = both();
    by_1_3.client.cipher_suites = Some("TLS_CHACHA20_POLY1305_SHA256".to_owned());
    let pair = connect(by_1_3.client, by_1_3.server);
    assert!(pair.client.description().contains("TLS_CHACHA20_POLY1305_SHA256"));

    let mut by_1_2 = both();
    by_1_2.server.version_max = TlsVersion::V1_2;
    by_1_2.server.cipher_list = Some("TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256".to_owned());
    let pair = connect(by_1_2.client, by_1_2.server);
    assert!(pair.client.description().contains("ECDHE-ECDSA-AES128-GCM-SHA256"));
}

#[test]
fn a_server_that_does_not_ask_lets_a_client_without_certificate_in() {
    for policy in [ClientCertificate::NotAsked, ClientCertificate::Optional] {
        let mut both = both();
        both.server.client_certificate = policy;
        both.client.own = None;
        let pair = connect(both.client, both.server);
        assert!(pair.server.identity().is_none());
        assert!(pair.client.identity().is_some());
    }
}

#[test]
fn an_optional_certificate_is_still_verified() {
    let mut both = both();
    both.server.client_certificate = ClientCertificate::Optional;
    both.client.own = Some(Authority::new("Other CA").client().own());
    let mut pair = Pair::open(both.client, both.server);
    pair.run();
    assert!(matches!(pair.server_error, Some(TlsError::Certificate(_))));
}

#[test]
fn pinned_fingerprints_replace_a_ca() {
    let (one, other) = (Authority::new("unused").client(), Authority::new("unused too").server());
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let unused = Authority::new("unused as well");
        let mut client = settings(TlsRole::Client, &unused, Some(&one));
        let mut server = settings(TlsRole::Server, &unused, Some(&other));
        (client.ca, server.ca) = (None, None);
        client.version_max = version;
        client.peer.fingerprints = vec![[9; 32], other.fingerprint()];
        server.peer.fingerprints = vec![one.fingerprint()];
        let pair = connect(client, server);
        assert_eq!(pair.server.identity().unwrap().log, ["VERIFY OK: depth=0, CN=client"]);
    }
}

#[test]
fn a_self_signed_certificate_that_is_its_own_ca_is_trusted() {
    let server = Authority::new("lonely");
    let client = Authority::new("friend");
    let (as_client, as_server) = (identity_of(&client), identity_of(&server));
    let pair = connect(
        settings(TlsRole::Client, &server, Some(&as_client)),
        settings(TlsRole::Server, &client, Some(&as_server)),
    );
    assert!(pair.client.identity().unwrap().log.contains(&"VERIFY OK: depth=0, CN=lonely".to_owned()));
}

#[test]
fn intermediates_come_from_the_peer_or_from_our_ca_file() {
    let root = Authority::new("Root");
    let middle = root.intermediate("Middle");
    let (client, server) = (middle.client(), middle.server());
    let expected =
        ["VERIFY OK: depth=2, CN=Root", "VERIFY OK: depth=1, CN=Middle", "VERIFY OK: depth=0, CN=client"];

    // The client sends the intermediate (`extra-certs`); the server knows the root only.
    let mut with_extra = settings(TlsRole::Client, &root, Some(&client));
    with_extra.own.as_mut().unwrap().extra = Some(middle.pem());
    let mut whole_ca = settings(TlsRole::Server, &root, Some(&server));
    whole_ca.ca.as_mut().unwrap().text.extend(middle.certificate.pem().into_bytes());
    let root_only = {
        let mut root_only = settings(TlsRole::Server, &root, Some(&server));
        root_only.own.as_mut().unwrap().extra = Some(middle.pem());
        root_only
    };
    let pair = connect(with_extra, root_only);
    assert_eq!(pair.server.identity().unwrap().log, expected);

    // The client sends its leaf only; the server's CA file holds both, and what it sends is completed from there.
    let pair = connect(settings(TlsRole::Client, &root, Some(&client)), whole_ca);
    assert_eq!(pair.server.identity().unwrap().log, expected);
    assert_eq!(pair.server.identity().unwrap().chain.len(), 3);
}

#[test]
fn a_renewed_ca_beside_the_expired_one_works() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut old = pki::authority_params("Test CA");
    old.not_after = rcgen::date_time_ymd(2026, 1, 1);
    let old = old.self_signed(&key).unwrap();
    let new = pki::authority_params("Test CA");
    let certificate = new.self_signed(&key).unwrap();
    let authority = Authority { certificate, issuer: rcgen::Issuer::new(new, key) };
    let (client, server) = (authority.client(), authority.server());
    let mut server = settings(TlsRole::Server, &authority, Some(&server));
    server.ca.as_mut().unwrap().text = [old.pem(), authority.certificate.pem()].concat().into_bytes();
    connect(settings(TlsRole::Client, &authority, Some(&client)), server);
}

#[test]
fn a_version_1_ca_is_trusted() {
    let mut both = both();
    let own = both.client.own.as_mut().unwrap();
    own.certificate.text = fixture("v1ca-leaf.crt.pem");
    own.key.text = fixture("rsa.pkcs1.pem").into();
    both.server.ca.as_mut().unwrap().text = fixture("v1ca.crt.pem");
    let pair = connect(both.client, both.server);
    let log = &pair.server.identity().unwrap().log;
    assert_eq!(*log, ["VERIFY OK: depth=1, CN=old CA", "VERIFY OK: depth=0, CN=new leaf"]);
}

/// The CA's own certificate and key, used as a leaf.
fn identity_of(authority: &Authority) -> pki::Identity {
    let key = rcgen::KeyPair::from_pem(&authority.issuer.key().serialize_pem()).unwrap();
    let certificate = pki::authority_params("").self_signed(&key).unwrap();
    drop(certificate);
    pki::Identity { certificate: authority.certificate.clone(), key }
}
