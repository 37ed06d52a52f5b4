use std::time::Duration;

use super::{
    net::{Side, Weather},
    pair::{Pair, Setup, Wrap},
};
use crate::Command;

/// Two sessions that live for this long, with whatever they own at that moment.
fn live_and_die(seed: u64, time: Duration) {
    let weather = Weather { loss: 5, duplication: 5, damage: 0, jitter: 30 };
    let mut pair = Pair::new(Setup { wrap: Wrap::TlsCrypt, weather, seed, ..Setup::new() });
    pair.run_for(time);
    pair.command(Side::Client, Command::Renegotiate);
    pair.run_for(time);
}

#[test]
fn sec_core_5_a_session_takes_with_it_what_it_owned() {
    live_and_die(0, Duration::from_secs(1));
    let memory = allocation_counter::measure(|| {
        for seed in 0..300 {
            live_and_die(seed, Duration::from_millis(seed * 5));
        }
    });
    // Not one byte: 10^6 sessions then are no different from 300.
    assert_eq!((memory.bytes_current, memory.count_current), (0, 0));
}

#[test]
fn sec_ctl_5_a_half_open_session_is_small() {
    let mut pair = Pair::new(Setup { wrap: Wrap::TlsCrypt, ..Setup::new() });
    // Up to the moment before the server's session exists.
    pair.run_until(Duration::from_secs(1), |pair| pair.net.log.len() >= 3);
    let memory = allocation_counter::measure(|| {
        pair.run_until(Duration::from_secs(1), |pair| pair.server.is_some());
    });
    assert!(pair.server.is_some());
    assert!(memory.bytes_current < 64 * 1024, "{} bytes", memory.bytes_current);
}
