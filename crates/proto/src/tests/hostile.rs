use std::time::Duration;

use culvert_wire::Opcode;
use proptest::prelude::*;

use super::{
    net::{Rng, Side},
    pair::{Pair, Setup, Wrap, client_address, server_address},
};
use crate::Transport;

fn established(wrap: Wrap) -> Pair {
    let mut pair = Pair::new(Setup { wrap, ..Setup::new() });
    pair.establish();
    pair.run_for(Duration::from_secs(2));
    pair
}

#[test]
fn hard_resets_do_not_disturb_an_established_session() {
    // SEC-CTL-10
    for wrap in [Wrap::None, Wrap::TlsCrypt] {
        let mut pair = established(wrap);
        let reset = pair.net.log[0].1.clone();
        let mut rng = Rng::new(1);
        for _ in 0..50 {
            let mut forged = reset.clone();
            rng.fill(&mut forged[1..9]);
            pair.deliver(Side::Server, &forged);
            pair.deliver(Side::Server, &reset);
            forged[0] = Opcode::HardResetServerV2.header(culvert_wire::KeyId::FIRST);
            pair.deliver(Side::Client, &forged);
        }
        pair.run_for(Duration::from_secs(10));
        pair.command(Side::Client, crate::Command::Renegotiate);
        pair.run_for(Duration::from_secs(2));
        assert_eq!(pair.at_server.renegotiated.len(), 1);
        assert_eq!((&pair.at_client.closed, &pair.at_server.closed), (&None, &None));
    }
}

#[test]
fn control_packets_do_not_float() {
    // trap 23
    let mut pair = Pair::new(Setup::new());
    pair.net.weather.loss = 100;
    pair.drain();
    let now = pair.clock();
    let error = pair.client.handle_datagram(now, client_address(), &pair.net.log[0].1.clone()).unwrap_err();
    assert!(error.to_string().contains("another address"));
}

#[test]
fn a_reset_that_acknowledges_nothing_is_not_an_answer() {
    let mut pair = Pair::new(Setup::new());
    pair.net.weather.loss = 100;
    pair.drain();
    let mut reset = pair.net.log[0].1.clone();
    reset[0] = Opcode::HardResetServerV2.header(culvert_wire::KeyId::FIRST);
    let now = pair.clock();
    let error = pair.client.handle_datagram(now, server_address(), &reset).unwrap_err();
    assert!(error.to_string().contains("acknowledges nothing"), "{error}");
}

#[test]
fn a_wrapped_key_that_the_client_does_not_have_is_asked_for_in_vain() {
    // SEC-CTL-8
    let mut pair = Pair::new(Setup::new());
    pair.run_until(Duration::from_secs(1), |pair| pair.net.log.len() == 2);
    let mut reset = pair.net.log[1].1.clone();
    reset.extend_from_slice(&[0, 1, 0, 2, 0, 1]);
    pair.deliver(Side::Client, &reset);
    pair.establish();
}

#[test]
fn every_packet_may_be_replayed_without_effect() {
    for wrap in Wrap::ALL {
        let mut pair = established(wrap);
        let log = pair.net.log.clone();
        for (to, bytes) in log {
            pair.deliver(to, &bytes);
        }
        pair.run_for(Duration::from_secs(5));
        assert_eq!((&pair.at_client.closed, &pair.at_server.closed), (&None, &None), "{wrap:?}");
        assert_eq!((pair.at_client.established, pair.at_server.established), (1, 1));
        pair.assert_data_flows();
    }
}

#[test]
fn a_stream_with_a_broken_packet_is_closed() {
    let mut pair = Pair::new(Setup { wrap: Wrap::TlsCrypt, ..Setup::new() }.transport(Transport::Tcp));
    pair.establish();
    let mut packet = pair.net.log.iter().rev().find(|(to, _)| *to == Side::Client).unwrap().1.clone();
    *packet.last_mut().unwrap() ^= 1;
    pair.deliver(Side::Client, &packet);
    pair.drain();
    assert!(matches!(pair.at_client.closed, Some(crate::CloseReason::Protocol(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// SEC-CORE-1: random bytes, and real packets with random changes, at any time of a session.
    #[test]
    fn no_bytes_make_a_session_panic(seed in any::<u64>(), when in 0_u64..600, cut in 0_usize..60) {
        let mut pair = Pair::new(Setup::new());
        pair.run_for(Duration::from_millis(when));
        let mut rng = Rng::new(seed);
        let log = pair.net.log.clone();
        for (to, mut bytes) in log {
            for _ in 0..3 {
                let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
                bytes[at] ^= rng.next().to_be_bytes()[3];
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            pair.deliver(to, &bytes);
            pair.deliver(to.other(), &bytes);
            let mut noise = vec![0; cut];
            rng.fill(&mut noise);
            pair.deliver(to, &noise);
            pair.drain();
        }
        pair.run_for(Duration::from_secs(200));
    }
}
