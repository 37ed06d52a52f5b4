use std::time::Duration;

use super::{
    net::Side,
    pair::{Pair, Setup},
};
use crate::{CloseReason, Command, PeerMessage};

#[test]
fn a_leaving_client_tells_the_server_over_the_control_channel() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    pair.command(Side::Client, Command::Exit);
    pair.run_for(Duration::from_millis(100));
    assert_eq!(
        pair.at_client.closed,
        Some(CloseReason::Local),
        "closed as soon as the farewell is acknowledged"
    );
    assert_eq!(pair.at_server.messages, [PeerMessage::Exit]);
    assert_eq!(pair.at_server.closed, None);
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.at_server.closed, Some(CloseReason::PeerExit));
}

#[test]
fn a_farewell_is_repeated_until_acknowledged_and_not_for_ever() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    pair.net.weather.loss = 100;
    let sent = pair.net.log.len();
    pair.command(Side::Client, Command::Exit);
    pair.run_for(Duration::from_millis(2900));
    assert_eq!((pair.net.log.len() - sent, &pair.at_client.closed), (2, &None));
    pair.run_for(Duration::from_millis(200));
    assert_eq!(pair.at_client.closed, Some(CloseReason::Local));
}

#[test]
fn repeated_exits_do_not_prolong_a_session() {
    // SEC-CTL-9
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    for _ in 0..4 {
        pair.command(Side::Client, Command::SendMessage("EXIT".into()));
        pair.run_for(Duration::from_secs(1));
    }
    assert_eq!(pair.at_server.messages, [PeerMessage::Exit], "it acts once");
    pair.run_for(Duration::from_millis(1100));
    assert_eq!(pair.at_server.closed, Some(CloseReason::PeerExit));
}

#[test]
fn a_restart_from_the_server_carries_its_flags() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    pair.command(Side::Server, Command::SendMessage("RESTART,[N]".into()));
    pair.command(Side::Server, Command::Exit);
    pair.run_for(Duration::from_millis(200));
    let restart = PeerMessage::Restart { next_remote: true, keep_password: false, text: String::new() };
    assert_eq!(pair.at_client.messages, [restart]);
    assert_eq!(pair.at_client.closed, Some(CloseReason::PeerRestart));
    assert_eq!(pair.at_server.closed, Some(CloseReason::Local));
}

#[test]
fn a_server_that_halts_a_client_stops_it() {
    let mut pair = Pair::new(Setup::new());
    pair.establish();
    pair.command(Side::Server, Command::SendMessage("HALT,maintenance".into()));
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.at_client.messages, [PeerMessage::Halt("maintenance".into())]);
    assert_eq!(pair.at_client.closed, Some(CloseReason::PeerHalt));
}

#[test]
fn an_end_that_was_never_up_just_leaves() {
    let mut pair = Pair::new(Setup::new());
    pair.command(Side::Client, Command::Exit);
    assert_eq!(pair.at_client.closed, Some(CloseReason::Local));
    assert_eq!(pair.client.poll_timeout(), None);
}

#[test]
fn a_point_to_point_peer_that_leaves_closes_the_other_end_at_once() {
    let mut pair = Pair::new(Setup::point_to_point());
    pair.establish();
    pair.command(Side::Server, Command::Exit);
    pair.run_for(Duration::from_millis(200));
    assert_eq!(pair.at_client.closed, Some(CloseReason::PeerExit));
    assert_eq!(pair.at_server.closed, Some(CloseReason::Local));
}
