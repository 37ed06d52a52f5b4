use culvert_crypto::DirectionKey;

use super::*;

const HEADER: Header = Header::V2(match PeerId::new(7) {
    Some(id) => id,
    None => panic!("a small number"),
});
const REPLAY: (u32, u32) = (64, 15);

fn half(byte: u8) -> DirectionKey {
    DirectionKey { secret: [byte; 32], implicit_iv: [byte; 8] }
}

fn pair(cipher: CipherName, epoch: bool) -> (Key, Key) {
    let make = |send, recv| {
        let (id, send, recv) = (KeyId::FIRST, half(send), half(recv));
        let key = if epoch {
            DataKey::Epoch { id, cipher, send, recv }
        } else {
            DataKey::Classic { id, cipher, send, recv }
        };
        Key::new(&key, REPLAY).unwrap()
    };
    (make(1, 2), make(2, 1))
}

fn seal(key: &Key, payload: &[u8]) -> Option<Vec<u8>> {
    let layout = key.layout(HEADER);
    let mut packet = vec![0; layout.prefix];
    packet.extend_from_slice(payload);
    packet.resize(packet.len() + layout.suffix, 0);
    key.sending().seal(HEADER, &mut packet).then_some(packet)
}

fn open(key: &Key, packet: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut out = vec![0; packet.len()];
    let opened = key.receiving().open(false, packet, &mut out, 0)?;
    out.truncate(opened.len);
    Ok(out)
}

/// Moves the send side to the next epoch, as its usage limit would.
fn advance(key: &Key) {
    let mut send = key.send.lock().unwrap();
    send.usage = culvert_crypto::usage::GCM_LIMIT;
}

fn epoch_of(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[4], packet[5]])
}

fn set_next(key: &Key, id: u32) {
    let mut send = key.send.lock().unwrap();
    let SendFormat::Classic { next, .. } = &mut send.format else { panic!("a classic key") };
    *next = id;
}

#[test]
fn a_key_asks_once_to_be_renewed_and_stops_before_its_ids_end() {
    // SEC-DATA-2.
    let (a, _) = pair(CipherName::ChaCha20Poly1305, false);
    seal(&a, b"x").unwrap();
    assert!(!a.take_exhausted());
    set_next(&a, PACKET_ID_RENEGOTIATE - 1);
    seal(&a, b"x").unwrap();
    assert!(a.take_exhausted());
    assert!(!a.take_exhausted());
    set_next(&a, PACKET_ID_STOP - 1);
    assert!(seal(&a, b"x").is_some());
    assert!(seal(&a, b"x").is_none());
}

#[test]
fn a_gcm_key_stops_at_its_usage_limit_and_other_ciphers_have_none() {
    for (cipher, stops) in [(CipherName::Aes256Gcm, true), (CipherName::ChaCha20Poly1305, false)] {
        let (a, _) = pair(cipher, false);
        a.send.lock().unwrap().usage = GCM_RENEGOTIATE;
        assert!(seal(&a, b"x").is_some());
        assert_eq!(a.take_exhausted(), stops);
        a.send.lock().unwrap().usage = culvert_crypto::usage::GCM_LIMIT;
        assert_eq!(seal(&a, b"x").is_none(), stops);
    }
}

#[test]
fn what_was_received_counts_towards_the_usage_limit() {
    let (a, b) = pair(CipherName::Aes128Gcm, false);
    b.recv.lock().unwrap().usage = GCM_RENEGOTIATE;
    open(&b, &seal(&a, b"x").unwrap()).unwrap();
    assert!(b.take_exhausted());
}

#[test]
fn the_sender_moves_to_the_next_epoch_and_the_receiver_follows_in_both_directions() {
    let (a, b) = pair(CipherName::Aes256Gcm, true);
    open(&b, &seal(&a, b"one").unwrap()).unwrap();
    let late = seal(&a, b"late").unwrap();
    advance(&a);
    let second = seal(&a, b"two").unwrap();
    assert_eq!((epoch_of(&second), second[11]), (2, 1), "counters start anew");
    assert_eq!(open(&b, &second).unwrap(), b"two");
    assert_eq!(open(&b, &late).unwrap(), b"late", "the epoch before is still accepted");
    assert_eq!(open(&b, &late), Err(Refused::Replay));
    assert_eq!(open(&b, &second), Err(Refused::Replay));
    assert_eq!(epoch_of(&seal(&b, b"x").unwrap()), 2, "and the answer comes under the same epoch");
}

#[test]
fn a_spent_receive_epoch_moves_the_sender_so_that_the_peer_follows() {
    let (a, b) = pair(CipherName::Aes256Gcm, true);
    b.recv.lock().unwrap().usage = culvert_crypto::usage::GCM_LIMIT;
    open(&b, &seal(&a, b"x").unwrap()).unwrap();
    let answer = seal(&b, b"y").unwrap();
    assert_eq!(epoch_of(&answer), 2);
    open(&a, &answer).unwrap();
    assert_eq!(epoch_of(&seal(&a, b"z").unwrap()), 2);
}

#[test]
fn an_epoch_too_far_ahead_and_one_long_gone_are_dropped() {
    let (a, b) = pair(CipherName::Aes256Gcm, true);
    let first = seal(&a, b"x").unwrap();
    for _ in 0..FUTURE_EPOCHS + 1 {
        advance(&a);
        seal(&a, b"x").unwrap();
    }
    assert_eq!(open(&b, &seal(&a, b"x").unwrap()), Err(Refused::Malformed));
    open(&b, &first).unwrap();

    let (a, b) = pair(CipherName::Aes256Gcm, true);
    let first = seal(&a, b"x").unwrap();
    for _ in 0..2 {
        advance(&a);
        open(&b, &seal(&a, b"x").unwrap()).unwrap();
    }
    assert_eq!(open(&b, &first), Err(Refused::Malformed));
}

#[test]
fn a_forged_future_epoch_moves_nothing() {
    let (a, b) = pair(CipherName::Aes256Gcm, true);
    let mut forged = seal(&a, b"x").unwrap();
    forged[5] = 3;
    assert_eq!(open(&b, &forged), Err(Refused::Auth));
    assert_eq!(epoch_of(&seal(&b, b"x").unwrap()), 1);
    open(&b, &seal(&a, b"y").unwrap()).unwrap();
}

fn old_pair(cipher: CipherName) -> (Key, Key) {
    let half = |byte| culvert_crypto::LegacyHalf { cipher: [byte; 64], hmac: [byte; 64] };
    let make = |send, recv| {
        let digest = Some(culvert_crypto::AuthDigest::Sha1);
        let key = culvert_crypto::LegacyKey {
            id: KeyId::FIRST,
            cipher,
            digest,
            send: half(send),
            recv: half(recv),
        };
        Key::new(&DataKey::Legacy(Box::new(key)), REPLAY).unwrap()
    };
    (make(1, 2), make(2, 1))
}

fn seal_old(key: &Key, payload: &[u8]) -> Option<Vec<u8>> {
    let layout = key.layout(HEADER);
    let mut packet = vec![0; layout.overhead() + payload.len()];
    packet[layout.prefix..][..payload.len()].copy_from_slice(payload);
    let len = key.sending().seal_in(HEADER, &mut packet, payload.len())?;
    packet.truncate(len);
    Some(packet)
}

#[test]
fn packets_without_tag_are_accepted_once() {
    for cipher in [CipherName::Aes256Cbc, CipherName::Aes128Cfb, CipherName::None] {
        let (a, b) = old_pair(cipher);
        let packets: Vec<_> = (0..3_u8).map(|n| seal_old(&a, &[n; 5]).unwrap()).collect();
        for (n, packet) in (0..3_u8).zip(&packets) {
            assert_eq!(open(&b, packet), Ok(vec![n; 5]), "{cipher}");
        }
        for packet in &packets {
            assert_eq!(open(&b, packet), Err(Refused::Replay), "{cipher}");
            let mut wrong = packet.clone();
            *wrong.last_mut().unwrap() ^= 1;
            assert_eq!(open(&b, &wrong), Err(Refused::Auth), "{cipher}");
        }
        for len in 0..packets[0].len() {
            assert!(open(&b, &packets[0][..len]).is_err(), "{cipher} {len}");
        }
    }
}

#[test]
fn a_stream_cipher_whose_time_went_on_begins_anew_and_never_goes_back() {
    let (a, b) = old_pair(CipherName::Aes128Ofb);
    let later = |key: &Key, secs: u32| {
        let mut send = key.send.lock().unwrap();
        let SendFormat::Old(old) = &mut send.format else { panic!("an old key") };
        old.restart_later(secs);
    };
    let first = seal_old(&a, b"one").unwrap();
    assert_eq!(open(&b, &first), Ok(b"one".to_vec()));
    later(&a, 5);
    let again = seal_old(&a, b"two").unwrap();
    assert_eq!(open(&b, &again), Ok(b"two".to_vec()), "the same id under a later time");
    assert_eq!(open(&b, &first), Err(Refused::Replay));
    assert_eq!(open(&b, &again), Err(Refused::Replay));
}

#[test]
fn a_cipher_with_short_blocks_asks_to_be_renewed_before_blocks_repeat() {
    let (a, _) = old_pair(CipherName::DesEde3Cbc);
    let (long, _) = old_pair(CipherName::Aes128Cbc);
    for key in [&a, &long] {
        key.count_received(1, 40 << 20);
        key.count_sent(1, 24 << 20);
        seal_old(key, b"x").unwrap();
        assert!(!key.take_exhausted());
        key.count_sent(1, 1);
        seal_old(key, b"x").unwrap();
    }
    assert!(a.take_exhausted() && !long.take_exhausted());
}
