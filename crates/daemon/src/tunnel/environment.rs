//! What scripts are told about the tunnel: variables and arguments under OpenVPN's names.

use culvert_config::value::Topology;
use culvert_host::{Place, RouteContext};

use super::{ScriptContext, TunnelSpec};
use crate::scripts::ScriptEnv;

/// `dev`, `tun_mtu`, `ifconfig_*`, `foreign_option_N`.
pub(super) fn device(env: &mut ScriptEnv, name: &str, spec: &TunnelSpec, context: ScriptContext) {
    env.set("dev", name).set("dev_type", "tun").set("tun_mtu", spec.mtu);
    env.set("script_context", context.word());
    if let Some(ifconfig) = spec.ifconfig {
        env.set("ifconfig_local", ifconfig.local);
        let second = match spec.topology {
            Topology::Subnet => "ifconfig_netmask",
            Topology::Net30 | Topology::P2p => "ifconfig_remote",
        };
        env.set(second, ifconfig.second);
    }
    if let Some(ifconfig) = spec.ifconfig6 {
        env.set("ifconfig_ipv6_local", ifconfig.local.address);
        env.set("ifconfig_ipv6_netbits", ifconfig.local.bits);
        env.set("ifconfig_ipv6_remote", ifconfig.remote);
    }
    for (n, option) in spec.dhcp_options.iter().enumerate() {
        env.set(&format!("foreign_option_{}", n + 1), option.foreign_option());
    }
}

/// `route_*`, `redirect_gateway`.
pub(super) fn routes(env: &mut ScriptEnv, spec: &TunnelSpec, context: &RouteContext) {
    env.remove_prefix("route_");
    env.set_opt("route_net_gateway", context.net4.as_ref().and_then(|net| net.gateway));
    env.set_opt("route_vpn_gateway", context.vpn4);
    let address = |place: Place| match place {
        Place::Address(address) => Some(address),
        Place::VpnGateway => context.vpn4.map(Into::into),
        Place::NetGateway => context.net4.as_ref().and_then(|net| net.gateway),
        Place::RemoteHost => context.remote,
    };
    let settings = spec.route_settings();
    let (v4, v6): (Vec<_>, Vec<_>) =
        settings.routes.iter().partition(|route| route.family == culvert_host::Family::V4);
    for (n, route) in v4.iter().enumerate().map(|(i, route)| (i + 1, route)) {
        let mask = std::net::Ipv4Addr::from_bits(
            u32::MAX.checked_shl(u32::from(32_u8.saturating_sub(route.prefix))).unwrap_or(0),
        );
        env.set_opt(&format!("route_network_{n}"), address(route.network));
        env.set(&format!("route_netmask_{n}"), mask);
        env.set_opt(&format!("route_gateway_{n}"), address(route.gateway.unwrap_or(Place::VpnGateway)));
        env.set_opt(&format!("route_metric_{n}"), route.metric.or(spec.metric));
    }
    for (n, route) in v6.iter().enumerate().map(|(i, route)| (i + 1, route)) {
        env.set_opt(
            &format!("route_ipv6_network_{n}"),
            address(route.network).map(|network| format!("{network}/{}", route.prefix)),
        );
        let gateway = route.gateway.and_then(address).or_else(|| context.vpn6.map(Into::into));
        env.set_opt(&format!("route_ipv6_gateway_{n}"), gateway);
        env.set_opt(&format!("route_ipv6_metric_{n}"), route.metric.or(spec.metric));
    }
    let redirect = spec.redirect.filter(|redirect| redirect.gateway);
    env.set("redirect_gateway", u8::from(redirect.is_some()));
    if let Some(redirect) = redirect {
        let value = if redirect.block_local { 2 } else { 1 };
        env.set_opt("route_redirect_gateway_ipv4", redirect.ipv4.then_some(value));
        env.set_opt("route_redirect_gateway_ipv6", redirect.ipv6.then_some(value));
    }
}

/// The arguments of `up` and `down`: device, MTU, 0, own address, netmask or peer, context.
pub(super) fn arguments(name: &str, spec: &TunnelSpec, context: ScriptContext) -> Vec<String> {
    let mut arguments = vec![name.to_owned(), spec.mtu.to_string(), "0".to_owned()];
    match spec.ifconfig {
        Some(ifconfig) => arguments.extend([ifconfig.local.to_string(), ifconfig.second.to_string()]),
        None => arguments.extend([String::new(), String::new()]),
    }
    arguments.push(context.word().to_owned());
    arguments
}
