use thiserror::Error;

/// Why bytes are not the packet that they should be. Expected from hostile input: counted by the caller, never fatal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// The packet ends too early.
    #[error("truncated: need {need} bytes, have {have}")]
    Truncated {
        /// Bytes needed, counted from the start of the part that was being read.
        need: usize,
        /// Bytes present in that part.
        have: usize,
    },
    /// The opcode is not legal on receipt, or not one of this packet class.
    #[error("unexpected opcode {0}")]
    Opcode(u8),
    /// The sender's or the echoed session id is all zero.
    #[error("session id is zero")]
    ZeroSessionId,
    /// A packet acknowledges more ids than allowed.
    #[error("{0} acknowledgements, at most 8 are allowed")]
    TooManyAcks(u8),
    /// Packet id, epoch or counter is zero.
    #[error("packet id or epoch is zero")]
    ZeroPacketId,
    /// An acknowledgement packet carries bytes after its list.
    #[error("{0} bytes after the end of the packet")]
    Trailing(usize),
    /// The length prefix of a TCP frame is zero or above the limit.
    #[error("frame of {len} bytes, allowed are 1 to {max}")]
    FrameLength {
        /// What the prefix says.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A datagram of a SOCKS relay that is a fragment, or from an unknown kind of address.
    #[error("SOCKS header with fragment {fragment} and address type {kind}")]
    SocksHeader {
        /// The fragment's number; 0 is a whole datagram.
        fragment: u8,
        /// The kind of address.
        kind: u8,
    },
    /// The caller's buffer is too small to emit into.
    #[error("buffer of {have} bytes, need {need}")]
    NoRoom {
        /// Bytes needed.
        need: usize,
        /// Bytes in the buffer.
        have: usize,
    },
    /// A counter does not fit its field.
    #[error("packet counter exceeds its field")]
    CounterOverflow,
}
