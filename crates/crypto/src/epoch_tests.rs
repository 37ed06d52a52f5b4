use std::collections::BTreeSet;

use culvert_testkit::vectors::{Vector, numbers, vector};

use super::*;

fn first() -> DirectionKey {
    DirectionKey { secret: [0x5A; 32], implicit_iv: [0; 8] }
}

fn opener(window: u16) -> EpochOpener {
    EpochOpener::new(CipherName::Aes128Gcm, &first(), window).unwrap()
}

fn epoch(raw: u64) -> EpochId {
    EpochId::new(u16::try_from(raw).unwrap()).unwrap()
}

fn knows(opener: &EpochOpener, raw: u64) -> bool {
    EpochId::new(u16::try_from(raw).unwrap()).is_some_and(|epoch| opener.find(epoch).is_some())
}

#[test]
fn an_epoch_gives_the_known_data_key() {
    let v = vector("epoch_data_key_derive");
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(&v.input_hex("epoch_key_hex"));
    let cipher: CipherName = v.input_str("cipher").parse().unwrap();
    let key = EpochSecret { epoch: epoch(v.input_u64("epoch")), secret: secret.clone() }.key(cipher).unwrap();
    assert_eq!(key.iv.to_vec(), v.expected_hex("implicit_iv_hex"));
    // The library does not give keys back: what it encrypts tells.
    let expected = aead_key(cipher, &v.expected_hex("key_hex")).unwrap();
    let (mut a, mut b, mut tag_a, mut tag_b) = ([1; 40], [1; 40], [0; 16], [0; 16]);
    key.seal_in_place(1, b"aad", &mut a, &mut tag_a).unwrap();
    seal_in_place(&expected, key.nonce(1).unwrap(), b"aad", &mut b, &mut tag_b).unwrap();
    assert_eq!((a, tag_a), (b, tag_b));
}

#[test]
fn the_chain_and_the_nonce_have_the_known_values() {
    let v = vector("data_v2_aead_epoch_full_packet");
    let mut first = first();
    first.secret.copy_from_slice(&v.input_hex("E1_hex"));
    let mut secret = EpochSecret::first(&first);
    while secret.epoch.get() < 4 {
        secret = secret.next().unwrap();
    }
    assert_eq!(secret.secret.to_vec(), v.input_hex("E4_hex"));
    let key = secret.key(CipherName::Aes256Gcm).unwrap();
    assert_eq!(key.iv.to_vec(), v.expected_hex("implicit_iv_epoch4_hex"));
    assert_eq!(key.nonce(1).unwrap().to_vec(), v.expected_hex("nonce_hex"));
}

fn check_window(opener: &EpochOpener, expected: &serde_json::Value) {
    for known in numbers(&expected["known"]) {
        assert!(knows(opener, known), "{known} should be known");
    }
    for unknown in numbers(&expected["unknown"]) {
        assert!(!knows(opener, unknown), "{unknown} should be unknown");
    }
}

#[test]
fn the_receive_window_is_retiring_current_and_future() {
    let v: Vector = vector("epoch_receive_window");
    let mut opener = opener(u16::try_from(v.input_u64("future_keys")).unwrap());
    check_window(&opener, &v.expected()["initial"]);
    opener.advance_to(epoch(7)).unwrap();
    check_window(&opener, &v.expected()["after_receiving_epoch_7"]);
    opener.advance_to(epoch(8)).unwrap();
    check_window(&opener, &v.expected()["after_receiving_epoch_8"]);
}

#[test]
fn send_and_receive_rotate_as_in_the_known_sequence() {
    let v = vector("epoch_rotation");
    let after = v.expected()["after"].as_array().unwrap();
    let mut opener = opener(13);
    let mut sealer = EpochSealer::new(CipherName::Aes128Gcm, &first()).unwrap();
    let mut states = after.iter();
    for step in v.inputs()["steps"].as_array().unwrap() {
        match step.as_str().unwrap() {
            "iterate send x4" => {
                for _ in 0..4 {
                    sealer.advance().unwrap();
                }
            }
            "iterate send" => {
                sealer.advance().unwrap();
            }
            receive => {
                let to = epoch(receive.strip_prefix("recv ").unwrap().parse().unwrap());
                opener.advance_to(to).unwrap();
                sealer.follow(to).unwrap();
            }
        }
        let state = states.next().unwrap();
        let number = |field: &str| state[field].as_u64();
        assert!(number("encrypt").is_none_or(|e| epoch(e) == sealer.key().epoch()), "{step}");
        assert!(number("decrypt").is_none_or(|e| epoch(e) == opener.current()), "{step}");
        assert!(number("retiring").is_none_or(|e| Some(epoch(e)) == opener.retiring()), "{step}");
    }
    assert!(states.next().is_none());
}

#[test]
fn epochs_near_the_end_are_refused() {
    let v = vector("epoch_overflow");
    let window = u16::try_from(v.input_u64("future_keys")).unwrap();
    let highest = v.expected_u64("highest_acceptable_epoch");
    let mut opener = opener(window);
    while u64::from(opener.current().get()) < highest {
        let next = u64::from(opener.current().get()) + u64::from(window);
        opener.advance_to(epoch(next.min(highest))).unwrap();
    }
    assert!(!knows(&opener, highest + 1));
    assert_eq!(opener.advance_to(epoch(highest + 1)), Err(CryptoError::Epoch));
}

#[test]
fn sec_off_6_a_jump_by_the_whole_window_is_taken_and_one_more_is_not() {
    for (jump, taken) in [(3, true), (4, true), (5, false)] {
        let mut opener = opener(FUTURE_EPOCHS);
        assert_eq!(opener.advance_to(epoch(1 + jump)).is_ok(), taken, "jump of {jump}");
        assert_eq!(opener.current(), epoch(if taken { 1 + jump } else { 1 }));
    }
}

#[test]
fn the_current_and_the_retiring_epoch_are_not_advanced_to() {
    let mut opener = opener(FUTURE_EPOCHS);
    opener.advance_to(epoch(2)).unwrap();
    assert_eq!(opener.advance_to(epoch(2)), Err(CryptoError::Epoch));
    assert_eq!(opener.advance_to(epoch(1)), Err(CryptoError::Epoch));
    assert_eq!((opener.current(), opener.retiring()), (epoch(2), Some(epoch(1))));
}

#[test]
fn sec_data_2_following_a_lower_or_equal_epoch_derives_nothing() {
    let mut sealer = EpochSealer::new(CipherName::Aes128Gcm, &first()).unwrap();
    sealer.advance().unwrap();
    let key = Arc::clone(sealer.key());
    assert!(!sealer.follow(epoch(1)).unwrap());
    assert!(!sealer.follow(epoch(2)).unwrap());
    assert!(Arc::ptr_eq(&key, sealer.key()));
}

#[test]
fn sec_data_2_no_two_epochs_share_an_iv() {
    let mut sealer = EpochSealer::new(CipherName::Aes128Gcm, &first()).unwrap();
    let mut seen = BTreeSet::from([sealer.key().iv]);
    for _ in 0..1000 {
        assert!(seen.insert(sealer.advance().unwrap().iv));
    }
}

#[test]
fn the_last_epoch_is_final() {
    let mut sealer = EpochSealer::new(CipherName::Aes128Gcm, &first()).unwrap();
    sealer.secret.epoch = EpochId::new(u16::MAX).unwrap();
    assert_eq!(sealer.advance().err(), Some(CryptoError::Epoch));
}

#[test]
fn counters_outside_of_48_bits_are_refused() {
    let sealer = EpochSealer::new(CipherName::Aes128Gcm, &first()).unwrap();
    let (mut data, mut tag) = ([0; 4], [0; 16]);
    for counter in [0, 1 << 48, u64::MAX] {
        let sealed = sealer.key().seal_in_place(counter, &[], &mut data, &mut tag);
        assert!(matches!(sealed, Err(CryptoError::Counter(_))), "{counter}");
    }
    sealer.key().seal_in_place((1 << 48) - 1, &[], &mut data, &mut tag).unwrap();
}
