//! A driver that says anything at any time: answers nobody asked for, orders in the wrong phase, late verdicts.

use std::time::Duration;

use culvert_wire::{CipherName, KeyId, PeerId};
use proptest::prelude::*;

use super::{
    net::{Side, Weather},
    pair::{Pair, Setup, Wrap, login},
};
use crate::{Authorization, Command, DataConfig, PushedProtocol, Verdict};

fn command(which: u8, key: u8) -> Command {
    let key = KeyId::new(key % 8).unwrap_or_default();
    match which % 14 {
        0 => Command::PeerVerdict(key, Verdict::Accept),
        1 => Command::AuthVerdict(key, Authorization::Accept),
        2 => Command::AuthVerdict(key, Authorization::Pending { timeout: 5, extra: None }),
        3 => Command::ApplyPush(PushedProtocol::default()),
        4 => Command::Configured { peer_id: PeerId::new(9), push: vec!["ping 1".into()] },
        5 => Command::Credentials(login("joe", "x")),
        6 => Command::SendMessage("INFO,hello".into()),
        7 => Command::Usage { packets: u64::MAX, bytes: u64::MAX },
        8 | 9 => Command::Renegotiate,
        10 => Command::SendMessage("PUSH_REQUEST".into()),
        11 => Command::PeerVerdict(key, Verdict::Deny("no".into())),
        12 => Command::Exit,
        _ => Command::Offer(Box::new(offer())),
    }
}

fn offer() -> DataConfig {
    let ciphers = vec![CipherName::Aes128Gcm];
    DataConfig { ciphers, fallback: None, digest: None, epoch: true, data_v1: true }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// SEC-CORE-1; and the driver's offload checks each key operation: no slot is overwritten, swapped or deleted
    /// wrongly, and nothing follows `Closed`.
    #[test]
    fn no_order_of_commands_breaks_a_session(
        seed in any::<u64>(),
        steps in proptest::collection::vec((any::<bool>(), (0_u8..13).prop_map(|which| if which == 12 { 13 } else { which }), any::<u8>(), 0_u64..3000), 1..40),
    ) {
        let weather = Weather { loss: 5, duplication: 5, damage: 0, jitter: 30 };
        let setup = Setup { wrap: Wrap::TlsCrypt, weather, seed: seed % 1000, ..Setup::new() };
        let mut pair = Pair::new(setup.timing(|timing| timing.reneg_bytes = Some(1)));
        for (client, which, key, wait) in steps {
            pair.command(if client { Side::Client } else { Side::Server }, command(which, key));
            pair.run_for(Duration::from_millis(wait));
        }
        pair.run_for(Duration::from_secs(5));
        if pair.client.established() && pair.at_server.closed.is_none() && pair.at_server.established > 0 {
            pair.assert_data_flows();
        }
        pair.command(Side::Client, command(12, 0));
        pair.run_for(Duration::from_secs(10));
        prop_assert!(pair.at_client.closed.is_some());
    }
}
