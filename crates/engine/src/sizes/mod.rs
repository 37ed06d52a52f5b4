//! Which sizes of packets reach a peer: found for the tunnel's own sake ([`path`]), and measured for the user
//! ([`measure`], `mtu-test`), one after the other.
//!
//! A path that turns out to be narrow counts in two ways: TCP connections through the tunnel are clamped to what fits,
//! and over IPv6, where no router cuts packets, the machine cuts those that do not fit. Over IPv4 routers do, unless
//! `mtu-disc` forbids it. Runs with the keepalive timer; the packets are those of [`crate::probe`].
//!
//! Whoever tests a peer has its [turn](crate::turn::Turn), or comes back later. Workers that receive, and may have the
//! turn, only leave word of what happened: they never wait for a test.

mod measure;
mod path;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::Ordering::{AcqRel, Relaxed, Release},
};

use culvert_offload::{DeviceMode, MeasuredSizes, OffloadEvent, SizeTest};

use self::{
    measure::{Measure, Packet},
    path::{Heard, PathTest, Step, Verdict},
};
use crate::{
    engine::Shared,
    outbox::Outbox,
    peer::{NO_PATH_MSS, Peer},
    probe::{self, Largest},
    transport::{Backpressure, Wire},
};

/// How often it is looked whether a client can be tested with yet, in milliseconds.
const LOOK: u64 = 100;
/// How long the first packet of a client is waited for, in milliseconds: before it has its keys, it hears nothing.
const PATIENCE: u64 = 1_000;

/// When a test goes on that somebody else's turn kept from sending, in milliseconds.
const BUSY: u64 = 10;

/// The tests of a peer. Empty where nothing is tested.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    tests: Mutex<Option<Box<Tests>>>,
}

#[derive(Debug)]
struct Tests {
    test: SizeTest,
    /// When it was begun.
    since: u64,
    path: Option<PathTest>,
    /// No test of the path has begun yet.
    first: bool,
    /// When the path is to be tested, or its test goes on.
    path_due: u64,
    measure: Option<Measure>,
    measured: bool,
}

/// Begins to test, or tests the path again. Streams have no sizes.
pub(crate) fn begin(shared: &Shared, peer: &Peer, test: SizeTest) {
    shared.mtu.fetch_max(test.mtu, Relaxed);
    if !peer.transport.is_udp() {
        return;
    }
    let now = shared.clock.millis();
    if peer.sizes.lock().is_some() {
        return moved(shared, peer, now);
    }
    let path_due = if has_path(peer) { now } else { u64::MAX };
    let measured = test.measure.is_none();
    let tests = Tests { test, since: now, path: None, first: true, path_due, measure: None, measured };
    *peer.sizes.lock() = Some(Box::new(tests));
    peer.activity.test_by(now);
    shared.look_by(peer.id, now);
}

/// The peer has a key: its test begins before the tunnel carries anything.
pub(crate) fn can_send(shared: &Shared, peer: &Peer) {
    if peer.sizes.lock().is_some() {
        let now = shared.clock.millis();
        peer.activity.test_by(now);
        shared.look_by(peer.id, now);
    }
}

/// The peer is somewhere else now: what was found is about another path. Takes no lock of a test: who calls it may have
/// the turn that the test waits for.
pub(crate) fn moved(shared: &Shared, peer: &Peer, now: u64) {
    peer.probes.moved.store(true, Release);
    peer.activity.test_by(now);
    shared.look_by(peer.id, now);
}

/// Does what is due, without waiting for anybody.
pub(crate) fn run(shared: &Shared, outbox: &mut Outbox, peer: &Arc<Peer>, now: u64) {
    peer.activity.take_test();
    let mut tests = peer.sizes.lock();
    let next = match tests.as_mut() {
        None => u64::MAX,
        Some(_) if peer.keys.load().primary.is_none() => u64::MAX, // see `can_send`
        Some(tests) if tests.waits(shared, peer, now) => now + LOOK,
        Some(_) if outbox.try_hold(peer).is_none() => now + BUSY,
        Some(tests) => {
            if peer.probes.moved.swap(false, AcqRel) && has_path(peer) {
                (tests.path, tests.path_due) = (None, now);
                forget_refusals(peer);
            }
            tests.run(shared, outbox, peer, now)
        }
    };
    outbox.flush(shared, Backpressure::Drop);
    peer.activity.test_by(next);
}

/// Whether sizes on its path say something about what may be sent: a relay has a path of its own, and what `fragment`
/// cuts fits already.
fn has_path(peer: &Peer) -> bool {
    let cuts = peer.legacy.as_ref().is_some_and(|legacy| legacy.cuts());
    matches!(&peer.transport.wire, Wire::Udp(udp) if !udp.is_relayed()) && !cuts
}

impl Sizes {
    fn lock(&self) -> MutexGuard<'_, Option<Box<Tests>>> {
        self.tests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tests {
    /// Whether the peer has yet to show that it has its keys, too.
    fn waits(&self, shared: &Shared, peer: &Peer, now: u64) -> bool {
        let is_client = shared.table.mode() == DeviceMode::MultiPeer;
        is_client && now < self.since + PATIENCE && !peer.received.has_any()
    }

    /// Does what is due; returns when something is again.
    fn run(&mut self, shared: &Shared, outbox: &mut Outbox, peer: &Arc<Peer>, now: u64) -> u64 {
        let answer = peer.probes.take_answer();
        if self.measure.is_some() {
            return self.measure(shared, outbox, peer, (now, answer));
        }
        let largest = u16::try_from(probe::overhead(peer) + usize::from(self.test.mtu)).unwrap_or(u16::MAX);
        let largest = largest.min(probe::LARGEST);
        if now >= self.path_due {
            let ipv6 = peer.remote.load().address.is_ipv6();
            let first = std::mem::take(&mut self.first);
            let path = self.path.get_or_insert_with(|| PathTest::new(ipv6, self.test.mtu, largest, first));
            let returned = peer.probes.largest().received;
            let heard = answer.map(|largest| Heard { came: largest.received, returned });
            let step = path.next(heard);
            tracing::debug!(peer = %peer.id, ?heard, ?step, "test of packet sizes");
            match step {
                Step::Ask(sizes, wait) => {
                    for size in sizes {
                        if let Some(sent) = probe::send_load(shared, outbox, peer, size, true) {
                            path.note_sent(sent);
                        }
                    }
                    probe::request_largest(shared, outbox, peer);
                    return now + wait;
                }
                Step::Request { sizes, beginning, wait } => {
                    if beginning {
                        peer.probes.forget_received();
                    }
                    for size in sizes {
                        probe::request_load(shared, outbox, peer, size);
                    }
                    probe::request_largest(shared, outbox, peer);
                    return now + wait;
                }
                Step::Rest(verdict, again) => {
                    apply(shared, peer, verdict);
                    self.path_due = again.map_or(u64::MAX, |again| now + again);
                }
            }
        }
        match self.test.measure.filter(|_| !self.measured) {
            Some(period) => {
                self.measure = Some(Measure::new(largest));
                now + millis(period)
            }
            None => self.path_due,
        }
    }

    /// Goes on measuring.
    fn measure(
        &mut self,
        shared: &Shared,
        outbox: &mut Outbox,
        peer: &Arc<Peer>,
        (now, answer): (u64, Option<Largest>),
    ) -> u64 {
        let packet = self.measure.as_mut().filter(|_| answer.is_none()).and_then(Measure::next);
        match packet {
            Some(Packet::Request(size)) => probe::request_load(shared, outbox, peer, size),
            Some(Packet::Load(size)) => {
                probe::send_load(shared, outbox, peer, size, false);
            }
            Some(Packet::Ask) => probe::request_largest(shared, outbox, peer),
            None => {
                (self.measure, self.measured) = (None, true);
                let own = peer.probes.largest();
                let there = answer.filter(|there| there.received > 0 && there.sent > 0);
                let measured = there.map(|there| MeasuredSizes {
                    sent: own.sent,
                    sent_arrived: there.received,
                    returned: there.sent,
                    returned_arrived: own.received,
                });
                shared.events.push(OffloadEvent::SizesMeasured(peer.id, measured));
                return self.path_due;
            }
        }
        now + self.test.measure.map_or(0, millis)
    }
}

/// Makes what was found count, and tells of it if it is new.
fn apply(shared: &Shared, peer: &Peer, verdict: Verdict) {
    let payload = match verdict {
        Verdict::Unknown => return,
        Verdict::Wide => None,
        Verdict::Narrow(payload) | Verdict::AtMost(payload) => Some(payload),
    };
    let mtu = payload.map(|payload| path::outer(peer.remote.load().address.is_ipv6(), payload));
    let known = peer.path.mtu.load(Relaxed);
    if matches!(verdict, Verdict::AtMost(_)) && known > 0 && mtu.is_some_and(|mtu| mtu >= known) {
        return;
    }
    let mss = payload.map_or(NO_PATH_MSS, |payload| {
        let link = if shared.table.bridge().is_some() { ETHERNET_HEADER } else { 0 };
        let around = probe::overhead(peer) + link + INNER_HEADERS;
        u16::try_from(usize::from(payload).saturating_sub(around)).unwrap_or(NO_PATH_MSS).max(1)
    });
    peer.path.mss.store(mss, Relaxed);
    let previous = peer.path.mtu.swap(mtu.unwrap_or(0), Relaxed);
    if mtu.is_none_or(|mtu| mtu > previous) {
        forget_refusals(peer);
    }
    if previous != mtu.unwrap_or(0) {
        shared.events.push(OffloadEvent::PathMtu(peer.id, mtu));
    }
}

/// Trains that the kernel refused on a narrower way are tried again.
fn forget_refusals(peer: &Peer) {
    if let Wire::Udp(udp) = &peer.transport.wire {
        udp.forget_refusals(peer.remote.load().address);
    }
}

/// Inner IPv4 and TCP headers.
const INNER_HEADERS: usize = 40;
/// An Ethernet header with a tag.
const ETHERNET_HEADER: usize = 18;

fn millis(period: std::time::Duration) -> u64 {
    u64::try_from(period.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
