//! Variables about device and routes.

use std::net::IpAddr;

use culvert_config::{profile::Device, value::Topology};
use culvert_host::{Family, Place, RouteContext, RouteSettings};

use super::{prefix_of, second_is_mask};
use crate::scripts::ScriptEnv;

/// Sets the variables about the device: `dev`, `dev_type`, `tun_mtu`, `ifconfig_…`.
pub fn export_device(env: &mut ScriptEnv, name: &str, mtu: u32, device: &Device, topology: Topology) {
    env.set("dev", name).set("dev_type", if device.tap { "tap" } else { "tun" }).set("tun_mtu", mtu);
    env.remove_prefix("ifconfig_");
    if let Some(ifconfig) = device.ifconfig {
        env.set("ifconfig_local", ifconfig.local);
        if second_is_mask(device, topology) {
            let host_bits = u32::MAX.checked_shr(u32::from(prefix_of(ifconfig.second))).unwrap_or(0);
            let broadcast = std::net::Ipv4Addr::from_bits(ifconfig.local.to_bits() | host_bits);
            env.set("ifconfig_netmask", ifconfig.second).set("ifconfig_broadcast", broadcast);
        } else {
            env.set("ifconfig_remote", ifconfig.second);
        }
    }
    if let Some(ifconfig) = device.ifconfig_ipv6 {
        env.set("ifconfig_ipv6_local", ifconfig.local.address)
            .set("ifconfig_ipv6_netbits", ifconfig.local.bits)
            .set("ifconfig_ipv6_remote", ifconfig.remote);
    }
}

/// Returns the arguments of `up`, `down` and `route-pre-down`: device, MTU, 0, local address, netmask or far end, and
/// `init` or `restart`. Without an address they are empty, as in OpenVPN.
#[must_use]
pub fn hook_arguments(name: &str, mtu: u32, device: &Device, restart: bool) -> Vec<String> {
    let (local, second) = match device.ifconfig {
        Some(ifconfig) => (ifconfig.local.to_string(), ifconfig.second.to_string()),
        None => (String::new(), String::new()),
    };
    let context = if restart { "restart" } else { "init" };
    vec![name.to_owned(), mtu.to_string(), "0".to_owned(), local, second, context.to_owned()]
}

/// Sets the variables about routes: `route_net_gateway`, `route_vpn_gateway`, `route_network_N` and so on,
/// `redirect_gateway`. Lines that refer to what is not known are left out, as in the plan; numbers have no gaps.
pub fn export_routes(env: &mut ScriptEnv, settings: &RouteSettings, context: &RouteContext) {
    env.remove_prefix("route_");
    let own = |family| context.net_gateway(family).and_then(|net| net.gateway);
    env.set_opt("route_net_gateway", own(Family::V4))
        .set_opt("net_gateway_ipv6", own(Family::V6))
        .set_opt("route_vpn_gateway", context.vpn4);
    let redirect = settings.redirect;
    env.set(
        "redirect_gateway",
        u8::from(redirect.is_some_and(|redirect| redirect.default_route && redirect.ipv4)),
    );
    if let Some(redirect) = redirect.filter(|redirect| redirect.default_route) {
        let value = if redirect.block_local { 2 } else { 1 };
        if redirect.ipv4 {
            env.set("route_redirect_gateway_ipv4", value);
        }
        if redirect.ipv6 {
            env.set("route_redirect_gateway_ipv6", value);
        }
    }
    let (mut four, mut six) = (0_u32, 0_u32);
    for spec in &settings.routes {
        let Some(network) = address(spec.network, spec.family, context) else { continue };
        let gateway = address(spec.gateway.unwrap_or(Place::VpnGateway), spec.family, context);
        let metric = spec.metric.or(settings.metric);
        if spec.family == Family::V4 {
            let Some(gateway) = gateway else { continue };
            four += 1;
            env.set(&format!("route_network_{four}"), network)
                .set(&format!("route_netmask_{four}"), netmask(spec.prefix))
                .set(&format!("route_gateway_{four}"), gateway)
                .set_opt(&format!("route_metric_{four}"), metric);
        } else {
            six += 1;
            let gateway = gateway.unwrap_or_else(|| Family::V6.any());
            env.set(&format!("route_ipv6_network_{six}"), format_args!("{network}/{}", spec.prefix))
                .set(&format!("route_ipv6_gateway_{six}"), gateway)
                .set_opt(&format!("route_ipv6_metric_{six}"), metric);
        }
    }
}

fn netmask(prefix: u8) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from_bits(u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0))
}

fn address(place: Place, family: Family, context: &RouteContext) -> Option<IpAddr> {
    match (place, family) {
        (Place::Address(address), _) => Some(address),
        (Place::VpnGateway, Family::V4) => context.vpn4.map(IpAddr::from),
        (Place::VpnGateway, Family::V6) => context.vpn6.map(IpAddr::from),
        (Place::NetGateway, family) => context.net_gateway(family).and_then(|net| net.gateway),
        (Place::RemoteHost, _) => context.remote,
    }
    .filter(|address| Family::of(*address) == family)
}
