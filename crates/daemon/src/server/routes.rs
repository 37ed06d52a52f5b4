//! Routes of the machine that lead to single clients.
//!
//! The kernel's module finds a client by the machine's routes: a packet goes to the client whose address is the next hop. So
//! an address outside of the server's network needs a route, and so does every network behind a client (`iroute`). A
//! client that the engine carries beside the module is reached through the engine's device, which needs a route to
//! everything that is the client's. With the engine alone nothing is needed: it knows its clients itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use culvert_config::{Profile, Role};
use culvert_host::{Address, DeviceConfig, Host as _, HostError, Ledger, NetlinkHost, Route};
use culvert_offload::{Device, Offload, PeerSpec};
use tracing::{debug, warn};

use crate::{offload::is_kernel, ovlog};

/// Metric of routes to a client's networks: better than that of the server's own `route` lines (200), which then tell
/// where packets end while the client is away.
const METRIC: u32 = 100;

/// Puts routes to clients into the machine, and takes them out again.
pub(super) struct ClientRoutes {
    /// `None`: not needed here, or not possible.
    host: Option<NetlinkHost>,
    main: Device,
    /// The server's addresses, with the networks in which clients need no route of their own.
    v4: Option<(Ipv4Addr, Ipv4Addr)>,
    v6: Option<(Ipv6Addr, u8)>,
    mtu: u32,
    /// The engine's device, once it was brought up.
    companion: Option<String>,
}

impl ClientRoutes {
    pub(super) fn new(profile: &Profile, offload: &dyn Offload) -> Self {
        let wanted = profile.role() == Role::Server && is_kernel(offload);
        let host = wanted.then(NetlinkHost::open).and_then(|opened| match opened {
            Ok(host) => Some(host),
            Err(failure) => {
                warn!("cannot set routes to clients and the networks behind them: {failure}");
                None
            }
        });
        Self {
            host,
            main: offload.device(),
            v4: profile.device.ifconfig.map(|own| (own.local, own.second)),
            v6: profile.device.ifconfig_ipv6.map(|own| (own.local.address, own.local.bits)),
            mtu: profile.connections.first().map_or(1500, |entry| entry.mtu.tun_mtu),
            companion: None,
        }
    }

    /// Sets the routes to a new client, which `device` carries; returns those that stand.
    pub(super) fn install(&mut self, peer: &PeerSpec, device: &Device) -> Vec<Route> {
        if self.host.is_none() {
            return Vec::new();
        }
        let beside = device.name != self.main.name;
        if beside && self.companion.as_ref() != Some(&device.name) {
            self.bring_up(device);
        }
        let routes = if beside { self.routes_beside(peer, device) } else { self.routes(peer) };
        let Some(host) = &mut self.host else { return Vec::new() };
        let mut installed = Vec::new();
        for route in routes {
            match add(host, &route) {
                Ok(()) => installed.push(route),
                Err(failure) => warn!("the route {route} to this client cannot be set: {failure}"),
            }
        }
        installed
    }

    /// Takes a client's routes back.
    pub(super) fn remove(&mut self, routes: &[Route]) {
        let Some(host) = &mut self.host else { return };
        for route in routes {
            match host.delete_route(route) {
                Ok(()) => {}
                Err(failure) if failure.is_gone() => debug!("already gone: {failure}"),
                Err(failure) => warn!("the route {route} cannot be taken back: {failure}"),
            }
        }
    }

    /// Routes to a client of the module.
    fn routes(&self, peer: &PeerSpec) -> Vec<Route> {
        let device = &self.main.name;
        let outside = addresses(peer).filter(|address| !self.is_inside(*address));
        let own = outside.map(|address| Route::to_host(address).dev(device).metric(Some(METRIC)));
        let networks = peer.iroutes.iter().filter_map(|(network, prefix)| {
            let next_hop = addresses(peer).find(|address| address.is_ipv4() == network.is_ipv4());
            if next_hop.is_none() {
                ovlog!(
                    warn 1,
                    "iroute {network}/{prefix} is left out: the client has no {} address inside the tunnel, by which the kernel could reach it",
                    if network.is_ipv4() { "IPv4" } else { "IPv6" }
                );
            }
            Some(Route::to(*network, *prefix).via(Some(next_hop?)).dev(device).metric(Some(METRIC)))
        });
        own.chain(networks).collect()
    }

    /// Routes to a client of the engine.
    fn routes_beside(&self, peer: &PeerSpec, device: &Device) -> Vec<Route> {
        let networks = peer.iroutes.iter().map(|(network, prefix)| Route::to(*network, *prefix));
        let all = addresses(peer).map(Route::to_host).chain(networks);
        all.map(|route| {
            let source = match route.network {
                IpAddr::V4(_) => self.v4.map(|(address, _)| address.into()),
                IpAddr::V6(_) => self.v6.map(|(address, _)| address.into()),
            };
            Route { source, ..route.dev(&device.name).metric(Some(METRIC)) }
        })
        .collect()
    }

    /// Whether the server's own network leads to an address already.
    fn is_inside(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.is_some_and(|(own, mask)| {
                address.to_bits() & mask.to_bits() == own.to_bits() & mask.to_bits()
            }),
            IpAddr::V6(address) => self.v6.is_some_and(|(own, bits)| {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
                address.to_bits() & mask == own.to_bits() & mask
            }),
        }
    }

    fn bring_up(&mut self, device: &Device) {
        let Some(host) = &mut self.host else { return };
        // The server's own addresses, alone: what leaves here by a route that somebody added has them for its source.
        let v4 = self.v4.map(|(local, _)| Address::V4 { local, prefix: 32 });
        let v6 = self.v6.map(|(local, _)| Address::V6 { local, prefix: 128 });
        let config = DeviceConfig {
            name: device.name.clone(),
            mtu: Some(self.mtu),
            addresses: v4.into_iter().chain(v6).collect(),
            ..DeviceConfig::default()
        };
        // It goes with the engine, and with it whatever was set on it.
        let applied = Ledger::new().apply(host, &config.plan());
        for failure in &applied.failures {
            warn!("the engine's device {}: {}", device.name, failure.error);
        }
        ovlog!(1, "TUN/TAP device {} opened", device.name);
        self.companion = Some(device.name.clone());
    }
}

/// Sets a route; that it stands already is what is wanted.
fn add(host: &mut NetlinkHost, route: &Route) -> Result<(), HostError> {
    match host.add_route(route) {
        Err(failure) if failure.is_exists() => Ok(()),
        done => done,
    }
}

fn addresses(peer: &PeerSpec) -> impl Iterator<Item = IpAddr> {
    let v4 = peer.vpn.v4.map(IpAddr::from);
    v4.into_iter().chain(peer.vpn.v6.map(IpAddr::from))
}
