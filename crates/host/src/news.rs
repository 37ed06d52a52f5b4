//! Tells that something about this machine's network changed: links, addresses, routes. What it was has to be asked.

use std::io;

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
/// Messages taken at a time: a storm of them cannot hold up the caller.
const ROUND: usize = 4096;

/// News of the network namespace of the thread that opened it. Needs no privilege.
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

    /// Takes the news that wait, without waiting for more; returns whether there were any.
    pub fn drain(&self) -> bool {
        let mut buffer = [0; BUFFER];
        for round in 0..ROUND {
            match self.socket.try_recv(&mut buffer) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return round > 0,
                // Some were lost, or too long: news all the same.
                Err(_) => return true,
            }
        }
        true
    }
}
