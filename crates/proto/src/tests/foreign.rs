//! What clients of other origin do that OpenVPN's own do not: those on openvpn3 (OpenVPN Connect, phones) and on Go
//! libraries. Each test names where the shape was read.

use std::time::Duration;

use culvert_wire::{CipherName, ControlHeader, KeyId, Opcode};

use super::{
    net::Side,
    pair::{Pair, Setup, Wrap, login},
};
use crate::{Authorization, CloseReason, Command, PeerMessage, Transport};

/// A pair whose client says that it is of this version.
fn of_version(mut setup: Setup, version: &str) -> Setup {
    for (name, value) in &mut setup.client.peer_info {
        if name == "IV_VER" {
            version.clone_into(value);
        }
    }
    setup
}

/// A pair with a client on openvpn3 that has just renegotiated.
fn renegotiated(setup: Setup) -> Pair {
    renegotiated_by(of_version(setup, OPENVPN3))
}

const OPENVPN3: &str = "3.12_git:master";

fn renegotiated_by(setup: Setup) -> Pair {
    let mut pair = Pair::new(setup);
    pair.establish();
    pair.command(Side::Client, Command::Renegotiate);
    pair.run_for(Duration::from_secs(1));
    assert_eq!((pair.at_client.renegotiated.len(), pair.at_server.renegotiated.len()), (1, 1));
    pair
}

/// openvpn3, `proto.hpp`: control messages leave with the key that encrypts, the former one for a minute after each
/// renegotiation, and from the first renegotiation on everything is wrapped by dynamic tls-crypt.
#[test]
fn a_client_may_say_something_with_the_key_before_the_newest() {
    for wrap in Wrap::ALL {
        for transport in [Transport::Udp, Transport::Tcp] {
            let mut pair = renegotiated(Setup { wrap, ..Setup::new() }.transport(transport));
            let now = pair.clock();
            let before = pair.net.log.len();
            pair.client.say_with_former_key(now, "CR_RESPONSE,c2VjcmV0");
            pair.drain();
            pair.run_for(Duration::from_secs(1));
            let response = PeerMessage::ChallengeResponse("c2VjcmV0".into());
            assert_eq!(pair.at_server.messages, [response], "{wrap:?} {transport:?}");
            let said: Vec<_> = pair.net.log[before..]
                .iter()
                .map(|(to, bytes)| (*to, ControlHeader::parse(bytes).unwrap().0))
                .map(|(to, header)| (to, header.opcode, header.key_id))
                .collect();
            // Acknowledged with the same key, and not repeated.
            let key = KeyId::FIRST;
            assert_eq!(
                said,
                [(Side::Server, Opcode::ControlV1, key), (Side::Client, Opcode::AckV1, key)],
                "{wrap:?} {transport:?}"
            );
            assert_eq!((&pair.at_client.closed, &pair.at_server.closed), (&None, &None));
        }
    }
}

#[test]
fn a_client_that_leaves_with_the_former_key_is_gone() {
    let mut pair = renegotiated(Setup { wrap: Wrap::TlsAuth, ..Setup::new() });
    let now = pair.clock();
    pair.client.say_with_former_key(now, "EXIT");
    pair.drain();
    pair.run_for(Duration::from_secs(6));
    assert_eq!(pair.at_server.closed, Some(CloseReason::PeerExit));
}

/// openvpn3, `proto.hpp`: the key that sends is changed only by `become_primary`, so that a third key would leave the
/// client with one that the server has forgotten.
#[test]
fn a_server_gives_openvpn3_the_time_to_switch_to_a_new_key() {
    for (version, at_least, at_most) in [("2.7.8", 18, 20), (OPENVPN3, 2, 3)] {
        let mut setup = of_version(Setup::new(), version);
        setup.server.timing.reneg_after = Duration::from_secs(10);
        setup.server.timing.reneg_sec = Duration::from_secs(10);
        let mut pair = Pair::new(setup);
        pair.establish();
        pair.run_for(Duration::from_secs(200));
        let count = pair.at_server.renegotiated.len();
        assert!((at_least..=at_most).contains(&count), "{version}: {count}");
        pair.assert_data_flows();
    }
}

#[test]
fn the_former_key_is_forgotten_when_nobody_uses_it_any_more() {
    for (version, delay, heard) in [(OPENVPN3, 100, 1), (OPENVPN3, 130, 0), ("2.7.8", 5, 1), ("2.7.8", 15, 0)]
    {
        let mut pair = renegotiated_by(of_version(Setup::new(), version));
        pair.net.weather.loss = 100;
        let now = pair.clock();
        pair.client.say_with_former_key(now, "CR_RESPONSE,c2VjcmV0");
        pair.drain();
        let late = pair.net.log.last().unwrap().1.clone();
        pair.run_for(Duration::from_secs(delay));
        pair.deliver(Side::Server, &late);
        pair.drain();
        assert_eq!(pair.at_server.messages.len(), heard, "{version} after {delay} s");
    }
}

/// minivpn, `packetmuxer`: a soft reset is never answered. OpenVPN's server serves such a client until `tran-window` ends.
#[test]
fn a_client_that_does_not_renegotiate_is_served_with_the_old_key() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    pair.net.weather.loss = 100;
    pair.command(Side::Server, Command::Renegotiate);
    pair.run_for(Duration::from_secs(3599));
    assert_eq!(pair.at_server.closed, None);
    assert!(pair.at_server.has_line("The key before serves on until `tran-window` ends"));
    pair.assert_data_flows();
    pair.run_for(Duration::from_secs(2));
    assert_eq!(pair.at_server.closed, Some(CloseReason::HandshakeTimeout));
}

#[test]
fn a_renegotiation_may_come_late() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    pair.net.weather.loss = 100;
    pair.command(Side::Server, Command::Renegotiate);
    pair.run_for(Duration::from_secs(100));
    pair.net.weather.loss = 0;
    pair.run_for(Duration::from_secs(60));
    assert_eq!((pair.at_server.renegotiated.len(), pair.at_client.renegotiated.len()), (1, 1));
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.server().keys().sending(), KeyId::new(1));
    pair.assert_data_flows();
}

/// openvpn3, `cliproto.hpp`: a request at once, then after 1, 2 and each 3 seconds, and each 8 while a login is pending.
#[test]
fn a_client_that_asks_all_the_time_is_answered_once() {
    let mut setup = Setup { credentials: Some(login("joe", "secret")), ..Setup::new() };
    setup.server.require_credentials = true;
    setup.server_script.login = Some(Authorization::Pending { timeout: 60, extra: None });
    let mut pair = Pair::new(setup);
    pair.run_until(Duration::from_secs(1), |pair| !pair.at_server.logins.is_empty());
    for pause in [0, 1, 2, 3, 3, 8, 8] {
        pair.run_for(Duration::from_secs(pause));
        pair.command(Side::Client, Command::SendMessage("PUSH_REQUEST".into()));
    }
    assert!(pair.at_client.pushed.is_empty());
    pair.command(Side::Server, Command::AuthVerdict(KeyId::FIRST, Authorization::Accept));
    pair.establish();
    pair.command(Side::Client, Command::SendMessage("PUSH_REQUEST".into()));
    pair.run_for(Duration::from_secs(3));
    let replies = pair.at_server.lines.iter().filter(|line| line.contains("'PUSH_REPLY")).count();
    assert_eq!((replies, pair.at_client.pushed.len()), (1, 1));
}

#[test]
fn several_messages_may_come_in_one_record() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    pair.command(Side::Client, Command::SendMessage("CR_RESPONSE,YQ==\0\0CR_RESPONSE,Yg==".into()));
    pair.run_for(Duration::from_secs(1));
    let response = |text: &str| PeerMessage::ChallengeResponse(text.into());
    assert_eq!(pair.at_server.messages, [response("YQ=="), response("Yg==")]);
}

/// minivpn, `controlmsg.go`, claims to be 2.5.5, knows data packets with peer id and no more, and means the cipher of its
/// options string.
#[test]
fn a_client_that_knows_only_data_v2_is_told_its_peer_id_and_nothing_else() {
    let mut setup = Setup::new();
    setup.client.peer_info = vec![("IV_VER".into(), "2.5.5".into()), ("IV_PROTO".into(), "2".into())];
    setup.client.options.local =
        "V4,dev-type tun,link-mtu 1549,tun-mtu 1500,proto UDPv4,cipher AES-128-GCM,auth SHA256,keysize 128,\
         key-method 2,tls-client,compress"
            .into();
    // What such a client takes for granted.
    setup.client.data.fallback = Some(CipherName::Aes128Gcm);
    let mut pair = Pair::new(setup);
    pair.establish();
    let options = ["topology subnet", "ifconfig 10.8.0.2 255.255.255.0", "peer-id 7"];
    assert_eq!(pair.at_client.pushed, [options]);
    let params = pair.at_server.params.as_ref().unwrap();
    assert_eq!((params.cipher, params.data_v2), (Some(CipherName::Aes128Gcm), true));
    pair.assert_data_flows();
}
