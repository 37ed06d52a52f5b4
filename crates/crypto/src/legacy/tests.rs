use super::*;

/// Packets without header, made with OpenSSL 3.0's `enc` and `mac`: cipher, digest, hexadecimal. Keys, stamp and payload are
/// those below; vectors of CBC count up from A0.
const PACKETS: [(CipherName, AuthDigest, &str); 15] = [
    (
        CipherName::Aes128Cbc,
        AuthDigest::Sha1,
        "0a1becd7e2a390ce3944b61d8c587a1ba73b643ba0a1a2a3a4a5a6a7a8a9aaabacadaeaf11a3a2d8e9249fa474b2f70fd30f759b2fe3ad57e30cdbca7f30ec073c81adb7",
    ),
    (
        CipherName::Aes192Cbc,
        AuthDigest::Sha224,
        "0a870d246a0f0271ca9c3c2f6458a0695d38c8b52cfb707568a5081da0a1a2a3a4a5a6a7a8a9aaabacadaeaf0090fc5cdec2e42acb60b7612b471dca069151c04e77b0a937dd810f49ac5cb5",
    ),
    (
        CipherName::Aes256Cbc,
        AuthDigest::Sha256,
        "916f433252946a9fa54c6d8601fae2ab26c9e0fab0cde5ac1f6b24492f6a3ea9a0a1a2a3a4a5a6a7a8a9aaabacadaeafb488aedaaa1deb4456a82b23c77b74ee2d491d5cb00362891c75429e7594c378",
    ),
    (
        CipherName::Aes128Cfb,
        AuthDigest::Sha1,
        "0b4c2a617af45f7b6c70fcc3c9c0095981b3e783000000075f5e100000000000000000008f5742850003ff990b1406cdefa9fe69a59b52d89833dac08a",
    ),
    (
        CipherName::Aes192Cfb,
        AuthDigest::Sha384,
        "977006b5512fa2f767252c1618ed678cffafb303c261e41259d72cf5fe4dedd144f6357a2390aa0a915a6aab526a63d5000000075f5e100000000000000000001c844c29be1ce9d00d0f2dfddf621ccd7ea28e02b87c492685",
    ),
    (
        CipherName::Aes256Cfb,
        AuthDigest::Sha512,
        "d3f9d898073a3664b7ab411978164dcedd88ea0b55d7e33ebb96e7340158a01f6e8303a1ba1e30b7622ba0e2caf06585e853909ad34c6b6779861e532b11dc3d000000075f5e10000000000000000000111f00f7ec70318677db83c872115e1225d2d756d966b37ac0",
    ),
    (
        CipherName::Aes128Ofb,
        AuthDigest::Sha1,
        "c57d81c366153430ee9f4428c63a0755fe8056e5000000075f5e100000000000000000008f5742850003ff990b1406cdefa9fe693ea2468a34dcdcbd0a",
    ),
    (
        CipherName::Aes192Ofb,
        AuthDigest::Md5,
        "dff1564ba157f2157b90891e5a29c841000000075f5e100000000000000000001c844c29be1ce9d00d0f2dfddf621ccdfec2cf7141e5beaf30",
    ),
    (
        CipherName::Aes256Ofb,
        AuthDigest::Sha1,
        "4566b5624f3d73246068e8718bad48df7fb123ee000000075f5e10000000000000000000111f00f7ec70318677db83c872115e126005739541dabcd119",
    ),
    (
        CipherName::BfCbc,
        AuthDigest::Sha1,
        "b8c278f3b2f02de687c4a90c95f4550c13865230a0a1a2a3a4a5a6a71f28519e8fc71bd85c9630bce690f46171c22f8c7b9055bcac5468d1e8444ca0",
    ),
    (
        CipherName::Cast5Cbc,
        AuthDigest::Sha1,
        "05256df2c07a91d72d44ecc757140c5d048dc8c4a0a1a2a3a4a5a6a753c36f2dddc9c5dc9aab43a0d91e53f5a80babd0da62d3d754cb00e78dd5ddbf",
    ),
    (
        CipherName::DesEde3Cbc,
        AuthDigest::Sha1,
        "d7186b2e13b1e084bcf56188e19eabdca8cd9951a0a1a2a3a4a5a6a7a2b4ff8bf609d4f8e329b2417409fa72cd5c16c3853e2d837064a62efba4fc76",
    ),
    (
        CipherName::Camellia128Cbc,
        AuthDigest::Sha1,
        "6c068692b8da0cbbda5e1634c33d19d982176470a0a1a2a3a4a5a6a7a8a9aaabacadaeafa12581428505ee4a275d66cf440cca661d4a8b6039c72a5a8cec01e92bba9a6c",
    ),
    (
        CipherName::Camellia192Cbc,
        AuthDigest::Sha1,
        "901cc1b25b881c501693cf545a69e309d00e9c4ea0a1a2a3a4a5a6a7a8a9aaabacadaeaf352346272e35f295f037829c197ed7790e7ff51b84f611b23e83b3e19b053ad3",
    ),
    (
        CipherName::Camellia256Cbc,
        AuthDigest::Sha1,
        "ba8299f06de2a22de30c137d2b8785c7e9aa14e4a0a1a2a3a4a5a6a7a8a9aaabacadaeaf7b8b4a10aa103be9cdc80599edd1902519567938388f9a46c47817e7e34f4734",
    ),
];
const PAYLOAD: &[u8] = b"\x45payload of a data packet";
const STAMP: Stamp = Stamp { time: 1_600_000_000, id: 7 };

fn half() -> LegacyHalf {
    let mut half = LegacyHalf { cipher: [0; 64], hmac: [0; 64] };
    for (at, (cipher, hmac)) in half.cipher.iter_mut().zip(&mut half.hmac).enumerate() {
        let at = u8::try_from(at).unwrap();
        (*cipher, *hmac) = (1 + at, 101 + at);
    }
    half
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn seal(cipher: CipherName, digest: Option<AuthDigest>, payload: &[u8]) -> Vec<u8> {
    let sealer = LegacySealer::new(cipher, digest, &half()).unwrap();
    let mut body = vec![0; sealer.prefix() + payload.len() + sealer.padding()];
    body[sealer.prefix()..][..payload.len()].copy_from_slice(payload);
    let len = sealer.seal(STAMP, &mut body, payload.len()).unwrap();
    body.truncate(len);
    body
}

fn open(
    cipher: CipherName,
    digest: Option<AuthDigest>,
    body: &[u8],
) -> Result<(Stamp, Vec<u8>), CryptoError> {
    let mut out = vec![0; body.len()];
    let opened = LegacyOpener::new(cipher, digest, &half()).unwrap().open(body, &mut out)?;
    Ok((opened.stamp, out[opened.start..][..opened.len].to_vec()))
}

#[test]
fn packets_of_openssl_open_and_stream_packets_come_out_the_same() {
    for (cipher, digest, packet) in PACKETS {
        let packet = bytes(packet);
        let (stamp, payload) = open(cipher, Some(digest), &packet).unwrap();
        assert_eq!((stamp.id, &payload[..]), (STAMP.id, PAYLOAD), "{cipher}");
        // The vector of CBC is random, that of the others is the stamp.
        if stamp.time != 0 {
            assert_eq!(stamp, STAMP);
            assert_eq!(seal(cipher, Some(digest), PAYLOAD), packet, "{cipher}");
        }
    }
}

#[test]
fn what_was_sealed_opens_whatever_its_length() {
    let ciphers = PACKETS.map(|(cipher, ..)| cipher).into_iter().chain([CipherName::None]);
    for cipher in ciphers {
        for digest in [None, Some(AuthDigest::Sha1)] {
            for len in (0..40).chain([1500]) {
                let payload: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
                let opened = open(cipher, digest, &seal(cipher, digest, &payload));
                let streams = matches!(open(cipher, digest, &seal(cipher, digest, b"x")), Ok((stamp, _)) if stamp.time > 0);
                if streams && len == 0 {
                    assert!(opened.is_err(), "nothing in it");
                    continue;
                }
                let (stamp, back) = opened.unwrap();
                assert_eq!((stamp.id, back), (STAMP.id, payload), "{cipher} {len}");
            }
        }
    }
}

#[test]
fn two_packets_of_the_same_payload_differ_in_cbc() {
    let packets = [(); 2].map(|()| seal(CipherName::Aes256Cbc, Some(AuthDigest::Sha1), PAYLOAD));
    assert_ne!(packets[0][20..], packets[1][20..]);
}

#[test]
fn a_packet_with_one_wrong_bit_does_not_open() {
    for (cipher, digest, packet) in PACKETS {
        let packet = bytes(packet);
        for bit in 0..packet.len() * 8 {
            let mut wrong = packet.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                open(cipher, Some(digest), &wrong),
                Err(CryptoError::Authentication),
                "{cipher} {bit}"
            );
        }
        for len in 0..packet.len() {
            assert!(open(cipher, Some(digest), &packet[..len]).is_err(), "{cipher} {len}");
        }
    }
}

#[test]
fn without_a_digest_padding_that_is_none_is_refused() {
    let packet = seal(CipherName::Aes128Cbc, None, PAYLOAD);
    let mut refused = 0;
    for changed in 0..=255_u8 {
        let mut packet = packet.clone();
        let last = packet.len() - 17;
        packet[last] ^= changed; // changes the last byte of the plaintext, the length of the padding
        refused += usize::from(open(CipherName::Aes128Cbc, None, &packet).is_err());
    }
    assert_eq!(refused, 254, "its own padding opens, and one of a single byte");
}

#[test]
fn ciphers_with_a_tag_are_refused() {
    let refused = LegacySealer::new(CipherName::Aes256Gcm, None, &half()).err();
    assert_eq!(refused, Some(CryptoError::NotLegacy(CipherName::Aes256Gcm)));
}

#[test]
fn the_ends_of_a_tunnel_use_opposite_halves() {
    let mut material = crate::KeyMaterial::zeroed();
    for (at, byte) in material.as_mut_bytes().iter_mut().enumerate() {
        *byte = u8::try_from(at % 251 + 1).unwrap();
    }
    let keys = [crate::TlsRole::Client, crate::TlsRole::Server].map(|role| {
        let digest = Some(AuthDigest::Sha1);
        material.legacy_data_key(role, CipherName::Aes256Cbc, digest, KeyId::FIRST).unwrap()
    });
    let [crate::DataKey::Legacy(client), crate::DataKey::Legacy(server)] = keys else {
        panic!("legacy keys")
    };
    assert_eq!(client.send.cipher[..], material.as_bytes()[..64]);
    assert_eq!((&client.send.hmac, &client.recv.cipher), (&server.recv.hmac, &server.send.cipher));
    material.as_mut_bytes()[..32].fill(0);
    let zero = material.legacy_data_key(crate::TlsRole::Client, CipherName::Aes256Cbc, None, KeyId::FIRST);
    assert!(matches!(zero, Err(CryptoError::ZeroKey)));
}
