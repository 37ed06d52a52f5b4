//! Addresses that a server gives to its clients.
//!
//! A pool has one number per client (`ifconfig-pool`, `ifconfig-ipv6-pool`); IPv4 and IPv6 address of a client are the
//! same number above the two bases, as in OpenVPN. A client gets the number that it had before, else one that nobody
//! had, else the one that was left longest ago; `duplicate-cn` turns the memory off. The memory survives in a file
//! ([`Pool::load`], [`Pool::save`]); an address in it is a hint, not a reservation.

mod persist;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use culvert_config::{
    profile::{IfconfigPool, Ipv6Pool},
    value::Topology,
};

/// Why a pool cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PoolError {
    /// The range holds no address.
    #[error("the address pool is empty")]
    Empty,
    /// Neither family.
    #[error("the address pool has neither IPv4 nor IPv6")]
    NoFamily,
}

/// What a pool is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolConfig {
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
pub(crate) struct LeaseId(u32);

/// IPv4 addresses of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseV4 {
    /// The client's address.
    pub remote: Ipv4Addr,
    /// The server's end of the /30 (`net30` only): what the client gets as second word of `ifconfig`.
    pub local: Option<Ipv4Addr>,
}

/// Addresses of a client, until [`Pool::release`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Which.
    pub id: LeaseId,
    /// IPv4.
    pub v4: Option<LeaseV4>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Lease {
    /// Returns whether an address is one of the client's.
    #[must_use]
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.is_some_and(|v4| v4.remote == address),
            IpAddr::V6(address) => self.v6 == Some(address),
        }
    }
}

/// Largest number of clients: OpenVPN's limit.
const MAX_CAPACITY: u32 = 65_536;

/// A pool of addresses.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    v4: Option<V4>,
    v6: Option<Ipv6Pool>,
    sticky: bool,
    capacity: u32,
    /// What is known about a number; numbers that nobody ever had are absent.
    places: BTreeMap<u32, Place>,
    /// The number that a name had last.
    owners: HashMap<String, u32>,
    /// Numbers that are free and were used, by the moment they were left.
    left: BTreeMap<u64, u32>,
    /// Below this, every number is in `places`.
    fresh: u32,
    /// Counts releases: the order in which numbers were left.
    clock: u64,
}

/// The IPv4 side: base address and distance of two clients.
#[derive(Clone, Copy, Debug)]
struct V4 {
    base: u32,
    step: u32,
}

/// One number of the pool.
#[derive(Clone, Debug, Default)]
struct Place {
    /// Who has it, or had it last.
    owner: Option<String>,
    leased: bool,
    /// Clients with this fixed address: mostly one at a time.
    reserved: u32,
    /// Its key in [`Pool::left`], while free.
    left_at: Option<u64>,
}

impl Pool {
    /// Returns a pool with everything free.
    ///
    /// `net30` gives each client a /30, of which it gets the second host; the first is the server's end.
    ///
    /// # Errors
    /// When it would be empty.
    pub(crate) fn new(config: PoolConfig) -> Result<Self, PoolError> {
        let v4 = config.v4.map(|range| V4::new(range, config.topology)).transpose()?;
        let v6 = config.v6.map(|pool| (pool, v6_capacity(pool)));
        let capacity = match (v4, v6) {
            (None, None) => return Err(PoolError::NoFamily),
            (Some((_, count)), None) | (None, Some((_, count))) => count,
            (Some((_, four)), Some((_, six))) => four.min(six),
        };
        if capacity == 0 {
            return Err(PoolError::Empty);
        }
        Ok(Self {
            v4: v4.map(|(v4, _)| v4),
            v6: v6.map(|(v6, _)| v6),
            sticky: config.sticky,
            capacity: capacity.min(MAX_CAPACITY),
            places: BTreeMap::new(),
            owners: HashMap::new(),
            left: BTreeMap::new(),
            fresh: 0,
            clock: 0,
        })
    }

    /// Takes addresses for a client; `None`: all are in use.
    pub(crate) fn acquire(&mut self, common_name: &str) -> Option<Lease> {
        let number = self
            .former(common_name)
            .or_else(|| self.never_used())
            .or_else(|| self.left.first_key_value().map(|(_, number)| *number))?;
        let place = self.places.entry(number).or_default();
        if let Some(at) = place.left_at.take() {
            self.left.remove(&at);
        }
        place.leased = true;
        let before = place.owner.take();
        if let Some(before) = before
            && self.owners.get(&before) == Some(&number)
        {
            self.owners.remove(&before);
        }
        if self.sticky {
            place.owner = Some(common_name.to_owned());
            let elsewhere = self.owners.insert(common_name.to_owned(), number).filter(|old| *old != number);
            // One name, one address: an older session of that name may still hold its own, but it is forgotten.
            if let Some(old) = elsewhere.and_then(|old| self.places.get_mut(&old)) {
                old.owner = None;
            }
        }
        Some(self.lease(number))
    }

    /// Gives addresses back; the client's name stays with them. A second time does nothing.
    pub(crate) fn release(&mut self, id: LeaseId) {
        let Some(place) = self.places.get_mut(&id.0) else { return };
        if !std::mem::take(&mut place.leased) {
            return;
        }
        self.leave(id.0);
    }

    /// Turns the memory of last addresses on or off: for leases from here on.
    pub(crate) fn set_sticky(&mut self, sticky: bool) {
        self.sticky = sticky;
    }

    /// Keeps a fixed address (`ifconfig-push`) from being given to others, while its client is connected. An address
    /// that is not the pool's is ignored. Returns whether it was free.
    pub(crate) fn reserve(&mut self, address: IpAddr) -> bool {
        let Some(number) = self.number_of(address) else { return true };
        let place = self.places.entry(number).or_default();
        if !place.is_free() {
            return false;
        }
        self.insist(address);
        true
    }

    /// The same, whoever has it: it is given to nobody else from here on.
    pub(crate) fn insist(&mut self, address: IpAddr) {
        let Some(number) = self.number_of(address) else { return };
        let place = self.places.entry(number).or_default();
        place.reserved += 1;
        if let Some(at) = place.left_at.take() {
            self.left.remove(&at);
        }
    }

    /// Takes a reservation back.
    pub(crate) fn unreserve(&mut self, address: IpAddr) {
        let Some(number) = self.number_of(address) else { return };
        let Some(place) = self.places.get_mut(&number).filter(|place| place.reserved > 0) else { return };
        place.reserved -= 1;
        self.leave(number);
    }

    /// The number that the name had, if it is free.
    fn former(&self, common_name: &str) -> Option<u32> {
        let number = *self.owners.get(common_name).filter(|_| self.sticky)?;
        self.places.get(&number).filter(|place| place.is_free()).map(|_| number)
    }

    /// The first number that nobody ever had.
    fn never_used(&mut self) -> Option<u32> {
        while self.fresh < self.capacity && self.places.contains_key(&self.fresh) {
            self.fresh += 1;
        }
        (self.fresh < self.capacity).then_some(self.fresh)
    }

    /// Puts a number to the end of those that are free.
    fn leave(&mut self, number: u32) {
        let Some(place) = self.places.get_mut(&number) else { return };
        if !place.is_free() || place.left_at.is_some() {
            return;
        }
        self.clock += 1;
        place.left_at = Some(self.clock);
        self.left.insert(self.clock, number);
    }

    fn lease(&self, number: u32) -> Lease {
        Lease {
            id: LeaseId(number),
            v4: self.v4.map(|v4| v4.lease(number)),
            v6: self.v6.map(|v6| v6_address(v6, number)),
        }
    }

    fn number_of(&self, address: IpAddr) -> Option<u32> {
        let number = match address {
            IpAddr::V4(address) => self.v4?.number_of(address)?,
            IpAddr::V6(address) => {
                let base = self.v6?.base.address.to_bits();
                u32::try_from(address.to_bits().checked_sub(base)?).ok()?
            }
        };
        (number < self.capacity).then_some(number)
    }
}

impl Place {
    fn is_free(&self) -> bool {
        !self.leased && self.reserved == 0
    }
}

impl V4 {
    fn new(range: IfconfigPool, topology: Topology) -> Result<(Self, u32), PoolError> {
        let (start, end) = (range.start.to_bits(), range.end.to_bits());
        let (base, last, step) = match topology {
            Topology::Subnet | Topology::P2p => (start, end, 1),
            // Whole /30s: the one that the first address is in, to the one that the last is in.
            Topology::Net30 => (start & !3, end | 3, 4),
        };
        let addresses = last.checked_sub(base).ok_or(PoolError::Empty)?;
        Ok((Self { base, step }, (addresses / step).saturating_add(1)))
    }

    fn lease(self, number: u32) -> LeaseV4 {
        let first = self.base.saturating_add(number.saturating_mul(self.step));
        if self.step == 1 {
            LeaseV4 { remote: Ipv4Addr::from_bits(first), local: None }
        } else {
            LeaseV4 {
                remote: Ipv4Addr::from_bits(first.saturating_add(2)),
                local: Some(Ipv4Addr::from_bits(first.saturating_add(1))),
            }
        }
    }

    fn number_of(self, address: Ipv4Addr) -> Option<u32> {
        Some(address.to_bits().checked_sub(self.base)? / self.step)
    }
}

/// Addresses from the base to the end of its network.
fn v6_capacity(pool: Ipv6Pool) -> u32 {
    let host_bits = 128_u32.saturating_sub(u32::from(pool.base.bits));
    let last = pool.base.address.to_bits() | 1_u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
    let addresses = (last - pool.base.address.to_bits()).saturating_add(1);
    u32::try_from(addresses).unwrap_or(MAX_CAPACITY).min(MAX_CAPACITY)
}

fn v6_address(pool: Ipv6Pool, number: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(pool.base.address.to_bits().saturating_add(u128::from(number)))
}
