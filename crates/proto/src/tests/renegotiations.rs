use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use culvert_wire::{ControlHeader, KeyId};

use super::{
    fake_tls::FakeTls,
    net::Side,
    pair::{Pair, Setup, Wrap, login},
};
use crate::{CloseReason, Command, KeyRing, Timing};

fn key(id: u8) -> KeyId {
    KeyId::new(id).unwrap()
}

fn every(seconds: u64) -> impl Fn(&mut Timing) {
    move |timing| {
        timing.reneg_after = Duration::from_secs(seconds);
        timing.reneg_sec = Duration::from_secs(seconds);
    }
}

#[test]
fn either_side_may_begin_and_key_ids_go_round_without_zero() {
    for side in Side::both() {
        let mut pair = Pair::new(Setup::new().timing(|timing| timing.reneg_sec = Duration::from_secs(1)));
        pair.establish();
        for id in [1, 2, 3, 4, 5, 6, 7, 1, 2] {
            pair.command(side, Command::Renegotiate);
            pair.run_for(Duration::from_secs(1));
            assert_eq!(pair.at_client.renegotiated.last(), Some(&key(id)));
            assert_eq!(pair.at_server.renegotiated.last(), Some(&key(id)));
            pair.assert_data_flows();
        }
    }
}

#[test]
fn both_sides_may_begin_at_the_same_time() {
    let mut pair = Pair::new(Setup { wrap: Wrap::TlsCrypt, ..Setup::new() });
    pair.establish();
    let now = pair.clock();
    pair.server.as_mut().unwrap().handle_command(now, Command::Renegotiate);
    pair.command(Side::Client, Command::Renegotiate);
    pair.run_for(Duration::from_secs(2));
    assert_eq!(pair.at_client.renegotiated, [key(1)]);
    assert_eq!(pair.at_server.renegotiated, [key(1)]);
    pair.assert_data_flows();
}

#[test]
fn the_old_key_sends_until_the_switch_delay() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    pair.command(Side::Client, Command::Renegotiate);
    pair.run_for(Duration::from_secs(59));
    assert_eq!(pair.client.keys(), KeyRing::Rekeying { sending: key(0), next: key(1) });
    pair.run_for(Duration::from_secs(2));
    assert_eq!(pair.client.keys(), KeyRing::Draining { sending: key(1), previous: key(0) });
    pair.run_for(Duration::from_secs(3600));
    assert_eq!(pair.client.keys(), KeyRing::One(key(1)));
    assert_eq!(pair.server().keys(), KeyRing::One(key(1)));
}

#[test]
fn a_server_has_the_next_key_before_its_client_can_send_with_it() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    pair.command(Side::Server, Command::Renegotiate);
    let next = KeyRing::Rekeying { sending: key(0), next: key(1) };
    for _ in 0..1000 {
        if pair.server().keys() == next {
            // The message that lets the client derive the key is still on its way.
            return assert_eq!(pair.client.keys(), KeyRing::One(key(0)));
        }
        pair.run_for(Duration::from_millis(1));
    }
    panic!("the server never installed the key");
}

#[test]
fn age_starts_renegotiations_again_and_again() {
    let mut pair = Pair::new(Setup::new().timing(every(2)));
    pair.establish();
    for _ in 0..100 {
        pair.run_for(Duration::from_millis(500));
        pair.assert_data_flows();
    }
    assert!(pair.at_client.renegotiated.len() > 20, "{:?}", pair.at_client.renegotiated);
}

#[test]
fn usage_starts_a_renegotiation_when_a_limit_is_reached() {
    let mut pair = Pair::new(Setup::new().timing(|timing| timing.reneg_bytes = Some(1000)));
    pair.establish();
    pair.command(Side::Server, Command::Usage { packets: 1, bytes: 999 });
    pair.run_for(Duration::from_secs(1));
    assert!(pair.at_server.renegotiated.is_empty());
    pair.command(Side::Server, Command::Usage { packets: 1, bytes: 1000 });
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.at_server.renegotiated, [key(1)]);
}

#[test]
fn a_peer_with_a_far_shorter_interval_is_followed_before_the_switch() {
    // Design, walk (iii): there are two slots only.
    let mut setup = Setup::new();
    every(3)(&mut setup.client.timing);
    let mut pair = Pair::new(setup);
    pair.establish();
    for _ in 0..60 {
        pair.run_for(Duration::from_millis(500));
        pair.assert_data_flows();
    }
    assert!(pair.at_server.offload.swaps >= 8);
}

#[test]
fn counts_of_the_old_key_ask_for_nothing_while_the_next_one_waits() {
    let mut pair = Pair::new(Setup::new().timing(|timing| timing.reneg_bytes = Some(1000)));
    pair.establish();
    for bytes in (1000..30_000).step_by(1000) {
        pair.command(Side::Server, Command::Usage { packets: 1, bytes });
        pair.run_for(Duration::from_secs(1));
    }
    assert_eq!(pair.at_server.renegotiated, [key(1)]);
}

#[test]
fn an_exhausted_key_is_replaced_by_the_one_that_waits() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    pair.command(Side::Client, Command::Renegotiate);
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.client.keys().sending(), Some(key(0)));
    pair.command(Side::Client, Command::Renegotiate);
    pair.run_for(Duration::from_secs(2));
    assert_eq!(pair.client.keys().sending(), Some(key(1)));
    assert_eq!(pair.at_client.renegotiated, [key(1)]);
}

#[test]
fn everything_is_checked_again() {
    // SEC-AUTH-2
    let mut setup = Setup { credentials: Some(login("joe", "secret")), ..Setup::new() };
    setup.server.require_credentials = true;
    let mut pair = Pair::new(setup);
    pair.establish();
    pair.command(Side::Client, Command::Renegotiate);
    pair.run_for(Duration::from_secs(2));
    let logins: Vec<_> = pair.at_server.logins.iter().map(|login| (login.0, login.1.as_str())).collect();
    assert_eq!(logins, [(key(0), "joe"), (key(1), "joe")]);
    assert_eq!(pair.at_server.verified, [key(0), key(1)]);
    assert_eq!(pair.at_client.verified, [key(0), key(1)]);
}

#[test]
fn a_session_that_began_without_logins_is_asked_once_they_are_judged() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    pair.command(Side::Server, Command::RequireCredentials(true));
    pair.run_for(Duration::from_secs(2));
    assert!(pair.at_server.logins.is_empty() && pair.at_server.closed.is_none());
    pair.command(Side::Client, Command::Renegotiate);
    pair.run_for(Duration::from_secs(2));
    let logins: Vec<_> = pair.at_server.logins.iter().map(|login| (login.0, login.1.as_str())).collect();
    assert_eq!(logins, [(key(1), "")]);
}

#[test]
fn a_login_that_is_to_be_forgotten_is_sent_once() {
    let mut setup = Setup { credentials: Some(login("joe", "secret")), ..Setup::new() };
    setup.client.forget_credentials = true;
    let mut pair = Pair::new(setup);
    pair.establish();
    pair.command(Side::Client, Command::Credentials(login("joe", "secret")));
    pair.command(Side::Client, Command::Renegotiate);
    pair.run_for(Duration::from_secs(120)); // beyond `hand-window`: keys change no sooner
    assert_eq!(pair.at_client.renegotiated, [key(1)], "it was given anew");
    pair.command(Side::Client, Command::Renegotiate);
    pair.run_for(Duration::from_secs(10));
    assert!(pair.at_server.has_line("username attempted to change from 'joe' to '' -- tunnel disabled"));
}

#[test]
fn another_user_name_ends_the_session() {
    // SEC-AUTH-2
    let mut pair = Pair::new(Setup { credentials: Some(login("joe", "secret")), ..Setup::new() });
    pair.establish();
    pair.command(Side::Client, Command::Credentials(login("jim", "secret")));
    pair.command(Side::Client, Command::Renegotiate);
    pair.run_for(Duration::from_secs(10));
    assert!(pair.at_server.has_line("username attempted to change from 'joe' to 'jim' -- tunnel disabled"));
    assert!(pair.at_server.renegotiated.is_empty());
    assert!(matches!(pair.at_server.closed, Some(CloseReason::Denied(_))));
    assert!(matches!(pair.at_client.closed, Some(CloseReason::AuthFailed(_))));
}

#[test]
fn another_certificate_ends_the_session_from_either_side() {
    // SEC-AUTH-2
    let tls = || {
        let tls = FakeTls::new(false, "client");
        tls.rename_from.store(1, Ordering::Relaxed);
        Arc::new(tls)
    };
    let mut pair = Pair::new(Setup { client_tls: tls(), ..Setup::new() });
    pair.establish();
    pair.command(Side::Client, Command::Renegotiate);
    pair.run_for(Duration::from_secs(10));
    assert!(pair.at_server.has_line("CN attempted to change from 'client' to 'somebody else'"));
    assert!(matches!(pair.at_server.closed, Some(CloseReason::Denied(_))));

    let server_tls = FakeTls::new(true, "server");
    server_tls.rename_from.store(1, Ordering::Relaxed);
    let mut pair = Pair::new(Setup { server_tls: Arc::new(server_tls), ..Setup::new() });
    pair.establish();
    pair.command(Side::Client, Command::Renegotiate);
    pair.run_for(Duration::from_secs(10));
    assert!(matches!(pair.at_client.closed, Some(CloseReason::Denied(_))), "{:?}", pair.at_client.closed);
    assert!(pair.at_client.renegotiated.is_empty());
}

#[test]
fn renegotiations_are_wrapped_by_dynamic_tls_crypt_even_without_wrapping() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    let before = pair.net.log.len();
    pair.command(Side::Client, Command::Renegotiate);
    pair.run_for(Duration::from_secs(1));
    let rekeying: Vec<_> = pair.net.log[before..]
        .iter()
        .filter(|(_, bytes)| ControlHeader::parse(bytes).unwrap().0.key_id == key(1))
        .collect();
    // A bare soft reset has 14 bytes; tls-crypt adds 40.
    assert_eq!(rekeying[0].1.len(), 54);
    assert!(rekeying.iter().all(|(_, bytes)| bytes.len() >= 54));
}

#[test]
fn a_renegotiation_that_gets_no_answer_ends_the_session() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    pair.net.weather.loss = 100;
    pair.command(Side::Client, Command::Renegotiate);
    pair.run_for(Duration::from_secs(61));
    assert_eq!(pair.at_client.closed, Some(CloseReason::HandshakeTimeout));
    assert_eq!(pair.at_server.closed, None);
}
