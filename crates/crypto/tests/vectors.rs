//! Known answers that concern this crate, and the list of who proves which of the others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use culvert_crypto::{
    AuthDigest, AuthToken, AuthTokenKey, CookieKey, CryptoError, DataFormat, DataKey, DirectionKey,
    EpochSealer, KeyMaterial, MacKey, Opener, Sealer, TlsCryptV2ServerKey, TlsRole, TokenUser, expand_label,
    hkdf_expand_sha256, tls1_prf, usage,
};
use culvert_testkit::vectors::{Vector, names, numbers, vector};
use culvert_wire::{CipherName, DataV2, DataV2Epoch, EpochId, KeyId, PacketId};

/// Each vector and the file where it is a test.
const CLAIMS: &[(&str, &str)] = &[
    ("tls1_prf", "crypto/tests/vectors.rs"),
    ("tls1_prf_selftest", "crypto/tests/vectors.rs"),
    ("hmac_sha1", "crypto/tests/vectors.rs"),
    ("hkdf_expand_sha256_a1", "crypto/tests/vectors.rs"),
    ("hkdf_expand_sha256_a2", "crypto/tests/vectors.rs"),
    ("hkdf_expand_sha256_a3", "crypto/tests/vectors.rs"),
    ("hkdf_expand_ovpn_label_raw", "crypto/tests/vectors.rs"),
    ("ovpn_expand_label", "crypto/tests/vectors.rs"),
    ("epoch_data_key_derive", "crypto/src/epoch_tests.rs"),
    ("data_v2_aead_legacy_full_packet", "crypto/tests/vectors.rs"),
    ("data_v2_aead_epoch_full_packet", "crypto/tests/vectors.rs"),
    ("static_key_v1", "proto/src/static_key_tests.rs"),
    ("tls_auth_client_reset", "proto/src/wrap_tests.rs"),
    ("tls_auth_client_control", "proto/src/wrap_tests.rs"),
    ("tls_crypt_client_reset", "proto/src/wrap_tests.rs"),
    ("packet_client_reset_v2_none", "wire/tests/vectors.rs"),
    ("packet_client_control_with_ack", "wire/tests/vectors.rs"),
    ("packet_client_ack_none_random_id", "wire/tests/vectors.rs"),
    ("packet_client_ack_123_none_random_id", "wire/tests/vectors.rs"),
    ("packet_client_control_none_random_id", "wire/tests/vectors.rs"),
    ("siphash_2_4_128", "crypto/tests/vectors.rs"),
    ("session_id_cookie_linux_le", "crypto/tests/vectors.rs"),
    ("session_id_cookie_window", "proto/src/cookie_tests.rs"),
    ("tls_crypt_v2_client_key_timestamp", "crypto/tests/vectors.rs"),
    ("tls_crypt_v2_client_key_user_metadata", "crypto/tests/vectors.rs"),
    ("tls_crypt_v2_limits", "crypto/tests/vectors.rs"),
    ("dynamic_tls_crypt_wrap", "crypto/tests/vectors.rs"),
    ("auth_token_zero_key", "crypto/tests/vectors.rs"),
    ("auth_token_random_key", "crypto/tests/vectors.rs"),
    ("auth_token_expiry", "crypto/tests/vectors.rs"),
    ("aead_limits", "crypto/tests/vectors.rs"),
    ("occ_link_mtu", "proto/src/options_string.rs"),
    ("mssfix", "daemon/src/settings/mss.rs"),
    ("mssfix_default_observed", "daemon/src/settings/mss.rs"),
    ("ncp_cipher_list_normalise", "config/src/cipher_list.rs"),
    ("ncp_peer_list", "proto/src/peer_info.rs"),
    ("ncp_best_cipher", "proto/src/negotiate/tests.rs"),
    ("ncp_default_expansion", "config/src/cipher_list.rs"),
    ("packet_id_epoch_encoding", "wire/tests/vectors.rs"),
    ("packet_id_encoding", "proto/src/wrap_tests.rs"),
    ("ack_mru", "proto/src/reliable_tests.rs"),
    ("reliable_window_available", "proto/src/reliable_tests.rs"),
    ("epoch_receive_window", "crypto/src/epoch_tests.rs"),
    ("epoch_rotation", "crypto/src/epoch_tests.rs"),
    ("epoch_overflow", "crypto/src/epoch_tests.rs"),
    ("occ_compat_lzo", "proto/src/options_string.rs"),
    ("auth_failed_temp", "proto/src/control_message.rs"),
    ("control_message_split", "proto/src/control_message.rs"),
    ("push_update_parse", "config/src/update.rs"),
    ("push_update_split", "proto/src/push.rs"),
];

#[test]
fn every_vector_is_claimed_by_a_test_that_names_it() {
    let known: Vec<_> = names().collect();
    for name in &known {
        assert!(CLAIMS.iter().any(|claim| claim.0 == *name), "no test claims the vector {name}");
    }
    let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (name, file) in CLAIMS {
        assert!(known.contains(name), "a test claims {name}, which is no vector");
        let text =
            std::fs::read_to_string(crates.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        // Once more than in this list, where the list is in the same file.
        let uses = text.matches(name).count();
        let listed = usize::from(*file == "crypto/tests/vectors.rs");
        assert!(uses > listed, "{file} has no test with the vector {name}");
    }
}

#[test]
fn the_prf_of_tls_1_0_gives_the_known_output() {
    for name in ["tls1_prf", "tls1_prf_selftest"] {
        let v = vector(name);
        let mut out = vec![0; usize::try_from(v.input_u64("out_len")).unwrap()];
        let (secret, seed) = (v.input_str("secret_ascii"), v.input_str("label_and_seed_ascii"));
        tls1_prf(secret.as_bytes(), &[seed.as_bytes()], &mut out);
        assert_eq!(out, v.expected_hex("out_hex"), "{name}");
        let (label, rest) = seed.split_at(5);
        tls1_prf(secret.as_bytes(), &[label.as_bytes(), rest.as_bytes()], &mut out);
        assert_eq!(out, v.expected_hex("out_hex"), "{name}, seed in two parts");
    }
}

#[test]
fn hmac_sha1_gives_the_known_output() {
    let v = vector("hmac_sha1");
    let message = v.input_str("message_ascii_repeated_twice").as_bytes();
    let key = MacKey::new(AuthDigest::Sha1, &v.input_hex("key_hex"));
    let mac = key.mac([message, message]);
    assert_eq!(mac.as_bytes(), v.expected_hex("mac_hex"));
    key.verify([message, message], mac.as_bytes()).unwrap();
    assert_eq!(key.verify([message], mac.as_bytes()), Err(CryptoError::Authentication));
}

#[test]
fn hkdf_expand_gives_the_known_output() {
    for name in [
        "hkdf_expand_sha256_a1",
        "hkdf_expand_sha256_a2",
        "hkdf_expand_sha256_a3",
        "hkdf_expand_ovpn_label_raw",
    ] {
        let v = vector(name);
        let mut out = vec![0; usize::try_from(v.input_u64("out_len")).unwrap()];
        hkdf_expand_sha256(&v.input_hex("prk_hex"), &[&v.input_hex("info_hex")], &mut out).unwrap();
        assert_eq!(out, v.expected_hex("okm_hex"), "{name}");
    }
}

#[test]
fn expand_label_gives_the_known_output() {
    let v = vector("ovpn_expand_label");
    let mut out = [0; 16];
    expand_label(&v.input_hex("secret_hex"), v.input_str("label_ascii"), &mut out).unwrap();
    assert_eq!(out.to_vec(), v.expected_hex("out_hex"));
}

/// The keys of a direction, out of a vector's key material where both directions use `keys[0]`.
fn first_half(material: &KeyMaterial, cipher: CipherName) -> DirectionKey {
    match material.data_key(TlsRole::Client, cipher, DataFormat::Classic, KeyId::FIRST).unwrap() {
        DataKey::Classic { send, .. } => send,
        DataKey::Epoch { .. } | DataKey::Legacy(_) => panic!("a classic key was asked for"),
    }
}

#[test]
fn a_classic_data_packet_has_the_known_bytes() {
    let v = vector("data_v2_aead_legacy_full_packet");
    let material = KeyMaterial::from_slice(&v.input_hex("key2_hex")).unwrap();
    let cipher = CipherName::Aes256Gcm;
    let sealer = Sealer::new(cipher, &first_half(&material, cipher)).unwrap();
    let mut payload = v.input_str("plaintext_ascii").as_bytes().to_vec();
    // The vector's header is not one of a real packet (opcode 0): only its bytes count.
    let mut packet = v.input_hex("header_4_bytes_hex");
    packet.extend(1_u32.to_be_bytes());
    let (mut tag, mut apart, mut tag_apart) = ([0; 16], vec![0; payload.len()], [0; 16]);
    sealer.seal_scatter(PacketId::FIRST, &packet, &payload, &mut apart, &mut tag_apart).unwrap();
    sealer.seal_in_place(PacketId::FIRST, &packet, &mut payload, &mut tag).unwrap();
    assert_eq!((&apart, tag_apart), (&payload, tag));
    assert_eq!(tag.to_vec(), v.expected_hex("tag_hex"));
    packet.extend(tag);
    packet.extend(payload);
    assert_eq!(packet, v.expected_hex("full_packet_hex"));
}

#[test]
fn a_classic_data_packet_opens_in_place_and_into_another_buffer() {
    let v = vector("data_v2_aead_legacy_full_packet");
    let material = KeyMaterial::from_slice(&v.input_hex("key2_hex")).unwrap();
    let cipher = CipherName::Aes256Gcm;
    let opener = Opener::new(cipher, &first_half(&material, cipher)).unwrap();
    let mut packet = v.expected_hex("full_packet_hex");
    let aad = packet[..8].to_vec();
    packet[0] = 9 << 3;
    let view = DataV2::parse(&packet).unwrap();
    let mut apart = vec![0; view.ciphertext().len()];
    opener.open_gather(view.packet_id(), &aad, view.tag(), view.ciphertext(), &mut apart).unwrap();
    assert_eq!(apart, v.input_str("plaintext_ascii").as_bytes());
    let mut in_place = view.ciphertext().to_vec();
    opener.open_in_place(view.packet_id(), &aad, view.tag(), &mut in_place).unwrap();
    assert_eq!(in_place, apart);
    let wrong_opcode = opener.open_in_place(view.packet_id(), view.aad(), view.tag(), &mut in_place);
    assert_eq!(wrong_opcode, Err(CryptoError::Authentication));
}

#[test]
fn an_epoch_data_packet_has_the_known_bytes() {
    let v = vector("data_v2_aead_epoch_full_packet");
    let mut first = DirectionKey { secret: [0; 32], implicit_iv: [0; 8] };
    first.secret.copy_from_slice(&v.input_hex("E1_hex"));
    let mut sealer = EpochSealer::new(CipherName::Aes256Gcm, &first).unwrap();
    assert!(sealer.follow(EpochId::new(4).unwrap()).unwrap());
    let mut packet = v.input_hex("header_4_bytes_hex");
    packet.extend(culvert_wire::data::epoch_packet_id(sealer.key().epoch(), 1).unwrap());
    let mut payload = v.input_str("plaintext_ascii").as_bytes().to_vec();
    let mut tag = [0; 16];
    sealer.key().seal_in_place(1, &packet, &mut payload, &mut tag).unwrap();
    packet.extend(payload);
    packet.extend(tag);
    assert_eq!(packet, v.expected_hex("full_packet_hex"));
    let aad = packet[..12].to_vec();
    packet[0] = 9 << 3;
    let view = DataV2Epoch::parse(&packet).unwrap();
    let mut plain = vec![0; view.ciphertext().len()];
    sealer.key().open_gather(view.counter(), &aad, view.tag(), view.ciphertext(), &mut plain).unwrap();
    assert_eq!(plain, v.input_str("plaintext_ascii").as_bytes());
}

#[test]
fn siphash_gives_the_known_128_bit_output() {
    use siphasher::sip128::{Hasher128 as _, SipHasher24};
    use std::hash::Hasher as _;
    let v = vector("siphash_2_4_128");
    let key: [u8; 16] = v.input_hex("key_hex").try_into().unwrap();
    let mut hasher = SipHasher24::new_with_key(&key);
    hasher.write(v.input_str("message_ascii").as_bytes());
    assert_eq!(hasher.finish128().as_bytes().to_vec(), v.expected_hex("out_hex"));
}

#[test]
fn a_cookie_over_openvpns_layout_is_openvpns_cookie() {
    let v = vector("session_id_cookie_linux_le");
    let key = CookieKey::new(v.input_hex("siphash_key_hex").try_into().unwrap());
    let bytes = v.input_hex("hashed_bytes_hex");
    let (front, back) = bytes.split_at(7);
    assert_eq!(key.mac(&[front, back]).to_vec(), v.expected_hex("server_session_id_hex"));
}

fn client_key_vector(name: &str) -> (Vector, TlsCryptV2ServerKey, Vec<u8>) {
    let v = vector(name);
    let server = TlsCryptV2ServerKey::from_slice(&v.input_hex("server_key_hex")).unwrap();
    let file = STANDARD.decode(v.input_str("client_key_file_payload_base64")).unwrap();
    (v, server, file)
}

#[test]
fn wrapped_client_keys_unwrap_and_wrap_to_the_same_bytes() {
    for name in ["tls_crypt_v2_client_key_timestamp", "tls_crypt_v2_client_key_user_metadata"] {
        let (v, server, file) = client_key_vector(name);
        let (kc, wkc) = file.split_at(KeyMaterial::LEN);
        assert_eq!(kc, v.expected_hex("Kc_hex"), "{name}");
        assert_eq!(wkc.len() as u64, v.expected_u64("wkc_len"), "{name}");
        assert_eq!(&wkc[..32], v.expected_hex("wkc_tag_hex"), "{name}");
        let client = server.unwrap(wkc).unwrap();
        assert_eq!(client.key.as_bytes()[..], *kc, "{name}");
        assert_eq!(client.metadata, v.expected_hex("metadata_hex"), "{name}");
        assert_eq!(server.wrap(&client.key, &client.metadata).unwrap(), wkc, "{name}");
    }
}

#[test]
fn a_wrapped_client_key_with_one_wrong_bit_does_not_unwrap() {
    let (_, server, file) = client_key_vector("tls_crypt_v2_client_key_user_metadata");
    let wkc = &file[KeyMaterial::LEN..];
    for bit in 0..wkc.len() * 8 {
        let mut wrong = wkc.to_vec();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(server.unwrap(&wrong).is_err(), "bit {bit}");
    }
}

#[test]
fn tls_crypt_v2_has_the_known_limits() {
    let v = vector("tls_crypt_v2_limits");
    assert_eq!(TlsCryptV2ServerKey::MAX_WKC as u64, v.expected_u64("max_wkc_len"));
    assert_eq!(KeyMaterial::LEN as u64, v.expected_u64("client_key_len"));
    assert_eq!(TlsCryptV2ServerKey::LEN as u64, v.expected_u64("server_key_len"));
    assert_eq!(culvert_crypto::TLS_CRYPT_TAG_LEN as u64, v.expected_u64("tag_len"));
    assert_eq!(TlsCryptV2ServerKey::MAX_METADATA as u64, v.expected_u64("max_metadata_len"));
    assert_eq!(TlsCryptV2ServerKey::MIN_WKC as u64, v.expected_u64("min_wkc_len_no_metadata"));
    let server = TlsCryptV2ServerKey::from_slice(&[1; 128]).unwrap();
    let key = KeyMaterial::from_slice(&[2; 256]).unwrap();
    assert_eq!(server.wrap(&key, &[0; 734]).unwrap().len(), 1024);
    assert!(server.wrap(&key, &[0; 735]).is_err());
}

#[test]
fn dynamic_tls_crypt_mixes_the_configured_key_in() {
    let v = vector("dynamic_tls_crypt_wrap");
    let wrap = |base: Option<u8>| {
        let mut key = KeyMaterial::from_slice(&[0xBA; 256]).unwrap();
        if let Some(byte) = base {
            key.xor(&KeyMaterial::from_slice(&[byte; 256]).unwrap());
        }
        let (send, _) = key.tls_crypt(TlsRole::Server).unwrap();
        let id = [0, 0, 0, 1, 0, 0, 0, 0];
        let mut body = v.input_str("plaintext_ascii").as_bytes().to_vec();
        let tag = send.seal(&[&id], &mut body).unwrap();
        [&id[..], &tag, &body].concat()
    };
    assert_eq!(wrap(None), v.expected_hex("wrapped_hex"));
    assert_eq!(wrap(Some(0)), v.expected_hex("wrapped_hex"));
    let other = wrap(Some(0x42));
    assert_eq!(other[..8], v.expected_hex("wrapped_hex")[..8]);
    assert_ne!(other[8..], v.expected_hex("wrapped_hex")[8..]);
}

fn check_token(v: Vector, key: &AuthTokenKey) {
    let (user, text) = (v.input_str("username"), v.input_str("token"));
    let (token, owner) = key.verify(user, text).unwrap();
    assert_eq!(owner, TokenUser::Named);
    assert_eq!(token.session_id.to_vec(), v.expected_hex("session_id_hex"));
    assert_eq!(token.initial, v.expected_u64("initial_time"));
    assert_eq!(token.renewed, v.expected_u64("renewal_time"));
    assert_eq!(key.issue(user, &token), text);
    assert_eq!(key.verify("another user", text), Err(CryptoError::Authentication));
}

#[test]
fn tokens_of_other_servers_verify_under_their_key() {
    let v = vector("auth_token_zero_key");
    assert_eq!(v.input_hex("hmac_key_hex"), [0; 32]);
    check_token(v, &AuthTokenKey::from_secret(&[0; 128]).unwrap());
    let v = vector("auth_token_random_key");
    let secret = STANDARD.decode(v.input_str("secret_file_payload_base64")).unwrap();
    check_token(v, &AuthTokenKey::from_secret(&secret[..128]).unwrap());
}

#[test]
fn a_token_for_the_empty_user_is_accepted_for_any() {
    let key = AuthTokenKey::from_secret(&[3; 128]).unwrap();
    let text = key.issue("", &AuthToken { session_id: [1; 12], initial: 5, renewed: 6 });
    assert_eq!(key.verify("somebody", &text).unwrap().1, TokenUser::Empty);
}

#[test]
fn sec_auth_3_a_token_with_one_wrong_bit_does_not_verify() {
    let key = AuthTokenKey::from_secret(&[3; 128]).unwrap();
    let text = key.issue("user", &AuthToken { session_id: [1; 12], initial: 5, renewed: 6 });
    let (prefix, encoded) = text.split_at(culvert_crypto::AUTH_TOKEN_PREFIX.len());
    let bytes = STANDARD.decode(encoded).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut wrong = bytes.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let wrong = format!("{prefix}{}", STANDARD.encode(wrong));
        assert_eq!(key.verify("user", &wrong), Err(CryptoError::Authentication), "bit {bit}");
    }
}

#[test]
fn a_token_expires_by_renewal_and_by_lifetime() {
    let v = vector("auth_token_expiry");
    let (initial, renewal, lifetime) =
        (v.input_u64("initial_time"), v.input_u64("renewal"), v.input_u64("lifetime"));
    let token = |renewed| AuthToken { session_id: [1; 12], initial, renewed };
    for now in numbers(&v.expected()["valid_at"]) {
        assert!(token(initial).is_valid_at(now, renewal, lifetime), "at {now}");
    }
    for now in numbers(&v.expected()["expired_at"]) {
        assert!(!token(initial).is_valid_at(now, renewal, lifetime), "at {now}");
    }
    let end = initial + lifetime;
    assert!(token(end - 10).is_valid_at(end, renewal, lifetime));
    assert!(!token(end - 10).is_valid_at(end + 1, renewal, lifetime));
    assert!(token(end - 10).is_valid_at(end + 1, renewal, 0));
    assert!(!token(initial - 1).is_valid_at(initial, renewal, lifetime));
}

#[test]
fn aead_keys_have_the_known_limits() {
    let v = vector("aead_limits");
    let limit = usage::usage_limit(CipherName::Aes256Gcm).unwrap();
    assert_eq!(limit, v.expected_u64("AES-GCM_limit_q_plus_s"));
    assert_eq!(v.expected_u64("CHACHA20-POLY1305"), 0);
    assert_eq!(usage::usage_limit(CipherName::ChaCha20Poly1305), None);
    assert_eq!(limit / 101, v.expected_u64("packets_at_101_units"));
    assert_eq!(limit / 563, v.expected_u64("packets_at_563_units"));
    assert_eq!(usage::usage_of(1600), 101);
    assert_eq!(usage::usage_of(1601), 102);
    assert_eq!(usage::GCM_RENEGOTIATE, v.expected_u64("legacy_reneg_trigger_7_8"));
}
