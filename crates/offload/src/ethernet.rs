//! Devices whose packets are Ethernet frames (TAP): what an offload has to know to be a switch.

use std::{fmt, time::Duration};

use culvert_wire::{PeerId, Vlans};

/// An Ethernet device. On one with many peers, addresses are learned from what peers send; a point-to-point device
/// passes everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ethernet {
    /// A new address of a peer carries nothing until [`crate::Offload::judge_station`] allows it.
    pub ask: bool,
    /// VLAN tags are looked at (`vlan-tagging`).
    pub vlans: Option<Vlans>,
}

/// A peer's place on an Ethernet device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// The VLAN that it is in; 0 where VLANs are not looked at.
    pub vlan: u16,
    /// How many addresses may be learned from it (`max-routes-per-client`).
    pub max_stations: u32,
}

impl Default for Port {
    fn default() -> Self {
        Self { vlan: 0, max_stations: 256 }
    }
}

/// An Ethernet address in a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Station {
    /// The address.
    pub mac: [u8; 6],
    /// The VLAN; 0 where VLANs are not looked at.
    pub vlan: u16,
}

/// `02:00:5e:10:00:01@0`, as OpenVPN prints it.
impl fmt::Display for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.mac;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}@{}", self.vlan)
    }
}

/// An address that was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The address.
    pub station: Station,
    /// Whose it is.
    pub peer: PeerId,
    /// How long ago a frame came from it or went to it.
    pub idle: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_is_printed_as_openvpn_does() {
        let station = Station { mac: [0x02, 0, 0x5E, 0x10, 0, 1], vlan: 7 };
        assert_eq!(station.to_string(), "02:00:5e:10:00:01@7");
    }
}
