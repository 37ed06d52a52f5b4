use culvert_proto::tls::{CertProfile, TlsError, TlsRole, TlsVersion};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, date_time_ymd};

use crate::{
    keys::fixture,
    pair::{Pair, client_refuses, connect, server_refuses},
    pki::{Authority, authority_params, both, leaf, settings},
};

#[test]
fn an_expired_certificate_is_refused_and_the_peer_told_why() {
    let authority = Authority::new("Test CA");
    let mut params = leaf("client", 7, Some(TlsRole::Client));
    params.not_after = date_time_ymd(2027, 12, 31);
    let client = authority.issue(&params);
    let mut pair = Pair::open(
        settings(TlsRole::Client, &authority, Some(&client)),
        settings(TlsRole::Server, &authority, Some(&authority.server())),
    );
    pair.run();
    let Some(TlsError::Certificate(text)) = pair.server_error else { panic!("{:?}", pair.server_error) };
    assert!(
        text.contains("VERIFY ERROR: depth=0, error=certificate has expired: CN=client, serial=7"),
        "{text}"
    );
    assert!(
        text.contains(
            "hint: issue that certificate anew, and check this machine's clock: it says Jan  1 00:00:00 2028 +00:00, \
             the certificate ended Dec 31 00:00:00 2027 +00:00"
        ),
        "{text}"
    );
    let Some(TlsError::Alert(alert)) = pair.client_error else { panic!("{:?}", pair.client_error) };
    assert!(alert.starts_with("certificate expired"), "{alert}");
}

#[test]
fn a_certificate_of_the_future_is_refused() {
    let authority = Authority::new("Test CA");
    let mut params = leaf("server", 7, Some(TlsRole::Server));
    params.not_before = date_time_ymd(2029, 1, 1);
    let server = authority.issue(&params);
    let text = client_refuses(
        settings(TlsRole::Client, &authority, Some(&authority.client())),
        settings(TlsRole::Server, &authority, Some(&server)),
    );
    assert!(
        text.contains("VERIFY ERROR: depth=0, error=certificate is not yet valid: CN=server, serial=7"),
        "{text}"
    );
    assert!(
        text.contains(
            "this one says Jan  1 00:00:00 2028 +00:00, the certificate begins Jan  1 00:00:00 2029 +00:00"
        ),
        "{text}"
    );
}

#[test]
fn an_expired_ca_is_refused_at_its_own_depth() {
    let mut params = authority_params("Old CA");
    params.not_after = date_time_ymd(2027, 1, 1);
    params.serial_number = Some(5_u64.into());
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let authority = Authority { certificate, issuer: rcgen::Issuer::new(params, key) };
    let text = client_refuses(
        settings(TlsRole::Client, &authority, Some(&authority.client())),
        settings(TlsRole::Server, &authority, Some(&authority.server())),
    );
    assert!(
        text.contains("VERIFY ERROR: depth=1, error=certificate has expired: CN=Old CA, serial=5"),
        "{text}"
    );
}

#[test]
fn a_stranger_is_refused() {
    let mut both = both();
    let other = Authority::new("Other CA");
    both.client.own = Some(other.client().own());
    let text = server_refuses(both.client, both.server);
    let expected = "VERIFY ERROR: depth=0, error=unable to get local issuer certificate: CN=client, serial=2";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn who_is_not_known_is_told_so() {
    let mut both = both();
    both.client.own = Some(Authority::new("Other CA").client().own());
    let mut pair = Pair::open(both.client, both.server);
    pair.run();
    let Some(TlsError::Alert(alert)) = pair.client_error else { panic!("{:?}", pair.client_error) };
    assert_eq!(alert, "unknown ca (its `ca` does not know who issued our certificate)");
}

#[test]
fn a_self_signed_stranger_is_called_that() {
    let mut both = both();
    both.client.own.as_mut().unwrap().certificate.text = fixture("ec.crt.pem");
    both.client.own.as_mut().unwrap().key.text = fixture("ec.sec1.pem").into();
    let text = server_refuses(both.client, both.server);
    assert!(
        text.contains("VERIFY ERROR: depth=0, error=self-signed certificate: CN=fixture, serial="),
        "{text}"
    );
}

#[test]
fn a_stranger_that_brings_its_ca_along_is_refused() {
    let mut both = both();
    let other = Authority::new("Other CA");
    let mut own = other.client().own();
    own.extra = Some(other.pem());
    both.client.own = Some(own);
    let text = server_refuses(both.client, both.server);
    assert!(
        text.contains(
            "VERIFY ERROR: depth=1, error=self-signed certificate in certificate chain: CN=Other CA"
        ),
        "{text}"
    );
}

#[test]
fn a_ca_of_the_same_name_and_another_key_is_refused() {
    let mut both = both();
    both.client.own = Some(Authority::new("Test CA").client().own());
    let text = server_refuses(both.client, both.server);
    assert!(text.contains("VERIFY ERROR: depth=0, error=certificate signature failure: CN=client"), "{text}");
}

#[test]
fn a_client_without_certificate_is_refused_where_one_is_required() {
    let mut both = both();
    both.client.own = None;
    let text = server_refuses(both.client, both.server);
    assert!(text.contains("peer did not return a certificate"), "{text}");
}

/// SEC-AUTH-5
#[test]
fn a_client_certificate_cannot_play_the_server() {
    let authority = Authority::new("Test CA");
    let server = settings(TlsRole::Server, &authority, Some(&authority.client()));
    let mut client = settings(TlsRole::Client, &authority, Some(&authority.client()));
    let text = client_refuses(client.clone(), server.clone());
    assert!(
        text.contains("VERIFY ERROR: depth=0, error=unsuitable certificate purpose: CN=client"),
        "{text}"
    );
    assert!(text.contains("remote-cert-tls none"), "{text}");
    client.peer.contrary_usage_allowed = true;
    connect(client, server);
}

/// SEC-AUTH-5
#[test]
fn a_server_certificate_cannot_play_the_client() {
    let authority = Authority::new("Test CA");
    let text = server_refuses(
        settings(TlsRole::Client, &authority, Some(&authority.server())),
        settings(TlsRole::Server, &authority, Some(&authority.server())),
    );
    assert!(
        text.contains("VERIFY ERROR: depth=0, error=unsuitable certificate purpose: CN=server"),
        "{text}"
    );
}

/// SEC-AUTH-5
#[test]
fn a_ca_for_clients_only_cannot_vouch_for_a_server() {
    let root = Authority::new("Root");
    let mut params = authority_params("Clients CA");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &root.issuer).unwrap();
    let clients = Authority { certificate, issuer: rcgen::Issuer::new(params, key) };
    let mut server = settings(TlsRole::Server, &root, Some(&clients.server()));
    server.own.as_mut().unwrap().extra = Some(clients.pem());
    let text = client_refuses(settings(TlsRole::Client, &root, Some(&root.client())), server);
    assert!(text.contains("depth=1, error=unsuitable certificate purpose: CN=Clients CA"), "{text}");
}

/// SEC-AUTH-5
#[test]
fn a_server_without_extended_key_usage_is_warned_about() {
    let authority = Authority::new("Test CA");
    let server = authority.issue(&leaf("old server", 1, None));
    let pair = connect(
        settings(TlsRole::Client, &authority, Some(&authority.client())),
        settings(TlsRole::Server, &authority, Some(&server)),
    );
    let log = &pair.client.identity().unwrap().log;
    assert!(log.iter().any(|line| line.contains("remote-cert-tls server")), "{log:?}");
}

#[test]
fn a_leaf_cannot_issue() {
    let authority = Authority::new("Test CA");
    let params = leaf("client", 2, Some(TlsRole::Client));
    let fake = authority.issue(&params);
    let issuer = rcgen::Issuer::new(params, rcgen::KeyPair::from_pem(&fake.key.serialize_pem()).unwrap());
    let forged = Authority { certificate: fake.certificate, issuer };
    let mut client =
        settings(TlsRole::Client, &authority, Some(&forged.issue(&leaf("admin", 9, Some(TlsRole::Client)))));
    client.own.as_mut().unwrap().extra = Some(forged.pem());
    let text = server_refuses(client, settings(TlsRole::Server, &authority, Some(&authority.server())));
    assert!(text.contains("VERIFY ERROR: depth="), "{text}");
}

#[test]
fn path_lengths_are_obeyed() {
    let root = Authority::new("Root");
    let mut params = authority_params("Short CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &root.issuer).unwrap();
    let short = Authority { certificate, issuer: rcgen::Issuer::new(params, key) };
    let below = short.intermediate("Too deep");
    let mut client = settings(TlsRole::Client, &root, Some(&below.client()));
    let mut extra = below.pem();
    extra.text.extend(short.certificate.pem().into_bytes());
    client.own.as_mut().unwrap().extra = Some(extra);
    let text = server_refuses(client, settings(TlsRole::Server, &root, Some(&root.server())));
    assert!(text.contains("path length constraint exceeded"), "{text}");
}

/// SEC-AUTH-7
#[test]
fn a_chain_of_more_than_sixteen_certificates_is_refused() {
    let root = Authority::new("Root");
    let mut authority = root.intermediate("CA 1");
    let mut extra = authority.pem();
    for number in 2..=15 {
        authority = authority.intermediate(&format!("CA {number}"));
        extra.text.extend(authority.certificate.pem().into_bytes());
    }
    extra.text.extend(root.certificate.pem().into_bytes());
    let mut client = settings(TlsRole::Client, &root, Some(&authority.client()));
    client.own.as_mut().unwrap().extra = Some(extra);
    let text = server_refuses(client, settings(TlsRole::Server, &root, Some(&root.server())));
    assert!(text.contains("Convoluted certificate chain detected with depth [16] greater than 16"), "{text}");
}

#[test]
fn a_wrong_fingerprint_is_refused_and_the_right_one_shown() {
    let mut both = both();
    both.client.peer.fingerprints = vec![[0; 32]];
    let text = client_refuses(both.client, both.server);
    let expected = "TLS Error: --tls-verify/--peer-fingerprint certificate hash verification failed. \
                    (got certificate fingerprint: ";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn verify_hash_pins_the_ca() {
    let mut good = both();
    let digest = |algorithm, authority: &Authority| {
        aws_lc_rs::digest::digest(algorithm, authority.certificate.der()).as_ref().to_vec()
    };
    good.client.peer.level_1_hashes =
        vec![vec![0; 20], digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &good.authority)];
    good.server.peer.level_1_hashes = vec![digest(&aws_lc_rs::digest::SHA256, &good.authority)];
    connect(good.client, good.server);
    let mut bad = both();
    bad.client.peer.level_1_hashes = vec![vec![0; 20]];
    assert!(client_refuses(bad.client, bad.server).contains("certificate hash verification failed"));
}

#[test]
fn a_sha1_chain_needs_the_insecure_profile() {
    let mut client = both();
    let own = client.client.own.as_mut().unwrap();
    own.certificate.text = fixture("sha1.crt.pem");
    own.key.text = fixture("ec.sec1.pem").into();
    let mut server = client.server.clone();
    server.ca.as_mut().unwrap().text = fixture("rsa.crt.pem");
    let text = server_refuses(client.client.clone(), server.clone());
    let expected =
        "VERIFY ERROR: depth=0, error=CA signature digest algorithm too weak: CN=old chain, serial=12";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("tls-cert-profile insecure"), "{text}");
    server.profile = CertProfile::Insecure;
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        server.version_max = version;
        connect(client.client.clone(), server.clone());
    }
}

#[test]
fn suite_b_takes_p256_and_p384_only() {
    let mut good = both();
    good.server.profile = CertProfile::SuiteB;
    connect(good.client, good.server);
    let authority = Authority::new("Test CA");
    let client = authority.issue_with(&leaf("client", 2, Some(TlsRole::Client)), &rcgen::PKCS_ED25519);
    let mut server = settings(TlsRole::Server, &authority, Some(&authority.server()));
    server.profile = CertProfile::SuiteB;
    let mut pair = Pair::open(settings(TlsRole::Client, &authority, Some(&client)), server);
    pair.run();
    assert!(pair.server_error.is_some());
}

#[test]
fn garbage_is_an_error_and_nothing_else() {
    let both = both();
    let mut pair = Pair::open(both.client, both.server);
    assert!(pair.server.feed(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0xff]).is_err());
    assert!(pair.client.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n").is_err());
}

#[test]
fn every_truncation_and_bit_flip_of_the_first_flight_is_survived() {
    let both = both();
    let server = culvert_proto::tls::RustlsFactory::new(both.server).unwrap();
    let mut pair = Pair::open(both.client, crate::pki::both().server);
    let mut hello = Vec::new();
    pair.client.take(&mut hello);
    for index in 0..hello.len() {
        let mut changed = hello.clone();
        changed[index] ^= 0x55;
        let mut session = culvert_proto::tls::TlsFactory::open(&server).unwrap();
        let _ = session.feed(&changed);
        session.take(&mut Vec::new());
        assert!(session.identity().is_none());
    }
}

/// SEC-AUTH-7
#[test]
fn many_cas_of_one_name_end_in_an_error() {
    let trusted = Authority::new("Same");
    let mut authority = Authority::new("Same");
    let mut extra = authority.pem();
    for _ in 0..14 {
        authority = authority.intermediate("Same");
        extra.text.extend(authority.certificate.pem().into_bytes());
    }
    let mut client = settings(TlsRole::Client, &trusted, Some(&authority.client()));
    client.own.as_mut().unwrap().extra = Some(extra);
    let text = server_refuses(client, settings(TlsRole::Server, &trusted, Some(&trusted.server())));
    assert!(text.contains("VERIFY ERROR: depth="), "{text}");
}
