use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use crate::sockopt;

/// Which part of the kernel a netlink socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetlinkFamily {
    /// Links, addresses, routes, queueing (`NETLINK_ROUTE`).
    Route,
    /// Everything with a named family of its own (`NETLINK_GENERIC`).
    Generic,
}

impl NetlinkFamily {
    const fn protocol(self) -> Option<Protocol> {
        match self {
            Self::Route => None, // number 0
            Self::Generic => Some(netlink::GENERIC),
        }
    }
}

/// A netlink socket of the calling thread's network namespace.
///
/// It asks for extended acknowledgements, and for errors without a copy of the request: requests may hold keys.
#[derive(Debug)]
pub struct NetlinkSocket {
    fd: OwnedFd,
}

impl NetlinkSocket {
    /// Opens and binds one.
    ///
    /// # Errors
    /// When the process has no descriptor left, or the kernel lacks the family.
    pub fn open(family: NetlinkFamily) -> io::Result<Self> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            family.protocol(),
        )?;
        let on = 1_i32.to_ne_bytes();
        sockopt::set(fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &on)?;
        sockopt::set(fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &on)?;
        // The kernel chooses the port.
        rustix::net::bind(&fd, &netlink::SocketAddrNetlink::new(0, 0))?;
        Ok(Self { fd })
    }

    /// Subscribes to a multicast group, by its number.
    ///
    /// # Errors
    /// When there is no such group, or it needs a privilege.
    pub fn join(&self, group: u32) -> io::Result<()> {
        sockopt::set(self.fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, &group.to_ne_bytes())
    }

    /// Sets how much may wait to be read, beyond the system's limit where the process may.
    ///
    /// # Errors
    /// None in practice.
    pub fn set_recv_buffer(&self, bytes: u32) -> io::Result<()> {
        sockopt::set_recv_buffer(&self.fd, bytes)
    }

    /// Limits how long [`Self::recv`] waits.
    ///
    /// # Errors
    /// None in practice.
    pub fn set_recv_timeout(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Some(timeout);
        Ok(rustix::net::sockopt::set_socket_timeout(&self.fd, rustix::net::sockopt::Timeout::Recv, timeout)?)
    }

    /// Sends one or more messages to the kernel.
    ///
    /// # Errors
    /// What the kernel says; most of its answers come as messages.
    pub fn send(&self, messages: &[u8]) -> io::Result<()> {
        let kernel = netlink::SocketAddrNetlink::new(0, 0);
        let sent = rustix::io::retry_on_intr(|| {
            rustix::net::sendto(&self.fd, messages, SendFlags::empty(), &kernel)
        })?;
        if sent == messages.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Waits for a datagram of messages and returns its length. What other processes send is passed over.
    ///
    /// # Errors
    /// `WouldBlock` after the timeout; `ENOBUFS` when messages were lost; `InvalidData` when `buf` is too small.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(buf, RecvFlags::empty())
    }

    /// Takes a datagram of messages that is there already; see [`Self::recv`].
    ///
    /// # Errors
    /// `WouldBlock` when there is none; as [`Self::recv`] otherwise.
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(buf, RecvFlags::DONTWAIT)
    }

    fn receive(&self, buf: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        loop {
            let received = rustix::io::retry_on_intr(|| {
                rustix::net::recvfrom(&self.fd, &mut *buf, flags | RecvFlags::TRUNC)
            })?;
            let (_, len, from) = received;
            let from_kernel = from
                .and_then(|from| netlink::SocketAddrNetlink::try_from(from).ok())
                .is_some_and(|from| from.pid() == 0);
            if !from_kernel {
                continue;
            }
            if len > buf.len() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            return Ok(len);
        }
    }
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `RTM_GETLINK` of index 1 (lo): `nlmsghdr` and `ifinfomsg`.
    fn ask_for_loopback(socket: &NetlinkSocket) {
        let mut request = [0_u8; 32];
        request[..4].copy_from_slice(&32_u32.to_ne_bytes());
        request[4..6].copy_from_slice(&18_u16.to_ne_bytes());
        request[6..8].copy_from_slice(&1_u16.to_ne_bytes());
        request[20..24].copy_from_slice(&1_i32.to_ne_bytes());
        socket.send(&request).unwrap();
    }

    #[test]
    fn the_kernel_answers_a_request_and_nothing_else_is_there() {
        let socket = NetlinkSocket::open(NetlinkFamily::Route).unwrap();
        let mut buf = [0; 16384];
        assert_eq!(socket.try_recv(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        ask_for_loopback(&socket);
        assert!(socket.recv(&mut buf).unwrap() > 32);
    }

    #[test]
    fn a_datagram_larger_than_the_buffer_is_an_error_not_a_part() {
        let socket = NetlinkSocket::open(NetlinkFamily::Route).unwrap();
        ask_for_loopback(&socket);
        assert_eq!(socket.recv(&mut [0; 64]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
