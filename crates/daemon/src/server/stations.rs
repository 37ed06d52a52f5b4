//! Ethernet addresses of clients, on a TAP device: the data plane learns them from traffic and tells of each.
//!
//! Where `learn-address` is set, a new address carries nothing until the program agrees; a refusal holds for a while, then
//! the address is asked about again if it is still used.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use culvert_config::ClientOverrides;
use culvert_offload::{Learned, Station, VpnAddresses};
use culvert_wire::PeerId;
use tokio::time::Instant;
use tracing::{Instrument, warn};

use super::{
    Server,
    admission::Decision,
    client::{Connected, State},
    configure, environment,
};
use crate::{
    bridge, ovlog,
    scripts::{Hook, Learned as Change},
    session_task::SessionKey,
};

impl Server {
    /// An address was seen at a client for the first time, or moved there from another.
    pub(super) fn learned(&mut self, peer: PeerId, station: Station, moved: bool) {
        // Or the event is older than the peer that has this id now.
        if self.offload.station_owner(station) != Some(peer) {
            return;
        }
        let Some(&key) = self.by_peer.get(&peer) else { return };
        let Some(client) = self.clients.get(&key) else { return };
        let Some(connected) = client.connected() else { return };
        if !self.hooks.are_set(Hook::LearnAddress, self.hooks.scripts.learn_address.as_ref()) {
            return self.station_judged(key, station, true);
        }
        let mut env = self.hooks.environment();
        environment::client(&mut env, client, &connected.common_name);
        environment::connected(&mut env, &self.profile, connected);
        let name = connected.common_name.clone();
        let _in = client.span.clone().enter();
        self.admission.spawn(move |this| async move {
            let change = if moved { Change::Update } else { Change::Add };
            let allowed = this.hooks.learn_address(key, change, &station.to_string(), &name, &env).await;
            Decision::Station(key, station, allowed)
        });
    }

    /// `learn-address` agreed to a client's address, or did not.
    pub(super) fn station_judged(&mut self, key: SessionKey, station: Station, allowed: bool) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        let name = client.real_address();
        let State::Connected(connected) = &mut client.state else { return };
        self.offload.judge_station(connected.peer, station, allowed);
        if allowed {
            connected.stations.insert(station);
        }
        let _in = client.span.enter();
        let failed = if allowed { "" } else { " FAILED" };
        ovlog!(3, "MULTI: Learn{failed}: {station} -> {}/{name}", connected.common_name);
    }

    /// An address of a client is stale.
    pub(super) fn forgotten(&mut self, peer: PeerId, station: Station) {
        let Some(&key) = self.by_peer.get(&peer) else { return };
        let Some(client) = self.clients.get_mut(&key) else { return };
        let span = client.span.clone();
        let State::Connected(connected) = &mut client.state else { return };
        if !connected.stations.remove(&station) {
            return;
        }
        let _in = span.enter();
        ovlog!(3, "MULTI: Deleting stale route: {station}");
        if !self.hooks.are_set(Hook::LearnAddress, self.hooks.scripts.learn_address.as_ref()) {
            return;
        }
        let (hooks, mut env) = (std::sync::Arc::clone(&self.hooks), self.hooks.environment());
        let Some(client) = self.clients.get(&key) else { return };
        let Some(connected) = client.connected() else { return };
        environment::client(&mut env, client, &connected.common_name);
        environment::connected(&mut env, &self.profile, connected);
        let name = connected.common_name.clone();
        let telling = async move {
            hooks.learn_address(key, Change::Delete, &station.to_string(), &name, &env).await;
        };
        tokio::spawn(telling.in_current_span());
    }

    /// `stale-routes-check`.
    pub(super) fn expire_stations(&mut self, now: Instant) {
        if let Some((age, interval)) = self.profile.server.stale_routes.filter(|_| self.profile.device.tap)
            && now >= self.stations_due
        {
            self.stations_due = now + interval.max(Duration::from_secs(1));
            self.offload.expire_stations(age);
        }
    }

    /// What was learned, by peer, in order.
    pub(super) fn stations(&self) -> HashMap<PeerId, Vec<Learned>> {
        let mut all = Vec::new();
        self.offload.stations(&mut all);
        all.sort_unstable_by_key(|learned| learned.station);
        let mut by_peer: HashMap<_, Vec<_>> = HashMap::new();
        for learned in all {
            by_peer.entry(learned.peer).or_default().push(learned);
        }
        by_peer
    }

    /// The addresses of a client that just ended, less those that are another's by now.
    pub(super) fn left_behind(&self, connected: &Connected) -> impl Iterator<Item = String> {
        let of_nobody = |station: &&Station| self.offload.station_owner(**station).is_none();
        connected.stations.iter().filter(of_nobody).map(ToString::to_string)
    }

    /// Networks behind a client. An Ethernet finds those by itself.
    pub(super) fn routed_behind(
        &self,
        overrides: &ClientOverrides,
        own: &VpnAddresses,
        name: &str,
    ) -> Vec<(IpAddr, u8)> {
        let iroutes = configure::iroutes(&self.profile, overrides, own);
        if !self.profile.device.tap {
            return iroutes;
        }
        if !iroutes.is_empty() {
            warn!("MULTI: --iroute options rejected for {name} -- iroute only works with tun-style tunnels");
        }
        Vec::new()
    }

    /// Says it where a client that is connected keeps another place than its options give it now.
    pub(super) fn tell_port(&self, connected: &Connected, overrides: &ClientOverrides) {
        if self.profile.device.tap && bridge::port(&self.profile, overrides) != connected.spec.port {
            ovlog!(
                1,
                "vlan-pvid or max-routes-per-client changed: from the next connection of this client on"
            );
        }
    }
}
