//! Counts over the life of the process.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use culvert_offload::Drops;
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
    /// Data packets of peers that are gone, and were not delivered.
    pub(crate) data_dropped: Drops,
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

    /// A peer is gone, of which so many data packets were not delivered.
    pub(crate) fn data_dropped(&self, drops: Drops) {
        let mut counts = self.lock();
        counts.data_dropped = counts.data_dropped + drops;
    }

    /// A client is connected.
    pub(crate) fn connected(&self) {
        self.lock().connected += 1;
    }

    /// A session ended before it was connected.
    pub(crate) fn failed(&self, reason: &CloseReason) {
        let cause = match reason {
            CloseReason::HandshakeTimeout => "timeout",
            CloseReason::Tls(text) => tls_cause(text),
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

/// Who refused whom, as the text of the failure tells.
fn tls_cause(text: &str) -> &'static str {
    if text.contains("VERIFY") {
        "certificate"
    } else if text.contains("sent the TLS alert") {
        "refused_by_peer"
    } else {
        "tls"
    }
}

#[cfg(test)]
mod tests {
    use culvert_proto::tls::TlsError;

    use super::*;

    #[test]
    fn failures_of_tls_are_told_apart() {
        let refused =
            TlsError::Certificate("VERIFY ERROR: depth=0, error=certificate has expired".to_owned());
        assert_eq!(tls_cause(&refused.to_string()), "certificate");
        assert_eq!(tls_cause("the peer sent the TLS alert bad certificate"), "refused_by_peer");
        assert_eq!(tls_cause("no version in common"), "tls");
    }
}
