//! What a peer costs in memory, and that it takes all of it along when it leaves.
//!
//! Counted is what Rust's allocator gives to the calls, in which all of a peer's state is made. aws-lc takes the expanded
//! keys from C's allocator; they are added by their known size.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::time::Duration;

use culvert_crypto::DataKey;
use culvert_engine::EngineConfig;
use culvert_offload::{DeviceMode, DeviceSpec, Keepalive, PeerSpec, VpnAddresses};
use culvert_wire::{CipherName, PeerId};
use support::{End, Side, classic, device, epoch, loopback, peer};

const PEERS: u32 = 1000;
/// A prepared key in aws-lc, for each direction: an `EVP_AEAD_CTX` from `malloc`, as twenty thousand of them grow a process.
const CONTEXT: u64 = 624;

/// A server as the daemon opens it, with the replay window that it has by default.
fn server() -> End {
    let spec = DeviceSpec { replay_window: (2048, 15), ..device(DeviceMode::MultiPeer) };
    End::open(&spec, EngineConfig::default(), loopback())
}

/// A client as the daemon adds it: both inner addresses, a keepalive, a key.
fn connect(server: &End, number: u32, key: DataKey) {
    let low = u8::try_from(number % 250).unwrap();
    let high = u8::try_from(number / 250).unwrap();
    let vpn = VpnAddresses {
        v4: Some([10, 8, high, low].into()),
        v6: Some([0xfd00, 0, 0, 0, 0, 0, high.into(), low.into()].into()),
    };
    let keepalive = Keepalive { interval: Duration::from_secs(600), timeout: Duration::from_secs(1200) };
    let remote = ([192, 0, high, low], 1194).into();
    let spec = PeerSpec { vpn, keepalive: Some(keepalive), ..peer(number, server.transport, remote) };
    server.add_peer(spec, key);
}

fn gcm() -> DataKey {
    classic(CipherName::Aes256Gcm, 0, 1, Side::A)
}

fn epoch_gcm() -> DataKey {
    epoch(CipherName::Aes256Gcm, 0, 1, Side::A)
}

fn bytes_per_peer(key: fn() -> DataKey) -> u64 {
    let server = server();
    connect(&server, PEERS, key()); // what is made once for all
    let memory = allocation_counter::measure(|| (0..PEERS).for_each(|n| connect(&server, n, key())));
    u64::try_from(memory.bytes_current).unwrap() / u64::from(PEERS)
}

#[test]
fn a_peer_with_one_key_takes_less_than_four_kibibytes() {
    let bytes = bytes_per_peer(gcm) + 2 * CONTEXT;
    println!("a peer with one AES-256-GCM key: {bytes} bytes");
    assert!(bytes < 4096, "{bytes} bytes");
}

/// The keys of four epochs to come are kept ready, so that a forged packet costs no derivation.
#[test]
fn a_peer_with_one_epoch_key_takes_less_than_six_kibibytes() {
    let bytes = bytes_per_peer(epoch_gcm) + (2 + u64::from(culvert_crypto::FUTURE_EPOCHS)) * CONTEXT;
    println!("a peer with one AES-256-GCM key, epoch format: {bytes} bytes");
    assert!(bytes < 6 * 1024, "{bytes} bytes");
}

#[test]
fn peers_that_come_and_go_leave_nothing_behind() {
    let server = server();
    let come_and_go = || {
        for number in 0..PEERS {
            connect(&server, number, gcm());
        }
        for number in 0..PEERS {
            server.offload.peer_del(PeerId::new(number).unwrap()).unwrap();
        }
    };
    come_and_go(); // the first time makes room for the ids
    let memory = allocation_counter::measure(come_and_go);
    assert_eq!((memory.bytes_current, memory.count_current), (0, 0));
}
