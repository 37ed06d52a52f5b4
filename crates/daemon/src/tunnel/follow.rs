//! Routes of a tunnel that stands while the network below it becomes another.
//!
//! The kernel takes routes away with the link they lead over, and leaves those by way of a router that is no longer
//! there: either way nothing reaches the server, and with a redirected gateway its packets end up in the tunnel.

use std::net::IpAddr;

use culvert_host::{
    Family, Host, HostError, NetGateway, Plan, RouteContext, RouteSettings, Step, gateway_towards,
};
use tracing::warn;

use super::{Tunnel, TunnelError};
use crate::ovlog;

/// What the routes that stand were made from.
pub(super) struct Routed {
    settings: RouteSettings,
    context: RouteContext,
    /// The machine's own way out at that time. `None`: there was no way to the server, and routes are missing.
    way_out: Option<Option<NetGateway>>,
}

impl Tunnel {
    /// Whether an address is this end's in the tunnel.
    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.addresses.tunnel4 == Some(address),
            IpAddr::V6(address) => self.addresses.tunnel6 == Some(address),
        }
    }

    /// Keeps what routes were made from.
    pub(super) fn remember_way(&mut self, settings: RouteSettings, context: RouteContext) {
        let way_out = self.changes.as_mut().and_then(|changes| way_out(&mut changes.host, &context).ok());
        self.routed = Some(Routed { settings, context, way_out });
    }

    /// Sets the routes anew where the machine's way out is another than they were made for, or `remote` is, or where they
    /// do not keep packets to it out of the tunnel (`swallowed`). What leads into the tunnel stays as far as it can;
    /// `route-up` hears of it. Returns whether the routes are this tunnel's to set.
    pub(crate) async fn follow_network(
        &mut self,
        remote: IpAddr,
        swallowed: bool,
    ) -> Result<bool, TunnelError> {
        let (Some(routed), Some(changes)) = (&mut self.routed, &mut self.changes) else { return Ok(false) };
        let context = RouteContext { remote: Some(remote), ..routed.context.clone() };
        let now = way_out(&mut changes.host, &context)?;
        let stands = routed.way_out.as_ref() == Some(&now) && routed.context.remote == context.remote;
        if stands && !swallowed {
            return Ok(true);
        }
        routed.way_out = None;
        let old = self.plans.routes.clone();
        let kept = into_tunnel(&old, &context.device);
        // Without them the machine tells its own way.
        self.plans.routes = kept.clone();
        self.revise(&old, &kept).await?;
        let (Some(routed), Some(changes)) = (&mut self.routed, &mut self.changes) else { return Ok(true) };
        let context = context.discover(&mut changes.host)?;
        let way = if remote.is_ipv4() { &context.net4 } else { &context.net6 };
        if way.is_none() {
            return Ok(true); // there will be news when there is a network again
        }
        ovlog!(1, "the routes are set anew: the way to the server is another, or was gone");
        let planned = routed.settings.plan(&context);
        for problem in &planned.problems {
            warn!("{problem}");
        }
        crate::network::export_routes(&mut self.own, &routed.settings, &context);
        routed.context = context;
        self.env.remove_prefix("route_").extend(&self.own);
        self.hooks.remember(self.own.clone());
        self.plans.routes = planned.plan.clone();
        self.revise(&kept, &planned.plan).await?;
        if let (Some(routed), Some(changes)) = (&mut self.routed, &mut self.changes) {
            routed.way_out = way_out(&mut changes.host, &routed.context).ok();
        }
        self.route_up().await;
        Ok(true)
    }
}

/// The machine's default way out, whatever routes there are to the server alone.
fn way_out(host: &mut dyn Host, context: &RouteContext) -> Result<Option<NetGateway>, HostError> {
    let family = context.remote.map_or(Family::V4, Family::of);
    gateway_towards(host, None, family, &context.device)
}

/// The steps of a plan that stay while the others are worked out again: routes into the tunnel. None of them where they
/// took the place of the machine's own default route, which is then to be seen again.
fn into_tunnel(plan: &Plan, device: &str) -> Plan {
    let displaces = plan.steps().iter().any(|step| matches!(step, Step::Displace(_)));
    let stays = |step: &&Step| match step {
        Step::Route(route) => !displaces && route.device.as_deref().is_none_or(|on| on == device),
        _ => false,
    };
    plan.steps().iter().filter(stays).cloned().collect()
}

#[cfg(test)]
mod tests {
    use culvert_host::Route;

    use super::*;

    #[test]
    fn routes_into_the_tunnel_stay_unless_they_displaced_the_default_route() {
        let half =
            || Step::Route(Route::to([0, 0, 0, 0].into(), 1).via(Some([10, 8, 0, 1].into())).dev("tun0"));
        let server = || Step::Route(Route::to_host([198, 51, 100, 7].into()).dev("eth0"));
        let unreachable = || Step::Route(Route::to(Family::V6.any(), 3));
        let plan: Plan = [server(), half(), unreachable()].into_iter().collect();
        assert_eq!(into_tunnel(&plan, "tun0").steps(), [half(), unreachable()]);
        let default = Step::Displace(Route::to([0, 0, 0, 0].into(), 0).dev("eth0"));
        let plan: Plan = [server(), default, half()].into_iter().collect();
        assert!(into_tunnel(&plan, "tun0").is_empty());
    }
}
