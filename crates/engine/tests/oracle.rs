//! Joining and cutting against the plain oracle of `culvert_testkit::inner`.
//!
//! The packets are decided by bytes, so that a failure shrinks to few of them. `CULVERT_ORACLE_CASES` raises the
//! number of cases.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use culvert_engine::fuzzing;
use culvert_testkit::inner::{Choices, Delivered, Mix, VnetHeader, compare, cut, deliver, super_frame};
use culvert_testkit::sim::SimRandom;
use proptest::prelude::*;

/// Joins packets, and cuts the frames as the kernel would.
fn through(tcp: bool, udp: bool, packets: &[Vec<u8>]) -> Result<Vec<Delivered>, String> {
    let mut out = Vec::new();
    let mut refused = Ok(());
    fuzzing::join(tcp, udp, packets, |frame| match deliver(frame) {
        Ok(packets) => out.extend(packets),
        Err(error) => refused = Err(error),
    });
    refused.map(|()| out)
}

/// What is joined for any kind of device is what came, packet by packet.
fn check(packets: &[Vec<u8>]) -> Result<(), String> {
    for (tcp, udp) in [(false, false), (true, false), (true, true)] {
        compare(packets, &through(tcp, udp, packets)?).map_err(|error| format!("{error} (udp: {udp})"))?;
    }
    Ok(())
}

fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SimRandom::new(seed).fill(&mut bytes);
    bytes
}

fn cases() -> u32 {
    std::env::var("CULVERT_ORACLE_CASES").ok().and_then(|number| number.parse().ok()).unwrap_or(200)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn whatever_is_joined_comes_apart_as_it_was(choices in prop::collection::vec(any::<u8>(), 0..300)) {
        let packets: Vec<_> = Mix::hostile(&choices, 1500).collect();
        prop_assert_eq!(check(&packets), Ok(()));
    }

    #[test]
    fn so_do_the_largest_packets(choices in prop::collection::vec(any::<u8>(), 0..60)) {
        let packets: Vec<_> = Mix::hostile(&choices, 65_535).collect();
        prop_assert_eq!(check(&packets), Ok(()));
    }

    #[test]
    fn a_super_packet_is_cut_as_the_kernel_cuts_it(choices in prop::collection::vec(any::<u8>(), 16..17)) {
        let frame = super_frame(&mut Choices::new(&choices), 1500);
        prop_assert_eq!(fuzzing::cut(&frame), cut(&frame).ok());
    }

    #[test]
    fn a_damaged_frame_is_cut_right_or_not_at_all(
        choices in prop::collection::vec(any::<u8>(), 16..17),
        damage in prop::collection::vec((0_usize..80, any::<u8>()), 1..4),
    ) {
        let mut frame = super_frame(&mut Choices::new(&choices), 1500);
        for (at, value) in damage {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        let packets = fuzzing::cut(&frame);
        // Where the kernel would take the frame, nothing else than what it makes of it will do. (It is more
        // particular about frames than the engine, which need not be: no frame comes from anybody else.)
        if let Ok(expected) = cut(&frame) {
            prop_assert_eq!(packets, Some(expected));
        }
    }
}

#[test]
fn a_long_mixture_comes_apart_as_it_was() {
    for seed in 0..4 {
        let choices = random(seed, 8000);
        let packets: Vec<_> = Mix::hostile(&choices, 1500).collect();
        assert_eq!(check(&packets), Ok(()), "seed {seed}");
    }
}

#[test]
fn streams_are_joined_and_not_merely_passed_on() {
    // Zero is "the flow goes on": 100 bytes of payload each.
    let packets: Vec<_> = Mix::hostile(&[0; 64], 1500).collect();
    let mut frames = 0;
    fuzzing::join(true, true, &packets, |frame| {
        assert_eq!(VnetHeader::split(frame).unwrap().0.gso_size, 100);
        frames += 1;
    });
    assert_eq!(frames, 1);
}
