use std::time::Duration;

use super::{
    net::Weather,
    pair::{Pair, Setup, Wrap, timing},
};
use crate::Timing;

const STORM: Weather = Weather { loss: 15, duplication: 15, damage: 0, jitter: 120 };

#[test]
fn sessions_establish_through_loss_duplication_and_reordering() {
    for seed in 0..60 {
        for wrap in Wrap::ALL {
            let mut pair = Pair::new(Setup { wrap, weather: STORM, seed, ..Setup::new() });
            pair.establish();
            pair.assert_data_flows();
        }
    }
}

#[test]
fn damaged_packets_are_lost_packets_under_tls_crypt() {
    let weather = Weather { damage: 10, loss: 10, ..STORM };
    for seed in 0..40 {
        let mut pair = Pair::new(Setup { wrap: Wrap::TlsCrypt, weather, seed, ..Setup::new() });
        pair.establish();
        pair.assert_data_flows();
    }
}

#[test]
fn damage_without_wrapping_ends_in_an_orderly_way() {
    // SEC-CORE-1: whatever arrives, nothing panics, and a session ends with a reason or stands.
    let weather = Weather { damage: 30, ..STORM };
    for seed in 0..100 {
        let mut pair = Pair::new(Setup { weather, seed, ..Setup::new() });
        pair.run_for(Duration::from_secs(90));
        assert!(
            pair.at_client.closed.is_some() || pair.client.established(),
            "seed {seed}: {:?}",
            pair.at_client.lines
        );
    }
}

#[test]
fn renegotiations_survive_a_storm_and_both_ends_agree_about_keys() {
    for seed in 0..30 {
        let change = |timing: &mut Timing| {
            timing.reneg_after = Duration::from_secs(40);
            timing.reneg_sec = Duration::from_secs(40);
        };
        let mut setup = Setup { wrap: Wrap::TlsCrypt, weather: STORM, seed, ..Setup::new() }.timing(change);
        setup.server.timing.reneg_after = Duration::from_secs(43);
        let mut pair = Pair::new(setup);
        pair.establish();
        for _ in 0..150 {
            pair.run_for(Duration::from_secs(2));
            assert_eq!((&pair.at_client.closed, &pair.at_server.closed), (&None, &None), "seed {seed}");
            pair.assert_data_flows();
        }
        assert!(pair.at_client.renegotiated.len() >= 4, "seed {seed} {:?}", pair.at_client.renegotiated);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    // SEC-CORE-4
    let run = |seed| {
        let change = |timing: &mut Timing| {
            timing.reneg_after = Duration::from_secs(10);
            timing.reneg_sec = Duration::from_secs(10);
        };
        let setup = Setup { wrap: Wrap::TlsCrypt, weather: STORM, seed, ..Setup::new() }.timing(change);
        let mut pair = Pair::new(setup);
        pair.run_for(Duration::from_secs(60));
        pair.net.log
    };
    let first = run(5);
    assert!(first.len() > 50);
    assert!(first == run(5), "two runs of one seed differ");
    assert!(first != run(6), "the seed has no effect");
}

#[test]
fn with_default_timing_nothing_is_sent_once_all_is_acknowledged() {
    let mut pair = Pair::new(Setup::new().timing(|t| *t = timing()));
    pair.establish();
    pair.run_for(Duration::from_secs(10));
    let sent = pair.net.log.len();
    pair.run_for(Duration::from_secs(1000));
    assert_eq!(pair.net.log.len(), sent);
}
