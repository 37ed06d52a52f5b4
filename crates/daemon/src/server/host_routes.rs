//! Networks that somebody else routes to clients: `ip route add NETWORK via CLIENT_ADDRESS`.
//!
//! The kernel's module asks the machine's routes for every packet. The engine has a table of its own, so for its clients the routes
//! of its devices are followed here: what is routed via a client's address belongs to the client, until the route goes. (Looked at once a second,
//! on one of the threads for what may block.)

use std::{collections::HashMap, net::IpAddr};

use culvert_config::{Profile, Role};
use culvert_host::{HostError, RouteWatch, ViaRoute};
use culvert_offload::{Device, Offload, PeerChange, VpnAddresses};
use tracing::{debug, warn};

use super::{
    Server,
    admission::Decision,
    client::{Client, State},
};
use crate::{offload::is_kernel, session_task::SessionKey};

/// The routes of the engine's device, whichever it is.
#[derive(Default)]
pub(super) struct HostRoutes {
    /// `None`: it is asked on another thread, or there is none.
    watch: Option<RouteWatch>,
    device: Option<Device>,
    routes: Vec<ViaRoute>,
    /// The device is new: nobody has looked yet.
    is_new: bool,
}

/// What a look has seen of a device: its watch comes back.
#[derive(Debug)]
pub(super) struct Seen {
    device: Device,
    watch: Option<RouteWatch>,
    routes: Result<Vec<ViaRoute>, HostError>,
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
        if self.device.as_ref() != Some(device) {
            *self = Self { device: Some(device.clone()), is_new: true, ..Self::default() };
        }
    }

    /// What to do on another thread if routes may have changed: a machine with all routes of the Internet takes a second to
    /// tell them. There is no second look before the first one came back.
    fn due(&mut self) -> Option<impl FnOnce() -> Seen + Send + 'static> {
        let device = self.device.clone()?;
        let is_due = std::mem::take(&mut self.is_new) || self.watch.as_mut().is_some_and(RouteWatch::drain);
        let watch = is_due.then(|| self.watch.take())?;
        Some(move || {
            let opened = match watch {
                Some(watch) => Ok(watch),
                None => RouteWatch::open(device.ifindex),
            };
            match opened {
                Ok(mut watch) => {
                    let routes = watch.routes();
                    Seen { device, watch: Some(watch), routes }
                }
                Err(failure) => Seen { device, watch: None, routes: Err(failure) },
            }
        })
    }

    /// Takes what a look has seen; returns whether routes are others.
    fn seen(&mut self, seen: Seen) -> bool {
        let Seen { device, watch, routes } = seen;
        if self.device.as_ref() != Some(&device) {
            return false; // another is followed by now
        }
        let has_watch = watch.is_some();
        self.watch = watch;
        match routes {
            Ok(routes) => std::mem::replace(&mut self.routes, routes) != self.routes,
            Err(failure) if has_watch => {
                debug!("cannot look at the routes: {failure}");
                false
            }
            Err(failure) => {
                warn!("routes that are added by hand to {} are not followed: {failure}", device.name);
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
    /// Looks whether somebody else has changed routes.
    pub(super) fn watch_host_routes(&mut self) {
        if let Some(look) = self.host_routes.due() {
            let decisions = self.admission.decisions.clone();
            tokio::task::spawn_blocking(move || {
                let _gone = decisions.blocking_send(Decision::Routes(Box::new(look())));
            });
        }
    }

    /// Routes were looked at.
    pub(super) fn host_routes_seen(&mut self, seen: Seen) {
        if self.host_routes.seen(seen) {
            self.apply_host_routes();
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_look_at_a_time_and_another_device_begins_anew() {
        let device = |name: &str, ifindex| Device { name: name.to_owned(), ifindex };
        let mut routes = HostRoutes::default();
        routes.follow(&device("tun0", 1));
        let look = routes.due().unwrap();
        assert!(routes.due().is_none(), "the first has not come back");
        routes.follow(&device("tun1", 0x7fff_fff0));
        let of_the_former = look();
        assert!(!routes.seen(of_the_former) && routes.watch.is_none());
        let seen = routes.due().unwrap()();
        assert!(!routes.seen(seen), "nobody routes anything there");
        assert!(routes.watch.is_some());
    }
}
