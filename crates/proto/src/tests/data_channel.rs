use std::time::Duration;

use culvert_wire::CipherName;

use super::pair::{Pair, Setup};
use crate::CloseReason;

fn with_peer_info(lines: &[(&str, &str)]) -> Setup {
    let mut setup = Setup::new();
    setup.client.peer_info = lines.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    setup
}

#[test]
fn a_modern_pair_uses_the_epoch_format_and_the_exporter() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    let params = pair.at_client.params.as_ref().unwrap();
    assert!(params.flags.aead_epoch && params.flags.tls_ekm && params.data_v2);
    assert!(pair.at_client.offload.primary.as_ref().unwrap().epoch);
    pair.assert_data_flows();
}

#[test]
fn a_client_of_2_4_gets_keys_by_the_old_derivation() {
    let mut pair = Pair::new(with_peer_info(&[("IV_VER", "2.4.9"), ("IV_NCP", "2"), ("IV_PROTO", "2")]));
    pair.establish();
    let params = pair.at_server.params.as_ref().unwrap();
    assert!(!params.flags.tls_ekm && params.data_v2);
    assert_eq!(params.cipher, Some(CipherName::Aes256Gcm));
    pair.assert_data_flows();
}

#[test]
fn a_client_without_negotiation_gets_data_v1_and_its_own_cipher() {
    let mut setup = with_peer_info(&[]);
    setup.client.options.local =
        setup.client.options.local.replace("auth SHA1", "cipher AES-128-GCM,auth SHA1");
    setup.client.data.fallback = Some(CipherName::Aes128Gcm);
    let mut pair = Pair::new(setup);
    pair.establish();
    let params = pair.at_server.params.as_ref().unwrap();
    assert_eq!((params.cipher, params.data_v2), (Some(CipherName::Aes128Gcm), false));
    assert_eq!(pair.at_client.params.as_ref().unwrap().peer_id, None);
    pair.assert_data_flows();
}

#[test]
fn no_common_cipher_is_told_to_the_client() {
    let mut setup = with_peer_info(&[("IV_CIPHERS", "AES-192-GCM"), ("IV_PROTO", "990")]);
    setup.client.data.ciphers = vec![CipherName::Aes192Gcm];
    let mut pair = Pair::new(setup);
    pair.run_for(Duration::from_secs(10));
    assert_eq!(pair.at_server.closed, Some(CloseReason::NoCommonCipher));
    let Some(CloseReason::AuthFailed(failure)) = &pair.at_client.closed else { panic!() };
    assert_eq!(failure.reason.as_deref(), Some("Data channel cipher negotiation failed (no shared cipher)"));
}

#[test]
fn a_cipher_that_the_client_did_not_offer_is_refused_by_it() {
    let mut setup = Setup::new();
    setup.client.data.ciphers = vec![CipherName::Aes192Gcm];
    let mut pair = Pair::new(setup);
    pair.run_for(Duration::from_secs(10));
    assert_eq!(pair.at_client.closed, Some(CloseReason::NoCommonCipher));
    assert!(pair.at_client.offload.primary.is_none());
}

#[test]
fn differences_of_options_are_logged_and_harmless() {
    // trap 21
    let mut setup = Setup::new();
    setup.client.options.local = setup.client.options.local.replace("tun-mtu 1500", "tun-mtu 1400");
    let mut pair = Pair::new(setup);
    pair.establish();
    assert!(
        pair.at_server.has_line(
            "WARNING: 'tun-mtu' is used inconsistently, local='tun-mtu 1500', remote='tun-mtu 1400'"
        )
    );
}

#[test]
fn a_client_with_compression_is_answered_as_if_we_had_it() {
    let mut setup = Setup::new();
    setup.client.options.local = setup.client.options.local.replace("proto UDPv4,", "proto UDPv4,comp-lzo,");
    setup.server.check_options = false;
    let mut pair = Pair::new(setup);
    pair.establish();
    let options = &pair.at_client.params.as_ref().unwrap().peer_options;
    assert!(options.contains("link-mtu 1542,") && options.ends_with(",comp-lzo"), "{options}");
}
