//! A peer as the workers see it: immutable identity, swappable keys and address, counters.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{
            AtomicU16, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use arc_swap::ArcSwap;
use culvert_offload::{Drops, Keepalive, PeerSpec, PeerStats, Port, Traffic};
use culvert_wire::{LocalAddress, PeerId};

use crate::{
    clock::Clock,
    key::{Header, Refused},
    legacy::Legacy,
    packet::Nat,
    probe::Probes,
    sizes::Sizes,
    slots::Keys,
    transport::{Cut, Transport, Wire},
    turn::Turn,
};

/// A peer of the device. Shared by all workers; replaced never, only its parts.
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    /// What stands in front of each packet sent.
    pub(crate) header: Header,
    /// What the old wire needs; `None` on the fast path, where it shall cost no memory.
    pub(crate) legacy: Option<Box<Legacy>>,
    /// Its place on an Ethernet device.
    pub(crate) port: Port,
    pub(crate) transport: Arc<Transport>,
    /// May the address change?
    pub(crate) float: bool,
    /// Where it is. Written by the table, which knows who else is where.
    pub(crate) remote: ArcSwap<Remote>,
    pub(crate) keys: Keys,
    /// Who sends to this peer now.
    pub(crate) turn: Turn,
    pub(crate) activity: Activity,
    /// MSS limit; 0 is none.
    pub(crate) mss: AtomicU16,
    /// Rewrites addresses.
    pub(crate) nat: Option<Nat>,
    pub(crate) sent: Counters,
    pub(crate) received: Counters,
    pub(crate) probes: Probes,
    pub(crate) sizes: Sizes,
    pub(crate) path: Path,
    drops: DropCounters,
}

/// The peer's address, and the local address to send from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) address: SocketAddr,
    pub(crate) local: Option<LocalAddress>,
}

/// What tests of sizes found about the way to the peer.
#[derive(Debug)]
pub(crate) struct Path {
    /// The MSS that fits, or [`NO_PATH_MSS`].
    pub(crate) mss: AtomicU16,
    /// The largest packet, outer headers included; 0 where everything passes.
    pub(crate) mtu: AtomicU16,
}

/// Nothing limits the MSS but the configuration.
pub(crate) const NO_PATH_MSS: u16 = u16::MAX;

/// When the peer was last heard and spoken to, in milliseconds of the engine's clock, and how long may pass.
pub(crate) struct Activity {
    pub(crate) last_sent: AtomicU64,
    pub(crate) last_received: AtomicU64,
    /// 0: never.
    interval: AtomicU64,
    /// 0: never.
    timeout: AtomicU64,
    /// When a test of sizes goes on; `u64::MAX` is never.
    next_test: AtomicU64,
    /// When the address changed last.
    pub(crate) last_float: AtomicU64,
}

/// What keepalive wants of a peer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// A ping.
    Ping,
    /// A test of sizes.
    Test,
    /// Its removal.
    Expiry,
}

/// One direction's counters, apart from the other direction's so that workers do not share a cache line.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Counters {
    tunnel_bytes: AtomicU64,
    tunnel_packets: AtomicU64,
    link_bytes: AtomicU64,
    link_packets: AtomicU64,
}

#[derive(Default)]
#[repr(align(64))]
struct DropCounters {
    auth: AtomicU64,
    replay: AtomicU64,
    source: AtomicU64,
    no_key: AtomicU64,
    malformed: AtomicU64,
    too_large: AtomicU64,
}

/// Why a peer's packet is counted and forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DropReason {
    Auth,
    Replay,
    Source,
    NoKey,
    Malformed,
    TooLarge,
}

impl From<Refused> for DropReason {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Malformed => Self::Malformed,
            Refused::Auth => Self::Auth,
            Refused::Replay => Self::Replay,
        }
    }
}

impl Peer {
    pub(crate) fn new(spec: &PeerSpec, transport: Arc<Transport>, clock: &Clock) -> Self {
        let now = clock.millis();
        let peer = Self {
            id: spec.id,
            header: if spec.shape.data_v1 { Header::V1 } else { Header::V2(spec.tx_id.unwrap_or(spec.id)) },
            legacy: Legacy::of(spec).map(Box::new),
            port: spec.port,
            transport,
            float: spec.float,
            remote: ArcSwap::from_pointee(Remote { address: plain(spec.remote), local: spec.local }),
            keys: Keys::default(),
            turn: Turn::default(),
            activity: Activity {
                last_sent: now.into(),
                last_received: now.into(),
                interval: 0.into(),
                timeout: 0.into(),
                next_test: u64::MAX.into(),
                last_float: 0.into(),
            },
            mss: spec.mss.unwrap_or(0).into(),
            nat: Nat::new(&spec.nat),
            sent: Counters::default(),
            received: Counters::default(),
            probes: Probes::default(),
            sizes: Sizes::default(),
            path: Path { mss: NO_PATH_MSS.into(), mtu: 0.into() },
            drops: DropCounters::default(),
        };
        if let Some(keepalive) = spec.keepalive {
            peer.activity.set(keepalive);
        }
        peer
    }

    /// The MSS limit, if there is one: where the user wants none, the path's does not count either.
    pub(crate) fn mss(&self) -> Option<u16> {
        let mss = self.mss.load(Relaxed).min(self.path.mss.load(Relaxed));
        (mss > 0).then_some(mss)
    }

    /// How packets to `address`, where the peer is, may be cut: over IPv6 the sender has to do it.
    pub(crate) fn cut(&self, address: SocketAddr) -> Cut {
        match self.path.mtu.load(Relaxed) {
            mtu @ 1.. if address.is_ipv6() => Cut::At(mtu),
            _ => Cut::Usual,
        }
    }

    pub(crate) fn count_drop(&self, reason: DropReason) {
        let counter = match reason {
            DropReason::Auth => &self.drops.auth,
            DropReason::Replay => &self.drops.replay,
            DropReason::Source => &self.drops.source,
            DropReason::NoKey => &self.drops.no_key,
            DropReason::Malformed => &self.drops.malformed,
            DropReason::TooLarge => &self.drops.too_large,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Ends its keys, which workers that remember the peer would use, and parts it from its stream: they hold each other.
    pub(crate) fn end(&self) {
        self.keys.end();
        if let Wire::Tcp(tcp) = &self.transport.wire {
            tcp.peer.store(None);
        }
    }

    pub(crate) fn stats(&self) -> PeerStats {
        let traffic = |packets: fn(&Counters) -> &AtomicU64, bytes: fn(&Counters) -> &AtomicU64| Traffic {
            rx_packets: packets(&self.received).load(Acquire),
            rx_bytes: bytes(&self.received).load(Relaxed),
            tx_packets: packets(&self.sent).load(Acquire),
            tx_bytes: bytes(&self.sent).load(Relaxed),
        };
        // First what is counted last, so that no packet stands in one of them alone.
        let link = traffic(|c| &c.link_packets, |c| &c.link_bytes);
        let tunnel = traffic(|c| &c.tunnel_packets, |c| &c.tunnel_bytes);
        let drops = &self.drops;
        PeerStats {
            id: self.id,
            remote: self.remote.load().address,
            tunnel,
            link,
            key: self.keys.load().primary.as_ref().map(|key| key.traffic()).unwrap_or_default(),
            drops: Drops {
                auth: drops.auth.load(Relaxed),
                replay: drops.replay.load(Relaxed),
                source: drops.source.load(Relaxed),
                no_key: drops.no_key.load(Relaxed),
                malformed: drops.malformed.load(Relaxed),
                too_large: drops.too_large.load(Relaxed),
            },
        }
    }
}

/// Addresses are compared in plain form: a mapped IPv4 address is the IPv4 address.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        // The scope is a part of where a peer is, the flow label is not.
        IpAddr::V6(_) => {
            let mut address = address;
            if let SocketAddr::V6(v6) = &mut address {
                v6.set_flowinfo(0);
            }
            address
        }
    }
}

impl Counters {
    pub(crate) fn count_tunnel(&self, packets: u64, bytes: u64) {
        self.tunnel_bytes.fetch_add(bytes, Relaxed);
        self.tunnel_packets.fetch_add(packets, Relaxed);
    }

    /// Whether anything was counted.
    pub(crate) fn has_any(&self) -> bool {
        self.link_packets.load(Relaxed) > 0
    }

    /// Last of all: whoever finds packets counted here finds everything else about them counted too.
    pub(crate) fn count_link(&self, packets: u64, bytes: u64) {
        self.link_bytes.fetch_add(bytes, Relaxed);
        self.link_packets.fetch_add(packets, Release);
    }
}

impl Activity {
    pub(crate) fn set(&self, keepalive: Keepalive) {
        let millis = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        self.interval.store(millis(keepalive.interval), Relaxed);
        self.timeout.store(millis(keepalive.timeout), Relaxed);
    }

    /// Tells what is due at `now`.
    pub(crate) fn due(&self, now: u64) -> Due {
        let (ping, expiry) = self.deadlines();
        if expiry <= now {
            Due::Expiry
        } else if self.next_test.load(Relaxed) <= now {
            Due::Test
        } else if ping <= now {
            Due::Ping
        } else {
            Due::Nothing
        }
    }

    /// Has a test of sizes go on at `at`, or before. Whoever then [takes](Self::take_test) it sees why.
    pub(crate) fn test_by(&self, at: u64) {
        self.next_test.fetch_min(at, Release);
    }

    /// The test of sizes that is due goes on now. What comes to be due meanwhile is due after it.
    pub(crate) fn take_test(&self) {
        self.next_test.swap(u64::MAX, Acquire);
    }

    /// When something is due next, in milliseconds of the engine's clock; `u64::MAX` is never. Traffic only moves it
    /// further away.
    pub(crate) fn next(&self) -> u64 {
        let (ping, expiry) = self.deadlines();
        ping.min(expiry).min(self.next_test.load(Relaxed))
    }

    /// When a ping is due, and when the peer expires.
    fn deadlines(&self) -> (u64, u64) {
        let deadline = |last: &AtomicU64, after: &AtomicU64| match after.load(Relaxed) {
            0 => u64::MAX,
            after => last.load(Relaxed).saturating_add(after),
        };
        (deadline(&self.last_sent, &self.interval), deadline(&self.last_received, &self.timeout))
    }
}
