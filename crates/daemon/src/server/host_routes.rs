//! Networks that somebody else routes to clients: `ip route add NETWORK via CLIENT_ADDRESS`.
//!
//! The kernel's module asks the machine's routes for every packet. The engine has a table of its own, so for its clients the routes
//! of its devices are followed here: what is routed via a client's address belongs to the client, until the route goes. (Looked at once a second.)

use std::{collections::HashMap, net::IpAddr};

use culvert_config::{Profile, Role};
use culvert_host::{RouteWatch, ViaRoute};
use culvert_offload::{Device, Offload, PeerChange, VpnAddresses};
use tracing::{debug, warn};

use super::{
    Server,
    client::{Client, State},
};
use crate::{offload::is_kernel, session_task::SessionKey};

/// The routes of the engine's device, whichever it is.
#[derive(Default)]
pub(super) struct HostRoutes {
    watch: Option<RouteWatch>,
    device: Option<Device>,
    routes: Vec<ViaRoute>,
}

impl HostRoutes {
    /// Follows the device of a server without the kernel's module. With it, [`Self::follow`] comes later, if ever.
    pub(super) fn of(profile: &Profile, offload: &dyn Offload) -> Self {
        let mut routes = Self::default();
        if profile.role() == Role::Server && !is_kernel(offload) {
            routes.follow(&offload.device());
        }
        routes
    }

    /// Follows a device of the engine.
    pub(super) fn follow(&mut self, device: &Device) {
        if self.device.as_ref() == Some(device) {
            return;
        }
        self.device = Some(device.clone());
        match RouteWatch::open(device.ifindex) {
            Ok(watch) => {
                self.watch = Some(watch);
                self.read();
            }
            Err(failure) => {
                warn!("routes that are added by hand to {} are not followed: {failure}", device.name)
            }
        }
    }

    /// Looks whether routes have changed, without waiting.
    pub(super) fn have_changed(&mut self) -> bool {
        self.watch.as_mut().is_some_and(RouteWatch::drain) && self.read()
    }

    /// Asks for the routes anew; returns whether they are others.
    fn read(&mut self) -> bool {
        let Some(watch) = &mut self.watch else { return false };
        match watch.routes() {
            Ok(routes) => std::mem::replace(&mut self.routes, routes) != self.routes,
            Err(failure) => {
                debug!("cannot look at the routes: {failure}");
                false
            }
        }
    }

    /// The networks that are routed via a client's addresses.
    pub(super) fn behind(&self, vpn: &VpnAddresses) -> Vec<(IpAddr, u8)> {
        let own = [vpn.v4.map(IpAddr::from), vpn.v6.map(IpAddr::from)];
        let via = self.routes.iter().filter(|route| own.contains(&Some(route.gateway)));
        via.map(|route| (route.network, route.prefix)).collect()
    }
}

impl Server {
    /// Gives every client of the engine the networks that are routed to it now.
    pub(super) fn apply_host_routes(&mut self) {
        let engine = self.host_routes.device.clone();
        let mut wanted = HashMap::new();
        for (key, client) in &self.clients {
            let Some(connected) = client.connected() else { continue };
            if Some(self.offload.device_of(connected.peer)) == engine {
                wanted.insert(*key, self.host_routes.behind(&connected.vpn));
            }
        }
        // What is taken away first: it may be another's now.
        for (key, networks) in &wanted {
            let Some(connected) = self.clients.get(key).and_then(Client::connected) else { continue };
            let stays = connected.routed.iter().copied().filter(|network| networks.contains(network));
            self.set_routed(*key, stays.collect());
        }
        for (key, networks) in wanted {
            self.set_routed(key, networks);
        }
    }

    /// Gives a client these networks besides its own.
    fn set_routed(&mut self, key: SessionKey, networks: Vec<(IpAddr, u8)>) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        let _in = client.span.enter();
        let State::Connected(connected) = &mut client.state else { return };
        if connected.routed == networks {
            return;
        }
        let iroutes = connected.iroutes.iter().chain(&networks).copied().collect();
        let change = PeerChange { vpn: Some((connected.vpn, iroutes)), ..PeerChange::default() };
        match self.offload.peer_set(connected.peer, &change) {
            Ok(()) => connected.routed = networks,
            Err(failure) => warn!("a route by hand to this client has no effect: {failure}"),
        }
    }
}
