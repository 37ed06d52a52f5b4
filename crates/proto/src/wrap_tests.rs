use std::time::{Duration, Instant};

use culvert_testkit::vectors::{hex, vector};
use culvert_wire::{AckBlock, MessageId, SessionId};
use proptest::prelude::*;

use super::*;
use crate::static_key::generate_static_key;

fn now(unix: u32) -> Now {
    Now { mono: Instant::now(), unix }
}

fn vector_key() -> KeyMaterial {
    KeyMaterial::from_slice(&vector("static_key_v1").input_hex("hex_2048_bits")).unwrap()
}

fn control<'a>(opcode: Opcode, key: u8, payload: &'a [u8]) -> Control<'a> {
    Control {
        header: ControlHeader {
            opcode,
            key_id: KeyId::new(key).unwrap(),
            session_id: SessionId::new(*b"sessions").unwrap(),
        },
        acks: AckBlock::from_iter([MessageId(3), MessageId(2)]),
        echoed: SessionId::new(*b"echoed!!"),
        message_id: Some(MessageId(4)),
        payload,
    }
}

/// Both ends of each wrapping, by name.
fn pairs() -> Vec<(&'static str, Wrapping, Wrapping)> {
    let limits = ReplayLimits::default();
    let wrapping = |keys: WrapKeys| Wrapping::new(Arc::new(keys), limits);
    let key = || vector_key();
    let auth = |digest, direction| wrapping(WrapKeys::tls_auth(key(), digest, direction));
    let crypt = |role| wrapping(WrapKeys::tls_crypt(key(), role).unwrap());
    let v2 = wrapping(WrapKeys::tls_crypt_v2_client(key(), &test_wkc()).unwrap());
    let (normal, inverse, both) = (KeyDirection::Normal, KeyDirection::Inverse, KeyDirection::Bidirectional);
    vec![
        ("tls-auth SHA1", auth(AuthDigest::Sha1, inverse), auth(AuthDigest::Sha1, normal)),
        ("tls-auth SHA512", auth(AuthDigest::Sha512, normal), auth(AuthDigest::Sha512, inverse)),
        ("tls-auth MD5, both ways", auth(AuthDigest::Md5, both), auth(AuthDigest::Md5, both)),
        ("tls-crypt", crypt(TlsRole::Client), crypt(TlsRole::Server)),
        ("tls-crypt from the server", crypt(TlsRole::Server), crypt(TlsRole::Client)),
        ("tls-crypt-v2", v2, crypt(TlsRole::Server)),
    ]
}

fn test_wkc() -> Vec<u8> {
    TlsCryptV2ServerKey::from_slice(&[9; 128]).unwrap().wrap(&vector_key(), b"\0me").unwrap()
}

fn wrap(wrapping: &mut Wrapping, packet: &Control<'_>) -> Vec<u8> {
    let mut out = [0; 2048];
    let len = wrapping.wrap(now(1_000), packet, &mut out).unwrap();
    out[..len].to_vec()
}

/// Unwraps and forgets the content.
fn accept(wrapping: &mut Wrapping, packet: &[u8]) -> Result<(), WrapError> {
    wrapping.unwrap(now(1_000), packet, &mut [0; 2048]).map(|_| ())
}

#[test]
fn a_tls_auth_client_reset_unwraps() {
    let v = vector("tls_auth_client_reset");
    let packet = v.input_hex("packet_hex");
    let keys = WrapKeys::tls_auth(vector_key(), AuthDigest::Sha1, KeyDirection::Normal);
    let (control, id) = keys.open_stateless(&packet, &mut []).unwrap();
    assert_eq!(control.header.to_bytes().to_vec(), v.expected_hex("header_hex"));
    let id = id.unwrap();
    assert_eq!(u64::from(id.packet_id), v.expected_u64("replay_id"));
    assert_eq!(u64::from(id.time), v.expected_u64("replay_time"));
    let mut body = [0; 5];
    assert_eq!(control.emit_body(&mut body), Ok(5));
    assert_eq!(body.to_vec(), v.expected_hex("body_hex"));
    let other = WrapKeys::tls_auth(vector_key(), AuthDigest::Sha1, KeyDirection::Inverse);
    assert_eq!(other.open_stateless(&packet, &mut []).err(), Some(WrapError::Authentication));
}

#[test]
fn a_tls_auth_client_hello_unwraps() {
    let v = vector("tls_auth_client_control");
    let packet = v.input_hex("packet_hex");
    let keys = WrapKeys::tls_auth(vector_key(), AuthDigest::Sha1, KeyDirection::Normal);
    let (control, id) = keys.open_stateless(&packet, &mut []).unwrap();
    assert_eq!(control.header.opcode, Opcode::ControlV1);
    assert_eq!(u64::from(id.unwrap().packet_id), v.expected_u64("replay_id"));
    assert_eq!(u64::from(id.unwrap().time), v.expected_u64("replay_time"));
    assert_eq!(control.acks.len() as u64, v.expected_u64("ack_count"));
    assert_eq!(u64::from(control.message_id.unwrap().0), v.expected_u64("message_id"));
    assert_eq!(control.payload[..3], [0x16, 3, 1]);
}

#[test]
fn a_tls_crypt_client_reset_unwraps_and_wraps_to_the_same_bytes() {
    let v = vector("tls_crypt_client_reset");
    let packet = v.input_hex("packet_hex");
    let keys = WrapKeys::tls_crypt(vector_key(), TlsRole::Server).unwrap();
    let mut scratch = [0; 64];
    let (control, id) = keys.open_stateless(&packet, &mut scratch).unwrap();
    assert_eq!(control.header.to_bytes().to_vec(), v.expected_hex("header_hex"));
    let id = id.unwrap();
    assert_eq!((id.packet_id, id.time), (1, 1_641_281_761));
    let client = WrapKeys::tls_crypt(vector_key(), TlsRole::Client).unwrap();
    let mut again = [0; 64];
    let len = client.seal_stateless(id, &control, &mut again).unwrap();
    assert_eq!(&again[..len], packet);
    let reflected = client.open_stateless(&packet, &mut [0; 64]).err();
    assert_eq!(reflected, Some(WrapError::Authentication), "a packet does not open in its own direction");
}

#[test]
fn replay_ids_count_on_and_start_again_when_the_clock_advanced() {
    let v = vector("packet_id_encoding");
    let keys = Arc::new(WrapKeys::tls_crypt(vector_key(), TlsRole::Client).unwrap());
    let mut wrapping = Wrapping::new(Arc::clone(&keys), ReplayLimits::default());
    let at = u32::try_from(v.input_u64("now")).unwrap();
    let id_of = |wrapping: &mut Wrapping, at| {
        let mut out = [0; 200];
        let packet = control(Opcode::ControlV1, 0, b"");
        wrapping.wrap(now(at), &packet, &mut out).map(|_| out[9..17].to_vec())
    };
    assert_eq!(id_of(&mut wrapping, at), Ok(v.expected_hex("long_first")));
    assert_eq!(id_of(&mut wrapping, at + 9), Ok(hex(&"0000000200001392".into())), "the time stays");
    let mut late = Wrapping::continuing(keys, ReplayLimits::default(), u32::MAX - 1);
    id_of(&mut late, at - 10).unwrap();
    assert_eq!(v.expected()["long_after_0xffffffff_same_time"], "error");
    assert_eq!(id_of(&mut late, at - 10), Err(WrapError::Exhausted));
    assert_eq!(id_of(&mut late, at), Ok(v.expected_hex("long_after_0xffffffff_time_advanced")));
    assert_eq!(id_of(&mut late, at), Ok(hex(&"0000000200001392".into())));
}

#[test]
fn what_one_end_wraps_the_other_unwraps() {
    for (name, mut a, mut b) in pairs() {
        for payload in [&b""[..], b"x", &[7; 1000]] {
            let packet = control(Opcode::ControlV1, 0, payload);
            let wrapped = wrap(&mut a, &packet);
            assert_eq!(wrapped.len(), 9 + packet.body_len() + a.overhead(KeyId::FIRST), "{name}");
            let mut scratch = [0; 2048];
            assert_eq!(b.unwrap(now(1_000), &wrapped, &mut scratch), Ok(packet), "{name}");
        }
    }
}

#[test]
fn without_wrapping_packets_travel_as_they_are() {
    let keys = Arc::new(WrapKeys::none());
    let mut wrapping = Wrapping::new(keys, ReplayLimits::default());
    let packet = control(Opcode::ControlV1, 0, b"payload");
    let wrapped = wrap(&mut wrapping, &packet);
    assert_eq!(Control::parse(&wrapped), Ok(packet));
    assert_eq!(accept(&mut wrapping, &wrapped), Ok(()));
    assert_eq!(accept(&mut wrapping, &wrapped), Ok(()), "there is no replay protection to refuse it");
}

#[test]
fn each_wrong_bit_is_seen() {
    for (name, mut a, mut b) in pairs() {
        let wrapped = wrap(&mut a, &control(Opcode::ControlV1, 0, b"payload"));
        for bit in 0..wrapped.len() * 8 {
            let mut wrong = wrapped.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(accept(&mut b, &wrong).is_err(), "{name}: bit {bit}");
        }
        for len in 0..wrapped.len() {
            assert!(accept(&mut b, &wrapped[..len]).is_err(), "{name}: cut to {len}");
        }
        assert_eq!(accept(&mut b, &wrapped), Ok(()), "{name}: forgeries moved the replay window");
    }
}

#[test]
fn a_packet_is_accepted_once() {
    for (name, mut a, mut b) in pairs() {
        let first = wrap(&mut a, &control(Opcode::ControlV1, 0, b"1"));
        let second = wrap(&mut a, &control(Opcode::ControlV1, 0, b"2"));
        assert_eq!(accept(&mut b, &second), Ok(()), "{name}");
        assert_eq!(accept(&mut b, &first), Ok(()), "{name}");
        assert_eq!(accept(&mut b, &first), Err(WrapError::Replay(Replay::Seen)), "{name}");
        assert_eq!(accept(&mut b, &second), Err(WrapError::Replay(Replay::Seen)), "{name}");
    }
}

#[test]
fn a_packet_from_an_earlier_start_of_the_peer_is_refused() {
    for (name, mut a, mut b) in pairs() {
        let mut out = [0; 2048];
        let packet = control(Opcode::ControlV1, 0, b"");
        let len = a.wrap(now(999), &packet, &mut out).unwrap();
        let old = out[..len].to_vec();
        let mut restarted = Wrapping::new(Arc::clone(a.keys()), ReplayLimits::default());
        assert_eq!(accept(&mut b, &wrap(&mut restarted, &packet)), Ok(()), "{name}");
        assert_eq!(accept(&mut b, &old), Err(WrapError::TimeBacktrack), "{name}");
    }
}

#[test]
fn a_wrapped_client_key_goes_behind_the_opcodes_that_carry_it() {
    let keys = Arc::new(WrapKeys::tls_crypt_v2_client(vector_key(), &test_wkc()).unwrap());
    let mut client = Wrapping::continuing(keys, ReplayLimits::default(), EARLY_NEGOTIATION_START);
    let mut server = Wrapping::new(
        Arc::new(WrapKeys::tls_crypt(vector_key(), TlsRole::Server).unwrap()),
        ReplayLimits::default(),
    );
    for opcode in [Opcode::HardResetClientV3, Opcode::ControlWkcV1] {
        let packet = control(opcode, 0, b"hello");
        let wrapped = wrap(&mut client, &packet);
        assert!(wrapped.ends_with(&test_wkc()));
        assert_eq!(wrapped.len(), 9 + 40 + packet.body_len() + client.keys().wkc_len());
        let mut scratch = [0; 2048];
        assert_eq!(server.unwrap(now(1_000), &wrapped, &mut scratch), Ok(packet));
    }
    let wrapped = wrap(&mut client, &control(Opcode::ControlV1, 0, b"hello"));
    assert!(!wrapped.ends_with(&test_wkc()));
}

#[test]
fn early_negotiation_is_signalled_by_the_first_packet() {
    let keys = Arc::new(WrapKeys::tls_crypt_v2_client(vector_key(), &test_wkc()).unwrap());
    let mut client = Wrapping::continuing(keys, ReplayLimits::default(), EARLY_NEGOTIATION_START);
    let wrapped = wrap(&mut client, &control(Opcode::HardResetClientV3, 0, b""));
    assert_eq!(wrapped[9..13], [0x0f, 0, 0, 1]);
    let server = WrapKeys::tls_crypt(vector_key(), TlsRole::Server).unwrap();
    let (_, id) = server.open_stateless(&wrapped, &mut [0; 2048]).unwrap();
    assert!(id.unwrap().signals_early_negotiation());
    assert!(!ReplayId { packet_id: 1, time: 5 }.signals_early_negotiation());
    assert!(!ReplayId { packet_id: 0x1f00_0001, time: 5 }.signals_early_negotiation());
}

#[test]
fn a_wrapped_client_key_without_tls_crypt_v2_is_refused() {
    let packet = [&[0x50][..], b"sessions", &[0; 400]].concat();
    for keys in [WrapKeys::none(), WrapKeys::tls_auth(vector_key(), AuthDigest::Sha1, KeyDirection::Normal)] {
        assert_eq!(keys.open_stateless(&packet, &mut [0; 500]).err(), Some(WrapError::UnexpectedWkc));
    }
    let mut plain = Wrapping::new(Arc::new(WrapKeys::none()), ReplayLimits::default());
    let sent = plain.wrap(now(1), &control(Opcode::ControlWkcV1, 0, b""), &mut [0; 2048]);
    assert_eq!(sent, Err(WrapError::UnexpectedWkc));
}

#[test]
fn dynamic_tls_crypt_wraps_renegotiations_only() {
    let mut all = pairs();
    let plain = || Wrapping::new(Arc::new(WrapKeys::none()), ReplayLimits::default());
    all.push(("none", plain(), plain()));
    for (name, mut a, mut b) in all {
        let exported = generate_static_key().unwrap();
        let a_role = if name == "tls-crypt from the server" { TlsRole::Server } else { TlsRole::Client };
        let b_role = if a_role == TlsRole::Server { TlsRole::Client } else { TlsRole::Server };
        let before = wrap(&mut a, &control(Opcode::SoftResetV1, 1, b""));
        a.enable_dynamic(exported.duplicate(), a_role);
        b.enable_dynamic(exported, b_role);
        assert_eq!(a.overhead(KeyId::new(1).unwrap()), 40, "{name}");
        let first = wrap(&mut a, &control(Opcode::ControlV1, 0, b"old key"));
        let reset = wrap(&mut a, &control(Opcode::SoftResetV1, 1, b""));
        assert_eq!(reset[9..13], [0, 0, 0, 1], "{name}: packet ids start afresh");
        assert_eq!(accept(&mut b, &first), Ok(()), "{name}");
        assert_eq!(accept(&mut b, &reset), Ok(()), "{name}");
        assert!(accept(&mut b, &reset).is_err(), "{name}: replayed");
        assert!(accept(&mut b, &before).is_err(), "{name}: the old wrapping for a renegotiation");
    }
}

#[test]
fn the_configured_key_protects_dynamic_tls_crypt_too() {
    let exported = generate_static_key().unwrap();
    let other = Arc::new(WrapKeys::tls_crypt(generate_static_key().unwrap(), TlsRole::Client).unwrap());
    let mut a = Wrapping::new(other, ReplayLimits::default());
    let mut b = Wrapping::new(
        Arc::new(WrapKeys::tls_crypt(vector_key(), TlsRole::Server).unwrap()),
        ReplayLimits::default(),
    );
    a.enable_dynamic(exported.duplicate(), TlsRole::Client);
    b.enable_dynamic(exported, TlsRole::Server);
    let reset = wrap(&mut a, &control(Opcode::SoftResetV1, 1, b""));
    assert_eq!(accept(&mut b, &reset), Err(WrapError::Authentication));
}

#[test]
fn gaps_in_replay_ids_close_after_their_time() {
    let (_, mut a, mut b) = pairs().remove(3);
    let packet = control(Opcode::ControlV1, 0, b"");
    let (early, late) = (wrap(&mut a, &packet), wrap(&mut a, &packet));
    let mut scratch = [0; 2048];
    b.unwrap(now(1_000), &late, &mut scratch).unwrap();
    let after = Now { mono: Instant::now() + Duration::from_secs(16), unix: 1_016 };
    assert_eq!(b.unwrap(after, &early, &mut scratch).err(), Some(WrapError::Replay(Replay::TooOld)));
}

#[test]
fn too_small_buffers_are_told() {
    for (name, mut a, _) in pairs() {
        let opcode = if name == "tls-crypt-v2" { Opcode::ControlWkcV1 } else { Opcode::ControlV1 };
        let packet = control(opcode, 0, b"payload");
        let need = 9 + a.overhead(KeyId::FIRST) + packet.body_len() + a.keys().wkc_len();
        for have in 0..need {
            let wrapped = a.wrap(now(1_000), &packet, &mut vec![0; have]);
            assert!(matches!(wrapped, Err(WrapError::Wire(WireError::NoRoom { .. }))), "{name}: {have}");
        }
        assert_eq!(a.wrap(now(1_000), &packet, &mut vec![0; need]), Ok(need), "{name}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_unwrap_and_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..700),
        opcode in 3_u8..12,
        scratch in 0_usize..800,
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = opcode << 3 | *first & 7;
        }
        for (name, _, mut b) in pairs() {
            prop_assert!(b.unwrap(now(1_000), &bytes, &mut vec![0; scratch]).is_err(), "{}", name);
        }
    }

    #[test]
    fn sec_parse_2_a_control_packet_prints_to_what_it_was_parsed_from(
        mut bytes in prop::collection::vec(any::<u8>(), 0..80),
        opcode in 3_u8..12,
        acks in 0_u8..10,
    ) {
        if let [first, .., ] = bytes.as_mut_slice() {
            *first = opcode << 3;
        }
        if let Some(count) = bytes.get_mut(9) {
            *count = acks;
        }
        if let Ok(parsed) = Control::parse(&bytes) {
            let mut again = vec![0; bytes.len()];
            prop_assert_eq!(parsed.emit(&mut again), Ok(bytes.len()));
            prop_assert_eq!(again, bytes);
        }
    }
}
