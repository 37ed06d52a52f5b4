use std::net::IpAddr;

/// An own address that a peer speaks to, and is spoken to from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalAddress {
    /// The address.
    pub ip: IpAddr,
    /// The interface that packets have to leave by: its index; 0 leaves it to the system's routes.
    pub interface: u32,
}

impl LocalAddress {
    /// The same on whatever interface.
    #[must_use]
    pub const fn anywhere(self) -> Self {
        Self { interface: 0, ..self }
    }
}

impl From<IpAddr> for LocalAddress {
    fn from(ip: IpAddr) -> Self {
        Self { ip, interface: 0 }
    }
}

/// The form of system calls: address and interface index.
impl From<(IpAddr, u32)> for LocalAddress {
    fn from((ip, interface): (IpAddr, u32)) -> Self {
        Self { ip, interface }
    }
}

impl From<LocalAddress> for (IpAddr, u32) {
    fn from(local: LocalAddress) -> Self {
        (local.ip, local.interface)
    }
}
