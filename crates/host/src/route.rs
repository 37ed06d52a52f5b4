//! Routes: what the kernel takes, and what a configuration says.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Returns the family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Returns the address that stands for "any" (`0.0.0.0`, `::`).
    #[must_use]
    pub fn any(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// Returns the number of bits of an address: 32 or 128.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// What a route does with packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// Sends them on.
    #[default]
    Unicast,
    /// Drops them silently.
    Blackhole,
    /// Drops them and tells the sender.
    Unreachable,
}

/// One route of the system's tables.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// Destination network (host bits are zero).
    pub network: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// The next hop; `None`: the destination is reached directly through `device`.
    pub gateway: Option<IpAddr>,
    /// Outgoing device; `None` lets the kernel derive it from the gateway.
    pub device: Option<String>,
    /// Priority, smaller wins; `None` leaves it to the kernel (0 in IPv4, 1024 in IPv6).
    pub metric: Option<u32>,
    /// Routing table; `None` is the main table.
    pub table: Option<u32>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// What it does.
    pub kind: RouteKind,
    /// The gateway is on the device's network although no address says so (`onlink`).
    pub on_link: bool,
    /// Who made it (`/etc/iproute2/rt_protos`); `None` is culvert. Kept for routes that are displaced and restored.
    pub protocol: Option<u8>,
}

impl Route {
    /// Returns a unicast route to a network without gateway or device; host bits of `network` are cleared.
    #[must_use]
    pub fn to(network: IpAddr, prefix: u8) -> Self {
        Self {
            network: mask(network, prefix),
            prefix,
            gateway: None,
            device: None,
            metric: None,
            table: None,
            source: None,
            kind: RouteKind::Unicast,
            on_link: false,
            protocol: None,
        }
    }

    /// Returns a route to one address.
    #[must_use]
    pub fn to_host(address: IpAddr) -> Self {
        Self::to(address, Family::of(address).bits())
    }

    /// Sets the next hop.
    #[must_use]
    pub fn via(mut self, gateway: Option<IpAddr>) -> Self {
        self.gateway = gateway;
        self
    }

    /// Sets the device.
    #[must_use]
    pub fn dev(mut self, device: &str) -> Self {
        self.device = Some(device.to_owned());
        self
    }

    /// Sets the metric.
    #[must_use]
    pub fn metric(mut self, metric: Option<u32>) -> Self {
        self.metric = metric;
        self
    }

    /// Sets the table.
    #[must_use]
    pub fn table(mut self, table: Option<u32>) -> Self {
        self.table = table;
        self
    }

    /// Returns the family.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.network)
    }

    /// Whether the route covers an address.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family() && mask(address, self.prefix) == self.network
    }
}

/// The words of OpenVPN's log: `10.0.0.0/8 via 10.8.0.1 dev tun0 table 0 metric -1`. Tools match on them.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} via ", self.network, self.prefix)?;
        match (self.gateway, self.family()) {
            (Some(gateway), _) => write!(f, "{gateway}")?,
            (None, Family::V4) => f.write_str("[NULL]")?,
            (None, Family::V6) => f.write_str("::")?,
        }
        write!(f, " dev {} table {}", self.device.as_deref().unwrap_or("[NULL]"), self.table.unwrap_or(0))?;
        match self.metric {
            Some(metric) => write!(f, " metric {metric}")?,
            None => f.write_str(" metric -1")?,
        }
        match self.kind {
            RouteKind::Unicast => Ok(()),
            RouteKind::Blackhole => f.write_str(" blackhole"),
            RouteKind::Unreachable => f.write_str(" unreachable"),
        }
    }
}

/// A place that a configuration may name by a word instead of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address as written.
    Address(IpAddr),
    /// `vpn_gateway` (also `default` and an empty gateway): the far end of the tunnel.
    VpnGateway,
    /// `net_gateway`: the machine's own way out before the tunnel.
    NetGateway,
    /// `remote_host`: the VPN server's address.
    RemoteHost,
}

/// A `route` or `route-ipv6` line, names of hosts already resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// Destination.
    pub network: Place,
    /// Prefix length of the destination.
    pub prefix: u8,
    /// Next hop; `None` means the default of the family (`route-gateway` or the tunnel).
    pub gateway: Option<Place>,
    /// Metric; `None` means `route-metric`, and without that the system's choice.
    pub metric: Option<u32>,
    /// Table (`route-table` in force where the line stood); `None` is the main table.
    pub table: Option<u32>,
    /// Family, which a keyword does not tell.
    pub family: Family,
}

impl RouteSpec {
    /// Returns the words of a `route` or `route-ipv6` line as a keyword or an address; `None` if it is neither.
    #[must_use]
    pub fn parse_place(word: &str) -> Option<Place> {
        match word {
            "vpn_gateway" | "default" => Some(Place::VpnGateway),
            "net_gateway" => Some(Place::NetGateway),
            "remote_host" => Some(Place::RemoteHost),
            _ => word.parse().ok().map(Place::Address),
        }
    }
}

/// Clears the host bits of an address.
pub(crate) fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(u32::from(32_u8.saturating_sub(prefix))).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & keep).into()
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(u32::from(128_u8.saturating_sub(prefix))).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & keep).into()
        }
    }
}
