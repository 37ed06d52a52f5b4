use culvert_proto::tls::{RustlsFactory, TlsError, TlsSettings, TlsVersion};

use crate::{pair::Pair, pki::both};

fn setup_error(settings: TlsSettings) -> String {
    match RustlsFactory::new(settings) {
        Err(TlsError::Setup(text)) => text,
        other => panic!("{:?}", other.err()),
    }
}

fn suites_of(list: &str) -> Result<String, String> {
    let mut both = both();
    both.client.cipher_list = Some(list.to_owned());
    both.client.version_max = TlsVersion::V1_2;
    match RustlsFactory::new(both.client.clone()) {
        Err(error) => Err(error.to_string()),
        Ok(_) => {
            let mut pair = Pair::open(both.client, both.server);
            pair.run();
            Ok(pair.client.description())
        }
    }
}

#[test]
fn openssl_expressions_choose_suites() {
    for (list, expected) in [
        ("DEFAULT:!EXP:!LOW:!MEDIUM", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("ECDHE+AESGCM:!AES256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("HIGH:!aNULL:!AESGCM", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("ALL:-AES256:@SECLEVEL=2", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        (
            "TLS-DHE-RSA-WITH-AES-256-GCM-SHA384:TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ] {
        let description = suites_of(list).unwrap();
        assert!(description.contains(expected), "{list}: {description}");
    }
}

#[test]
fn an_empty_choice_of_suites_is_an_error() {
    for list in ["TLS-DHE-RSA-WITH-AES-256-CBC-SHA", "HIGH:!ECDHE", "kRSA"] {
        let error = suites_of(list).unwrap_err();
        assert!(error.contains(&format!("no usable cipher suite in `tls-cipher {list}`")), "{error}");
    }
}

#[test]
fn a_list_without_a_known_suite_leaves_tls_1_3_alone() {
    let mut both = both();
    both.client.cipher_list =
        Some("TLS-DHE-RSA-WITH-AES-256-CBC-SHA:TLS-RSA-WITH-AES-256-CBC-SHA".to_owned());
    let factory = RustlsFactory::new(both.client.clone()).unwrap();
    let [last] = factory.warnings() else { panic!("{:?}", factory.warnings()) };
    assert!(
        last.contains("no usable cipher suite in `tls-cipher ") && last.contains("without TLS 1.3"),
        "{last}"
    );
    let old_server = {
        let mut settings = both.server.clone();
        settings.version_max = TlsVersion::V1_2;
        settings
    };
    let mut pair = Pair::open(both.client.clone(), both.server);
    pair.run();
    assert!(pair.client.description().starts_with("TLSv1.3"), "{}", pair.client.description());
    let mut pair = Pair::open(both.client, old_server);
    pair.run();
    assert!(pair.server_error.is_some());
}

#[test]
fn unknown_names_are_warned_about() {
    let mut settings = both().client;
    settings.cipher_list = Some("TLS-DHE-RSA-WITH-AES-256-GCM-SHA384:kRSA:DEFAULT".to_owned());
    settings.cipher_suites = Some("TLS_AES_128_CCM_SHA256:TLS_AES_256_GCM_SHA384".to_owned());
    settings.groups = Some("brainpoolP256r1:?unheard:X25519".to_owned());
    settings.peer.require_usual_usages_of(culvert_proto::tls::TlsRole::Server);
    let factory = RustlsFactory::new(settings).unwrap();
    let warnings = factory.warnings();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    let list = "no TLS 1.2 cipher suite here matches `TLS-DHE-RSA-WITH-AES-256-GCM-SHA384`, `kRSA`; ignored";
    assert!(warnings.iter().any(|warning| warning.contains(list)), "{warnings:?}");
    assert!(warnings.contains(&"Warning: unknown curve/group specified: brainpoolP256r1".to_owned()));
}

#[test]
fn old_versions_are_refused_or_raised() {
    let mut settings = both().client;
    settings.version_max = TlsVersion::V1_1;
    settings.version_min = TlsVersion::V1_0;
    assert!(setup_error(settings).contains("tls-version-max below 1.2"));

    let mut settings = both().client;
    settings.version_min = TlsVersion::V1_0;
    let factory = RustlsFactory::new(settings).unwrap();
    assert!(factory.warnings()[0].contains("tls-version-min below 1.2"));
}

#[test]
fn a_minimum_above_the_maximum_is_refused_unless_or_highest() {
    let mut settings = both().client;
    (settings.version_min, settings.version_max) = (TlsVersion::V1_3, TlsVersion::V1_2);
    assert!(setup_error(settings.clone()).contains("above tls-version-max"));
    settings.version_min_or_highest = true;
    assert!(RustlsFactory::new(settings).is_ok());
}

#[test]
fn no_version_in_common_is_said_plainly() {
    let mut both = both();
    both.client.version_max = TlsVersion::V1_2;
    both.server.version_min = TlsVersion::V1_3;
    let mut pair = Pair::open(both.client, both.server);
    pair.run();
    let error = pair.server_error.unwrap().to_string();
    assert!(error.contains("no TLS version in common"), "{error}");
    assert!(pair.client_error.unwrap().to_string().contains("protocol version"));
}

#[test]
fn nothing_to_trust_is_refused() {
    let mut both = both();
    (both.client.ca, both.server.ca) = (None, None);
    assert!(setup_error(both.client).contains("peer-fingerprint"));
    assert!(setup_error(both.server).contains("peer-fingerprint"));
}

#[test]
fn a_server_without_certificate_is_refused() {
    let mut settings = both().server;
    settings.own = None;
    assert!(setup_error(settings).contains("set `cert FILE` and `key FILE`"));
}

#[test]
fn the_named_library_versions_are_the_locked_ones() {
    let lock = include_str!("../../../../Cargo.lock");
    for library in culvert_proto::tls::LIBRARY_VERSIONS.split(", ") {
        let (name, version) = library.split_once(' ').unwrap();
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")), "{library}");
    }
}
