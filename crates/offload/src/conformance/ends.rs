//! Keepalive, and the ways in which a peer ends.

use std::time::Duration;

use super::{Lab, event, id, server::server};
use crate::{DeleteReason, Keepalive, OffloadEvent, PeerSpec};

/// A peer that says nothing is let go of, and the offload says why.
pub fn a_silent_peer_expires(lab: &impl Lab) {
    let server = server(lab);
    let keepalive = Keepalive { interval: Duration::ZERO, timeout: Duration::from_secs(1) };
    let (_wire, _) = server.add(2, |spec| PeerSpec { keepalive: Some(keepalive), ..spec });
    let gone = event(&*server.offload);
    assert!(
        matches!(gone, OffloadEvent::PeerGone(peer, DeleteReason::Expired, _) if peer == id(2)),
        "{gone:?}"
    );
    assert!(server.offload.peer_del(id(2)).is_err(), "it does not exist any more");
}

/// A tunnel without traffic carries pings.
pub fn a_quiet_tunnel_is_pinged(lab: &impl Lab) {
    let server = server(lab);
    let keepalive = Keepalive { interval: Duration::from_secs(1), timeout: Duration::from_secs(60) };
    let (wire, key) = server.add(2, |spec| PeerSpec { keepalive: Some(keepalive), ..spec });
    let ping =
        [0x2A, 0x18, 0x7B, 0xF3, 0x64, 0x1E, 0xB4, 0xCB, 0x07, 0xED, 0x2D, 0x0A, 0x98, 0x1F, 0xC7, 0x48];
    assert_eq!(wire.receive(&key), ping);
}
