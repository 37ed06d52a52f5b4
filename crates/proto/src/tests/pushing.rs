use std::time::Duration;

use culvert_wire::{CipherName, PeerId};

use super::{
    driver::Script,
    net::Side,
    pair::{Pair, Setup, login},
};
use crate::{Authorization, CloseReason, Command, DataConfig, PeerMessage, TemporaryFailure};

fn drop_line(setup: &mut Setup, name: &str) {
    setup.client.peer_info.retain(|line| line.0 != name);
}

fn iv_proto(setup: &mut Setup, bits: u32) {
    drop_line(setup, "IV_PROTO");
    setup.client.peer_info.push(("IV_PROTO".into(), bits.to_string()));
}

#[test]
fn a_modern_client_never_asks() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    pair.run_for(Duration::from_secs(10));
    assert_eq!(pair.at_client.requests, 0);
    assert_eq!(
        pair.at_client.pushed,
        [[
            "topology subnet",
            "ifconfig 10.8.0.2 255.255.255.0",
            "peer-id 7",
            "cipher AES-256-GCM",
            "protocol-flags cc-exit tls-ekm dyn-tls-crypt aead-epoch"
        ]]
    );
}

#[test]
fn a_client_that_has_to_ask_asks() {
    let mut setup = Setup::new();
    iv_proto(&mut setup, 2);
    let mut pair = Pair::new(setup);
    pair.establish();
    assert!(pair.at_server.has_line("PUSH: Received control message: 'PUSH_REQUEST'"));
    assert_eq!((pair.at_client.requests, pair.at_client.pushed.len()), (1, 1));
    assert!(!pair.at_client.offload.primary.as_ref().unwrap().epoch);
    pair.assert_data_flows();
}

#[test]
fn a_request_before_the_answer_is_known_is_remembered() {
    let mut setup = Setup { credentials: Some(login("joe", "x")), ..Setup::new() };
    iv_proto(&mut setup, 2);
    setup.server_script = Script { login: None, ..Script::default() };
    let mut pair = Pair::new(setup);
    pair.run_for(Duration::from_secs(8));
    assert_eq!((pair.at_server.logins.len(), pair.at_client.pushed.len()), (1, 0));
    let key = pair.at_server.logins[0].0;
    pair.command(Side::Server, Command::AuthVerdict(key, Authorization::Accept));
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.at_client.pushed.len(), 1, "answered at once, not at the next request");
}

#[test]
fn a_request_soon_after_a_reply_is_ignored_and_a_late_one_answered() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    let replies = |pair: &Pair| pair.at_server.lines.iter().filter(|l| l.contains("'PUSH_REPLY")).count();
    pair.command(Side::Client, Command::SendMessage("PUSH_REQUEST".into()));
    pair.run_for(Duration::from_secs(25));
    assert_eq!(replies(&pair), 1);
    pair.run_for(Duration::from_secs(10));
    pair.command(Side::Client, Command::SendMessage("PUSH_REQUEST".into()));
    pair.run_for(Duration::from_secs(1));
    assert_eq!((replies(&pair), pair.at_server.established), (2, 1));
}

/// What this client alone is offered, before anything came of what all are offered.
fn offered(ciphers: &[CipherName]) -> Pair {
    let mut setup = Setup::new();
    setup.server_script = Script { configures: false, ..Script::default() };
    let mut pair = Pair::new(setup);
    pair.run_for(Duration::from_secs(2));
    assert_eq!(pair.at_server.params.as_ref().unwrap().cipher, Some(CipherName::Aes256Gcm));
    let ciphers = ciphers.to_vec();
    let own = DataConfig { ciphers, fallback: None, digest: None, epoch: true, data_v1: true };
    let told = pair.at_server.params.as_ref().unwrap().offered(&own).and_then(|params| params.cipher);
    assert_eq!(told, own.ciphers.first().copied().filter(|cipher| cipher.is_aead()));
    pair.command(Side::Server, Command::Offer(Box::new(own)));
    pair.command(Side::Server, Command::Configured { peer_id: PeerId::new(7), push: Vec::new() });
    pair.run_for(Duration::from_secs(2));
    pair
}

#[test]
fn a_client_gets_a_cipher_of_the_list_that_is_its_own() {
    let pair = offered(&[CipherName::Aes128Gcm]);
    assert!(pair.at_client.pushed.concat().contains(&"cipher AES-128-GCM".to_owned()));
    pair.assert_data_flows();
}

#[test]
fn a_client_that_has_none_of_its_own_list_is_refused_and_told_why() {
    let pair = offered(&[CipherName::BfCbc]);
    assert!(
        pair.at_server
            .has_line("PUSH: No common cipher between server and client. Server data-ciphers: 'BF-CBC'")
    );
    let Some(CloseReason::AuthFailed(failure)) = &pair.at_client.closed else { panic!("refused") };
    assert_eq!(failure.reason.as_deref(), Some("Data channel cipher negotiation failed (no shared cipher)"));
}

/// A client whose one cipher is not among what all are offered, when the driver is asked.
fn with_a_cipher_of_its_own(silent: bool) -> Pair {
    let mut setup = Setup::new();
    if silent {
        setup.client.peer_info.retain(|(name, _)| name != "IV_CIPHERS" && name != "IV_NCP");
        setup.client.data.fallback = Some(CipherName::Aes256Gcm);
    } else {
        setup.client.data.ciphers = vec![CipherName::Aes192Gcm];
        drop_line(&mut setup, "IV_CIPHERS");
        setup.client.peer_info.push(("IV_CIPHERS".into(), "AES-192-GCM".into()));
    }
    setup.server.data.ciphers = vec![CipherName::Aes128Gcm];
    setup.server_script = Script { configures: false, ..Script::default() };
    let mut pair = Pair::new(setup);
    pair.run_for(Duration::from_secs(2));
    let params = pair.at_server.params.as_ref().unwrap();
    assert_eq!((params.cipher, params.flags.tls_ekm), (None, true));
    assert!(pair.at_client.closed.is_none());
    pair
}

#[test]
fn a_client_is_not_refused_before_it_is_known_what_it_alone_is_offered() {
    for silent in [false, true] {
        let mut pair = with_a_cipher_of_its_own(silent);
        let ciphers = if silent { vec![CipherName::Aes128Gcm] } else { vec![CipherName::Aes192Gcm] };
        let fallback = silent.then_some(CipherName::Aes256Gcm);
        let own = DataConfig { ciphers, fallback, digest: None, epoch: true, data_v1: true };
        pair.command(Side::Server, Command::Offer(Box::new(own)));
        pair.command(Side::Server, Command::Configured { peer_id: PeerId::new(7), push: Vec::new() });
        pair.run_for(Duration::from_secs(2));
        pair.assert_data_flows();
    }
}

#[test]
fn a_client_without_a_cipher_is_refused_when_nothing_else_is_offered() {
    let mut pair = with_a_cipher_of_its_own(false);
    pair.command(Side::Server, Command::Configured { peer_id: PeerId::new(7), push: Vec::new() });
    pair.run_for(Duration::from_secs(2));
    let line = "PUSH: No common cipher between server and client. Server data-ciphers: 'AES-128-GCM'";
    assert!(pair.at_server.has_line(line));
    let Some(CloseReason::AuthFailed(failure)) = &pair.at_client.closed else { panic!("refused") };
    assert_eq!(failure.reason.as_deref(), Some("Data channel cipher negotiation failed (no shared cipher)"));
}

#[test]
fn long_lists_arrive_whole() {
    let mut setup = Setup::new();
    setup.server_script.push =
        (0..300).map(|i| format!("route 10.{}.{}.0 255.255.255.0", i / 256, i % 256)).collect();
    let pushed = setup.server_script.push.clone();
    let mut pair = Pair::new(setup);
    pair.establish();
    assert_eq!(pair.at_client.pushed[0][..300], pushed);
    assert_eq!(pair.at_client.pushed[0].len(), 303);
}

#[test]
fn a_client_gives_up_when_nothing_is_pushed() {
    let mut setup = Setup::new();
    setup.server_script.configures = false;
    let mut pair = Pair::new(setup);
    pair.run_until(Duration::from_secs(200), |pair| pair.at_client.closed.is_some());
    assert_eq!(pair.at_client.closed, Some(CloseReason::NoPushReply));
    assert_eq!(pair.elapsed().as_secs(), 60);
    let requests = pair.at_server.lines.iter().filter(|line| line.contains("'PUSH_REQUEST'")).count();
    assert_eq!(requests, 12, "one each five seconds");
}

#[test]
fn a_pending_login_lets_the_client_wait() {
    let mut setup = Setup { credentials: Some(login("joe", "x")), ..Setup::new() };
    let extra = Some("WEB_AUTH::https://login.example".to_owned());
    setup.server_script.login = Some(Authorization::Pending { timeout: 300, extra });
    let mut pair = Pair::new(setup);
    pair.run_for(Duration::from_secs(250));
    assert_eq!(
        pair.at_client.messages,
        [PeerMessage::AuthPending(300), PeerMessage::Info("WEB_AUTH::https://login.example".into())]
    );
    let key = pair.at_server.logins[0].0;
    pair.command(Side::Server, Command::AuthVerdict(key, Authorization::Accept));
    pair.establish();
}

#[test]
fn a_pending_login_that_is_never_decided_is_refused() {
    // SEC-AUTH-1
    let mut setup = Setup { credentials: Some(login("joe", "x")), ..Setup::new() };
    setup.server_script.login = Some(Authorization::Pending { timeout: 20, extra: None });
    let mut pair = Pair::new(setup);
    pair.run_for(Duration::from_secs(30));
    assert!(matches!(pair.at_client.closed, Some(CloseReason::AuthFailed(_))));
    assert!(pair.at_server.offload.primary.is_none());
}

#[test]
fn a_login_without_any_verdict_is_refused_after_hand_window() {
    // SEC-AUTH-1
    let mut setup = Setup { credentials: Some(login("joe", "x")), ..Setup::new() };
    setup.server_script.login = None;
    let mut pair = Pair::new(setup);
    pair.run_for(Duration::from_secs(66));
    assert!(matches!(pair.at_server.closed, Some(CloseReason::Denied(_))), "{:?}", pair.at_server.closed);
    assert!(pair.at_server.offload.primary.is_none() && pair.at_client.offload.primary.is_none());
}

#[test]
fn a_wrong_password_is_answered_with_auth_failed_and_nothing_else() {
    // SEC-AUTH-1
    let mut setup = Setup { credentials: Some(login("joe", "wrong")), ..Setup::new() };
    setup.server_script.login = Some(Authorization::Deny(Some("go away".into())));
    let mut pair = Pair::new(setup);
    pair.run_for(Duration::from_secs(2));
    let Some(CloseReason::AuthFailed(failure)) = &pair.at_client.closed else { panic!() };
    assert_eq!(failure.reason.as_deref(), Some("go away"));
    assert!(pair.at_client.has_line("AUTH: Received control message: AUTH_FAILED,go away"));
    assert_eq!(pair.at_server.closed, None, "the server stays for retransmissions");
    pair.run_for(Duration::from_secs(5));
    assert!(matches!(pair.at_server.closed, Some(CloseReason::Denied(_))));
    assert!(pair.at_client.pushed.is_empty() && pair.at_server.offload.primary.is_none());
}

#[test]
fn a_refusal_after_login_reaches_the_client() {
    let mut setup = Setup::new();
    setup.server_script.configures = false;
    let mut pair = Pair::new(setup);
    pair.run_until(Duration::from_secs(5), |pair| pair.at_server.params.is_some());
    pair.command(Side::Server, Command::Refuse(Some("TEMP[backoff 42,advance no]:busy".into())));
    pair.run_for(Duration::from_secs(1));
    let Some(CloseReason::AuthFailed(failure)) = &pair.at_client.closed else { panic!() };
    assert_eq!(failure.temporary.as_ref().unwrap().backoff, Some(42));
}

#[test]
fn who_does_not_know_temporary_failures_is_told_to_restart_and_not_that_its_password_is_wrong() {
    let mut setup = Setup { credentials: Some(login("joe", "x")), ..Setup::new() };
    setup.client.peer_info = vec![("IV_VER".into(), "2.5.5".into()), ("IV_PROTO".into(), "6".into())];
    setup.server_script.login = Some(Authorization::Deny(Some("TEMP[backoff 20]:later".into())));
    let mut pair = Pair::new(setup);
    pair.run_for(Duration::from_secs(2));
    assert!(
        matches!(pair.at_client.messages[..], [PeerMessage::Restart { .. }]),
        "{:?}",
        pair.at_client.messages
    );
    assert!(pair.at_client.pushed.is_empty() && pair.at_server.offload.primary.is_none());
    pair.run_for(Duration::from_secs(6));
    assert!(matches!(pair.at_server.closed, Some(CloseReason::Denied(_))));
}

#[test]
fn a_reason_that_only_begins_like_a_temporary_failure_is_told_as_it_is() {
    let text = "TEMPORARILY blocked";
    let mut setup = Setup { credentials: Some(login("joe", "x")), ..Setup::new() };
    setup.client.peer_info = vec![("IV_VER".into(), "2.5.5".into()), ("IV_PROTO".into(), "6".into())];
    setup.server_script.login = Some(Authorization::Deny(Some(text.into())));
    let mut pair = Pair::new(setup);
    pair.run_for(Duration::from_secs(2));
    let Some(CloseReason::AuthFailed(failure)) = &pair.at_client.closed else { panic!("not told") };
    assert_eq!(failure.reason.as_deref(), Some(text));
    for (reason, is_meant) in
        [("TEMP", true), ("TEMP:x", true), ("TEMP[backoff 5]", true), (text, false), ("", false)]
    {
        assert_eq!(TemporaryFailure::is_meant_by(reason), is_meant, "{reason}");
    }
}

#[test]
fn a_later_reply_changes_nothing_but_the_token() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    let text = "PUSH_REPLY,auth-token SESS_ID_AT_x,route 0.0.0.0 0.0.0.0".to_owned();
    pair.command(Side::Server, Command::SendMessage(text));
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.at_client.messages, [PeerMessage::AuthToken(vec!["auth-token SESS_ID_AT_x".into()])]);
    assert_eq!(pair.at_client.pushed.len(), 1);
    assert!(!pair.at_client.has_line("SESS_ID_AT_x") && !pair.at_server.has_line("SESS_ID_AT_x"));
}

#[test]
fn an_update_arrives_with_all_its_continuations() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    for part in
        ["PUSH_UPDATE,route 10.1.0.0 255.255.0.0,push-continuation 2", "PUSH_UPDATE,-dns,push-continuation 1"]
    {
        pair.command(Side::Server, Command::SendMessage(part.into()));
    }
    pair.run_for(Duration::from_secs(1));
    let items = vec!["route 10.1.0.0 255.255.0.0".to_owned(), "-dns".to_owned()];
    assert_eq!(pair.at_client.messages, [PeerMessage::PushUpdate(items)]);
}
