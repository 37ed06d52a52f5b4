//! From a configuration's `route` and `redirect-gateway` lines to routes of the system.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    Family, Host, HostError, Place, Plan, Route, RouteKind, RouteSpec, Step, gateway_towards, route::mask,
};

/// The way out of this machine beside the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetGateway {
    /// The router; `None` when the destination is on the device's own network.
    pub gateway: Option<IpAddr>,
    /// The device.
    pub device: String,
}

/// The flags of `redirect-gateway` and `redirect-private`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is one word of the option")]
pub struct Redirect {
    /// Take over the default route: `redirect-gateway`; without it `redirect-private`.
    pub default_route: bool,
    /// `def1`: two halves that beat the default route instead of replacing it.
    pub def1: bool,
    /// `local`: the server is on this network, no route to it is needed.
    pub local: bool,
    /// `autolocal`: find out whether it is.
    pub autolocal: bool,
    /// `block-local`: traffic to the local network goes into the tunnel as well.
    pub block_local: bool,
    /// IPv4 is redirected (off by `!ipv4`).
    pub ipv4: bool,
    /// `ipv6`: IPv6 is redirected.
    pub ipv6: bool,
}

impl Default for Redirect {
    fn default() -> Self {
        Self {
            default_route: true,
            def1: false,
            local: false,
            autolocal: false,
            block_local: false,
            ipv4: true,
            ipv6: false,
        }
    }
}

/// The routes that a configuration (with what was pushed) asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteSettings {
    /// `route` and `route-ipv6` lines in order.
    pub routes: Vec<RouteSpec>,
    /// `redirect-gateway` or `redirect-private`.
    pub redirect: Option<Redirect>,
    /// `route-metric`, for lines without their own.
    pub metric: Option<u32>,
    /// `redirect-gateway` must not leak IPv6 when the tunnel has none: global IPv6 becomes unreachable.
    pub close_ipv6_leak: bool,
}

/// What the words of [`RouteSettings`] refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteContext {
    /// The tunnel device.
    pub device: String,
    /// The device has many peers, and these routes choose among them: a line without a gateway leads to the device, where
    /// no peer has the destination for its own.
    pub many_peers: bool,
    /// The device is an Ethernet: every route needs the next hop whose address is to be looked up there.
    pub ethernet: bool,
    /// `route-gateway`, or the far end of `ifconfig`.
    pub vpn4: Option<Ipv4Addr>,
    /// `route-ipv6-gateway`, or the far end of `ifconfig-ipv6`. On a TUN device it is not needed to set routes.
    pub vpn6: Option<Ipv6Addr>,
    /// The tunnel has an IPv6 address.
    pub has_ipv6: bool,
    /// The server's address on the network.
    pub remote: Option<IpAddr>,
    /// The way to the server (or by default) over IPv4 without the tunnel.
    pub net4: Option<NetGateway>,
    /// The same over IPv6.
    pub net6: Option<NetGateway>,
    /// The machine's default way out over IPv4 without the tunnel, wherever the server is ([`RouteContext::net_gateway`]).
    pub own4: Option<NetGateway>,
    /// The same over IPv6.
    pub own6: Option<NetGateway>,
    /// The IPv4 default route that stands now.
    pub default4: Option<Route>,
    /// Networks directly on the device of `net4`.
    pub local_networks: Vec<(IpAddr, u8)>,
}

impl RouteContext {
    /// Asks the machine for what is not known from the configuration: `net4`, `net6`, `own4`, `own6`, `default4`,
    /// `local_networks`.
    ///
    /// # Errors
    /// When the system cannot be asked. A missing default route is no error.
    pub fn discover(mut self, host: &mut dyn Host) -> Result<Self, HostError> {
        let towards = |family| self.remote.filter(|remote| Family::of(*remote) == family);
        self.net4 = gateway_towards(host, towards(Family::V4), Family::V4, &self.device)?;
        self.net6 = gateway_towards(host, towards(Family::V6), Family::V6, &self.device)?;
        self.own4 = gateway_towards(host, None, Family::V4, &self.device)?;
        self.own6 = gateway_towards(host, None, Family::V6, &self.device)?;
        self.default4 = host
            .default_routes(Family::V4)?
            .into_iter()
            .find(|route| route.device.as_deref() != Some(self.device.as_str()));
        if let Some(net) = &self.net4 {
            self.local_networks = host.addresses(&net.device)?;
        }
        Ok(self)
    }

    /// Returns the address a word stands for.
    fn resolve(&self, place: Place, family: Family) -> Option<IpAddr> {
        match (place, family) {
            (Place::Address(address), _) => Some(address),
            (Place::VpnGateway, Family::V4) => self.vpn4.map(Into::into),
            (Place::VpnGateway, Family::V6) => self.vpn6.map(Into::into),
            (Place::NetGateway, family) => self.net_gateway(family).and_then(|net| net.gateway),
            (Place::RemoteHost, _) => self.remote,
        }
        .filter(|address| Family::of(*address) == family)
    }

    /// What `net_gateway` stands for: the machine's default way out, as in OpenVPN; where there is none, the way to the
    /// server.
    #[must_use]
    pub fn net_gateway(&self, family: Family) -> Option<&NetGateway> {
        let (own, net) = match family {
            Family::V4 => (&self.own4, &self.net4),
            Family::V6 => (&self.own6, &self.net6),
        };
        own.as_ref().or(net.as_ref())
    }
}

/// A plan, and what of the settings could not be turned into one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// What to do.
    pub plan: Plan,
    /// Sentences for the log, one for each line that was left out.
    pub problems: Vec<String>,
}

impl RouteSettings {
    /// Turns the settings into routes.
    ///
    /// Order: the way to the server first, then what would cut it off, then the other routes as they were written.
    #[must_use]
    pub fn plan(&self, context: &RouteContext) -> Planned {
        let mut planned = Planned::default();
        if let Some(redirect) = &self.redirect {
            self.redirect_v4(redirect, context, &mut planned);
        }
        for spec in self.routes.iter().filter(|spec| spec.family == Family::V4) {
            self.one(spec, context, &mut planned);
        }
        self.v6(context, &mut planned);
        planned
    }

    fn redirect_v4(&self, redirect: &Redirect, context: &RouteContext, planned: &mut Planned) {
        if !redirect.ipv4 {
            return;
        }
        let Some(vpn) = context.vpn4.map(IpAddr::from) else {
            planned.problems.push(
                "NOTE: unable to redirect IPv4 default gateway -- VPN gateway parameter (--route-gateway or --ifconfig) \
                 is missing"
                    .to_owned(),
            );
            return;
        };
        let remote = context.remote.filter(IpAddr::is_ipv4);
        let on_link = context.net4.as_ref().is_some_and(|net| net.gateway.is_none());
        let local = redirect.local || (redirect.autolocal && on_link);
        if let (Some(remote), false) = (remote, local) {
            let Some(net) = &context.net4 else {
                planned.problems.push(
                    "NOTE: unable to redirect IPv4 default gateway -- Cannot read current default gateway from system"
                        .to_owned(),
                );
                return;
            };
            push_route(planned, Route::to_host(remote).via(net.gateway).dev(&net.device));
        }
        if redirect.block_local && !local {
            block_local(vpn, context, planned);
        }
        if !redirect.default_route {
            return;
        }
        if redirect.def1 {
            for half in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(128, 0, 0, 0)] {
                push_route(planned, Route::to(half.into(), 1).via(Some(vpn)).dev(&context.device));
            }
        } else {
            if let Some(default) = &context.default4 {
                planned.plan.push(Step::Displace(default.clone()));
            }
            push_route(
                planned,
                Route::to(Family::V4.any(), 0).via(Some(vpn)).dev(&context.device).metric(self.metric),
            );
        }
    }

    /// IPv6: the redirected networks, the lines, and before all of them a route to a server that they would swallow.
    fn v6(&self, context: &RouteContext, planned: &mut Planned) {
        let mut later = Planned::default();
        if self.redirect.is_some_and(|redirect| redirect.ipv6 && redirect.default_route) {
            let gateway = context.vpn6.filter(|_| context.ethernet).map(IpAddr::from);
            for (network, prefix) in GLOBAL_V6 {
                let route = Route::to(network.into(), prefix).via(gateway).dev(&context.device);
                push_route(&mut later, route.metric(self.metric));
            }
        } else if self.close_ipv6_leak
            && !context.has_ipv6
            && self.redirect.is_some_and(|redirect| redirect.default_route && redirect.ipv4)
        {
            for (network, prefix) in GLOBAL_V6 {
                push_route(
                    &mut later,
                    Route { kind: RouteKind::Unreachable, ..Route::to(network.into(), prefix) },
                );
            }
        }
        for spec in self.routes.iter().filter(|spec| spec.family == Family::V6) {
            self.one(spec, context, &mut later);
        }
        if let (Some(remote @ IpAddr::V6(_)), Some(net)) = (context.remote, &context.net6) {
            let swallows = |step: &Step| matches!(step, Step::Route(route) if route.covers(remote));
            if later.plan.steps().iter().any(swallows) {
                push_route(planned, Route::to_host(remote).via(net.gateway).dev(&net.device));
            }
        }
        for step in later.plan.steps() {
            planned.plan.push(step.clone());
        }
        planned.problems.append(&mut later.problems);
    }

    /// One `route` or `route-ipv6` line.
    fn one(&self, spec: &RouteSpec, context: &RouteContext, planned: &mut Planned) {
        let family = spec.family;
        let Some(network) = context.resolve(spec.network, family) else {
            planned.problems.push(format!(
                "OpenVPN ROUTE: failed to parse/resolve route for host/network: {}",
                word(spec.network)
            ));
            return;
        };
        let route = Route::to(network, spec.prefix).metric(spec.metric.or(self.metric)).table(spec.table);
        if spec.gateway.is_none() && context.many_peers {
            return push_route(planned, route.dev(&context.device));
        }
        let place = spec.gateway.unwrap_or(Place::VpnGateway);
        let route = match place {
            // A gateway as written: the kernel finds its device. One word for the other way out needs ours: the
            // router of an on-link network has no address.
            Place::Address(gateway) => route.via(Some(gateway)),
            Place::NetGateway => match context.net_gateway(family) {
                Some(net) => route.via(net.gateway).dev(&net.device),
                None => {
                    planned
                        .problems
                        .push(format!("OpenVPN ROUTE: net_gateway undefined -- unable to get default gateway from system: {network}"));
                    return;
                }
            },
            // On a TUN device IPv6 needs no next hop, nor does a network that metric 0 says is on the link.
            Place::VpnGateway if family == Family::V6 && (!context.ethernet || route.metric == Some(0)) => {
                route.dev(&context.device)
            }
            Place::VpnGateway | Place::RemoteHost => match context.resolve(place, family) {
                Some(gateway) if place == Place::VpnGateway => route.via(Some(gateway)).dev(&context.device),
                Some(gateway) => route.via(Some(gateway)),
                None => {
                    planned.problems.push(format!(
                        "OpenVPN ROUTE: OpenVPN needs a gateway parameter for a --route option and no default was \
                         specified by either --route-gateway or --ifconfig options: {network}/{}",
                        spec.prefix
                    ));
                    return;
                }
            },
        };
        push_route(planned, route);
    }
}

/// What `redirect-gateway ipv6` covers: all global and unique local addresses, in routes more special than the default.
const GLOBAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::UNSPECIFIED, 3),
    (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 4),
    (Ipv6Addr::new(0x3000, 0, 0, 0, 0, 0, 0, 0), 4),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
];

/// Routes the local network into the tunnel by its two halves; the router alone stays reachable.
fn block_local(vpn: IpAddr, context: &RouteContext, planned: &mut Planned) {
    let Some(net) = &context.net4 else { return };
    if let Some(gateway) = net.gateway {
        push_route(planned, Route::to_host(gateway).dev(&net.device));
    }
    for (address, prefix) in &context.local_networks {
        let IpAddr::V4(address) = address else { continue };
        if *prefix >= 31 {
            continue;
        }
        let half = prefix + 1;
        let IpAddr::V4(network) = mask((*address).into(), *prefix) else { continue };
        let second =
            Ipv4Addr::from_bits(network.to_bits() | 1_u32.checked_shl(32 - u32::from(half)).unwrap_or(0));
        for network in [network, second] {
            push_route(planned, Route::to(network.into(), half).via(Some(vpn)).dev(&context.device));
        }
    }
}

fn push_route(planned: &mut Planned, route: Route) {
    let step = Step::Route(route);
    if !planned.plan.steps().contains(&step) {
        planned.plan.push(step);
    }
}

fn word(place: Place) -> String {
    match place {
        Place::Address(address) => address.to_string(),
        Place::VpnGateway => "vpn_gateway".to_owned(),
        Place::NetGateway => "net_gateway".to_owned(),
        Place::RemoteHost => "remote_host".to_owned(),
    }
}
