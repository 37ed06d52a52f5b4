//! Variables about device and routes.

use std::net::IpAddr;

use culvert_config::{profile::Device, value::Topology};
use culvert_host::{Family, Place, Redirect, RouteContext, RouteSettings};

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
/// `redirect_gateway`; also about those that `redirect-gateway` adds. Lines that refer to what is not known are left out,
/// as in the plan; numbers have no gaps.
pub fn export_routes(env: &mut ScriptEnv, settings: &RouteSettings, context: &RouteContext) {
    env.remove_prefix("route_");
    env.set_opt("route_net_gateway", context.resolve(Place::NetGateway, Family::V4))
        .set_opt("route_vpn_gateway", context.vpn4)
        .set_opt("net_gateway_ipv6", context.default6.as_ref().and_then(|route| route.gateway));
    let redirect = settings.redirect;
    // Also of `redirect-private`; the variables below tell one from the other.
    let takes = |redirect: Redirect| redirect.ipv4 && (context.vpn4.is_some() || !redirect.default_route);
    env.set("redirect_gateway", u8::from(redirect.is_some_and(takes)));
    if let Some(redirect) = redirect {
        let value = if redirect.block_local { 2 } else { 1 };
        if redirect.default_route && redirect.ipv4 {
            env.set("route_redirect_gateway_ipv4", value);
        }
        if redirect.ipv6 {
            env.set("route_redirect_gateway_ipv6", value);
        }
    }
    export_lines_v4(env, settings, context);
    export_lines_v6(env, settings, context);
}

fn export_lines_v4(env: &mut ScriptEnv, settings: &RouteSettings, context: &RouteContext) {
    let written = settings.routes.iter().filter(|spec| spec.family == Family::V4).filter_map(|spec| {
        let network = context.resolve(spec.network, Family::V4)?;
        let gateway = context.resolve(spec.gateway.unwrap_or(Place::VpnGateway), Family::V4)?;
        Some((network, spec.prefix, gateway, spec.metric.or(settings.metric)))
    });
    let vpn = context.vpn4.map(IpAddr::V4);
    let blocked = settings.blocked_networks(context).into_iter().rev();
    let blocked = blocked.filter_map(|(network, prefix)| vpn.map(|gateway| (network, prefix, gateway, None)));
    for (index, (network, prefix, gateway, metric)) in written.chain(blocked).enumerate() {
        let number = index + 1;
        env.set(&format!("route_network_{number}"), network)
            .set(&format!("route_netmask_{number}"), netmask(prefix))
            .set(&format!("route_gateway_{number}"), gateway)
            .set_opt(&format!("route_metric_{number}"), metric);
    }
}

fn export_lines_v6(env: &mut ScriptEnv, settings: &RouteSettings, context: &RouteContext) {
    let any = Family::V6.any();
    let bypass = settings
        .bypass_v6(context)
        .map(|route| (route.network, route.prefix, route.gateway.unwrap_or(any), route.metric));
    let lines = settings.lines_v6(context).into_iter().filter_map(|spec| {
        let network = context.resolve(spec.network, Family::V6)?;
        let gateway = context.resolve(spec.gateway.unwrap_or(Place::VpnGateway), Family::V6);
        Some((network, spec.prefix, gateway.unwrap_or(any), spec.metric.or(settings.metric)))
    });
    for (index, (network, prefix, gateway, metric)) in bypass.into_iter().chain(lines).enumerate() {
        let number = index + 1;
        env.set(&format!("route_ipv6_network_{number}"), format_args!("{network}/{prefix}"))
            .set(&format!("route_ipv6_gateway_{number}"), gateway)
            .set_opt(&format!("route_ipv6_metric_{number}"), metric);
    }
}

fn netmask(prefix: u8) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from_bits(u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0))
}
