//! Pings and expiry, run by one receive worker between batches.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use culvert_offload::{DeleteReason, OffloadEvent};

use crate::{
    engine::Shared,
    message::PING,
    outbox::{Outbox, Single},
    peer::Due,
    transport::{Backpressure, Wire},
};

/// When to look at the peers again, in milliseconds of the engine's clock.
///
/// Traffic only ever moves a peer's deadlines further away, so the time found by the last look is never too late.
/// Calls that bring a deadline nearer reset it.
pub(crate) struct Timer(AtomicU64);

impl Timer {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Look at the peers at once.
    pub(crate) fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// Sends what pings are due, lets go of silent peers, and notes when the next is due.
pub(crate) fn run(shared: &Shared, outbox: &mut Outbox, now: u64) {
    // Before the look, so that a reset during it is not lost.
    shared.keepalive.0.store(u64::MAX, Relaxed);
    let mut next = u64::MAX;
    let peers = shared.table.all();
    // Ten thousand peers are looked at five times a second, not once for each of their deadlines.
    let soonest = now + 1 + peers.len() as u64 / 50;
    for peer in peers {
        match peer.activity.due(now) {
            Due::Nothing(at) => next = next.min(at),
            Due::Ping => {
                // Somebody who is sending just now makes the ping superfluous, and no key makes it impossible.
                peer.activity.last_sent.store(now, Relaxed);
                outbox.try_push(shared, &peer, &Single { payload: &PING, is_tunnel: false });
                match peer.activity.due(now) {
                    Due::Nothing(at) => next = next.min(at),
                    Due::Ping | Due::Expiry => next = soonest,
                }
            }
            Due::Expiry => {
                if shared.table.remove(peer.id).is_ok() {
                    peer.keys.store(Arc::default());
                    if let Wire::Tcp(tcp) = &peer.transport.wire {
                        tcp.peer.store(None);
                    }
                    shared.events.push(OffloadEvent::PeerGone(
                        peer.id,
                        DeleteReason::Expired,
                        Some(Box::new(peer.stats())),
                    ));
                }
            }
        }
    }
    outbox.flush(shared, Backpressure::Drop);
    shared.keepalive.0.fetch_min(next.max(soonest), Relaxed);
}
