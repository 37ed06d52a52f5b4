use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_crypto::{AuthDigest, KeyDirection, KeyMaterial, TlsCryptV2ServerKey, TlsRole};
use culvert_proto::{
    Transport, decoders,
    endpoint::{Endpoint, EndpointAction, EndpointConfig, MAX_FIRST_PACKET},
    static_key,
    tls::{SecretPem, open_pkcs12},
    wrap::{EARLY_NEGOTIATION_START, ReplayId, ReplayLimits, WrapKeys},
};
use culvert_wire::{Control, Now};
use zeroize::Zeroizing;

use crate::{as_text, crypto::wrapped_client_keys, wire::control_packets};

const ID: ReplayId = ReplayId { packet_id: EARLY_NEGOTIATION_START + 1, time: 1_700_000_000 };

fn key() -> KeyMaterial {
    let mut key = KeyMaterial::zeroed();
    key.as_mut_bytes().fill(3);
    key
}

fn auth(direction: KeyDirection) -> WrapKeys {
    WrapKeys::tls_auth(key(), AuthDigest::Sha256, direction)
}

/// Opens a packet and wraps its content again.
fn reopen(recv: &WrapKeys, send: &WrapKeys, bytes: &[u8]) {
    let mut scratch = vec![0; bytes.len()];
    if let Ok((control, Some(id))) = recv.open_stateless(bytes, &mut scratch) {
        let mut again = vec![0; 2048 + bytes.len()];
        // A wrapped client key is not authenticated by the packet, so it need not come out again.
        if let Ok(len) = send.seal_stateless(id, &control, &mut again) {
            assert!(again.get(..len) == Some(bytes), "SEC-PARSE-2");
        }
    }
}

fn seal_all(keys: &WrapKeys) -> Vec<Vec<u8>> {
    let seal = |packet: &Vec<u8>| {
        let control = Control::parse(packet).ok()?;
        let mut out = vec![0; 2048];
        let len = keys.seal_stateless(ID, &control, &mut out).ok()?;
        out.truncate(len);
        Some(out)
    };
    control_packets().iter().filter_map(seal).collect()
}

pub(crate) fn tls_auth(bytes: &[u8]) {
    reopen(&auth(KeyDirection::Normal), &auth(KeyDirection::Inverse), bytes);
}

pub(crate) fn tls_auth_packets() -> Vec<Vec<u8>> {
    seal_all(&auth(KeyDirection::Inverse))
}

pub(crate) fn tls_crypt(bytes: &[u8]) {
    if let (Ok(server), Ok(client)) =
        (WrapKeys::tls_crypt(key(), TlsRole::Server), WrapKeys::tls_crypt(key(), TlsRole::Client))
    {
        reopen(&server, &client, bytes);
    }
}

pub(crate) fn tls_crypt_packets() -> Vec<Vec<u8>> {
    WrapKeys::tls_crypt(key(), TlsRole::Client).iter().flat_map(seal_all).collect()
}

/// Strangers' packets at the door of a server with tls-crypt-v2 and without any wrapping.
pub(crate) fn endpoint(bytes: &[u8]) {
    let config = EndpointConfig {
        transport: Transport::Udp,
        wrap: Some(Arc::new(WrapKeys::none())),
        tls_crypt_v2: TlsCryptV2ServerKey::from_slice(&[9; 128]).ok().map(Arc::new),
        force_cookie: true,
        replay: ReplayLimits::default(),
        hand_window: Duration::from_secs(60),
        initial_rate: None,
        session_rate: None,
        max_half_open: 8,
    };
    let mut endpoint = Endpoint::new(config, &[5; 32]);
    let now = Now { mono: Instant::now(), unix: 1_700_000_000 };
    let from = SocketAddr::from(([192, 0, 2, 1], 1194));
    let mut buf = [0; MAX_FIRST_PACKET];
    match endpoint.handle_datagram(now, from, bytes, &mut buf) {
        EndpointAction::Reply(reply) => {
            assert!(reply.len() <= bytes.len() + 12, "SEC-CTL-3: {} bytes for {}", reply.len(), bytes.len());
        }
        EndpointAction::Drop(_) => {}
        EndpointAction::Accept(_) | EndpointAction::Route(_) => {
            panic!("SEC-CTL-1: a stranger without cookie got in")
        }
    }
    assert_eq!(endpoint.half_open(), 0);
}

pub(crate) fn first_packets() -> Vec<Vec<u8>> {
    let mut packets = control_packets();
    for wkc in wrapped_client_keys() {
        for mut packet in tls_crypt_packets() {
            if let Some(first) = packet.first_mut() {
                // Damages the tag: what is behind it is reached with the keys of the tls_crypt target.
                *first = 10 << 3;
            }
            packet.extend(&wkc);
            packets.push(packet);
        }
    }
    packets
}

pub(crate) fn key_messages() -> Vec<Vec<u8>> {
    let string = |out: &mut Vec<u8>, text: &[u8]| {
        out.extend([0, u8::try_from(text.len() + 1).unwrap_or(0)]);
        out.extend(text);
        out.push(0);
    };
    let message = |random: usize| {
        let mut message = vec![0, 0, 0, 0, 2];
        message.extend(vec![7; random]);
        string(&mut message, b"V4,dev-type tun,link-mtu 1541,tun-mtu 1500,proto UDPv4,auth SHA1,tls-client");
        string(&mut message, b"user");
        string(&mut message, b"password");
        string(&mut message, b"IV_VER=2.6.14\nIV_PROTO=990\n");
        message
    };
    vec![message(112), message(64)]
}

pub(crate) fn control_messages() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 6] = [
        b"PUSH_REPLY,topology subnet,ping 10,ifconfig 10.8.0.2 255.255.255.0,push-continuation 2\0",
        b"PUSH_UPDATE,-?dns,route 10.1.0.0 255.255.0.0\0PUSH_REQUEST\0",
        b"AUTH_FAILED,TEMP[backoff 42,advance no]:later\0",
        b"AUTH_PENDING,timeout 60\0INFO_PRE,WEB_AUTH::https://example.com\r\n\0",
        b"RESTART,[N]going\0HALT\0EXIT\0",
        b"AUTH_FAILED,CRV1:R,E:id:dXNlcg==:code?\0",
    ];
    texts.map(<[u8]>::to_vec).to_vec()
}

pub(crate) fn peer_info(bytes: &[u8]) {
    as_text(bytes, decoders::peer_info);
}

pub(crate) fn peer_infos() -> Vec<Vec<u8>> {
    vec![
        b"IV_VER=2.7.8\nIV_PLAT=linux\nIV_CIPHERS=AES-256-GCM:AES-128-GCM\nIV_PROTO=8094\nIV_NCP=2\n"
            .to_vec(),
    ]
}

pub(crate) fn options_string(bytes: &[u8]) {
    as_text(bytes, decoders::options_string);
}

pub(crate) fn options_strings() -> Vec<Vec<u8>> {
    vec![b"V4,dev-type tun,link-mtu 1541,tun-mtu 1500,proto UDPv4,comp-lzo,cipher BF-CBC,auth SHA1".to_vec()]
}

/// All kinds of key files, whatever the label says.
pub(crate) fn key_files(bytes: &[u8]) {
    as_text(bytes, |text| {
        if let Ok(key) = static_key::parse_static_key(text) {
            let again = static_key::parse_static_key(&static_key::format_static_key(&key));
            assert!(again.is_ok_and(|again| again.as_bytes() == key.as_bytes()), "SEC-PARSE-2");
        }
        let _ = static_key::parse_tls_crypt_v2_server_key(text);
        let _ = static_key::parse_tls_crypt_v2_client_key(text);
        let _ = static_key::parse_auth_token_key(text);
    });
}

pub(crate) fn key_file_texts() -> Vec<Vec<u8>> {
    let files = [
        Ok(static_key::format_static_key(&key())),
        static_key::generate_tls_crypt_v2_server_key(),
        TlsCryptV2ServerKey::from_slice(&[9; 128])
            .map_err(Into::into)
            .and_then(|server| static_key::generate_tls_crypt_v2_client_key(&server, b"")),
        static_key::generate_auth_token_key(),
    ];
    files.into_iter().flatten().map(|text| text.as_bytes().to_vec()).collect()
}

/// PKCS #12 files without a MAC and without encryption: with them, a changed number of iterations takes minutes.
pub(crate) fn pkcs12(bytes: &[u8]) {
    let file = SecretPem { origin: "--pkcs12".to_owned(), text: Zeroizing::new(bytes.to_vec()) };
    if let Ok(opened) = open_pkcs12(&file, None) {
        assert!(opened.certificate.starts_with(b"-----BEGIN CERTIFICATE-----"));
    }
}

pub(crate) fn pkcs12_files() -> Vec<Vec<u8>> {
    vec![include_bytes!("../../proto/tests/fixtures/tls/ec.open.p12").to_vec()]
}
