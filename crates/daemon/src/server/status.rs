//! What the status file and SIGUSR2 show of a server.

use std::{collections::HashMap, time::SystemTime};

use culvert_config::{Role, title};
use culvert_wire::OffloadKind;

use super::{Server, client::Client};
use crate::{
    metrics::{Exposition, OffloadState},
    ovlog,
    status_file::{ClientRow, ClientStatistics, RouteRow, ServerStatus, StatusVersion},
};

impl Server {
    pub(super) fn write_status(&self) {
        if let Some(file) = &self.status {
            file.write(self.status_text());
        }
    }

    pub(super) fn log_status(&self) {
        for line in self.status_text().lines() {
            ovlog!(1, "{line}");
        }
    }

    fn status_text(&self) -> String {
        let version = self.profile.log.status.as_ref().map_or(1, |status| status.version);
        match self.profile.role() {
            Role::Server => {
                let version = StatusVersion::from_number(version).unwrap_or(StatusVersion::V1);
                self.server_status().render(version, &self.logger.zone())
            }
            Role::Client | Role::P2p => self.statistics().render(&self.logger.zone()),
        }
    }

    pub(super) fn server_status(&self) -> ServerStatus {
        let mut stats = Vec::new();
        let _gone = self.offload.stats(None, &mut stats);
        let links: HashMap<_, _> = stats.iter().map(|peer| (peer.id, peer.link)).collect();
        let mut clients = Vec::new();
        let mut routes = Vec::new();
        let mut keys: Vec<_> = self.clients.keys().copied().collect();
        keys.sort_unstable();
        let now = SystemTime::now();
        let stations = self.stations();
        let bare = self.profile.log.bare_addresses;
        let shown = |client: &Client| {
            let address = client.real_address();
            if bare { address.bare() } else { address.to_string() }
        };
        for key in keys {
            let Some(client) = self.clients.get(&key) else { continue };
            let Some(connected) = client.connected() else { continue };
            let link = links.get(&connected.peer).copied().unwrap_or_default();
            clients.push(ClientRow {
                common_name: connected.common_name.clone(),
                real_address: shown(client),
                virtual_v4: connected.vpn.v4.map(Into::into),
                virtual_v6: connected.vpn.v6.map(Into::into),
                bytes_received: link.rx_bytes,
                bytes_sent: link.tx_bytes,
                connected_since: connected.since,
                username: client.username.clone(),
                client_id: key.0,
                peer_id: connected.peer.get(),
                cipher: connected.cipher.to_string(),
            });
            routes.extend(
                super::configure::learned_addresses(&self.profile, &connected.vpn, &connected.iroutes)
                    .into_iter()
                    .map(|virtual_address| RouteRow {
                        virtual_address,
                        common_name: connected.common_name.clone(),
                        real_address: shown(client),
                        last_ref: now,
                    }),
            );
            routes.extend(stations.get(&connected.peer).into_iter().flatten().map(|learned| RouteRow {
                virtual_address: learned.station.to_string(),
                common_name: connected.common_name.clone(),
                real_address: shown(client),
                last_ref: now.checked_sub(learned.idle).unwrap_or(now),
            }));
        }
        ServerStatus {
            title: title(),
            now,
            clients,
            routes,
            max_broadcast_queue: 0,
            dco_enabled: self.offload.capabilities().kind != OffloadKind::Engine,
        }
    }

    pub(super) fn statistics(&self) -> ClientStatistics {
        let mut stats = Vec::new();
        let _gone = self.offload.stats(None, &mut stats);
        crate::status_file::statistics(SystemTime::now(), &stats)
    }

    /// Answers a scrape.
    pub(super) fn metrics(&self) -> String {
        let mut exposition = Exposition::of(&self.profile, SystemTime::now());
        exposition.offload(OffloadState::of(&*self.offload));
        match self.profile.role() {
            Role::Server => {
                exposition.server(&self.server_status());
            }
            Role::Client | Role::P2p => exposition.client(&self.statistics()),
        }
        let counts = self.interface.hub.tally().counts();
        exposition.counts(&counts);
        exposition.data_drops(self.counters().iter().fold(counts.data_dropped, |sum, peer| sum + peer.drops));
        let files = [("status", &self.status), ("ifconfig-pool-persist", &self.pool_file)];
        let failures = files.map(|(name, file)| (name, file.as_ref().map_or(0, |file| file.failures())));
        exposition.unwritten(self.logger.lost_lines(), &failures);
        exposition.expiries(self.expiries);
        exposition.text()
    }
}
