//! A machine that only remembers what was asked of it.

use std::{collections::BTreeMap, io, net::IpAddr};

use crate::{Address, DnsSettings, DnsUndo, Family, Host, HostError, Route};

/// A [`Host`] for tests: keeps addresses and routes in memory and lists the calls.
#[derive(Debug, Default)]
pub struct FakeHost {
    /// Each change asked for, in words: "add route 10.0.0.0/8 via …".
    pub calls: Vec<String>,
    /// Routes that stand now, in order of arrival.
    pub routes: Vec<Route>,
    /// Addresses per device; a device exists when it has an entry.
    pub devices: BTreeMap<String, Vec<(IpAddr, u8)>>,
    /// Kinds of devices, as far as they have one.
    pub kinds: BTreeMap<String, String>,
    /// Calls that contain one of these texts fail with `EPERM`.
    pub refuse: Vec<String>,
}

impl FakeHost {
    /// Returns a machine with one network card `eth0` (192.0.2.10/24), a router at 192.0.2.1, and a device `tun0`.
    #[must_use]
    pub fn new() -> Self {
        let card: IpAddr = [192, 0, 2, 10].into();
        let router: IpAddr = [192, 0, 2, 1].into();
        Self {
            routes: vec![
                Route::to(Family::V4.any(), 0).via(Some(router)).dev("eth0"),
                Route::to(card, 24).dev("eth0"),
            ],
            devices: BTreeMap::from([("eth0".to_owned(), vec![(card, 24)]), ("tun0".to_owned(), Vec::new())]),
            ..Self::default()
        }
    }

    fn note(&mut self, call: String) -> Result<(), HostError> {
        let refused = self.refuse.iter().any(|text| call.contains(text.as_str()));
        self.calls.push(call.clone());
        if refused { Err(error(call, 1)) } else { Ok(()) }
    }

    fn known(&self, device: &str) -> Result<(), HostError> {
        if self.devices.contains_key(device) { Ok(()) } else { Err(HostError::NoDevice(device.to_owned())) }
    }
}

fn error(what: String, errno: i32) -> HostError {
    HostError::Refused { what, detail: None, source: io::Error::from_raw_os_error(errno) }
}

fn prefix_of(address: &Address) -> u8 {
    match address {
        Address::V4 { prefix, .. } | Address::V6 { prefix, .. } => *prefix,
        Address::V4Peer { .. } => 32,
    }
}

impl Host for FakeHost {
    fn device_index(&mut self, device: &str) -> Result<u32, HostError> {
        let position = self.devices.keys().position(|name| name == device);
        position
            .and_then(|index| u32::try_from(index + 1).ok())
            .ok_or_else(|| HostError::NoDevice(device.to_owned()))
    }

    fn mtu(&mut self, device: &str) -> Result<u32, HostError> {
        self.known(device).map(|()| 1500)
    }

    fn set_mtu(&mut self, device: &str, mtu: u32) -> Result<(), HostError> {
        self.known(device)?;
        self.note(format!("set mtu {mtu} dev {device}"))
    }

    fn set_link_address(&mut self, device: &str, mac: [u8; 6]) -> Result<(), HostError> {
        self.known(device)?;
        self.note(format!("set address {} dev {device}", mac.map(|byte| format!("{byte:02x}")).join(":")))
    }

    fn link_kind(&mut self, device: &str) -> Option<String> {
        self.kinds.get(device).cloned()
    }

    fn set_tx_queue_len(&mut self, device: &str, packets: u32) -> Result<(), HostError> {
        self.known(device)?;
        self.note(format!("set txqueuelen {packets} dev {device}"))
    }

    fn set_up(&mut self, device: &str) -> Result<(), HostError> {
        self.known(device)?;
        self.note(format!("set up dev {device}"))
    }

    fn shape(&mut self, device: &str, bytes_per_second: u32) -> Result<(), HostError> {
        self.known(device)?;
        self.note(format!("shape {bytes_per_second} dev {device}"))
    }

    fn unshape(&mut self, device: &str) -> Result<(), HostError> {
        self.known(device)?;
        self.note(format!("unshape dev {device}"))
    }

    fn add_address(&mut self, device: &str, address: &Address) -> Result<(), HostError> {
        self.known(device)?;
        let call = format!("add address {address} dev {device}");
        self.note(call.clone())?;
        let entry = (address.local(), prefix_of(address));
        let list = self.devices.entry(device.to_owned()).or_default();
        if list.contains(&entry) {
            return Err(error(call, 17));
        }
        list.push(entry);
        Ok(())
    }

    fn delete_address(&mut self, device: &str, address: &Address) -> Result<(), HostError> {
        self.known(device)?;
        let call = format!("delete address {address} dev {device}");
        self.note(call.clone())?;
        let entry = (address.local(), prefix_of(address));
        let list = self.devices.entry(device.to_owned()).or_default();
        match list.iter().position(|known| *known == entry) {
            Some(index) => {
                list.remove(index);
                Ok(())
            }
            None => Err(error(call, 99)),
        }
    }

    fn add_route(&mut self, route: &Route) -> Result<(), HostError> {
        let call = format!("add route {route}");
        self.note(call.clone())?;
        let same = |known: &&Route| {
            known.network == route.network
                && known.prefix == route.prefix
                && known.metric == route.metric
                && known.table == route.table
        };
        if self.routes.iter().find(same).is_some() {
            return Err(error(call, 17));
        }
        self.routes.push(route.clone());
        Ok(())
    }

    fn add_route_first(&mut self, route: &Route) -> Result<(), HostError> {
        let call = format!("add route {route}");
        self.note(call.clone())?;
        if self.routes.contains(route) {
            return Err(error(call, 17));
        }
        self.routes.push(route.clone());
        Ok(())
    }

    fn delete_route(&mut self, route: &Route) -> Result<(), HostError> {
        let call = format!("delete route {route}");
        self.note(call.clone())?;
        match self.routes.iter().position(|known| known == route) {
            Some(index) => {
                self.routes.remove(index);
                Ok(())
            }
            None => Err(error(call, 3)),
        }
    }

    fn default_routes(&mut self, family: Family) -> Result<Vec<Route>, HostError> {
        let mut found: Vec<Route> = self
            .routes
            .iter()
            .filter(|route| route.family() == family && route.prefix == 0 && route.table.is_none())
            .cloned()
            .collect();
        found.sort_by_key(|route| route.metric.unwrap_or(0));
        Ok(found)
    }

    fn route_to(&mut self, destination: IpAddr) -> Result<Option<Route>, HostError> {
        let best =
            self.routes.iter().filter(|route| route.covers(destination)).max_by_key(|route| route.prefix);
        Ok(best.map(|route| Route {
            gateway: route.gateway,
            device: route.device.clone(),
            ..Route::to_host(destination)
        }))
    }

    fn addresses(&mut self, device: &str) -> Result<Vec<(IpAddr, u8)>, HostError> {
        self.devices.get(device).cloned().ok_or_else(|| HostError::NoDevice(device.to_owned()))
    }

    fn set_dns(&mut self, device: &str, settings: &DnsSettings) -> Result<DnsUndo, HostError> {
        let servers: Vec<String> = settings
            .servers
            .iter()
            .flat_map(|server| &server.addresses)
            .map(|address| address.address.to_string())
            .collect();
        self.note(format!("set dns {} dev {device}", servers.join(" ")))?;
        Ok(DnsUndo::Resolved { device: device.to_owned() })
    }

    fn unset_dns(&mut self, undo: &DnsUndo) -> Result<(), HostError> {
        match undo {
            DnsUndo::Resolved { device } | DnsUndo::Resolvconf { device } => {
                self.note(format!("unset dns dev {device}"))
            }
            DnsUndo::File { backup } => self.note(format!("restore dns from {backup}")),
        }
    }
}
