//! Layouts and identifiers of the OpenVPN protocol as checked views, without allocation.
//!
//! Everything that is a number on the wire has a type here ([`PeerId`], [`KeyId`], [`PacketId`] …), so that the
//! compiler keeps them apart. Parsers are views: one checked constructor, then infallible accessors.
//! No sockets, no clocks, no keys: see `culvert-crypto` for cryptography and `culvert-proto` for behaviour.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests do not see input"))]

mod ack;
mod cipher;
mod control;
pub mod data;
mod error;
mod flags;
mod ids;
mod local;
mod reader;
mod replay;
pub mod socks;
pub mod tcp;
mod time;
mod vlan;

pub use ack::AckBlock;
pub use cipher::{CipherName, UnknownCipher};
pub use control::{Control, ControlHeader, MessageId, body_overhead};
pub use data::{DataV1, DataV2, DataV2Epoch};
pub use error::WireError;
pub use flags::ProtocolFlags;
pub use ids::{EpochId, KeyId, LocalSid, Opcode, PacketId, PeerId, RemoteSid, SessionId, Slot};
pub use local::LocalAddress;
pub use replay::{Replay, ReplayWindow, TimedReplayWindow};
pub use time::Now;
pub use vlan::{VlanAccept, Vlans};

use std::net::SocketAddr;

/// A packet to send: borrowed bytes and where they go.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// The peer's address on the transport. On TCP it only names the stream.
    pub to: SocketAddr,
    /// The local address to send from, where it matters (`multihome`); `None` leaves it to the system.
    pub from: Option<LocalAddress>,
    /// One whole OpenVPN packet, without the length prefix of TCP.
    pub bytes: &'a [u8],
}

/// The kinds of data planes. Who names a kind does not depend on its implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OffloadKind {
    /// The Linux kernel module `ovpn` (or the older ovpn-dco v2).
    Linux,
    /// The Windows driver ovpn-dco-win.
    Windows,
    /// culvert's own userspace engine.
    Engine,
}
