//! Inner packets: what stands between the tunnel device and the AEAD.
//!
//! A packet leaving through the tunnel is read from the device as a super-packet, and [`SuperPacket`] cuts it into the
//! packets that the peer is to receive. A packet arriving is opened into a [`Coalescer`], which joins the packets of a
//! flow into a super-packet for the device. Both are pure: bytes in, bytes out.

mod checksum;
mod coalesce;
pub(crate) mod ethernet;
mod ip;
mod mss;
mod nat;
mod segment;
#[cfg(test)]
mod segment_tests;
mod vnet;

pub(crate) use coalesce::{Coalescer, Joins};
pub(crate) use ip::{destination, source};
pub(crate) use mss::clamp_mss;
pub(crate) use nat::{Nat, Way};
pub(crate) use segment::SuperPacket;
pub(crate) use vnet::{HEADER_LEN as VNET_HEADER_LEN, VnetHeader};

/// Protocol number of TCP.
const TCP: u8 = 6;
/// Protocol number of UDP.
const UDP: u8 = 17;
