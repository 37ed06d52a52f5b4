use CipherName::{Aes128Gcm, Aes256Cbc, Aes256Gcm, BfCbc, ChaCha20Poly1305, None as NoCipher};

use super::*;

fn own(ciphers: &[CipherName]) -> DataConfig {
    DataConfig { ciphers: ciphers.to_vec(), fallback: None, digest: None, epoch: false, data_v1: true }
}

fn info(text: &str) -> PeerInfo {
    PeerInfo::parse(text).unwrap()
}

#[test]
fn a_server_chooses_as_openvpn_chooses() {
    // vector: ncp_best_cipher
    /// Server's list, peer info, the peer's OCC cipher, choice.
    type Case = (&'static [CipherName], &'static str, Option<CipherName>, Option<CipherName>);
    let cases: [Case; 11] = [
        (&[ChaCha20Poly1305, Aes128Gcm], "IV_YOLO=NO\nIV_BAR=7", Some(BfCbc), None),
        (&[ChaCha20Poly1305, Aes128Gcm, BfCbc, NoCipher], "IV_YOLO=NO\nIV_BAR=7", Some(BfCbc), Some(BfCbc)),
        (&[ChaCha20Poly1305, Aes128Gcm], "IV_NCP=1\nIV_BAR=7", Some(Aes128Gcm), Some(Aes128Gcm)),
        (&[ChaCha20Poly1305, Aes128Gcm], "", Some(Aes128Gcm), Some(Aes128Gcm)),
        (&[ChaCha20Poly1305, Aes128Gcm], "", Some(NoCipher), None),
        (&[ChaCha20Poly1305, Aes128Gcm, BfCbc, NoCipher], "", Some(NoCipher), Some(NoCipher)),
        (&[ChaCha20Poly1305, Aes128Gcm], "", None, None),
        (
            &[ChaCha20Poly1305, Aes128Gcm, Aes256Gcm],
            "IV_YOLO=NO\nIV_NCP=2\nIV_BAR=7",
            Some(BfCbc),
            Some(Aes128Gcm),
        ),
        (
            &[ChaCha20Poly1305, Aes128Gcm, Aes256Gcm],
            "IV_NCP=2\nIV_BAR=7",
            Some(ChaCha20Poly1305),
            Some(ChaCha20Poly1305),
        ),
        (
            &[ChaCha20Poly1305, Aes128Gcm, Aes256Gcm],
            "IV_CIPHERS=AES-128-GCM",
            Some(Aes256Cbc),
            Some(Aes128Gcm),
        ),
        (
            &[ChaCha20Poly1305, Aes128Gcm, Aes256Gcm],
            "IV_FOO=7\nIV_CIPHERS=AES-256-GCM\nIV_NCP=2",
            Some(Aes256Cbc),
            Some(Aes256Gcm),
        ),
    ];
    for (ciphers, peer, occ, best) in cases {
        assert_eq!(server_cipher(&own(ciphers), &info(peer), occ).ok(), best, "{ciphers:?} {peer} {occ:?}");
    }
}

#[test]
fn the_fallback_serves_only_peers_that_say_nothing() {
    let own = DataConfig { fallback: Some(Aes256Cbc), ..own(&[Aes256Gcm]) };
    assert_eq!(server_cipher(&own, &info(""), None), Ok(Aes256Cbc));
    assert_eq!(server_cipher(&own, &info(""), Some(BfCbc)), Err(Disagreement::NoSharedCipher));
    assert_eq!(server_cipher(&own, &info("IV_CIPHERS=BF-CBC"), None), Err(Disagreement::NoSharedCipher));
}

#[test]
fn a_modern_client_is_told_all_features() {
    let own = DataConfig { epoch: true, ..own(&[Aes256Gcm]) };
    let peer = info("IV_MTU=1600\nIV_NCP=2\nIV_CIPHERS=AES-256-GCM:AES-128-GCM\nIV_PROTO=8094");
    let agreed = server(&own, &peer, "V4").unwrap();
    assert_eq!(
        pushed_options(&agreed, &peer, PeerId::new(0)),
        ["peer-id 0", "cipher AES-256-GCM", "protocol-flags cc-exit tls-ekm dyn-tls-crypt aead-epoch"]
    );
}

#[test]
fn old_clients_are_told_only_what_they_understand() {
    let own = own(&[Aes256Gcm]);
    let options = |peer: &str, occ: &str| {
        let peer = info(peer);
        let agreed = server(&own, &peer, occ).unwrap();
        pushed_options(&agreed, &peer, PeerId::new(7))
    };
    // Bits 1 and 3: exporter, but no protocol-flags (trap 19).
    let exporter_only = options("IV_CIPHERS=AES-256-GCM\nIV_PROTO=10", "");
    assert_eq!(exporter_only, ["peer-id 7", "cipher AES-256-GCM", "key-derivation tls-ekm"]);
    // OpenVPN 2.4.
    assert_eq!(options("IV_NCP=2\nIV_PROTO=2", "V4,cipher BF-CBC"), ["peer-id 7", "cipher AES-256-GCM"]);
    // No negotiation at all: DATA_V1 and the cipher of its options string.
    assert_eq!(options("", "V4,cipher AES-256-GCM"), Vec::<String>::new());
}

#[test]
fn an_offload_without_data_v1_refuses_peers_without_peer_id() {
    let own = DataConfig { data_v1: false, ..own(&[Aes256Gcm]) };
    assert_eq!(server(&own, &info("IV_NCP=2"), ""), Err(Disagreement::NeedsDataV2));
}

#[test]
fn a_client_accepts_only_ciphers_it_offered() {
    let own = own(&[Aes256Gcm, Aes128Gcm]);
    let pushed = |cipher| PushedProtocol { cipher, peer_id: PeerId::new(1), ..PushedProtocol::default() };
    assert_eq!(client(&own, &pushed(Some(Aes128Gcm)), "").unwrap().cipher, Aes128Gcm);
    assert_eq!(client(&own, &pushed(Some(BfCbc)), ""), Err(Disagreement::NoSharedCipher));
    // Nothing pushed: the server's options string counts, then the fallback.
    assert_eq!(client(&own, &pushed(None), "V4,cipher AES-256-GCM").unwrap().cipher, Aes256Gcm);
    assert_eq!(client(&own, &pushed(None), "V4,cipher BF-CBC"), Err(Disagreement::NoSharedCipher));
    assert_eq!(client(&own, &pushed(None), "V4"), Err(Disagreement::NoSharedCipher));
    let own = DataConfig { fallback: Some(Aes256Cbc), ..own };
    assert_eq!(client(&own, &pushed(None), "V4").unwrap().cipher, Aes256Cbc);
    assert_eq!(client(&own, &pushed(Some(Aes256Cbc)), "V4").unwrap().cipher, Aes256Cbc);
}

#[test]
fn a_pushed_epoch_format_that_was_not_offered_is_refused() {
    let flags = ProtocolFlags { aead_epoch: true, tls_ekm: true, ..ProtocolFlags::default() };
    let pushed = PushedProtocol { cipher: Some(Aes256Gcm), peer_id: PeerId::new(1), flags };
    let offers = |epoch| DataConfig { epoch, ..own(&[Aes256Gcm]) };
    assert!(client(&offers(true), &pushed, "").is_ok());
    assert!(client(&offers(false), &pushed, "").is_err());
    let without_id = PushedProtocol { peer_id: None, ..pushed };
    assert!(client(&offers(true), &without_id, "").is_err());
}

#[test]
fn both_ends_of_a_point_to_point_tunnel_agree() {
    let server_own = DataConfig { epoch: true, ..own(&[Aes128Gcm, Aes256Gcm]) };
    let client_own = DataConfig { epoch: true, ..own(&[Aes256Gcm, Aes128Gcm]) };
    let of_server = info("IV_CIPHERS=AES-128-GCM:AES-256-GCM\nIV_PROTO=7850");
    let of_client = info("IV_CIPHERS=AES-256-GCM:AES-128-GCM\nIV_PROTO=7850");
    let at_server = point_to_point(&server_own, true, &of_client, [0xC6, 0xAC, 0x02]).unwrap();
    let at_client = point_to_point(&client_own, false, &of_server, [0xC6, 0xAC, 0x02]).unwrap();
    assert_eq!(at_server, at_client);
    assert_eq!(at_server.cipher, Aes128Gcm);
    assert_eq!(
        p2p_line(&at_server, is_shared(&at_server, &server_own, &of_client)),
        "P2P mode NCP negotiation result: TLS_export=1, DATA_v2=1, peer-id 13020162, epoch=1, cipher=AES-128-GCM"
    );
}

#[test]
fn a_point_to_point_peer_without_negotiation_gets_the_classic_format() {
    let own = DataConfig { fallback: Some(Aes256Gcm), ..own(&[Aes128Gcm]) };
    let agreed = point_to_point(&own, true, &info(""), [1, 2, 3]).unwrap();
    assert_eq!(agreed.flags, ProtocolFlags::default());
    assert!(!agreed.data_v2 && agreed.peer_id.is_none());
    assert!(p2p_line(&agreed, false).ends_with("cipher=(not negotiated, fallback-cipher: AES-256-GCM)"));
}

#[test]
fn without_exporter_the_peer_id_is_fixed() {
    let own = own(&[Aes256Gcm]);
    // DATA_V2 and NCP_P2P only.
    let agreed =
        point_to_point(&own, false, &info("IV_CIPHERS=AES-256-GCM\nIV_PROTO=34"), [1, 2, 3]).unwrap();
    assert_eq!(agreed.peer_id.map(PeerId::get), Some(0x0076_706E));
}
