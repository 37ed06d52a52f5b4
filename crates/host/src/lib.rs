//! Changes to this machine's network, recorded so that they can be undone exactly.
//!
//! What it is not: it opens no tunnel device and knows no session. It gets values (addresses, routes, DNS settings) and
//! a device name, and does the same for every data plane.
//!
//! The walk: the daemon describes what it wants ([`DeviceConfig`], [`RouteSettings`] with a [`RouteContext`]), which
//! become a [`Plan`], an ordered list of [`Step`]s. A [`Ledger`] applies it to a [`Host`] (the machine through
//! netlink: [`NetlinkHost`]; in tests [`FakeHost`]) and writes down what really changed, also into a [`Journal`] file.
//! [`Ledger::undo`] takes the changes back in reverse order; things that are gone already (the device was closed and
//! took its routes along) are not errors. After a `kill -9`, [`recover`] does the same from the journal files.
//!
//! Two things stand beside the plan. A [`Firewall`] does what a kernel with the data packets in its hands does not do by
//! itself (isolation of clients, MSS clamping); its rules are one nftables table that lives exactly as long as the
//! value, or the process, and so needs no ledger. A [`RouteWatch`] changes nothing: it tells which routes others put on
//! a tunnel device, for data planes that route by themselves.
//!
//! A route that fails is reported and the rest goes on: whether to continue is the caller's decision.

#![forbid(unsafe_code)]

mod dns;
mod error;
mod fake;
mod firewall;
mod journal;
mod ledger;
mod netlink;
mod news;
mod plan;
mod redirect;
mod route;
mod shaper;
#[cfg(test)]
mod tests;
mod watch;

pub use dns::{
    DnsBackend, DnsServer, DnsServerAddress, DnsSettings, DnsTransport, DnsUndo, Dnssec, name_servers,
};
pub use error::HostError;
pub use fake::FakeHost;
pub use firewall::{
    Firewall, FirewallRules, Ipv6Refusal, KillSwitch, KillSwitchHold, KillSwitchRules, Lookups, MssClamp,
    Refused,
};
pub use journal::{Journal, recover, run_directory};
pub use ledger::{Applied, Change, Failure, Ledger};
pub use netlink::NetlinkHost;
pub use news::NetworkNews;
pub use plan::{Address, DeviceConfig, Plan, Step};
pub use redirect::{NetGateway, Planned, Redirect, RouteContext, RouteSettings};
pub use route::{Family, Place, Route, RouteKind, RouteSpec};
pub use watch::{RouteWatch, ViaRoute};

use std::net::IpAddr;

/// The machine whose network is changed.
///
/// Calls are synchronous and short: one netlink request each.
pub trait Host: Send {
    /// Returns the index of a network device.
    ///
    /// # Errors
    /// When there is no such device.
    fn device_index(&mut self, device: &str) -> Result<u32, HostError>;

    /// Returns the MTU of a device.
    ///
    /// # Errors
    /// When there is no such device.
    fn mtu(&mut self, device: &str) -> Result<u32, HostError>;

    /// Sets the MTU of a device.
    ///
    /// # Errors
    /// When there is no such device or it refuses the value.
    fn set_mtu(&mut self, device: &str, mtu: u32) -> Result<(), HostError>;

    /// Sets the Ethernet address of a device.
    ///
    /// # Errors
    /// When there is no such device, it is none of Ethernet, or it refuses the address (that of a group).
    fn set_link_address(&mut self, device: &str, mac: [u8; 6]) -> Result<(), HostError>;

    /// Returns what kind of virtual device this is: `ovpn`, `tun`, `veth`. `None` when there is no such device, or it is
    /// of no kind (hardware).
    fn link_kind(&mut self, device: &str) -> Option<String>;

    /// Sets the length of a device's transmit queue, in packets.
    ///
    /// # Errors
    /// When there is no such device.
    fn set_tx_queue_len(&mut self, device: &str, packets: u32) -> Result<(), HostError>;

    /// Brings a device up.
    ///
    /// # Errors
    /// When there is no such device.
    fn set_up(&mut self, device: &str) -> Result<(), HostError>;

    /// Limits what leaves through a device, headers of the link included; a second call changes the limit. The device's
    /// MTU must be set before, as larger packets are dropped.
    ///
    /// # Errors
    /// [`HostError::is_exists`] when the device has a queueing discipline that somebody else made; it stays.
    /// [`HostError::Unavailable`] when the kernel cannot shape.
    fn shape(&mut self, device: &str, bytes_per_second: u32) -> Result<(), HostError>;

    /// Removes the limit.
    ///
    /// # Errors
    /// [`HostError::is_gone`] when it is not there.
    fn unshape(&mut self, device: &str) -> Result<(), HostError>;

    /// Adds an address to a device.
    ///
    /// # Errors
    /// [`HostError::is_exists`] when it is there already.
    fn add_address(&mut self, device: &str, address: &Address) -> Result<(), HostError>;

    /// Removes an address from a device.
    ///
    /// # Errors
    /// [`HostError::is_gone`] when it is not there.
    fn delete_address(&mut self, device: &str, address: &Address) -> Result<(), HostError>;

    /// Adds a route where there is none to the same network with the same metric.
    ///
    /// # Errors
    /// [`HostError::is_exists`] when there is one.
    fn add_route(&mut self, route: &Route) -> Result<(), HostError>;

    /// Adds a route before all others to the same network with the same metric.
    ///
    /// # Errors
    /// [`HostError::is_exists`] when the very same route is there already.
    fn add_route_first(&mut self, route: &Route) -> Result<(), HostError>;

    /// Removes a route.
    ///
    /// # Errors
    /// [`HostError::is_gone`] when it is not there.
    fn delete_route(&mut self, route: &Route) -> Result<(), HostError>;

    /// Returns the default routes of the main table, best metric first.
    ///
    /// # Errors
    /// When the system cannot be asked.
    fn default_routes(&mut self, family: Family) -> Result<Vec<Route>, HostError>;

    /// Returns how the system would send a packet to `destination` now; `None` when it cannot be reached.
    ///
    /// # Errors
    /// When the system cannot be asked.
    fn route_to(&mut self, destination: IpAddr) -> Result<Option<Route>, HostError>;

    /// Returns the networks that are directly reachable through a device, as address of this machine and prefix.
    ///
    /// # Errors
    /// When there is no such device.
    fn addresses(&mut self, device: &str) -> Result<Vec<(IpAddr, u8)>, HostError>;

    /// Applies DNS settings to a device through the system's resolver.
    ///
    /// # Errors
    /// When there is no resolver to talk to; the text names a remedy.
    fn set_dns(&mut self, device: &str, settings: &DnsSettings) -> Result<DnsUndo, HostError>;

    /// Takes DNS settings back.
    ///
    /// # Errors
    /// When the resolver refuses.
    fn unset_dns(&mut self, undo: &DnsUndo) -> Result<(), HostError>;
}

/// Returns the way out of this machine towards `destination` (or by default) that does not lead through `device`, the tunnel
/// itself.
///
/// # Errors
/// When the system cannot be asked.
pub fn gateway_towards(
    host: &mut dyn Host,
    destination: Option<IpAddr>,
    family: Family,
    device: &str,
) -> Result<Option<NetGateway>, HostError> {
    let direct = match destination {
        Some(to) => host.route_to(to)?.filter(|route| route.device.as_deref() != Some(device)),
        None => None,
    };
    let found = match direct {
        Some(route) => Some(route),
        None => {
            host.default_routes(family)?.into_iter().find(|route| route.device.as_deref() != Some(device))
        }
    };
    Ok(found.map(NetGateway::of))
}
