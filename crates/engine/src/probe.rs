//! Answers to a peer that tests which sizes of packets pass (`mtu-test` at its end).
//!
//! It asks for packets of sizes, sends such packets, and asks at last what the largest were that came and went. A size is
//! that of the whole UDP packet. Nothing is counted but the test's own packets. Source: OpenVPN 2.7 `occ.c`.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering::Relaxed},
};

use crate::{
    engine::Shared,
    message::{self, OCC_HEADER},
    outbox::{Outbox, Single},
    peer::Peer,
};

/// The largest packet that is made for a test: a jumbo frame.
const LARGEST: u16 = 9216;

/// The largest packets of a peer's test.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    received: AtomicU16,
    sent: AtomicU16,
}

/// The peer wants a packet of `size` bytes.
pub(crate) fn send_load(shared: &Shared, outbox: &mut Outbox, peer: &Arc<Peer>, size: u16) {
    let size = size.min(LARGEST);
    let filler = usize::from(size).saturating_sub(overhead(peer) + OCC_HEADER);
    let payload = message::load(filler);
    // Whoever sends to the peer just now makes this unimportant: it asks three times.
    if outbox.try_push(shared, peer, &Single { payload: &payload, is_tunnel: false }) {
        peer.probes.sent.fetch_max(size, Relaxed);
    }
}

/// A packet of a test came, with a payload of `len` bytes.
pub(crate) fn note_load(peer: &Peer, len: usize) {
    let size = u16::try_from(len + overhead(peer)).unwrap_or(u16::MAX);
    peer.probes.received.fetch_max(size, Relaxed);
}

/// The peer asks what the largest were.
pub(crate) fn send_largest(shared: &Shared, outbox: &mut Outbox, peer: &Arc<Peer>) {
    let payload = message::largest(peer.probes.received.load(Relaxed), peer.probes.sent.load(Relaxed));
    outbox.try_push(shared, peer, &Single { payload: &payload, is_tunnel: false });
}

/// Bytes around a payload.
fn overhead(peer: &Peer) -> usize {
    let layout = peer.keys.load().primary.as_ref().map_or(0, |key| key.layout(peer.header).overhead());
    layout + peer.legacy.as_ref().map_or(0, |legacy| legacy.overhead())
}
