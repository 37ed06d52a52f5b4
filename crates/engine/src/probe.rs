//! Test packets: packets of a size, requests for them, and what the largest were that came and went.
//!
//! Both ends of a tunnel may test ([`crate::sizes`]; `mtu-test` of OpenVPN), and each answers the other. A size is that of
//! the whole UDP payload. Nothing is counted but the tests' own packets. Source: OpenVPN 2.7 `occ.c`.

use std::sync::{
    Arc,
    atomic::{
        AtomicBool, AtomicU16, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

use crate::{
    engine::Shared,
    message::{self, OCC_HEADER},
    outbox::{Outbox, Single},
    peer::Peer,
};

/// The largest packet that is made for a test: a jumbo frame.
pub(crate) const LARGEST: u16 = 9216;

/// What tunnels have where nobody says otherwise.
const USUAL_MTU: u16 = 1500;

/// By how much more than culvert's largest packet another end's may be counted: Ethernet header, framing, long packet ids.
const ROOM: usize = 32;

/// Test packets that are made for a peer in a second: more than any test asks for. Its address may not be its own.
const ANSWERS: u64 = 64;

/// After so many milliseconds without a test, the next one finds nothing counted: the way to the peer may be another.
const FORGET: u64 = 60_000;

/// The largest packets of tests, and the peer's last answer.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    received: AtomicU16,
    sent: AtomicU16,
    /// When a test was last heard of, in milliseconds of the engine's clock.
    last: AtomicU64,
    /// The second in which the peer last wanted test packets, and above [`COUNT`] how many it got in it.
    answers: AtomicU64,
    /// Somebody waits for an answer.
    awaited: AtomicBool,
    /// The peer is somewhere else since the last test.
    pub(crate) moved: AtomicBool,
    /// [`THERE`], what the peer received, what it sent.
    answer: AtomicU64,
}

/// Where the number of answers begins, above the second.
const COUNT: u32 = 48;

/// An answer came.
const THERE: u64 = 1 << 32;

/// The largest test packets that an end knows of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Largest {
    pub(crate) received: u16,
    pub(crate) sent: u16,
}

impl Probes {
    /// What this end knows.
    pub(crate) fn largest(&self) -> Largest {
        Largest { received: self.received.load(Relaxed), sent: self.sent.load(Relaxed) }
    }

    /// Takes the peer's answer, if it came.
    pub(crate) fn take_answer(&self) -> Option<Largest> {
        let answer = self.answer.swap(0, Acquire);
        let [.., high, low, more, less] = answer.to_be_bytes();
        (answer & THERE != 0).then(|| Largest {
            received: u16::from_be_bytes([high, low]),
            sent: u16::from_be_bytes([more, less]),
        })
    }

    /// Nothing came yet of what is asked for next.
    pub(crate) fn forget_received(&self) {
        self.received.store(0, Relaxed);
    }

    /// Counts a test packet for the peer; `false` where it had enough of them in this second.
    fn may_answer(&self, now: u64) -> bool {
        let second = now / 1000;
        let next = |before: u64| {
            let count = if before & ((1 << COUNT) - 1) == second { before >> COUNT } else { 0 };
            (count < ANSWERS).then_some((count + 1) << COUNT | second)
        };
        self.answers.fetch_update(Relaxed, Relaxed, next).is_ok()
    }

    fn heard(&self, now: u64) {
        if now.saturating_sub(self.last.swap(now, Relaxed)) > FORGET {
            self.received.store(0, Relaxed);
            self.sent.store(0, Relaxed);
        }
    }
}

/// The peer wants a packet of `size` bytes. It gets none larger than the tunnel's own, or than those of one with the usual
/// MTU, which its end may have.
pub(crate) fn answer_with_load(shared: &Shared, outbox: &mut Outbox, peer: &Arc<Peer>, size: u16, now: u64) {
    if !peer.probes.may_answer(now) {
        return;
    }
    let most = usize::from(shared.mtu.load(Relaxed).max(USUAL_MTU)) + overhead(peer) + ROOM;
    let size = size.min(u16::try_from(most).unwrap_or(u16::MAX));
    let payload = load(peer, size);
    // Whoever sends to the peer just now makes this unimportant: it asks three times.
    if outbox.try_push(shared, peer, &Single { payload: &payload, is_tunnel: false }) {
        peer.probes.sent.fetch_max(size.min(LARGEST), Relaxed);
    }
}

/// Sends a test packet of `size` bytes, which nobody may cut if it is to be `whole`; returns its size.
pub(crate) fn send_load(
    shared: &Shared,
    outbox: &mut Outbox,
    peer: &Arc<Peer>,
    size: u16,
    whole: bool,
) -> Option<u16> {
    let payload = load(peer, size);
    let single = Single { payload: &payload, is_tunnel: false };
    let size = if whole {
        u16::try_from(outbox.send_whole(shared, peer, &single)?).ok()?
    } else {
        outbox.try_push(shared, peer, &single).then_some(size)?
    };
    peer.probes.sent.fetch_max(size, Relaxed);
    Some(size)
}

/// Asks the peer for a packet of `size` bytes.
pub(crate) fn request_load(shared: &Shared, outbox: &mut Outbox, peer: &Arc<Peer>, size: u16) {
    let payload = message::load_request(size);
    outbox.try_push(shared, peer, &Single { payload: &payload, is_tunnel: false });
}

/// Asks the peer what the largest were. Its answer wakes whoever tests.
pub(crate) fn request_largest(shared: &Shared, outbox: &mut Outbox, peer: &Arc<Peer>) {
    peer.probes.answer.store(0, Relaxed);
    peer.probes.awaited.store(true, Release);
    let single = Single { payload: &message::LARGEST_REQUEST, is_tunnel: false };
    outbox.try_push(shared, peer, &single);
}

/// A packet of a test came, with a payload of `len` bytes.
pub(crate) fn note_load(peer: &Peer, len: usize, now: u64) {
    peer.probes.heard(now);
    let size = u16::try_from(len + overhead(peer)).unwrap_or(u16::MAX);
    peer.probes.received.fetch_max(size, Relaxed);
}

/// The peer says what the largest were. What nobody asked for is not heard.
pub(crate) fn note_answer(shared: &Shared, peer: &Peer, largest: Largest, now: u64) {
    if !peer.probes.awaited.swap(false, AcqRel) {
        return;
    }
    let both = u64::from(largest.received) << 16 | u64::from(largest.sent);
    peer.probes.answer.store(THERE | both, Release);
    peer.activity.test_by(now);
    shared.look_by(peer.id, now);
}

/// The peer asks what the largest were.
pub(crate) fn answer_with_largest(shared: &Shared, outbox: &mut Outbox, peer: &Arc<Peer>, now: u64) {
    peer.probes.heard(now);
    let Largest { received, sent } = peer.probes.largest();
    let payload = message::largest(received, sent);
    outbox.try_push(shared, peer, &Single { payload: &payload, is_tunnel: false });
}

/// The payload of a test packet of `size` bytes.
fn load(peer: &Peer, size: u16) -> Vec<u8> {
    message::load(usize::from(size.min(LARGEST)).saturating_sub(overhead(peer) + OCC_HEADER))
}

/// Bytes around a payload.
pub(crate) fn overhead(peer: &Peer) -> usize {
    let layout = peer.keys.load().primary.as_ref().map_or(0, |key| key.layout(peer.header).overhead());
    layout + peer.legacy.as_ref().map_or(0, |legacy| legacy.overhead())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once_also_if_nothing_came() {
        let probes = Probes::default();
        assert_eq!(probes.take_answer(), None);
        probes.answer.store(THERE, Release);
        assert_eq!(probes.take_answer(), Some(Largest::default()));
        probes.answer.store(THERE | 0x05DC_05AA, Release);
        assert_eq!(probes.take_answer(), Some(Largest { received: 1500, sent: 1450 }));
        assert_eq!(probes.take_answer(), None);
    }

    #[test]
    fn a_peer_gets_so_many_test_packets_in_a_second() {
        let probes = Probes::default();
        let given = |now| (0..100).filter(|_| probes.may_answer(now)).count();
        assert_eq!((given(0), given(999), given(1_000), given(7_500)), (64, 0, 64, 64));
    }

    #[test]
    fn a_test_after_a_pause_begins_with_nothing_counted() {
        let probes = Probes::default();
        probes.heard(1_000);
        probes.received.store(1400, Relaxed);
        probes.heard(1_000 + FORGET);
        assert_eq!(probes.largest().received, 1400);
        probes.heard(1_001 + 2 * FORGET);
        assert_eq!(probes.largest().received, 0);
    }
}
