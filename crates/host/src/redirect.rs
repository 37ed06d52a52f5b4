//! From a configuration's `route` and `redirect-gateway` lines to routes of the system.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{Family, Host, HostError, Place, Plan, Route, RouteKind, RouteSpec, Step, route::mask};

/// The way out of this machine beside the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetGateway {
    /// The router; `None` when the destination is on the device's own network.
    pub gateway: Option<IpAddr>,
    /// The device.
    pub device: String,
}

impl NetGateway {
    /// Returns where a route leads.
    pub(crate) fn of(route: Route) -> Self {
        Self { gateway: route.gateway, device: route.device.unwrap_or_default() }
    }
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
    /// `route-table`, for the routes that `redirect-gateway ipv6` adds.
    pub table: Option<u32>,
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
    /// The IPv4 default route that stands now: what `net_gateway` stands for.
    pub default4: Option<Route>,
    /// The same of IPv6.
    pub default6: Option<Route>,
    /// Networks directly on the device of `net4`.
    pub local_networks: Vec<(IpAddr, u8)>,
}

impl RouteContext {
    /// Asks the machine for what is not known from the configuration: `net4`, `net6`, `default4`, `default6`,
    /// `local_networks`.
    ///
    /// # Errors
    /// When the system cannot be asked. A missing default route is no error.
    pub fn discover(self, host: &mut dyn Host) -> Result<Self, HostError> {
        self.discover_under(host, &Plan::new())
    }

    /// The same while the routes of `standing` are in place: a default route that they displaced is still the machine's own.
    ///
    /// # Errors
    /// As [`Self::discover`].
    pub fn discover_under(mut self, host: &mut dyn Host, standing: &Plan) -> Result<Self, HostError> {
        (self.net4, self.default4) = self.ways(host, Family::V4, standing)?;
        (self.net6, self.default6) = self.ways(host, Family::V6, standing)?;
        if let Some(net) = &self.net4 {
            self.local_networks = host.addresses(&net.device)?;
        }
        Ok(self)
    }

    /// The way to the server (or by default), and the default route.
    fn ways(
        &self,
        host: &mut dyn Host,
        family: Family,
        standing: &Plan,
    ) -> Result<(Option<NetGateway>, Option<Route>), HostError> {
        let displaced = standing.steps().iter().find_map(|step| match step {
            Step::Displace(route) if route.family() == family => Some(route.clone()),
            _ => None,
        });
        let beside = |route: &Route| route.device.as_deref() != Some(self.device.as_str());
        let default = match displaced {
            Some(route) => Some(route),
            None => host.default_routes(family)?.into_iter().find(beside),
        };
        let direct = match self.remote.filter(|remote| Family::of(*remote) == family) {
            Some(remote) => host.route_to(remote)?.filter(beside),
            None => None,
        };
        Ok((direct.or_else(|| default.clone()).map(NetGateway::of), default))
    }

    /// Returns the address a word stands for.
    #[must_use]
    pub fn resolve(&self, place: Place, family: Family) -> Option<IpAddr> {
        match (place, family) {
            (Place::Address(address), _) => Some(address),
            (Place::VpnGateway, Family::V4) => self.vpn4.map(Into::into),
            (Place::VpnGateway, Family::V6) => self.vpn6.map(Into::into),
            (Place::NetGateway, family) => self.way_out(family).and_then(|net| net.gateway),
            (Place::RemoteHost, _) => self.remote,
        }
        .filter(|address| Family::of(*address) == family)
    }

    /// The machine's way to everywhere, which is another than that to a server nearby; without a default route, the
    /// latter.
    fn way_out(&self, family: Family) -> Option<NetGateway> {
        let (default, to_server) = match family {
            Family::V4 => (&self.default4, &self.net4),
            Family::V6 => (&self.default6, &self.net6),
        };
        match default {
            Some(Route { gateway, device: Some(device), .. }) => {
                Some(NetGateway { gateway: *gateway, device: device.clone() })
            }
            _ => to_server.clone(),
        }
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
        let local = if redirect.autolocal { on_link } else { redirect.local };
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
        let halves = self.blocked_networks(context);
        if let (Some(net), false) = (&context.net4, halves.is_empty()) {
            if let Some(gateway) = net.gateway {
                push_route(planned, Route::to_host(gateway).via(Some(gateway)).dev(&net.device));
            }
            for (network, prefix) in halves {
                push_route(planned, Route::to(network, prefix).via(Some(vpn)).dev(&context.device));
            }
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
            push_route(planned, Route::to(Family::V4.any(), 0).via(Some(vpn)).dev(&context.device));
        }
    }

    /// IPv6: the lines and the redirected networks, and before all of them a route to a server that they would swallow.
    fn v6(&self, context: &RouteContext, planned: &mut Planned) {
        if let Some(route) = self.bypass_v6(context) {
            push_route(planned, route);
        }
        for spec in self.lines_v6(context) {
            self.one(&spec, context, planned);
        }
        if self.closes_ipv6(context) {
            for (network, prefix) in GLOBAL_V6 {
                let route = Route { kind: RouteKind::Unreachable, ..Route::to(network.into(), prefix) };
                push_route(planned, route);
            }
        }
    }

    /// Whether IPv6 is made unreachable, because the tunnel that takes all of IPv4 has none.
    fn closes_ipv6(&self, context: &RouteContext) -> bool {
        let takes_all = |redirect: Redirect| redirect.default_route && redirect.ipv4 && !redirect.ipv6;
        self.close_ipv6_leak && !context.has_ipv6 && self.redirect.is_some_and(takes_all)
    }

    /// Returns the IPv6 lines as written, then those that `redirect-gateway ipv6` adds. `redirect-private ipv6` adds them
    /// too, as in OpenVPN, where the tunnel has IPv6.
    #[must_use]
    pub fn lines_v6(&self, context: &RouteContext) -> Vec<RouteSpec> {
        let mut lines: Vec<RouteSpec> =
            self.routes.iter().filter(|spec| spec.family == Family::V6).cloned().collect();
        let takes = |redirect: Redirect| redirect.ipv6 && (redirect.default_route || context.has_ipv6);
        if self.redirect.is_some_and(takes) {
            lines.extend(GLOBAL_V6.map(|(network, prefix)| RouteSpec {
                network: Place::Address(network.into()),
                prefix,
                gateway: None,
                metric: None,
                table: self.table,
                family: Family::V6,
            }));
        }
        lines
    }

    /// Returns the route that keeps packets to an IPv6 server out of the tunnel, where a line covers it.
    #[must_use]
    pub fn bypass_v6(&self, context: &RouteContext) -> Option<Route> {
        let remote = context.remote.filter(IpAddr::is_ipv6)?;
        let net = context.net6.as_ref()?;
        let covers = |spec: &RouteSpec| match spec.network {
            Place::Address(network) => Route::to(network, spec.prefix).covers(remote),
            Place::VpnGateway | Place::NetGateway | Place::RemoteHost => false,
        };
        let swallowed = self.closes_ipv6(context) || self.lines_v6(context).iter().any(covers);
        swallowed.then(|| Route::to_host(remote).via(net.gateway).dev(&net.device).metric(Some(1)))
    }

    /// Returns the halves of the local networks that `block-local` routes into the tunnel. A server nearby does not change
    /// that, unlike in OpenVPN: whoever runs the network could make any server appear to be there.
    #[must_use]
    pub fn blocked_networks(&self, context: &RouteContext) -> Vec<(IpAddr, u8)> {
        let on_link = context.net4.as_ref().is_some_and(|net| net.gateway.is_none());
        let blocks = |redirect: Redirect| {
            let local = if redirect.autolocal { on_link } else { redirect.local };
            redirect.ipv4 && redirect.block_local && !local
        };
        if context.vpn4.is_none() || !self.redirect.is_some_and(blocks) {
            return Vec::new();
        }
        context.local_networks.iter().flat_map(|&(address, prefix)| halves(address, prefix)).collect()
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
            // On a TUN device IPv6 needs no next hop, also none that was written, nor does a network that metric 0 says
            // is on the link.
            Place::VpnGateway | Place::Address(_)
                if family == Family::V6 && (!context.ethernet || route.metric == Some(0)) =>
            {
                route.dev(&context.device)
            }
            // A gateway as written: the kernel finds its device. One word for the other way out needs ours: the
            // router of an on-link network has no address.
            Place::Address(gateway) => route.via(Some(gateway)),
            Place::NetGateway => match context.way_out(family) {
                Some(net) => route.via(net.gateway).dev(&net.device),
                None => {
                    planned
                        .problems
                        .push(format!("OpenVPN ROUTE: net_gateway undefined -- unable to get default gateway from system: {network}"));
                    return;
                }
            },
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

/// The two halves of an IPv4 network, which beat the kernel's own route to the whole.
fn halves(address: IpAddr, prefix: u8) -> Vec<(IpAddr, u8)> {
    let IpAddr::V4(network) = mask(address, prefix) else { return Vec::new() };
    if prefix >= 31 {
        return Vec::new();
    }
    let half = prefix + 1;
    let second =
        Ipv4Addr::from_bits(network.to_bits() | 1_u32.checked_shl(32 - u32::from(half)).unwrap_or(0));
    vec![(network.into(), half), (second.into(), half)]
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
