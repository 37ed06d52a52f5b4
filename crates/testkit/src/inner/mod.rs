//! Inner packets for tests of the data plane: made of all kinds, cut as a kernel cuts them, compared.
//!
//! This is the plain twin of the fast paths: one packet at a time, one field at a time, no speed at all. It shares no
//! line with what it judges.
//!
//! - [`Mix`] makes packets in which everything is likely that joining must tell apart, well-formed and hostile, and
//!   [`super_frame`] makes what a kernel hands to a tunnel. Both are decided by a slice of bytes: a property test's
//!   random ones, a fuzzer's, or those of a seed.
//! - [`cut()`] is the kernel: it takes a frame (virtio header and packet), or says why the kernel would not.
//! - [`compare()`] says whether what came out is what went in; [`compare_lossy`] does so where a network loses packets.
//!
//! What a device writes is a *frame*; what a peer receives is a *packet*.

mod compare;
mod cut;
mod headers;
mod mix;

pub use compare::{Delivered, canonical, compare, compare_lossy, deliver, with_one_zero};
pub use cut::{VnetHeader, cut};
pub use headers::{checksum, finish, is_valid, one_hop_further};
pub use mix::{Choices, Mix, super_frame};

/// Protocol number of TCP.
const TCP: u8 = 6;
/// Protocol number of UDP.
const UDP: u8 = 17;
