//! Options that expand to others: `client`, `server`, `server-ipv6`, `server-bridge`, `keepalive`, `tcp-nodelay`.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::{Findings, has_kind, tls_role};
use crate::{
    args::network,
    diagnostic::Severity,
    draft::{Draft, ServerNet},
    profile::{IfconfigPool, Ipv6Pool, Mode, Profile},
    table::pool_range,
    value::{Ifconfig, Ifconfig6, Net4, Net6, PingAction, Route, RouteHost, Topology},
};

/// The longest time of a ping option, in seconds.
const PING_TIMEOUT_MAX: u32 = 86_400;

/// Expands them all.
pub(super) fn expand(d: &mut Draft, f: &mut Findings) {
    if let Some(net) = d.helpers.server6 {
        server_ipv6(d, f, net);
    }
    if let Some(net) = d.helpers.server {
        server(d, f, net);
    } else if let Some(bridge) = d.helpers.bridge {
        server_bridge(d, f, bridge);
    } else if d.helpers.client {
        d.profile.client.pull = true;
        d.tls_roles.1 = true;
    }
    tls_role(d);
    default_topology(&mut d.profile);
    keepalive(d, f);
    if d.helpers.tcp_nodelay && d.profile.mode == Mode::Server {
        d.profile.server.push.push("socket-flags TCP_NODELAY".to_owned());
    }
}

fn become_server(d: &mut Draft) {
    d.profile.mode = Mode::Server;
    d.tls_roles.0 = true;
}

fn default_topology(p: &mut Profile) {
    if p.device.topology.is_none() && !p.device.tap && !p.device.null {
        let server = p.mode == Mode::Server;
        p.device.topology = Some(if server { Topology::Subnet } else { Topology::Net30 });
    }
}

/// `server-ipv6 NET/BITS`: this end is NET+1, clients begin at NET+0x1000, in small networks at NET+2.
fn server_ipv6(d: &mut Draft, f: &mut Findings, net: Net6) {
    const NAME: &str = "server-ipv6";
    if d.helpers.client {
        f.error(NAME, "--server-ipv6 and --client cannot be used together", "remove one of them");
    }
    if d.helpers.server.is_some_and(|server| server.nopool) {
        f.error(
            NAME,
            "--server-ipv6 is incompatible with 'nopool' option",
            "remove `nopool`, or set addresses by hand",
        );
    }
    if d.profile.server.pool6.is_some() {
        let text = "--server-ipv6 already defines an ifconfig-ipv6-pool, so you can't also specify --ifconfig-pool explicitly";
        f.error(NAME, text, "remove `ifconfig-ipv6-pool`");
    }
    become_server(d);
    let plus = |n: u128| Ipv6Addr::from(u128::from(net.address).wrapping_add(n));
    let first = if net.bits < 112 { 0x1000 } else { 2 };
    d.profile.device.ifconfig_ipv6 =
        Some(Ifconfig6 { local: Net6 { address: plus(1), bits: net.bits }, remote: plus(2) });
    d.profile.server.pool6 = Some(Ipv6Pool { base: Net6 { address: plus(first), bits: net.bits } });
    d.profile.server.push.push("tun-ipv6".to_owned());
}

/// `server NETWORK NETMASK`: what it means depends on device and topology.
fn server(d: &mut Draft, f: &mut Findings, server: ServerNet) {
    const NAME: &str = "server";
    if d.helpers.client {
        f.error(NAME, "--server and --client cannot be used together", "remove one of them");
    }
    if d.helpers.bridge.is_some() {
        f.error(NAME, "--server and --server-bridge cannot be used together", "remove one of them");
    }
    if d.secret {
        let text = "--server and --secret cannot be used together (you must use SSL/TLS keys)";
        f.error(NAME, text, "remove `secret`");
    }
    if !server.nopool && d.profile.server.pool.is_some() {
        let text =
            "--server already defines an ifconfig-pool, so you can't also specify --ifconfig-pool explicitly";
        f.error(NAME, text, "write `nopool` after the netmask, or remove `ifconfig-pool`");
    }
    if !has_kind(d) {
        let text = "--server directive only makes sense with --dev tun or --dev tap";
        f.error(NAME, text, "write `dev tun`");
        return;
    }
    become_server(d);
    let Some(net) = server_network(d, f, server) else { return };
    default_topology(&mut d.profile);
    let subnet = d.profile.device.tap || d.profile.device.topology == Some(Topology::Subnet);
    let pool = if subnet { subnet_server(d, net) } else { routed_server(d, net) };
    if !server.nopool {
        if let Err(problem) = pool_range(pool.start, pool.end) {
            f.problem(NAME, &problem);
        }
        d.profile.server.pool = Some(pool);
    } else if let Some(own) = d.profile.server.pool.as_mut() {
        own.netmask = own.netmask.or(pool.netmask);
    }
    if let Some(topology) = d.profile.device.topology.filter(|_| !d.profile.device.tap) {
        d.profile.server.push.push(format!("topology {topology}"));
        if topology == Topology::Net30 && !server.nopool {
            let line = "WARNING: --topology net30 support for server configs with IPv4 pools will be removed in a future \
                        release. Please migrate to --topology subnet as soon as possible.";
            f.note(Severity::Warning, "topology", line, "write `topology subnet`");
        }
    }
    if subnet {
        d.profile.server.push_constraint = Some(net);
    }
}

/// Checks the network of `server`.
fn server_network(d: &Draft, f: &mut Findings, server: ServerNet) -> Option<Net4> {
    const NAME: &str = "server";
    let ServerNet { network: address, mask, .. } = server;
    let Some(net) = network(address, mask) else {
        f.error(
            NAME,
            "--server directive network/netmask combination is invalid",
            "write a netmask, as in 255.255.255.0",
        );
        return None;
    };
    if u32::from(address) & !u32::from(mask) != 0 {
        let base = Ipv4Addr::from(u32::from(address) & u32::from(mask));
        f.error(
            NAME,
            "--server directive network/netmask combination is invalid",
            &format!("write the network's own address: `server {base} {mask}`"),
        );
        return None;
    }
    if net.bits < 16 {
        let text = "--server directive netmask allows for too many host addresses (subnet must be 255.255.0.0 (/16) or higher)";
        f.error(NAME, text, "use a smaller network");
        return None;
    }
    let (most, kind) = if d.profile.device.tap { (30, "tap") } else { (29, "tun") };
    if net.bits > most {
        let limit = Net4 { address, bits: most }.mask();
        let text = format!(
            "--server directive when used with --dev {kind} must define a subnet of {limit} (/{most}) or lower"
        );
        f.error(NAME, text, "use a larger network");
        return None;
    }
    Some(net)
}

fn plus(net: Net4, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.address).wrapping_add(n))
}

fn last(net: Net4) -> u32 {
    u32::from(net.address) | !u32::from(net.mask())
}

/// One subnet for all: this end has the first address, clients all others.
fn subnet_server(d: &mut Draft, net: Net4) -> IfconfigPool {
    let mask = net.mask();
    d.profile.device.ifconfig = Some(Ifconfig { local: plus(net, 1), second: mask });
    d.profile.server.push.push(format!("route-gateway {}", plus(net, 1)));
    if d.profile.routes.gateway.is_none() && !d.profile.device.tap {
        d.profile.routes.gateway = Some(RouteHost::Address(plus(net, 2)));
    }
    IfconfigPool {
        start: plus(net, 2),
        end: Ipv4Addr::from(last(net).saturating_sub(1)),
        netmask: Some(mask),
    }
}

/// Point-to-point addresses: this end has the first, its other end is the second.
fn routed_server(d: &mut Draft, net: Net4) -> IfconfigPool {
    let reserve = if net.bits == 29 { 0 } else { 4 };
    d.profile.device.ifconfig = Some(Ifconfig { local: plus(net, 1), second: plus(net, 2) });
    d.profile.routes.routes.push(Route {
        network: RouteHost::Address(net.address),
        bits: net.bits,
        gateway: None,
        metric: None,
        table: d.route_table,
    });
    if d.profile.server.client_to_client {
        d.profile.server.push.push(format!("route {} {}", net.address, net.mask()));
    } else if d.profile.device.topology == Some(Topology::Net30) {
        d.profile.server.push.push(format!("route {}", plus(net, 1)));
    }
    IfconfigPool {
        start: plus(net, 4),
        end: Ipv4Addr::from(last(net).saturating_sub(reserve)),
        netmask: None,
    }
}

/// `server-bridge`: addresses from a pool, or from the DHCP server of the bridged network.
fn server_bridge(d: &mut Draft, f: &mut Findings, bridge: Option<[Ipv4Addr; 4]>) {
    const NAME: &str = "server-bridge";
    if d.helpers.client {
        f.error(NAME, "--server-bridge and --client cannot be used together", "remove one of them");
    }
    if d.profile.server.pool.is_some() {
        let text = "--server-bridge already defines an ifconfig-pool, so you can't also specify --ifconfig-pool explicitly";
        f.error(NAME, text, "remove `ifconfig-pool`");
    }
    if d.secret {
        let text = "--server-bridge and --secret cannot be used together (you must use SSL/TLS keys)";
        f.error(NAME, text, "remove `secret`");
    }
    if !d.profile.device.tap {
        f.error(
            NAME,
            "--server-bridge directive only makes sense with --dev tap",
            "use `server`, or write `dev tap`",
        );
    }
    become_server(d);
    match bridge {
        Some([gateway, mask, start, end]) => {
            let bits = u32::from(mask);
            for (a, b) in [(gateway, start), (start, end), (gateway, end)] {
                if u32::from(a) & bits != u32::from(b) & bits {
                    let text = format!("{NAME} IP addresses {a} and {b} are not in the same {mask} subnet");
                    f.error(NAME, format!("--{text}"), "choose addresses of one subnet");
                }
            }
            if let Err(problem) = pool_range(start, end) {
                f.problem(NAME, &problem);
            }
            d.profile.server.pool = Some(IfconfigPool { start, end, netmask: Some(mask) });
            d.profile.server.push.push(format!("route-gateway {gateway}"));
        }
        None if !d.helpers.bridge_nogw => d.profile.server.push.push("route-gateway dhcp".to_owned()),
        None => {}
    }
}

/// `keepalive INTERVAL TIMEOUT`: a server waits twice as long as its clients, so that they notice first.
fn keepalive(d: &mut Draft, f: &mut Findings) {
    const NAME: &str = "keepalive";
    let Some((interval, timeout)) = d.helpers.keepalive else { return };
    let server = d.profile.mode == Mode::Server;
    if interval.saturating_mul(2) > timeout {
        let text = format!(
            "the second parameter to --keepalive (restart timeout={timeout}) must be at least twice the value of the first \
             parameter (ping interval={interval}).  A ratio of 1:5 or 1:6 would be even better.  Recommended setting is \
             --keepalive 10 60."
        );
        f.error(NAME, text, "write `keepalive 10 60`");
    }
    if d.profile.keepalive.ping.is_some() || d.profile.keepalive.timeout.is_some() {
        let text = "--keepalive conflicts with --ping, --ping-exit, or --ping-restart.  If you use --keepalive, you don't \
                    need any of the other --ping directives.";
        f.error(NAME, text, "remove the `ping` options");
    }
    if server && timeout > PING_TIMEOUT_MAX / 2 {
        let text = format!(
            "The second parameter to --keepalive must not exceed {} in server mode.",
            PING_TIMEOUT_MAX / 2
        );
        f.error(NAME, text, "write `keepalive 10 60`");
    }
    let own = if server { timeout.saturating_mul(2) } else { timeout };
    d.profile.keepalive.ping = Some(Duration::from_secs(interval.into()));
    d.profile.keepalive.timeout = Some((Duration::from_secs(own.into()), PingAction::Restart));
    if server {
        d.profile.server.push.push(format!("ping {interval}"));
        d.profile.server.push.push(format!("ping-restart {timeout}"));
    }
}
