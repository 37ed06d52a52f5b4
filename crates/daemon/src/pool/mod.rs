//! Addresses that a server gives to its clients.
//!
//! A pool has one number per client (`ifconfig-pool`, `ifconfig-ipv6-pool`); IPv4 and IPv6 address of a client are the
//! same number above the two bases, as in OpenVPN. A client gets the number that it had before, else one that nobody
//! had, else the one that was left longest ago; `duplicate-cn` turns the memory off. The memory survives in a file
//! ([`Pool::load`], [`Pool::save`]); an address in it is a hint, not a reservation.

use std::net::{Ipv4Addr, Ipv6Addr};

use culvert_config::{
    profile::{IfconfigPool, Ipv6Pool},
    value::Topology,
};

/// Why a pool cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The range holds no address.
    #[error("the address pool is empty")]
    Empty,
    /// Neither family.
    #[error("the address pool has neither IPv4 nor IPv6")]
    NoFamily,
}

/// What a pool is made of.
#[derive(Clone, Copy, Debug)]
pub struct PoolConfig {
    /// IPv4 range.
    pub v4: Option<IfconfigPool>,
    /// IPv6 range.
    pub v6: Option<Ipv6Pool>,
    /// The server's topology.
    pub topology: Topology,
    /// Clients get their last address again: not with `duplicate-cn`.
    pub sticky: bool,
}

/// The number of a lease within its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(u32);

/// IPv4 addresses of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseV4 {
    /// The client's address.
    pub remote: Ipv4Addr,
    /// The server's end of the /30 (`net30` only): what the client gets as second word of `ifconfig`.
    pub local: Option<Ipv4Addr>,
}

/// Addresses of a client, until [`Pool::release`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which.
    pub id: LeaseId,
    /// IPv4.
    pub v4: Option<LeaseV4>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

/// A pool of addresses.
#[derive(Clone, Debug)]
pub struct Pool {}

impl Pool {
    /// Returns a pool with everything free.
    ///
    /// # Errors
    /// When it would be empty.
    pub fn new(config: PoolConfig) -> Result<Self, PoolError> {
        let _ = config;
        Ok(Self {})
    }

    /// Returns how many clients it has addresses for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        0
    }

    /// Returns how many addresses are in use.
    #[must_use]
    pub fn in_use(&self) -> usize {
        0
    }

    /// Takes addresses for a client; `None`: all are in use.
    pub fn acquire(&mut self, common_name: &str) -> Option<Lease> {
        let _ = common_name;
        None
    }

    /// Gives addresses back; the client's name stays with them.
    pub fn release(&mut self, id: LeaseId) {
        let _ = id;
    }

    /// Keeps a fixed address (`ifconfig-push`) from being given to others, while its client is connected. An address
    /// that is not the pool's is ignored. Returns whether it was free.
    pub fn reserve(&mut self, address: std::net::IpAddr) -> bool {
        let _ = address;
        true
    }

    /// Takes a reservation back.
    pub fn unreserve(&mut self, address: std::net::IpAddr) {
        let _ = address;
    }

    /// Reads `ifconfig-pool-persist`: lines `CN,IPv4,IPv6`. Returns a sentence for each line that could not be used.
    pub fn load(&mut self, text: &str) -> Vec<String> {
        let _ = text;
        Vec::new()
    }

    /// Returns the text for `ifconfig-pool-persist`.
    #[must_use]
    pub fn save(&self) -> String {
        String::new()
    }
}
