use culvert_crypto::DataKey;
use culvert_wire::{KeyId, Slot};

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
