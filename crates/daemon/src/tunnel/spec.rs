//! What the tunnel of this machine is to look like: the profile, with what a server pushed laid over it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use culvert_config::{
    Profile, Pushed, Role,
    value::{DhcpOption, Dns, Ifconfig, Ifconfig6, Redirect, Route, Route6, RouteHost, Topology},
};
use culvert_host::{Address, DeviceConfig, Family, Place, RouteContext, RouteSettings, RouteSpec};

/// Addresses, routes and DNS of the tunnel, from whatever source.
#[derive(Clone, Debug)]
pub(crate) struct TunnelSpec {
    /// MTU inside the tunnel.
    pub(crate) mtu: u16,
    /// `txqueuelen`.
    pub(crate) tx_queue_len: Option<u32>,
    /// How `ifconfig`'s second word is meant.
    pub(crate) topology: Topology,
    /// IPv4 address.
    pub(crate) ifconfig: Option<Ifconfig>,
    /// IPv6 address.
    pub(crate) ifconfig6: Option<Ifconfig6>,
    /// Leave the device alone.
    pub(crate) ifconfig_noexec: bool,
    /// `route`.
    pub(crate) routes: Vec<Route>,
    /// `route-ipv6`.
    pub(crate) routes6: Vec<Route6>,
    /// `route-gateway`.
    pub(crate) gateway: Option<RouteHost>,
    /// `route-ipv6-gateway`.
    pub(crate) gateway6: Option<Ipv6Addr>,
    /// `route-metric`.
    pub(crate) metric: Option<u32>,
    /// `route-delay`.
    pub(crate) delay: Option<Duration>,
    /// Leave routes alone.
    pub(crate) route_noexec: bool,
    /// `redirect-gateway`.
    pub(crate) redirect: Option<Redirect>,
    /// `block-ipv6`.
    pub(crate) block_ipv6: bool,
    /// `dns`.
    pub(crate) dns: Dns,
    /// `dhcp-option`.
    pub(crate) dhcp_options: Vec<DhcpOption>,
}

impl TunnelSpec {
    /// What the profile alone says.
    pub(crate) fn from_profile(profile: &Profile) -> Self {
        let mtu = profile.connections.first().map_or(1500, |entry| entry.mtu.tun_mtu);
        let topology = profile.device.topology.unwrap_or(match profile.role() {
            Role::Server => Topology::Subnet,
            Role::Client | Role::P2p => Topology::Net30,
        });
        let routes = &profile.routes;
        Self {
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
            tx_queue_len: profile.device.txqueuelen,
            topology,
            ifconfig: profile.device.ifconfig,
            ifconfig6: profile.device.ifconfig_ipv6,
            ifconfig_noexec: profile.device.ifconfig_noexec,
            routes: routes.routes.clone(),
            routes6: routes.routes6.clone(),
            gateway: routes.gateway.clone(),
            gateway6: routes.gateway6,
            metric: routes.metric,
            delay: routes.delay,
            route_noexec: routes.noexec,
            redirect: routes.redirect,
            block_ipv6: routes.block_ipv6,
            dns: routes.dns.clone(),
            dhcp_options: routes.dhcp_options.clone(),
        }
    }

    /// Lays what was pushed over it: lists grow, single values are replaced.
    pub(crate) fn with_pushed(mut self, pushed: &Pushed) -> Self {
        fn over<T: Clone>(slot: &mut Option<T>, value: Option<&T>) {
            if let Some(value) = value {
                *slot = Some(value.clone());
            }
        }
        over(&mut self.ifconfig, pushed.ifconfig.as_ref());
        over(&mut self.ifconfig6, pushed.ifconfig_ipv6.as_ref());
        over(&mut self.gateway, pushed.route_gateway.as_ref());
        over(&mut self.gateway6, pushed.route_gateway6.as_ref());
        over(&mut self.metric, pushed.route_metric.as_ref());
        over(&mut self.delay, pushed.route_delay.as_ref());
        over(&mut self.redirect, pushed.redirect.as_ref());
        if let Some(topology) = pushed.topology {
            self.topology = topology;
        }
        if let Some(mtu) = pushed.tun_mtu.and_then(|mtu| u16::try_from(mtu).ok()) {
            self.mtu = mtu;
        }
        self.ifconfig_noexec |= pushed.ifconfig_noexec;
        self.block_ipv6 |= pushed.block_ipv6;
        self.routes.extend(pushed.routes.iter().cloned());
        self.routes6.extend(pushed.routes6.iter().copied());
        if !pushed.dns.servers.is_empty() || !pushed.dns.search_domains.is_empty() {
            self.dns = pushed.dns.clone();
        }
        self.dhcp_options.extend(pushed.dhcp_options.iter().cloned());
        self
    }

    /// The far end of the tunnel over IPv4: `route-gateway`, else the peer of a point-to-point address.
    pub(crate) fn vpn_gateway(&self) -> Option<Ipv4Addr> {
        match (&self.gateway, self.ifconfig) {
            (Some(RouteHost::Address(gateway)), _) => Some(*gateway),
            (_, Some(ifconfig)) if self.topology != Topology::Subnet => Some(ifconfig.second),
            _ => None,
        }
    }

    /// The device's part.
    pub(crate) fn device(&self, name: &str) -> DeviceConfig {
        let v4 = self.ifconfig.map(|ifconfig| match self.topology {
            Topology::Subnet => Address::V4 { local: ifconfig.local, prefix: prefix_of(ifconfig.second) },
            Topology::Net30 | Topology::P2p => {
                Address::V4Peer { local: ifconfig.local, remote: ifconfig.second }
            }
        });
        let v6 = self
            .ifconfig6
            .map(|ifconfig| Address::V6 { local: ifconfig.local.address, prefix: ifconfig.local.bits });
        DeviceConfig {
            name: name.to_owned(),
            mtu: Some(u32::from(self.mtu)),
            tx_queue_len: self.tx_queue_len,
            addresses: v4.into_iter().chain(v6).collect(),
        }
    }

    /// The routes' part. Names of hosts must have been resolved; those that were not are left out.
    pub(crate) fn route_settings(&self) -> RouteSettings {
        let v4 = self.routes.iter().filter_map(|route| {
            Some(RouteSpec {
                network: place(&route.network)?,
                prefix: route.bits,
                gateway: match &route.gateway {
                    Some(gateway) => Some(place(gateway)?),
                    None => None,
                },
                metric: route.metric,
                table: (route.table != 0).then_some(route.table),
                family: Family::V4,
            })
        });
        let v6 = self.routes6.iter().map(|route| RouteSpec {
            network: Place::Address(IpAddr::V6(route.network.address)),
            prefix: route.network.bits,
            gateway: route.gateway.map(|gateway| Place::Address(IpAddr::V6(gateway))),
            metric: route.metric,
            table: (route.table != 0).then_some(route.table),
            family: Family::V6,
        });
        RouteSettings {
            routes: v4.chain(v6).collect(),
            redirect: self.redirect.map(|redirect| culvert_host::Redirect {
                default_route: redirect.gateway,
                def1: redirect.def1,
                local: redirect.local,
                autolocal: redirect.autolocal,
                block_local: redirect.block_local,
                ipv4: redirect.ipv4,
                ipv6: redirect.ipv6,
            }),
            metric: self.metric,
            close_ipv6_leak: self.redirect.is_some_and(|redirect| redirect.gateway),
        }
    }

    /// What the words of the routes refer to.
    pub(crate) fn route_context(&self, device: &str, remote: Option<IpAddr>) -> RouteContext {
        RouteContext {
            device: device.to_owned(),
            vpn4: self.vpn_gateway(),
            vpn6: self.gateway6.or_else(|| self.ifconfig6.map(|ifconfig| ifconfig.remote)),
            has_ipv6: self.ifconfig6.is_some(),
            remote,
            ..RouteContext::default()
        }
    }
}

/// Returns the prefix length of a netmask (the number of its leading ones).
pub(crate) fn prefix_of(mask: Ipv4Addr) -> u8 {
    u8::try_from(mask.to_bits().leading_ones()).unwrap_or(32)
}

fn place(host: &RouteHost) -> Option<Place> {
    Some(match host {
        RouteHost::Address(address) => Place::Address(IpAddr::V4(*address)),
        RouteHost::VpnGateway => Place::VpnGateway,
        RouteHost::NetGateway => Place::NetGateway,
        RouteHost::RemoteHost => Place::RemoteHost,
        RouteHost::Name(_) => return None,
    })
}
