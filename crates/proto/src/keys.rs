//! The data keys of a peer: which slot of the offload holds which, and when that changes.
//!
//! [`KeyRing`] has the legal states and transitions, [`KeySchedule`] the times. The walk of a key: a renegotiation
//! begins; its key is installed beside the old one and decrypts; after the switch delay it sends and the old one only
//! decrypts; after the transition window the old one is gone. Source: protocol document, "Which key encrypts".

use std::time::{Duration, Instant};

use culvert_crypto::DataKey;
use culvert_wire::{KeyId, Slot};

use crate::Timing;

/// An operation on a peer's key slots in its offload.
#[derive(Debug)]
pub enum KeyOp {
    /// Installs a key.
    New(Slot, DataKey),
    /// Exchanges the slots.
    Swap,
    /// Empties a slot.
    Delete(Slot),
}

/// The two slots of a peer in an offload, as one value. Illegal pairs have no spelling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyRing {
    /// No key yet.
    #[default]
    Empty,
    /// One key sends and receives.
    One(KeyId),
    /// `next` already decrypts.
    Rekeying {
        /// Sends.
        sending: KeyId,
        /// Will send.
        next: KeyId,
    },
    /// `previous` still decrypts.
    Draining {
        /// Sends.
        sending: KeyId,
        /// Sent before.
        previous: KeyId,
    },
}

impl KeyRing {
    /// Adds a key: the first one sends at once, a later one only decrypts at first.
    ///
    /// A key that waits for its promotion is promoted before, one that drains makes room: there are two slots.
    #[must_use]
    pub fn install(self, key: DataKey) -> (Self, Vec<KeyOp>) {
        let next = key.id();
        match self {
            Self::Empty => (Self::One(next), vec![KeyOp::New(Slot::Primary, key)]),
            Self::One(sending) => (Self::Rekeying { sending, next }, vec![KeyOp::New(Slot::Secondary, key)]),
            Self::Rekeying { .. } => {
                let (ring, mut ops) = self.promote();
                let (ring, more) = ring.install(key);
                ops.extend(more);
                (ring, ops)
            }
            Self::Draining { sending, .. } => {
                let ops = vec![KeyOp::Delete(Slot::Secondary), KeyOp::New(Slot::Secondary, key)];
                (Self::Rekeying { sending, next }, ops)
            }
        }
    }

    /// Makes the newer key send.
    #[must_use]
    pub fn promote(self) -> (Self, Vec<KeyOp>) {
        match self {
            Self::Rekeying { sending, next } => {
                (Self::Draining { sending: next, previous: sending }, vec![KeyOp::Swap])
            }
            Self::Empty | Self::One(_) | Self::Draining { .. } => (self, Vec::new()),
        }
    }

    /// Removes the older key, if it no longer sends.
    #[must_use]
    pub fn retire(self) -> (Self, Vec<KeyOp>) {
        match self {
            Self::Draining { sending, .. } => (Self::One(sending), vec![KeyOp::Delete(Slot::Secondary)]),
            Self::Empty | Self::One(_) | Self::Rekeying { .. } => (self, Vec::new()),
        }
    }

    /// The key that sends.
    #[must_use]
    pub const fn sending(self) -> Option<KeyId> {
        match self {
            Self::Empty => None,
            Self::One(sending) | Self::Rekeying { sending, .. } | Self::Draining { sending, .. } => {
                Some(sending)
            }
        }
    }
}

/// A ring and the deadlines of its transitions.
#[derive(Debug, Default)]
pub(crate) struct KeySchedule {
    ring: KeyRing,
    promote_at: Option<Instant>,
    retire_at: Option<Instant>,
}

impl KeySchedule {
    pub(crate) const fn ring(&self) -> KeyRing {
        self.ring
    }

    /// A renegotiation begins: the peer may forget the older of two keys now, so a pending switch is due at once.
    pub(crate) fn negotiation_began(&mut self) -> Vec<KeyOp> {
        self.promote()
    }

    /// Adds a key. Beside another one it only decrypts, and [`Self::activate`] says until when.
    pub(crate) fn install(&mut self, key: DataKey) -> Vec<KeyOp> {
        let (ring, ops) = self.ring.install(key);
        self.ring = ring;
        self.promote_at = None;
        ops
    }

    /// The other end has the newest key, too: its negotiation began at `began` and ends now.
    pub(crate) fn activate(&mut self, (began, now): (Instant, Instant), timing: &Timing) {
        if matches!(self.ring, KeyRing::Rekeying { .. }) {
            let retire_at = began + timing.tran_window;
            let delay = switch_delay(timing);
            // After a negotiation that took long the other end may still wait for the last acknowledgement.
            let due = (began + delay).max(now + delay.min(GRACE));
            // A transition window shorter than the delay ends the older key's sending too.
            self.promote_at = Some(due.min(retire_at));
            self.retire_at = Some(retire_at);
        }
    }

    /// The sending key is used up and the next one is there: the switch is due soon. Returns `false` when there is no
    /// next key.
    pub(crate) fn hasten(&mut self, now: Instant) -> bool {
        let pending = matches!(self.ring, KeyRing::Rekeying { .. });
        if pending {
            self.promote_at = self.promote_at.map(|at| at.min(now + GRACE));
        }
        pending
    }

    /// Makes the transitions that are due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<KeyOp> {
        let mut ops = Vec::new();
        if self.promote_at.is_some_and(|at| at <= now) {
            ops.extend(self.promote());
        }
        if self.retire_at.is_some_and(|at| at <= now) {
            self.retire_at = None;
            let (ring, more) = self.ring.retire();
            self.ring = ring;
            ops.extend(more);
        }
        ops
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.promote_at, self.retire_at].into_iter().flatten().min()
    }

    fn promote(&mut self) -> Vec<KeyOp> {
        self.promote_at = None;
        let (ring, ops) = self.ring.promote();
        self.ring = ring;
        ops
    }
}

/// Time for the last acknowledgement of a negotiation to arrive, before its key is sent with.
const GRACE: Duration = Duration::from_secs(1);

/// How long after a negotiation began its key starts to send: the other end surely has it then.
fn switch_delay(timing: &Timing) -> Duration {
    if timing.reneg_sec.is_zero() { timing.hand_window } else { timing.hand_window.min(timing.reneg_sec / 2) }
}

#[cfg(test)]
mod tests;
