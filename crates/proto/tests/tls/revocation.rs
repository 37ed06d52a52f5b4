use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use culvert_proto::tls::{
    CrlSource, Pem, Revocation, RustlsFactory, Standing, TlsError, TlsFactory as _, TlsSettings,
};
use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

use crate::{
    keys::fixture,
    pair::{Pair, connect, server_refuses},
    pki::{Authority, NOW, both},
};

fn crl(authority: &Authority, serials: &[u64], next_update_year: i32) -> Vec<u8> {
    let revoked = |&serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: date_time_ymd(2026, 1, 1),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(next_update_year, 1, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&authority.issuer).unwrap().pem().unwrap().into_bytes()
}

fn with_lists(settings: &mut TlsSettings, text: Vec<u8>) {
    let text: Arc<[u8]> = text.into();
    settings.peer.revocation = Some(Revocation::Lists(Arc::new(text)));
}

#[test]
fn a_revoked_client_is_refused_and_told() {
    let mut both = both();
    with_lists(&mut both.server, crl(&both.authority, &[1, 2, 3], 2030));
    let mut pair = Pair::open(both.client, both.server);
    pair.run();
    let Some(TlsError::Certificate(text)) = pair.server_error else { panic!("{:?}", pair.server_error) };
    assert!(text.contains("VERIFY ERROR: depth=0, error=certificate revoked: CN=client, serial=2"), "{text}");
    let Some(TlsError::Alert(alert)) = pair.client_error else { panic!("{:?}", pair.client_error) };
    assert!(alert.starts_with("certificate revoked"), "{alert}");
}

#[test]
fn others_are_let_in() {
    let mut both = both();
    with_lists(&mut both.server, crl(&both.authority, &[1, 3], 2030));
    connect(both.client, both.server);
}

/// SEC-AUTH-6
#[test]
fn an_expired_list_denies() {
    let mut both = both();
    with_lists(&mut both.server, crl(&both.authority, &[], 2027));
    let text = server_refuses(both.client, both.server);
    assert!(text.contains("error=CRL has expired"), "{text}");
}

/// SEC-AUTH-6
#[test]
fn an_unreadable_list_denies() {
    struct Gone;
    impl CrlSource for Gone {
        fn current(&self) -> Result<Arc<[u8]>, String> {
            Err("crl.pem: No such file or directory".to_owned())
        }
    }
    let mut gone = both();
    gone.server.peer.revocation = Some(Revocation::Lists(Arc::new(Gone)));
    let text = server_refuses(gone.client, gone.server);
    assert!(text.contains("VERIFY ERROR: CRL not loaded: crl.pem: No such file or directory"), "{text}");

    for broken in [&b"no list in here"[..], b"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"] {
        let mut both = both();
        with_lists(&mut both.server, broken.to_vec());
        assert!(server_refuses(both.client, both.server).contains("CRL not loaded"));
    }
}

#[test]
fn a_list_that_someone_else_signed_denies() {
    let mut both = both();
    let impostor = Authority::new("Test CA");
    with_lists(&mut both.server, crl(&impostor, &[], 2030));
    let text = server_refuses(both.client, both.server);
    assert!(text.contains("error=CRL signature failure"), "{text}");
}

#[test]
fn a_list_of_another_ca_is_a_warning_as_in_openvpn() {
    let mut both = both();
    with_lists(&mut both.server, crl(&Authority::new("Other CA"), &[2], 2030));
    let pair = connect(both.client, both.server);
    let log = &pair.server.identity().unwrap().log;
    assert!(
        log.contains(&"VERIFY WARNING: depth=0, unable to get certificate CRL: CN=client".to_owned()),
        "{log:?}"
    );
}

#[test]
fn the_right_one_of_several_lists_is_used() {
    let mut both = both();
    let text = [crl(&Authority::new("Test CA"), &[], 2030), crl(&both.authority, &[2], 2030)].concat();
    with_lists(&mut both.server, text);
    assert!(server_refuses(both.client, both.server).contains("certificate revoked"));
}

#[test]
fn a_change_of_the_file_takes_effect_at_the_next_connection() {
    struct File {
        text: Mutex<Arc<[u8]>>,
        reads: AtomicUsize,
    }
    impl CrlSource for File {
        fn current(&self) -> Result<Arc<[u8]>, String> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            Ok(Arc::clone(&self.text.lock().unwrap()))
        }
    }
    let mut both = both();
    let text = crl(&both.authority, &[], 2030).into();
    let file = Arc::new(File { text: Mutex::new(text), reads: AtomicUsize::new(0) });
    both.server.peer.revocation = Some(Revocation::Lists(file.clone()));
    let server = RustlsFactory::new(both.server).unwrap();
    let client = RustlsFactory::new(both.client).unwrap();
    let open = || {
        let (client, server) = (client.open().unwrap(), server.open().unwrap());
        let mut pair = Pair { client, server, client_error: None, server_error: None };
        pair.run();
        pair.server_error
    };
    assert_eq!(open(), None);
    assert_eq!(open(), None);
    *file.text.lock().unwrap() = crl(&both.authority, &[2], 2030).into();
    assert!(matches!(open(), Some(TlsError::Certificate(_))));
    assert_eq!(file.reads.load(Ordering::Relaxed), 3);
}

#[test]
fn a_directory_of_serial_numbers_revokes() {
    let mut revoked = both();
    revoked.server.peer.revocation = Some(Revocation::Serials(Arc::new(|serial| Ok(serial == "2"))));
    let text = server_refuses(revoked.client, revoked.server);
    assert!(text.contains("VERIFY CRL: depth=0, CN=client, serial=2 is revoked"), "{text}");

    let mut good = both();
    good.server.peer.revocation = Some(Revocation::Serials(Arc::new(|serial| Ok(serial == "20"))));
    connect(good.client, good.server);

    let mut unreadable = both();
    unreadable.server.peer.revocation =
        Some(Revocation::Serials(Arc::new(|_| Err("permission denied".to_owned()))));
    assert!(server_refuses(unreadable.client, unreadable.server).contains("permission denied"));
}

#[test]
fn a_version_1_list_counts() {
    let mut both = both();
    both.server.ca.as_mut().unwrap().text = fixture("ec.crt.pem");
    with_lists(&mut both.server, fixture("v1.crl.pem"));
    let key = rcgen::KeyPair::from_pem(&String::from_utf8(fixture("ec.pkcs8.pem")).unwrap()).unwrap();
    let issuer =
        rcgen::Issuer::from_ca_cert_pem(&String::from_utf8(fixture("ec.crt.pem")).unwrap(), key).unwrap();
    for (serial, is_revoked) in [(2, true), (3, false)] {
        let params = crate::pki::leaf("client", serial, None);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let mut client = both.client.clone();
        client.own = Some(crate::pki::Identity { certificate, key }.own());
        if is_revoked {
            assert!(
                server_refuses(client, both.server.clone())
                    .contains("certificate revoked: CN=client, serial=2")
            );
        } else {
            connect(client, both.server.clone());
        }
    }
}

/// What becomes of a client that was accepted, when the server's settings are others.
fn judged_again(change: impl FnOnce(&mut TlsSettings, &Authority)) -> Standing {
    let both = both();
    let mut changed = both.server.clone();
    change(&mut changed, &both.authority);
    let pair = connect(both.client, both.server);
    let identity = Arc::clone(pair.server.identity().unwrap());
    RustlsFactory::new(changed).unwrap().judge_again(&identity)
}

#[test]
fn who_would_be_refused_now_is_withdrawn_and_dates_are_left_to_the_next_exchange() {
    assert_eq!(judged_again(|_, _| {}), Standing::Good);
    let standing = judged_again(|settings, _| settings.ca = Some(Authority::new("New CA").pem()));
    assert!(
        matches!(&standing, Standing::Withdrawn(why) if why.contains("VERIFY ERROR: depth=")),
        "{standing:?}"
    );
    let standing = judged_again(|settings, authority| {
        settings.ca = Some(Pem {
            text: [Authority::new("New CA").pem().text, authority.pem().text].concat(),
            ..authority.pem()
        });
    });
    assert_eq!(standing, Standing::Good);
    let standing = judged_again(|settings, _| {
        settings.peer.extended_key_usage = Some("1.3.6.1.5.5.7.3.17".to_owned());
    });
    assert!(matches!(standing, Standing::Withdrawn(_)), "{standing:?}");
    let standing = judged_again(|settings, authority| with_lists(settings, crl(authority, &[2], 2030)));
    assert!(
        matches!(&standing, Standing::Withdrawn(why) if why.contains("certificate revoked")),
        "{standing:?}"
    );
    let standing = judged_again(|settings, authority| with_lists(settings, crl(authority, &[], 2027)));
    assert!(matches!(&standing, Standing::Unknown(why) if why.contains("CRL has expired")), "{standing:?}");
    // A thousand years on, all of it has expired.
    let standing = judged_again(|settings, _| settings.clock = Arc::new(|| NOW + 30_000_000_000));
    assert_eq!(standing, Standing::Good);
}

/// A file of lists on a disk that hangs holds up a handshake, and not who opens it.
#[test]
fn the_lists_are_read_when_a_certificate_is_there_and_not_before() {
    struct Counting(AtomicUsize, Arc<[u8]>);
    impl CrlSource for Counting {
        fn current(&self) -> Result<Arc<[u8]>, String> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Arc::clone(&self.1))
        }
    }
    let mut both = both();
    let source = Arc::new(Counting(AtomicUsize::new(0), crl(&both.authority, &[], 2030).into()));
    both.server.peer.revocation = Some(Revocation::Lists(Arc::clone(&source) as Arc<dyn CrlSource>));
    let mut pair = Pair::open(both.client, both.server);
    assert_eq!(source.0.load(Ordering::Relaxed), 0);
    pair.run();
    assert!(pair.server.identity().is_some());
    assert_eq!(source.0.load(Ordering::Relaxed), 1);
}
