use std::time::Duration;

use culvert_wire::Opcode;

use super::{
    net::Side,
    pair::{Pair, Setup, Wrap},
};
use crate::Transport;

#[test]
fn a_client_and_a_server_establish_a_tunnel_under_every_wrapping() {
    for wrap in Wrap::ALL {
        for transport in [Transport::Udp, Transport::Tcp] {
            let mut pair = Pair::new(Setup { wrap, ..Setup::new() }.transport(transport));
            pair.establish();
            pair.assert_data_flows();
            assert!(
                pair.elapsed() < Duration::from_millis(600),
                "{wrap:?} {transport:?} {:?}",
                pair.elapsed()
            );
        }
    }
}

#[test]
fn the_wrapped_client_key_is_resent_with_message_1_and_its_repetitions_only() {
    let mut pair = Pair::new(Setup { wrap: Wrap::TlsCryptV2, ..Setup::new() });
    pair.run_until(Duration::from_secs(1), |pair| pair.net.log.len() > 1);
    pair.run_for(Duration::from_millis(30));
    pair.net.weather.loss = 100;
    pair.run_for(Duration::from_secs(8));
    pair.net.weather.loss = 0;
    pair.establish();
    let with_key = |opcode| {
        pair.net.log.iter().filter(|(_, bytes)| Opcode::from_header(bytes[0]) == Some(opcode)).count()
    };
    assert_eq!(with_key(Opcode::HardResetClientV3), 1);
    assert!(with_key(Opcode::ControlWkcV1) >= 2, "the first and its repetitions");
    let second = pair.net.log.iter().filter(|(to, _)| *to == Side::Server).nth(1).unwrap();
    assert_eq!(
        Opcode::from_header(second.1[0]),
        Some(Opcode::ControlWkcV1),
        "no bare acknowledgement before it"
    );
}

#[test]
fn keys_are_installed_before_the_push_reply_tells_the_client_to_use_them() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    assert_eq!(pair.at_server.trace, ["Started", "VerifyPeer", "Configure", "Key", "Established"]);
    assert_eq!(
        pair.at_client.trace,
        ["Started", "VerifyPeer", "PushReply", "Configure", "Key", "Established"]
    );
}

#[test]
fn a_point_to_point_tunnel_needs_no_push() {
    let mut pair = Pair::new(Setup::point_to_point());
    pair.establish();
    pair.assert_data_flows();
    let ids = Side::both().map(|side| match side {
        Side::Client => pair.at_client.params.as_ref().unwrap().peer_id,
        Side::Server => pair.at_server.params.as_ref().unwrap().peer_id,
    });
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0].is_some());
    let line = |lines: &[String]| lines.iter().find(|line| line.starts_with("P2P mode NCP")).cloned();
    assert_eq!(line(&pair.at_client.lines), line(&pair.at_server.lines));
    assert!(line(&pair.at_client.lines).unwrap().ends_with("epoch=1, cipher=AES-256-GCM"));
    assert!(pair.at_client.pushed.is_empty());
}

#[test]
fn a_handshake_without_answer_ends_with_hand_window() {
    let mut pair = Pair::new(Setup::new());
    pair.net.weather.loss = 100;
    assert!(pair.run_until(Duration::from_secs(100), |pair| pair.at_client.closed.is_some()));
    assert_eq!(pair.elapsed(), Duration::from_secs(60));
    assert_eq!(pair.at_client.closed, Some(crate::CloseReason::HandshakeTimeout));
    // SEC-CTL-7: 0, 2, 6, 14, 30 seconds.
    assert_eq!(pair.net.log.len(), 5);
}

#[test]
fn a_refused_certificate_is_told_to_the_peer() {
    let server_tls = std::sync::Arc::new(super::fake_tls::FakeTls::new(true, "server").rejecting());
    let mut pair = Pair::new(Setup { server_tls, ..Setup::new() });
    pair.run_until(Duration::from_secs(10), |pair| pair.at_client.closed.is_some());
    let Some(crate::CloseReason::Tls(why)) = &pair.at_server.closed else { panic!() };
    assert!(why.contains("VERIFY ERROR"));
    let told = crate::CloseReason::Tls("the peer sent the TLS alert bad certificate".to_owned());
    assert_eq!(pair.at_client.closed, Some(told));
}
