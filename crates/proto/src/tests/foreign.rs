//! What clients of other origin do that OpenVPN's own do not: those on openvpn3 (OpenVPN Connect, phones) and on Go
//! libraries. Each test names where the shape was read.

use std::time::Duration;

use culvert_wire::{ControlHeader, KeyId, Opcode};

use super::{
    net::Side,
    pair::{Pair, Setup, Wrap},
};
use crate::{CloseReason, Command, PeerMessage, Transport};

/// A pair that has just renegotiated.
fn renegotiated(setup: Setup) -> Pair {
    let mut pair = Pair::new(setup);
    pair.establish();
    pair.command(Side::Server, Command::Renegotiate);
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.at_client.renegotiated, pair.at_server.renegotiated);
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
    for (version, at_least, at_most) in [("2.7.8", 18, 20), ("3.12_git:master", 2, 3)] {
        let mut setup = Setup::new();
        setup.server.timing.reneg_after = Duration::from_secs(10);
        setup.server.timing.reneg_sec = Duration::from_secs(10);
        for (name, value) in &mut setup.client.peer_info {
            if name == "IV_VER" {
                *value = version.to_owned();
            }
        }
        let mut pair = Pair::new(setup);
        pair.establish();
        pair.run_for(Duration::from_secs(200));
        let count = pair.at_server.renegotiated.len();
        assert!((at_least..=at_most).contains(&count), "{version}: {count}");
        pair.assert_data_flows();
    }
}

#[test]
fn the_former_key_is_forgotten_after_two_hand_windows() {
    for (delay, heard) in [(100, 1), (130, 0)] {
        let mut pair = renegotiated(Setup::new());
        pair.net.weather.loss = 100;
        let now = pair.clock();
        pair.client.say_with_former_key(now, "CR_RESPONSE,c2VjcmV0");
        pair.drain();
        let late = pair.net.log.last().unwrap().1.clone();
        pair.run_for(Duration::from_secs(delay));
        pair.deliver(Side::Server, &late);
        pair.drain();
        assert_eq!(pair.at_server.messages.len(), heard, "after {delay} s");
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
