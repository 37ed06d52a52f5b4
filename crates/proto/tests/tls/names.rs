use culvert_proto::tls::{KeyUsageRule, NameKind, NameRule, TlsRole};
use rcgen::{DnType, DnValue};

use crate::{
    pair::{client_refuses, connect, server_refuses},
    pki::{Authority, both, leaf, settings},
};

#[test]
fn subjects_are_printed_as_openvpn_prints_them() {
    let authority = Authority::new("Test CA");
    let mut params = leaf("x", 2, Some(TlsRole::Client));
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = &mut params.distinguished_name;
    name.push(DnType::CountryName, "DE");
    name.push(DnType::StateOrProvinceName, "Bavaria");
    name.push(DnType::OrganizationName, "Ü, GmbH");
    name.push(DnType::CommonName, "John Döe (a:b=c)");
    name.push(
        DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]),
        DnValue::Ia5String("a@b.c".try_into().unwrap()),
    );
    name.push(DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 99, 1]), "own");
    let client = authority.issue(&params);
    let pair = connect(
        settings(TlsRole::Client, &authority, Some(&client)),
        settings(TlsRole::Server, &authority, Some(&authority.server())),
    );
    let identity = pair.server.identity().unwrap();
    let subject =
        "C=DE, ST=Bavaria, O=Ü, GmbH, CN=John Döe (a:b=c), emailAddress=a@b.c, 1.3.6.1.4.1.99.1=own";
    assert_eq!(identity.certificates().unwrap()[0].subject, subject);
    assert_eq!(identity.common_name, "John Döe (a:b=c)");
    assert_eq!(identity.log.last().unwrap(), &format!("VERIFY OK: depth=0, {subject}"));
    assert_eq!(
        identity.certificates().unwrap()[0].fields[4],
        ("emailAddress".to_owned(), "a@b.c".to_owned())
    );
}

#[test]
fn scripts_get_serial_numbers_and_fingerprints() {
    let authority = Authority::new("Test CA");
    let client = authority.issue(&leaf("client", 0xfeff, Some(TlsRole::Client)));
    let pair = connect(
        settings(TlsRole::Client, &authority, Some(&client)),
        settings(TlsRole::Server, &authority, Some(&authority.server())),
    );
    let certificates = pair.server.identity().unwrap().certificates().unwrap();
    assert_eq!((certificates[0].depth, certificates[1].depth), (0, 1));
    assert_eq!((certificates[0].serial.as_str(), certificates[0].serial_hex.as_str()), ("65279", "fe:ff"));
    assert_eq!(certificates[0].sha1.len(), 59);
    let expected: Vec<String> = client.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(certificates[0].sha256, expected.join(":"));
}

#[test]
fn another_field_can_be_the_name() {
    let authority = Authority::new("Test CA");
    let mut params = leaf("client", 0x0a0b, Some(TlsRole::Client));
    params.distinguished_name.push(DnType::OrganizationalUnitName, "sales");
    params.subject_alt_names = vec![rcgen::SanType::Rfc822Name("me@example.org".try_into().unwrap())];
    let client = authority.issue(&params);
    let cases: [(&[&str], &str); 5] = [
        (&["OU"], "sales"),
        (&["ou"], "sales"),
        (&["CN", "OU"], "client_sales"),
        (&["serialNumber"], "0x0A0B"),
        (&["ext:subjectAltName"], "me@example.org"),
    ];
    for (fields, expected) in cases {
        let mut server = settings(TlsRole::Server, &authority, Some(&authority.server()));
        server.peer.username_fields = fields.iter().map(|&field| field.to_owned()).collect();
        let pair = connect(settings(TlsRole::Client, &authority, Some(&client)), server);
        assert_eq!(pair.server.identity().unwrap().common_name, expected);
    }
}

#[test]
fn a_missing_name_field_refuses() {
    let mut both = both();
    both.server.peer.username_fields = vec!["emailAddress".to_owned()];
    let text = server_refuses(both.client, both.server);
    assert!(
        text.contains(
            "VERIFY ERROR: could not extract emailAddress from X509 subject string ('CN=client') -- note that the \
             field length is limited to 64 characters"
        ),
        "{text}"
    );
}

/// SEC-AUTH-4
#[test]
fn two_names_refuse() {
    let authority = Authority::new("Test CA");
    let mut params = leaf("x", 2, Some(TlsRole::Client));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "mallory");
    // rcgen keeps one value per type: the same type under its OID makes the second.
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "alice");
    let client = authority.issue(&params);
    let text = server_refuses(
        settings(TlsRole::Client, &authority, Some(&client)),
        settings(TlsRole::Server, &authority, Some(&authority.server())),
    );
    assert!(text.contains("the field CN occurs twice in 'CN=mallory, CN=alice'"), "{text}");
}

/// SEC-AUTH-4
#[test]
fn control_characters_in_names_refuse() {
    for name in ["alice\0.evil", "alice\nVERIFY OK: depth=0, CN=alice", "\x1b[2J"] {
        let authority = Authority::new("Test CA");
        let client = authority.issue(&leaf(name, 2, Some(TlsRole::Client)));
        let text = server_refuses(
            settings(TlsRole::Client, &authority, Some(&client)),
            settings(TlsRole::Server, &authority, Some(&authority.server())),
        );
        assert!(text.contains("VERIFY ERROR: depth=0, the subject holds control characters: CN="), "{text}");
        assert!(!text.contains(name));
    }
}

#[test]
fn verify_x509_name_compares_subject_name_or_prefix() {
    let fits = [(NameKind::Subject, "CN=server"), (NameKind::Name, "server"), (NameKind::NamePrefix, "ser")];
    for (kind, name) in fits {
        let mut both = both();
        both.client.peer.name = Some(NameRule { name: name.to_owned(), kind });
        let pair = connect(both.client, both.server);
        let log = &pair.client.identity().unwrap().log;
        assert!(log.contains(&"VERIFY X509NAME OK: CN=server".to_owned()), "{log:?}");
    }
    let misses = [(NameKind::Subject, "server"), (NameKind::Name, "serv"), (NameKind::NamePrefix, "erver")];
    for (kind, name) in misses {
        let mut both = both();
        both.client.peer.name = Some(NameRule { name: name.to_owned(), kind });
        let text = client_refuses(both.client, both.server);
        assert!(text.contains(&format!("VERIFY X509NAME ERROR: CN=server, must be {name}")), "{text}");
    }
}

#[test]
fn remote_cert_tls_logs_what_openvpn_logs() {
    let mut both = both();
    both.client.peer.require_usual_usages_of(TlsRole::Server);
    let pair = connect(both.client, both.server);
    assert_eq!(
        pair.client.identity().unwrap().log,
        [
            "VERIFY OK: depth=1, CN=Test CA",
            "VERIFY KU OK",
            "Validating certificate extended key usage",
            "++ Certificate has EKU (str) TLS Web Server Authentication, expects TLS Web Server Authentication",
            "VERIFY EKU OK",
            "VERIFY OK: depth=0, CN=server",
        ]
    );
}

#[test]
fn remote_cert_tls_refuses_a_certificate_without_usages() {
    let authority = Authority::new("Test CA");
    for (has_key_usage, expected) in [
        (false, "Certificate does not have key usage extension\nVERIFY KU ERROR"),
        (true, "Certificate does not have extended key usage extension\nVERIFY EKU ERROR"),
    ] {
        let mut params = leaf("server", 1, None);
        if !has_key_usage {
            params.key_usages.clear();
        }
        let server = authority.issue(&params);
        let mut client = settings(TlsRole::Client, &authority, Some(&authority.client()));
        client.peer.require_usual_usages_of(TlsRole::Server);
        let text = client_refuses(client, settings(TlsRole::Server, &authority, Some(&server)));
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn remote_cert_ku_wants_all_bits_of_one_set() {
    let mut good = both();
    good.client.peer.key_usage = KeyUsageRule::OneOf(vec![0xa0, 0x80]);
    connect(good.client, good.server);
    let mut bad = both();
    bad.client.peer.key_usage = KeyUsageRule::OneOf(vec![0xa0, 0x88]);
    let text = client_refuses(bad.client, bad.server);
    assert!(
        text.contains(
            "ERROR: Certificate has key usage 0080, expected one of:\n * 00a0\n * 0088\nVERIFY KU ERROR"
        ),
        "{text}"
    );
}

#[test]
fn remote_cert_eku_takes_an_oid() {
    let mut good = both();
    good.client.peer.extended_key_usage = Some("1.3.6.1.5.5.7.3.1".to_owned());
    connect(good.client, good.server);
    let mut bad = both();
    bad.client.peer.extended_key_usage = Some("1.3.6.1.5.5.7.3.9".to_owned());
    let text = client_refuses(bad.client, bad.server);
    assert!(
        text.contains("++ Certificate has EKU (oid) 1.3.6.1.5.5.7.3.1, expects 1.3.6.1.5.5.7.3.9"),
        "{text}"
    );
    assert!(text.contains("VERIFY EKU ERROR"), "{text}");
}

#[test]
fn the_old_netscape_type_is_also_found_in_the_extended_key_usage() {
    let mut good = both();
    good.client.peer.netscape_type = Some(TlsRole::Server);
    let pair = connect(good.client, good.server);
    assert!(pair.client.identity().unwrap().log.contains(&"VERIFY OK: nsCertType=SERVER".to_owned()));
    let mut bad = both();
    bad.client.peer.netscape_type = Some(TlsRole::Client);
    let text = client_refuses(bad.client, bad.server);
    assert!(text.contains("VERIFY nsCertType ERROR: CN=server, require nsCertType=CLIENT"), "{text}");
}
