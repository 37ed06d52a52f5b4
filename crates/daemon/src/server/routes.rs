//! Routes of the machine that lead to single clients.
//!
//! The kernel's module finds a client by the machine's routes: a packet goes to the client whose address is the next hop. So
//! an address outside of the server's network needs a route, and so does every network behind a client (`iroute`). A
//! client that the engine carries beside the module is reached through the engine's device, which needs a route to
//! everything that is the client's. With the engine alone nothing is needed: it knows its clients itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use culvert_config::{Profile, Role};
use culvert_host::{Address, DeviceConfig, Host as _, Ledger, NetlinkHost, Route};
use culvert_offload::{Device, Offload, PeerSpec, VpnAddresses};
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
    own: OwnNetworks,
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
            own: OwnNetworks {
                v4: profile.device.ifconfig.map(|own| (own.local, own.second)),
                v6: profile.device.ifconfig_ipv6.map(|own| (own.local.address, own.local.bits)),
            },
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
        let wanted = if beside {
            self.own.routes_of_engine(&peer.vpn, &peer.iroutes, &device.name)
        } else {
            self.own.routes_of_module(&peer.vpn, &peer.iroutes, &self.main.name)
        };
        for (network, prefix) in &wanted.left_out {
            ovlog!(
                warn 1,
                "iroute {network}/{prefix} is left out: the client has no {} address inside the tunnel, by which the kernel could reach it",
                if network.is_ipv4() { "IPv4" } else { "IPv6" }
            );
        }
        let Some(host) = &mut self.host else { return Vec::new() };
        let mut installed = Vec::new();
        for route in wanted.routes {
            match host.add_route(&route) {
                Ok(()) => installed.push(route),
                // It leads elsewhere, or is somebody else's: not ours to use or to take back.
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

    fn bring_up(&mut self, device: &Device) {
        let Some(host) = &mut self.host else { return };
        // The server's own addresses, alone: what leaves here by a route that somebody added has them for its source.
        let v4 = self.own.v4.map(|(local, _)| Address::V4 { local, prefix: 32 });
        let v6 = self.own.v6.map(|(local, _)| Address::V6 { local, prefix: 128 });
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

/// The server's addresses, with the networks in which clients need no route of their own.
#[derive(Clone, Copy, Debug, Default)]
struct OwnNetworks {
    /// With the netmask.
    v4: Option<(Ipv4Addr, Ipv4Addr)>,
    /// With the prefix length.
    v6: Option<(Ipv6Addr, u8)>,
}

/// What leads to one client.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    routes: Vec<Route>,
    /// Networks behind the client that cannot be reached: it has no address of their family.
    left_out: Vec<(IpAddr, u8)>,
}

impl OwnNetworks {
    /// Routes to a client of the module.
    fn routes_of_module(&self, vpn: &VpnAddresses, iroutes: &[(IpAddr, u8)], device: &str) -> Wanted {
        let outside = addresses(vpn).filter(|address| !self.contain(*address));
        let own = outside.map(|address| Route::to_host(address).dev(device).metric(Some(METRIC)));
        let mut wanted = Wanted { routes: own.collect(), left_out: Vec::new() };
        for &(network, prefix) in iroutes {
            match addresses(vpn).find(|address| address.is_ipv4() == network.is_ipv4()) {
                Some(next_hop) => {
                    let route = Route::to(network, prefix).via(Some(next_hop));
                    wanted.routes.push(route.dev(device).metric(Some(METRIC)));
                }
                None => wanted.left_out.push((network, prefix)),
            }
        }
        wanted
    }

    /// Routes to a client of the engine beside the module.
    fn routes_of_engine(&self, vpn: &VpnAddresses, iroutes: &[(IpAddr, u8)], device: &str) -> Wanted {
        let networks = iroutes.iter().map(|(network, prefix)| Route::to(*network, *prefix));
        let all = addresses(vpn).map(Route::to_host).chain(networks);
        let with_source = all.map(|route| {
            let source = match route.network {
                IpAddr::V4(_) => self.v4.map(|(address, _)| address.into()),
                IpAddr::V6(_) => self.v6.map(|(address, _)| address.into()),
            };
            Route { source, ..route.dev(device).metric(Some(METRIC)) }
        });
        Wanted { routes: with_source.collect(), left_out: Vec::new() }
    }

    /// Whether the server's own network leads to an address already.
    fn contain(&self, address: IpAddr) -> bool {
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
}

fn addresses(vpn: &VpnAddresses) -> impl Iterator<Item = IpAddr> + use<> {
    let v4 = vpn.v4.map(IpAddr::from);
    v4.into_iter().chain(vpn.v6.map(IpAddr::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: OwnNetworks = OwnNetworks {
        v4: Some((Ipv4Addr::new(10, 8, 0, 1), Ipv4Addr::new(255, 255, 255, 0))),
        v6: Some((Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, 0, 1), 64)),
    };

    fn vpn(v4: Option<&str>, v6: Option<&str>) -> VpnAddresses {
        VpnAddresses { v4: v4.map(|text| text.parse().unwrap()), v6: v6.map(|text| text.parse().unwrap()) }
    }

    fn network(text: &str) -> (IpAddr, u8) {
        let (address, prefix) = text.split_once('/').unwrap();
        (address.parse().unwrap(), prefix.parse().unwrap())
    }

    fn shown(wanted: &Wanted) -> Vec<String> {
        wanted.routes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_address_inside_of_the_servers_network_needs_no_route() {
        let inside = vpn(Some("10.8.0.254"), Some("fd00:8::ffff"));
        assert_eq!(OWN.routes_of_module(&inside, &[], "tun0"), Wanted::default());
    }

    #[test]
    fn an_address_outside_of_it_gets_a_route_to_the_device() {
        let outside = vpn(Some("10.8.1.2"), Some("fd00:8:0:1::2"));
        let wanted = OWN.routes_of_module(&outside, &[], "tun0");
        let host = |text: &str| Route::to_host(text.parse().unwrap()).dev("tun0").metric(Some(METRIC));
        assert_eq!(wanted.routes, [host("10.8.1.2"), host("fd00:8:0:1::2")]);
        // A server without addresses has no network that would lead there.
        let wanted = OwnNetworks::default().routes_of_module(&vpn(Some("10.8.0.2"), None), &[], "tun0");
        assert_eq!(wanted.routes, [host("10.8.0.2")]);
    }

    #[test]
    fn a_network_behind_a_client_is_reached_by_the_clients_address_of_its_family() {
        let iroutes = [network("192.168.20.0/24"), network("2001:db8:20::/48")];
        let both = vpn(Some("10.8.0.2"), Some("fd00:8::2"));
        let wanted = OWN.routes_of_module(&both, &iroutes, "tun0");
        let via = |(network, prefix), hop: &str| {
            Route::to(network, prefix).via(Some(hop.parse().unwrap())).dev("tun0").metric(Some(METRIC))
        };
        assert_eq!(wanted.routes, [via(iroutes[0], "10.8.0.2"), via(iroutes[1], "fd00:8::2")]);
        assert!(wanted.left_out.is_empty());
    }

    #[test]
    fn a_network_without_an_address_of_its_family_is_left_out_and_told() {
        let iroutes = [network("192.168.20.0/24"), network("2001:db8:20::/48")];
        let wanted = OWN.routes_of_module(&vpn(Some("10.8.0.2"), None), &iroutes, "tun0");
        assert_eq!(wanted.routes.len(), 1, "{:?}", shown(&wanted));
        assert_eq!(wanted.left_out, [iroutes[1]]);
        let wanted = OWN.routes_of_module(&vpn(None, None), &iroutes, "tun0");
        assert_eq!((wanted.routes.len(), wanted.left_out.len()), (0, 2));
    }

    #[test]
    fn a_client_of_the_engine_is_reached_by_the_engines_device_from_the_servers_address() {
        let iroutes = [network("192.168.20.0/24"), network("2001:db8:20::/48")];
        // Without an IPv6 address, too: the engine looks for the network, not for a next hop.
        let wanted = OWN.routes_of_engine(&vpn(Some("10.8.0.2"), None), &iroutes, "tun1");
        let from = |route: Route, source: &str| Route {
            source: Some(source.parse().unwrap()),
            ..route.dev("tun1").metric(Some(METRIC))
        };
        let to = |(network, prefix)| Route::to(network, prefix);
        assert_eq!(
            wanted.routes,
            [
                from(Route::to_host("10.8.0.2".parse().unwrap()), "10.8.0.1"),
                from(to(iroutes[0]), "10.8.0.1"),
                from(to(iroutes[1]), "fd00:8::1"),
            ]
        );
        assert!(wanted.left_out.is_empty());
    }

    #[test]
    fn a_prefix_of_zero_contains_everything_and_one_of_all_bits_the_address_alone() {
        let own = |bits| OwnNetworks { v6: Some((Ipv6Addr::LOCALHOST, bits)), ..OwnNetworks::default() };
        let other = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        assert!(own(0).contain(other));
        assert!(!own(128).contain(other) && own(128).contain(Ipv6Addr::LOCALHOST.into()));
    }
}
