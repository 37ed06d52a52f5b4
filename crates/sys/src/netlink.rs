//! News of the kernel's routing tables: a netlink socket that only listens.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink},
};

/// A group of notifications of the routing subsystem (`RTNLGRP_*`, linux/rtnetlink.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RouteNews {
    /// Devices appear, change and go.
    Link = 1,
    /// IPv4 addresses of this machine.
    V4Address = 5,
    /// IPv4 routes.
    V4Route = 7,
    /// IPv6 routes.
    V6Route = 11,
}

/// What [`NetlinkListener::recv`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Messages of the kernel, that many bytes of the buffer.
    Messages(usize),
    /// The kernel had more to say than the socket or the buffer could hold: something was missed.
    Lost,
    /// Nothing more at present.
    Nothing,
}

/// A non-blocking `NETLINK_ROUTE` socket, subscribed to groups of notifications. No privilege is needed.
#[derive(Debug)]
pub struct NetlinkListener {
    fd: OwnedFd,
}

impl NetlinkListener {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel gives no netlink socket.
    pub fn open(groups: &[RouteNews]) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // No protocol is number 0, which is NETLINK_ROUTE.
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        // The address holds groups 1 to 32 as a bit mask, which every group named above fits.
        let mask = groups.iter().fold(0, |mask, group| mask | 1 << (*group as u32 - 1));
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, mask))?;
        Ok(Self { fd })
    }

    /// Takes the next datagram; never waits. What other processes send is passed over.
    ///
    /// # Errors
    /// None in practice; [`News::Lost`] is not an error.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<News> {
        loop {
            let received = rustix::net::recvfrom(&self.fd, &mut *buffer, RecvFlags::TRUNC);
            return match received {
                Ok((_, len, from)) => {
                    let kernel = from
                        .and_then(|from| SocketAddrNetlink::try_from(from).ok())
                        .is_some_and(|from| from.pid() == 0);
                    match kernel {
                        false => continue,
                        true if len > buffer.len() => Ok(News::Lost),
                        true => Ok(News::Messages(len)),
                    }
                }
                Err(Errno::INTR) => continue,
                Err(Errno::NOBUFS) => Ok(News::Lost),
                Err(Errno::AGAIN) => Ok(News::Nothing),
                Err(error) => Err(error.into()),
            };
        }
    }
}

impl AsFd for NetlinkListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_without_news_does_not_wait() {
        let groups = [RouteNews::Link, RouteNews::V4Address, RouteNews::V4Route, RouteNews::V6Route];
        let listener = NetlinkListener::open(&groups).expect("a socket");
        let mut buffer = [0; 8192];
        // Other programs of this machine may be changing routes: look until it is quiet.
        while listener.recv(&mut buffer).expect("readable") != News::Nothing {}
    }
}
