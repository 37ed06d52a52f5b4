use std::{net::Ipv6Addr, time::Duration};

use crate::value::{
    ClientNat, Command, DhcpOption, Dns, Ifconfig, Ifconfig6, Redirect, Route, Route6, RouteHost, Topology,
};

/// The virtual device.
#[derive(Clone, Debug)]
pub struct Device {
    /// `dev`: a kind (`tun`: the system chooses the number), or a name.
    pub dev: String,
    /// `dev-type tap`, or a name that begins with `tap`.
    pub tap: bool,
    /// `dev null`.
    pub null: bool,
    /// `dev-node`.
    pub dev_node: Option<String>,
    /// `topology`; after the checks `None` only for TAP: the default is `subnet` on a server, `net30` elsewhere, where a
    /// push may change it.
    pub topology: Option<Topology>,
    /// `ifconfig`, also from `server`.
    pub ifconfig: Option<Ifconfig>,
    /// `ifconfig-ipv6`, also from `server-ipv6`.
    pub ifconfig_ipv6: Option<Ifconfig6>,
    /// `lladdr`: the Ethernet address of a TAP device.
    pub lladdr: Option<[u8; 6]>,
    /// `ifconfig-noexec`: leave the device alone, fill the environment of scripts.
    pub ifconfig_noexec: bool,
    /// `txqueuelen`.
    pub txqueuelen: Option<u32>,
    /// `persist-tun`: keep the device over soft restarts.
    pub persist_tun: bool,
}

impl Device {
    /// The program of `dev-node unix:PROGRAM`.
    pub fn program(&self) -> Option<&str> {
        self.dev_node.as_deref()?.strip_prefix("unix:")
    }

    /// Returns whether it stays over soft restarts (`persist-tun`). A program starts anew each time, as with OpenVPN: it may be
    /// given another address.
    pub fn is_kept(&self) -> bool {
        self.persist_tun && self.program().is_none()
    }

    /// Returns whether the system knows no such device: it has no addresses, and no route leads to it.
    pub fn is_virtual(&self) -> bool {
        self.null || self.program().is_some()
    }
}

impl Default for Device {
    fn default() -> Self {
        Self {
            dev: "tun".to_owned(),
            tap: false,
            null: false,
            dev_node: None,
            topology: None,
            ifconfig: None,
            ifconfig_ipv6: None,
            lladdr: None,
            ifconfig_noexec: false,
            txqueuelen: None,
            persist_tun: false,
        }
    }
}

/// Routes and DNS of this machine.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// `route`, in order.
    pub routes: Vec<Route>,
    /// `route-ipv6`, in order.
    pub routes6: Vec<Route6>,
    /// `route-gateway`; `None` also for `route-gateway dhcp`.
    pub gateway: Option<RouteHost>,
    /// `route-ipv6-gateway`.
    pub gateway6: Option<Ipv6Addr>,
    /// `route-metric`.
    pub metric: Option<u32>,
    /// The last `route-table`, which pushed routes go into as well; 0 is the main one.
    pub table: u32,
    /// `route-delay SECONDS`: wait before adding routes.
    pub delay: Option<Duration>,
    /// `route-noexec`: leave routes alone, fill the environment of scripts.
    pub noexec: bool,
    /// `redirect-gateway`, `redirect-private`.
    pub redirect: Option<Redirect>,
    /// `block-ipv6`.
    pub block_ipv6: bool,
    /// `client-nat`, in order.
    pub client_nat: Vec<ClientNat>,
    /// `dns`.
    pub dns: Dns,
    /// `dns-updown`.
    pub dns_updown: DnsUpdown,
    /// `dhcp-option`, in order.
    pub dhcp_options: Vec<DhcpOption>,
}

/// `dns-updown`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DnsUpdown {
    /// Apply DNS unless an `up` script exists.
    #[default]
    Default,
    /// `force`: apply DNS also when an `up` script exists.
    Force,
    /// `disable`.
    Disable,
    /// This program.
    Command(Command),
}

/// `mssfix`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MssFix {
    /// Not written: 1492 including the outer headers, or what fits another `tun-mtu` (protocol, MTU and MSS).
    #[default]
    Default,
    /// `mssfix 0`.
    Off,
    /// `mssfix N`: payload of the outer UDP or TCP packet.
    Payload(u32),
    /// `mssfix N mtu`: the outer IP packet.
    Mtu(u32),
    /// `mssfix N fixed`: the MSS itself, plus 40.
    Fixed(u32),
}
