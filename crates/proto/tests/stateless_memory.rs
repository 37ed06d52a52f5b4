//! SEC-CTL-2: packets of strangers leave no memory behind, whatever they are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_crypto::{AuthDigest, KeyDirection, KeyMaterial, TlsCryptV2ServerKey, TlsRole};
use culvert_proto::{
    Transport,
    endpoint::{Endpoint, EndpointAction, EndpointConfig, MAX_FIRST_PACKET},
    wrap::{EARLY_NEGOTIATION_START, ReplayLimits, WrapKeys, Wrapping},
};
use culvert_wire::{AckBlock, Control, ControlHeader, KeyId, MessageId, Now, Opcode, SessionId};

fn key() -> KeyMaterial {
    KeyMaterial::from_slice(&[3; 256]).unwrap()
}

fn v2_server() -> TlsCryptV2ServerKey {
    TlsCryptV2ServerKey::from_slice(&[9; 128]).unwrap()
}

fn endpoint(wrap: WrapKeys) -> Endpoint {
    let config = EndpointConfig {
        transport: Transport::Udp,
        wrap: Some(Arc::new(wrap)),
        tls_crypt_v2: Some(std::sync::Arc::new(v2_server())),
        force_cookie: false,
        replay: ReplayLimits::default(),
        hand_window: Duration::from_secs(60),
        initial_rate: None,
        session_rate: None,
        max_half_open: 256,
    };
    Endpoint::new(config, &[5; 32])
}

/// A reset, and a third packet that echoes a wrong cookie.
fn packets(mut client: Wrapping, now: Now) -> Vec<Vec<u8>> {
    let v2 = client.keys().wkc_len() > 0;
    let opcodes = if v2 {
        [Opcode::HardResetClientV3, Opcode::ControlWkcV1]
    } else {
        [Opcode::HardResetClientV2, Opcode::ControlV1]
    };
    let [reset, third] = opcodes.map(|opcode| {
        let is_third = matches!(opcode, Opcode::ControlV1 | Opcode::ControlWkcV1);
        let packet = Control {
            header: ControlHeader {
                opcode,
                key_id: KeyId::FIRST,
                session_id: SessionId::new([8; 8]).unwrap(),
            },
            acks: is_third.then_some(MessageId(0)).into_iter().collect::<AckBlock>(),
            echoed: is_third.then(|| SessionId::new([7; 8]).unwrap()),
            message_id: Some(MessageId(u32::from(is_third))),
            payload: b"",
        };
        let mut out = [0; 2048];
        let len = client.wrap(now, &packet, &mut out).unwrap();
        out[..len].to_vec()
    });
    vec![reset, third, vec![0x38; 8], vec![0x48, 0, 0, 1, 0, 0, 0, 1, 9, 9]]
}

#[test]
fn sec_ctl_2_packets_of_strangers_leave_no_memory_behind() {
    let now = Now { mono: Instant::now(), unix: 1_700_000_000 };
    let auth = |direction| WrapKeys::tls_auth(key(), AuthDigest::Sha1, direction);
    let crypt = |role| WrapKeys::tls_crypt(key(), role).unwrap();
    let wkc = v2_server().wrap(&key(), b"\0me").unwrap();
    let v2 = WrapKeys::tls_crypt_v2_client(key(), &wkc).unwrap();
    let cases = [
        ("none", WrapKeys::none(), WrapKeys::none(), 0),
        ("tls-auth", auth(KeyDirection::Normal), auth(KeyDirection::Inverse), 0),
        ("tls-crypt", crypt(TlsRole::Server), crypt(TlsRole::Client), 0),
        ("tls-crypt-v2", crypt(TlsRole::Server), v2, EARLY_NEGOTIATION_START),
    ];
    for (name, server, client, sent) in cases {
        let mut endpoint = endpoint(server);
        let client = Wrapping::continuing(Arc::new(client), ReplayLimits::default(), sent);
        let packets = packets(client, now);
        let mut buf = [0; MAX_FIRST_PACKET];
        let (mut replies, mut drops) = (0_u32, 0_u32);
        let mut flood = |rounds: u8| {
            for round in 0..rounds {
                for packet in &packets {
                    let from = SocketAddr::from(([192, 0, 2, round], 1194));
                    match endpoint.handle_datagram(now, from, packet, &mut buf) {
                        EndpointAction::Reply(_) => replies += 1,
                        EndpointAction::Drop(_) => drops += 1,
                        _ => panic!("{name}: a stranger got in"),
                    }
                }
            }
        };
        // The library sets itself up with the first packets.
        flood(3);
        let memory = allocation_counter::measure(|| flood(100));
        assert_eq!((memory.bytes_current, memory.count_current), (0, 0), "{name}");
        if name != "tls-crypt-v2" {
            assert_eq!(memory.count_total, 0, "{name}: no allocation at all");
        }
        assert_eq!((replies, drops), (103, 309), "{name}");
    }
}
