//! Safe wrappers over system calls: with `culvert-plugin`, the one place of `unsafe`.
//!
//! Each wrapper is total: any argument is sound, and what the kernel refuses comes back as [`std::io::Error`]. What
//! `rustix` already wraps is used through it; blocks of our own exist for what it lacks: batched datagrams with
//! segmentation ([`UdpSocket`]), the TUN device ([`Tun`]) and a few socket options ([`sockopt`]; also those of
//! [`NetlinkSocket`]).
//!
//! Nothing here knows OpenVPN. Addresses given out are plain: an IPv4 peer of a dual-stack socket is an IPv4 address
//! (RFC 4291's mapped form never leaves this crate).

mod clock;
mod cmsg;
mod directory;
mod local;
mod netlink;
mod persistent;
mod poll;
pub mod privilege;
pub mod process;
pub mod signal;
mod sockaddr;
pub mod sockopt;
mod tcp;
mod tty;
mod tun;
mod udp;

pub use clock::{awake, since_boot};
pub use directory::DirectoryWatch;
pub use local::LocalDatagram;
pub use netlink::{NetlinkFamily, NetlinkSocket};
pub use persistent::{Persistence, set_persistent};
pub use poll::{Epoll, Eventfd, Interest, Ready, Woken, wait_readable, wait_writable};
pub use tcp::TcpSocket;
pub use tty::Terminal;
pub use tun::{Tun, TunConfig, TunLayer, TunOffload, TunQueue, hardware_address};
pub use udp::{MAX_DATAGRAM, MAX_SEGMENTS, Outgoing, Received, RecvBatch, UdpSocket};
