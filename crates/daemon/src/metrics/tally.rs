//! Counts over the life of the process.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use culvert_proto::CloseReason;

/// What is counted, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Packets of strangers that were dropped.
    pub(crate) dropped: BTreeMap<&'static str, u64>,
    /// Clients that came and did not get in.
    pub(crate) failed: BTreeMap<&'static str, u64>,
    /// Clients that got in.
    pub(crate) connected: u64,
}

/// Counts that tasks share. The lock is held for an addition, by threads that are rarely more than one.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counts>);

impl Tally {
    /// A packet of a stranger was dropped.
    pub(crate) fn dropped(&self, reason: &'static str) {
        self.dropped_many(reason, 1);
    }

    /// So many packets of strangers were dropped.
    pub(crate) fn dropped_many(&self, reason: &'static str, packets: u64) {
        *self.lock().dropped.entry(reason).or_default() += packets;
    }

    /// A client is connected.
    pub(crate) fn connected(&self) {
        self.lock().connected += 1;
    }

    /// A session ended before it was connected.
    pub(crate) fn failed(&self, reason: &CloseReason) {
        let cause = match reason {
            CloseReason::HandshakeTimeout => "timeout",
            CloseReason::Tls(_) => "tls",
            CloseReason::Protocol(_) => "protocol",
            CloseReason::Denied(_) | CloseReason::AuthFailed(_) => "denied",
            CloseReason::NoCommonCipher => "no_common_cipher",
            CloseReason::NoPushReply => "no_push_reply",
            CloseReason::PeerExit | CloseReason::PeerRestart | CloseReason::PeerHalt => "peer_left",
            CloseReason::TransportEnded => "connection_closed",
            CloseReason::Local => "ended_here",
        };
        *self.lock().failed.entry(cause).or_default() += 1;
    }

    /// Returns what was counted so far.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
