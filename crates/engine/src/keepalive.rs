//! Pings, tests of sizes and expiry, run by one receive worker between batches.

use std::sync::atomic::Ordering::Relaxed;

use culvert_offload::{DeleteReason, OffloadEvent};

use crate::{
    engine::Shared,
    message::PING,
    outbox::{Outbox, Single},
    peer::Due,
    sizes,
    transport::Backpressure,
};

/// Peers looked at before the worker has time for its sockets again: ten thousand may be due at once.
const AT_ONCE: usize = 64;

/// Sends what pings are due, lets go of silent peers, and notes when each is due next.
pub(crate) fn run(shared: &Shared, outbox: &mut Outbox, now: u64) {
    for peer in shared.table.take_due(now, AT_ONCE) {
        match peer.activity.due(now) {
            Due::Nothing => {}
            Due::Ping => {
                // Somebody who is sending just now makes the ping superfluous, and no key makes it impossible.
                peer.activity.last_sent.store(now, Relaxed);
                outbox.try_push(shared, &peer, &Single { payload: &PING, is_tunnel: false });
            }
            Due::Test => sizes::run(shared, outbox, &peer, now),
            Due::Expiry => {
                if shared.table.remove_exactly(&peer) {
                    peer.end();
                    shared.events.push(OffloadEvent::PeerGone(
                        peer.id,
                        DeleteReason::Expired,
                        Some(Box::new(peer.stats())),
                    ));
                }
                continue;
            }
        }
        shared.table.look_by(peer.id, peer.activity.next().max(now + 1));
    }
    outbox.flush(shared, Backpressure::Drop);
}
