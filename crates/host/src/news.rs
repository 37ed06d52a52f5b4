//! Tells that something about this machine's network changed: links, addresses, routes. What it was has to be asked.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use culvert_sys::{NetlinkFamily, NetlinkSocket};

use crate::HostError;

// linux/rtnetlink.h
const GROUPS: [u32; 5] = [
    1,  // RTNLGRP_LINK
    5,  // RTNLGRP_IPV4_IFADDR
    7,  // RTNLGRP_IPV4_ROUTE
    9,  // RTNLGRP_IPV6_IFADDR
    11, // RTNLGRP_IPV6_ROUTE
];
/// Nothing of a message is read but that it came.
const BUFFER: usize = 4096;

/// News of the network namespace of the thread that opened it. Needs no privilege. The descriptor is readable while some wait.
#[derive(Debug)]
pub struct NetworkNews {
    socket: NetlinkSocket,
}

impl NetworkNews {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the kernel gives no netlink socket.
    pub fn open() -> Result<Self, HostError> {
        let what = || "subscription to changes of the network".to_owned();
        let failed = |source| HostError::Refused { what: what(), detail: None, source };
        let socket = NetlinkSocket::open(NetlinkFamily::Route).map_err(failed)?;
        for group in GROUPS {
            socket.join(group).map_err(failed)?;
        }
        Ok(Self { socket })
    }

    /// Takes one piece of news, without waiting for it. What was lost, or is too long, is news all the same.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn take(&self) -> io::Result<()> {
        match self.socket.try_recv(&mut [0; BUFFER]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl AsFd for NetworkNews {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for NetworkNews {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
