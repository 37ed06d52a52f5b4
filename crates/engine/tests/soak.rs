//! Two engines for a while, with a bad wire between them and ever new keys.
//!
//! ```text
//!   the test --memory-- engine A == relay == engine B --memory-- the test
//! ```
//!
//! In rounds: packets go in both directions at once, and halfway the renegotiation takes a step. At the end of a round
//! the wire runs empty, and then everything must add up: each datagram was delivered, or is among those that the relay
//! lost, or was refused for the reason that the relay gave. A change of keys is no reason.
//!
//! `CULVERT_SOAK_SECONDS` says how long (a few by default); `CULVERT_SOAK_SEED` repeats a run as far as threads allow.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod support;

use std::{
    sync::atomic::Ordering::Acquire,
    time::{Duration, Instant},
};

use culvert_crypto::DataKey;
use culvert_engine::EngineConfig;
use culvert_offload::{DeviceMode, PeerStats};
use culvert_testkit::{
    inner::{Mix, compare_lossy},
    sim::SimRandom,
};
use culvert_wire::{CipherName, PeerId, Slot};
use support::{
    End, PATIENCE, Side, classic, device, epoch, loopback, peer,
    relay::{Faults, Relay, Sockets},
};

/// Packets of one direction that may be under way: what sockets without privileges take.
const WINDOW: usize = 40;
/// Such windows in a round.
const WINDOWS: usize = 4;

const WIRES: [Faults; 6] = [
    Faults { loss: 0, delay: 0, repeat: 0, damage: 0 },
    Faults { loss: 100, delay: 0, repeat: 0, damage: 0 },
    Faults { loss: 0, delay: 200, repeat: 0, damage: 0 },
    Faults { loss: 0, delay: 0, repeat: 100, damage: 0 },
    Faults { loss: 0, delay: 0, repeat: 0, damage: 50 },
    Faults { loss: 50, delay: 100, repeat: 50, damage: 20 },
];

#[test]
fn classic_keys_change_on_a_bad_wire_without_a_loss_of_their_own() {
    soak(classic, 1);
}

#[test]
fn epoch_keys_change_on_a_bad_wire_without_a_loss_of_their_own() {
    soak(epoch, 2);
}

/// Makes the key of a number.
type MakeKey = fn(CipherName, u8, u8, Side) -> DataKey;

fn soak(make_key: MakeKey, seed: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("CULVERT_SOAK_SEED").unwrap_or(seed);
    let end = Instant::now() + Duration::from_secs(number("CULVERT_SOAK_SECONDS").unwrap_or(3));
    let mut random = SimRandom::new(seed);
    let mut worlds = 0;
    while worlds < 2 || Instant::now() < end {
        worlds += 1;
        let mut world = World::new(make_key, 1 + worlds % 2, random.next_u64());
        // Every step of a renegotiation on every wire, a few times.
        for round in 0..(STEPS * WIRES.len() * 3) {
            world.round(WIRES[round % WIRES.len()], round);
            if worlds > 2 && Instant::now() > end {
                break;
            }
        }
    }
}

/// Steps of a renegotiation, one a round; its order is that of the protocol.
const STEPS: usize = 5;

struct World {
    /// A and B.
    ends: [End; 2],
    /// What each sent and what came out of the other, from A and from B.
    ways: [Way; 2],
    relay: Relay,
    random: SimRandom,
    make_key: MakeKey,
    /// Keys so far, the first left out.
    renewals: u8,
}

/// One direction's books.
#[derive(Default)]
struct Way {
    /// Packets since the beginning.
    total: u64,
    /// Those of this round.
    sent: Vec<Vec<u8>>,
    /// Packets since the beginning that came out at the other end.
    delivered: u64,
}

fn id() -> PeerId {
    PeerId::new(7).unwrap()
}

impl World {
    fn new(make_key: MakeKey, workers: usize, seed: u64) -> Self {
        let sockets = Sockets::bind();
        let config = EngineConfig { workers: Some(workers), ..EngineConfig::default() };
        let open = || End::open(&device(DeviceMode::PointToPoint), config, loopback());
        let ends = [open(), open()];
        let relay = Relay::start(&sockets, ends[0].address(), ends[1].address(), seed);
        let random = SimRandom::new(seed);
        let world = Self { ends, ways: <[Way; 2]>::default(), relay, random, make_key, renewals: 0 };
        for (end, (side, remote)) in
            world.ends.iter().zip([(Side::A, sockets.for_a()), (Side::B, sockets.for_b())])
        {
            end.add_peer(peer(7, end.transport, remote), world.key(side));
        }
        world
    }

    /// The latest key. Its id is 0 first, then 1 to 7 around, as in the protocol.
    fn key(&self, side: Side) -> DataKey {
        let id = self.renewals.checked_sub(1).map_or(0, |renewals| renewals % 7 + 1);
        (self.make_key)(CipherName::Aes256Gcm, id, self.renewals, side)
    }

    /// One step of a renegotiation. An old key is deleted a round after the last packet under it; in the protocol it
    /// lives far longer.
    fn renegotiate(&mut self, step: usize) {
        let install = |world: &Self, end: usize, side| {
            world.ends[end].offload.key_new(id(), Slot::Secondary, world.key(side)).unwrap();
        };
        match step {
            0 => {
                self.renewals += 1;
                install(self, 1, Side::B);
                install(self, 0, Side::A);
            }
            1 => self.ends[0].offload.key_swap(id()).unwrap(),
            2 => self.ends[1].offload.key_swap(id()).unwrap(),
            3 => {}
            _ => self.ends.iter().for_each(|end| end.offload.key_del(id(), Slot::Secondary).unwrap()),
        }
    }

    fn round(&mut self, faults: Faults, round: usize) {
        for way in 0..2 {
            self.relay.directions[way].set_faults(faults);
            let mut choices = vec![0; 4 * WINDOW * WINDOWS];
            self.random.fill(&mut choices);
            let mtu = if self.random.chance(500) { 576 } else { 1500 };
            self.ways[way].sent = Mix::forwardable(&choices, mtu).take(WINDOW * WINDOWS).collect();
        }
        for window in 0..WINDOWS {
            for (way, end) in self.ways.iter_mut().zip(&self.ends) {
                let packets = &way.sent[window * WINDOW..(window + 1) * WINDOW];
                packets.iter().for_each(|packet| end.host.send(packet));
                way.total += WINDOW as u64;
            }
            if window == WINDOWS / 2 {
                self.renegotiate(round % STEPS);
            }
            self.wait_for("what was sent is on the wire", |books| books.is_through);
        }
        self.wait_for("the wire is empty", |books| books.is_through && books.is_idle);
        for way in 0..2 {
            self.check(way, faults);
        }
    }

    /// The wire is empty: everything adds up, and what came is what was sent.
    fn check(&mut self, way: usize, faults: Faults) {
        let books = self.books(way);
        let Books { receiver, lost, repeated, damaged, .. } = books;
        let drops = receiver.drops;
        assert_eq!((drops.replay, drops.auth), (repeated, damaged), "{faults:?}: {books:?}");
        assert_eq!((drops.no_key, drops.malformed, drops.source), (0, 0, 0), "{faults:?}: {books:?}");
        assert_eq!(receiver.tunnel.rx_packets, self.ways[way].total - lost, "{faults:?}: {books:?}");

        let host = &self.ends[1 - way].host;
        let due = receiver.tunnel.rx_packets - self.ways[way].delivered;
        let delivered: Vec<_> = (0..due).map_while(|_| host.recv_timeout(PATIENCE)).collect();
        assert_eq!(delivered.len() as u64, due, "{faults:?}: {books:?}");
        assert_eq!(host.try_recv(), None, "{faults:?}: {books:?}");
        let in_order = faults.delay == 0;
        assert_eq!(compare_lossy(&self.ways[way].sent, &delivered, in_order), Ok(()), "{faults:?}");
        self.ways[way].delivered += due;
    }

    fn wait_for(&self, what: &str, condition: impl Fn(&Books) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(books) = [0, 1].map(|way| self.books(way)).iter().find(|books| !condition(books)) {
            assert!(Instant::now() < deadline, "never happened: {what}: {books:?}");
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn books(&self, way: usize) -> Books {
        let direction = &self.relay.directions[way];
        // In the order of a packet's walk backwards: what is counted at its end was counted before at its beginning.
        let receiver = self.ends[1 - way].stats(id());
        let forwarded = direction.forwarded.load(Acquire);
        let is_idle = direction.is_idle();
        let seen = direction.seen.load(Acquire);
        let sender = self.ends[way].stats(id());
        let drops = receiver.drops;
        let arrived = receiver.link.rx_packets
            + drops.auth
            + drops.replay
            + drops.source
            + drops.no_key
            + drops.malformed;
        Books {
            // Nothing else than inner packets is sent: no keepalive, no messages.
            is_through: sender.link.tx_packets == self.ways[way].total
                && seen == self.ways[way].total
                && arrived == forwarded,
            is_idle,
            lost: direction.lost.load(Acquire),
            repeated: direction.repeated.load(Acquire),
            damaged: direction.damaged.load(Acquire),
            sender,
            receiver,
        }
    }
}

/// Counters of one direction at one moment.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "all of it is shown where something does not add up")]
struct Books {
    /// Everything that was given to the sender was seen by the relay, and everything that left it arrived.
    is_through: bool,
    /// The relay holds nothing back.
    is_idle: bool,
    lost: u64,
    repeated: u64,
    damaged: u64,
    sender: PeerStats,
    receiver: PeerStats,
}
