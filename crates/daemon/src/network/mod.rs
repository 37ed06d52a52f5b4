//! From a configuration, and what a server pushed, to plans for this machine and variables for scripts.
//!
//! The walk: [`merge`] lays pushed options over the configured ones; [`device_config`], [`route_context`],
//! [`route_settings`] and [`dns_settings`] turn the result into what `culvert-host` takes; [`export_device`],
//! [`export_routes`] and [`export_dns`] tell the same to scripts, also where `ifconfig-noexec` or `route-noexec` leave
//! the machine alone.

mod dns;
mod env;
#[cfg(test)]
mod tests;

pub use dns::{Teller, dns_settings, export_dns, export_foreign_options, import_dns};
pub use env::{export_device, export_routes, hook_arguments};

use std::net::{IpAddr, Ipv4Addr};

use culvert_config::{
    Pushed,
    profile::{Device, Routes},
    value::{DnsServer, Ifconfig, Redirect as ConfigRedirect, Route, Route6, RouteHost, Topology},
};
use culvert_host::{Address, DeviceConfig, Family, Place, Redirect, RouteContext, RouteSettings, RouteSpec};

/// Lays what was pushed over what was configured: addresses replace, routes and DNS add, flags of `redirect-gateway`
/// join.
#[must_use]
pub fn merge(device: &Device, routes: &Routes, pushed: &Pushed) -> (Device, Routes) {
    let mut device = device.clone();
    device.ifconfig = pushed.ifconfig.or(device.ifconfig);
    device.ifconfig_ipv6 = pushed.ifconfig_ipv6.or(device.ifconfig_ipv6);
    device.topology = pushed.topology.or(device.topology);
    device.lladdr = pushed.lladdr.or(device.lladdr);
    device.ifconfig_noexec |= pushed.ifconfig_noexec;

    let mut routes = routes.clone();
    // They go where the last of the configured ones went.
    let table = routes.table;
    routes.routes.extend(pushed.routes.iter().map(|route| Route { table, ..route.clone() }));
    routes.routes6.extend(pushed.routes6.iter().map(|route| Route6 { table, ..*route }));
    routes.gateway = pushed.route_gateway.clone().or(routes.gateway);
    routes.gateway6 = pushed.route_gateway6.or(routes.gateway6);
    routes.metric = pushed.route_metric.or(routes.metric);
    routes.delay = pushed.route_delay.or(routes.delay);
    routes.block_ipv6 |= pushed.block_ipv6;
    routes.client_nat.extend(pushed.client_nat.iter().copied());
    routes.redirect = match (routes.redirect, pushed.redirect) {
        (Some(own), Some(other)) => Some(join(own, other)),
        (own, other) => own.or(other),
    };
    routes.dhcp_options.extend(pushed.dhcp_options.iter().cloned());
    routes.dns.search_domains.extend(pushed.dns.search_domains.iter().cloned());
    // A pushed server takes the place of a configured one of the same priority.
    let is_replaced =
        |own: &DnsServer| pushed.dns.servers.iter().any(|server| server.priority == own.priority);
    routes.dns.servers.retain(|own| !is_replaced(own));
    routes.dns.servers.extend(pushed.dns.servers.iter().cloned());
    routes.dns.servers.sort_by_key(|server| server.priority);
    (device, routes)
}

fn join(a: ConfigRedirect, b: ConfigRedirect) -> ConfigRedirect {
    ConfigRedirect {
        gateway: a.gateway || b.gateway,
        ipv4: a.ipv4 && b.ipv4,
        ipv6: a.ipv6 || b.ipv6,
        local: a.local || b.local,
        autolocal: a.autolocal || b.autolocal,
        def1: a.def1 || b.def1,
        bypass_dhcp: a.bypass_dhcp || b.bypass_dhcp,
        bypass_dns: a.bypass_dns || b.bypass_dns,
        block_local: a.block_local || b.block_local,
    }
}

/// Whether the second address of `ifconfig` is a netmask.
fn second_is_mask(device: &Device, topology: Topology) -> bool {
    device.tap || topology == Topology::Subnet
}

/// Returns the prefix length of a netmask; one with holes counts its leading bits.
fn prefix_of(mask: Ipv4Addr) -> u8 {
    u8::try_from(mask.to_bits().leading_ones()).unwrap_or(32)
}

/// Returns the plan's view of the device. `topology` is the one in force ([`Device::topology`] may be unwritten).
#[must_use]
pub fn device_config(name: &str, mtu: u32, device: &Device, topology: Topology) -> DeviceConfig {
    let v4 = device.ifconfig.map(|Ifconfig { local, second }| {
        if second_is_mask(device, topology) {
            Address::V4 { local, prefix: prefix_of(second) }
        } else {
            Address::V4Peer { local, remote: second }
        }
    });
    let v6 = device
        .ifconfig_ipv6
        .map(|ifconfig| Address::V6 { local: ifconfig.local.address, prefix: ifconfig.local.bits });
    DeviceConfig {
        name: name.to_owned(),
        mtu: Some(mtu),
        tx_queue_len: device.txqueuelen,
        mac: device.lladdr,
        down_without_address: device.tap,
        addresses: v4.into_iter().chain(v6).collect(),
    }
}

/// Returns what the words of routes refer to, as far as the configuration knows it: call [`RouteContext::discover`] for
/// the rest.
///
/// The gateway of IPv4 is `route-gateway`, else the far end of `ifconfig`; with `topology subnet`, where that is not
/// known, the first address of the network that is not ours: the server's, seen from a client. On a TAP device there is none
/// but `route-gateway`.
#[must_use]
pub fn route_context(
    name: &str,
    device: &Device,
    topology: Topology,
    routes: &Routes,
    remote: Option<IpAddr>,
) -> RouteContext {
    let written = match &routes.gateway {
        Some(RouteHost::Address(address)) => Some(*address),
        _ => None,
    };
    // Nobody on an Ethernet is the gateway unless somebody says so.
    let far_end = device.ifconfig.filter(|_| !device.tap).map(|Ifconfig { local, second }| {
        if topology == Topology::Subnet {
            let network = local.to_bits() & second.to_bits();
            let first = Ipv4Addr::from_bits(network.saturating_add(1));
            if first == local { Ipv4Addr::from_bits(network.saturating_add(2)) } else { first }
        } else {
            second
        }
    });
    RouteContext {
        device: name.to_owned(),
        vpn4: written.or(far_end),
        vpn6: routes.gateway6.or(device.ifconfig_ipv6.map(|ifconfig| ifconfig.remote)),
        ethernet: device.tap,
        has_ipv6: device.ifconfig_ipv6.is_some(),
        remote,
        ..RouteContext::default()
    }
}

/// Returns the routes to set. `resolve` looks up host names: a network with several addresses becomes as many routes, a
/// line whose name has none is told in the second value and left out. With `close_ipv6_leak`, a redirected gateway makes IPv6 unreachable where the tunnel has none.
#[must_use]
pub fn route_settings(
    routes: &Routes,
    close_ipv6_leak: bool,
    mut resolve: impl FnMut(&str) -> Vec<Ipv4Addr>,
) -> (RouteSettings, Vec<String>) {
    let mut problems = Vec::new();
    let mut places = |host: &RouteHost| match host {
        RouteHost::Address(address) => vec![Place::Address((*address).into())],
        RouteHost::VpnGateway => vec![Place::VpnGateway],
        RouteHost::NetGateway => vec![Place::NetGateway],
        RouteHost::RemoteHost => vec![Place::RemoteHost],
        RouteHost::Name(name) => {
            let found = resolve(name);
            if found.is_empty() {
                problems
                    .push(format!("OpenVPN ROUTE: failed to parse/resolve route for host/network: {name}"));
            }
            found.into_iter().map(|address| Place::Address(address.into())).collect()
        }
    };
    let mut specs = Vec::new();
    for route in &routes.routes {
        let gateway = match &route.gateway {
            None => Some(None),
            Some(host) => places(host).first().copied().map(Some),
        };
        let networks = places(&route.network);
        let Some(gateway) = gateway else { continue };
        specs.extend(networks.into_iter().map(|network| RouteSpec {
            network,
            prefix: route.bits,
            gateway,
            metric: route.metric,
            table: table(route.table),
            family: Family::V4,
        }));
    }
    specs.extend(routes.routes6.iter().map(|route| RouteSpec {
        network: Place::Address(route.network.address.into()),
        prefix: route.network.bits,
        gateway: route.gateway.map(|gateway| Place::Address(gateway.into())),
        metric: route.metric,
        table: table(route.table),
        family: Family::V6,
    }));
    let settings = RouteSettings {
        routes: specs,
        redirect: routes.redirect.map(redirect),
        metric: routes.metric,
        table: table(routes.table),
        close_ipv6_leak,
    };
    (settings, problems)
}

fn table(number: u32) -> Option<u32> {
    (number != 0).then_some(number)
}

fn redirect(redirect: ConfigRedirect) -> Redirect {
    Redirect {
        default_route: redirect.gateway,
        def1: redirect.def1,
        local: redirect.local,
        autolocal: redirect.autolocal,
        block_local: redirect.block_local,
        ipv4: redirect.ipv4,
        ipv6: redirect.ipv6,
    }
}
