//! The userspace data plane: TUN and UDP/TCP workers with batching, behind the interface of `culvert-offload`.
//!
//! It is no part of the protocol: it negotiates nothing, configures no addresses and reads no option. It opens a
//! device ([`EngineBackend`]), and from then on moves packets by tables that calls fill.
//!
//! # The walk of a packet
//!
//! The unit of work is the batch: one super-packet of the device, or one joined train of a socket, up to 64 KiB.
//!
//! * **Out**: `transmit` reads a frame from its queue of the device, finds the peer in `table` (by `routes` on a device
//!   with many), and has its `outbox` seal it, segment by segment (`packet::segment`), under the peer's primary `key`;
//!   equal packets in a row are one train. When the device is empty or enough waits, the outbox hands all trains to
//!   their `transport`s and lets go of the peers' turns (`turn`), so packets leave in the order of their ids.
//! * **In**: `receive` reads trains, leaves control packets at the transport's port (`control`), and opens runs of data
//!   packets of one peer straight into the buffer of `packet::coalesce`, which joins them into frames for the device.
//!   In this order: opcode, peer, key, authentication, replay window, float, framing, inner source address.
//!
//! An Ethernet device (TAP) takes the same walk, but for the way from frame to peer: `bridge` learns which peer has which
//! address, and `packet::ethernet` knows the headers.
//!
//! Two threads per queue of the device, one for each direction, each running to completion: there are no queues
//! between threads. They share immutable snapshots (`arc-swap`), and small locks taken once per batch: a key's sending
//! and receiving state, a peer's turn. `keepalive` runs between batches of the first receive worker. What they share has
//! its types from `sync`, so that loom can look at it.
//!
//! Terms: a *frame* is a virtio header and a packet, possibly a super-packet; a *train* is sealed packets one behind the
//! other for one destination; a *run* is received packets with the same header, or the packets joined so far.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::panic)]

mod backend;
mod bridge;
mod clock;
mod control;
mod device;
mod engine;
#[doc(hidden)]
pub mod fuzzing;
mod keepalive;
mod key;
mod legacy;
mod message;
mod outbox;
mod packet;
#[doc(hidden)]
pub mod parts;
mod peer;
mod probe;
mod receive;
mod recent;
mod routes;
mod sizes;
mod slots;
mod sync;
mod table;
mod transmit;
mod transport;
mod turn;

pub use backend::{EngineBackend, EngineConfig};
pub use device::MemoryDevice;
pub use engine::capabilities;
