//! Plans: what is wanted, in the order in which it is done.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{DnsSettings, Route};

/// An address of the tunnel device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// IPv4 with a network (`topology subnet`).
    V4 {
        /// This machine's address.
        local: Ipv4Addr,
        /// Prefix length of the network.
        prefix: u8,
    },
    /// IPv4 with one peer (`topology net30`, `p2p`).
    V4Peer {
        /// This machine's address.
        local: Ipv4Addr,
        /// The far end.
        remote: Ipv4Addr,
    },
    /// IPv6.
    V6 {
        /// This machine's address.
        local: Ipv6Addr,
        /// Prefix length of the network.
        prefix: u8,
    },
}

impl Address {
    /// Returns this machine's address.
    #[must_use]
    pub fn local(&self) -> IpAddr {
        match *self {
            Self::V4 { local, .. } | Self::V4Peer { local, .. } => local.into(),
            Self::V6 { local, .. } => local.into(),
        }
    }
}

/// `10.8.0.2/24`, `10.8.0.2 peer 10.8.0.1`: the words of OpenVPN's log.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4 { local, prefix } => write!(f, "{local}/{prefix}"),
            Self::V4Peer { local, remote } => write!(f, "{local} peer {remote}"),
            Self::V6 { local, prefix } => write!(f, "{local}/{prefix}"),
        }
    }
}

/// One change to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Set the MTU of a device.
    Mtu {
        /// Which.
        device: String,
        /// Bytes.
        mtu: u32,
    },
    /// Set the Ethernet address of a device.
    LinkAddress {
        /// Of which device.
        device: String,
        /// Which address.
        mac: [u8; 6],
    },
    /// Set the length of the transmit queue.
    TxQueueLen {
        /// Of which device.
        device: String,
        /// Packets.
        packets: u32,
    },
    /// Bring a device up.
    Up {
        /// Which.
        device: String,
    },
    /// Add an address to a device.
    Address {
        /// Which device.
        device: String,
        /// Which address.
        address: Address,
    },
    /// Add a route.
    Route(Route),
    /// Remove a route which stands in the way (the default route under `redirect-gateway` without `def1`).
    Displace(Route),
    /// Limit what leaves through a device (`shaper`). After [`Step::Mtu`]; a second one changes the limit.
    Shape {
        /// Which device.
        device: String,
        /// The average rate, all traffic together; OpenVPN allows 100 to 100000000.
        bytes_per_second: u32,
    },
    /// Tell the resolver about DNS servers behind a device.
    Dns {
        /// Which device.
        device: String,
        /// What to tell.
        settings: DnsSettings,
    },
}

/// An ordered list of steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    steps: Vec<Step>,
}

impl Plan {
    /// Returns an empty plan.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a step.
    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Returns the steps in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl FromIterator<Step> for Plan {
    fn from_iter<T: IntoIterator<Item = Step>>(steps: T) -> Self {
        Self { steps: steps.into_iter().collect() }
    }
}

/// The tunnel device as the configuration wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Its name, as opened.
    pub name: String,
    /// MTU in bytes; `None` leaves it alone.
    pub mtu: Option<u32>,
    /// Transmit queue in packets; `None` leaves it alone.
    pub tx_queue_len: Option<u32>,
    /// Its Ethernet address; `None` leaves it alone.
    pub mac: Option<[u8; 6]>,
    /// Leave a device without addresses down: whoever puts an Ethernet device into a bridge says when it comes up.
    pub down_without_address: bool,
    /// Its addresses, at most one of each family.
    pub addresses: Vec<Address>,
}

impl DeviceConfig {
    /// Returns the plan: Ethernet address, MTU, queue, up, addresses, in OpenVPN's order.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let device = || self.name.clone();
        let mut plan = Plan::new();
        if let Some(mac) = self.mac {
            plan.push(Step::LinkAddress { device: device(), mac });
        }
        if let Some(mtu) = self.mtu {
            plan.push(Step::Mtu { device: device(), mtu });
        }
        if let Some(packets) = self.tx_queue_len {
            plan.push(Step::TxQueueLen { device: device(), packets });
        }
        if !self.addresses.is_empty() || !self.down_without_address {
            plan.push(Step::Up { device: device() });
        }
        for address in &self.addresses {
            plan.push(Step::Address { device: device(), address: *address });
        }
        plan
    }
}
