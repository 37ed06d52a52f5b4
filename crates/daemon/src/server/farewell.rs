//! What hooks hear of a client's end: `client-disconnect` and `learn-address delete` follow whatever was heard before, also
//! when the client never got as far as being connected. A firewall that a script opened is closed again.

use std::{sync::Arc, time::Duration};

use culvert_offload::PeerStats;
use tokio::time::timeout;
use tracing::Instrument as _;

use super::{
    Server,
    client::{Client, Connected, Pending},
    configure, environment,
};
use crate::{
    ovlog,
    scripts::{Hook, Learned, ScriptEnv},
    session_task::SessionKey,
};

/// How long the end of a server waits for hooks.
const PATIENCE: Duration = Duration::from_secs(10);

/// What hooks were told about a client, and have to hear the end of.
#[derive(Debug)]
pub(super) struct Farewell {
    /// What they see at its end.
    pub(super) env: ScriptEnv,
    pub(super) common_name: String,
    /// Those that are asked when a client connects were.
    pub(super) were_asked: bool,
    /// What `learn-address` agreed to.
    pub(super) addresses: Vec<String>,
}

impl Server {
    /// A client is gone that was connected.
    pub(super) fn run_disconnect_hooks(
        &mut self,
        key: SessionKey,
        client: &Client,
        connected: &Connected,
        stats: Option<&PeerStats>,
    ) {
        if !self.hears_of_ends() {
            return self.hooks.plugins.forget(key.0);
        }
        let mut env = self.hooks.environment();
        environment::client(&mut env, client, &connected.common_name);
        environment::connected(&mut env, &self.profile, connected);
        let lasted = connected.since.elapsed().unwrap_or_default();
        let link = stats.map(|stats| stats.link).unwrap_or_default();
        env.set_session_end(lasted, link.rx_bytes, link.tx_bytes);
        let mut addresses = configure::learned_addresses(&self.profile, &connected.vpn, &connected.iroutes);
        addresses.extend(self.left_behind(connected));
        let common_name = connected.common_name.clone();
        self.say_farewell(key, Farewell { env, common_name, were_asked: true, addresses });
    }

    /// A client is gone that was on its way. What is still being asked about it comes back, and ends then.
    pub(super) fn run_early_disconnect_hooks(&mut self, key: SessionKey, client: &Client, pending: &Pending) {
        if !self.hears_of_ends() {
            return self.hooks.plugins.forget(key.0);
        }
        let mut env = self.hooks.environment();
        environment::client(&mut env, client, &pending.common_name);
        environment::pool(&mut env, &self.profile, &pending.addresses);
        environment::since(&mut env, pending.since);
        env.set_session_end(pending.since.elapsed().unwrap_or_default(), 0, 0);
        let (common_name, addresses) = (pending.common_name.clone(), pending.announced.clone());
        self.say_farewell(key, Farewell { env, common_name, were_asked: pending.were_asked, addresses });
    }

    /// Hooks answered about the connection of a client that had left by then: they hear of its end, too.
    pub(super) fn left_while_asked(&mut self, key: SessionKey, asked: Option<Box<ScriptEnv>>) {
        if let Some(mut env) = asked.filter(|_| self.hears_of_ends()) {
            env.set_session_end(std::time::Duration::ZERO, 0, 0);
            let nothing =
                Farewell { env: *env, common_name: String::new(), were_asked: true, addresses: Vec::new() };
            self.say_farewell(key, nothing);
        }
    }

    fn hears_of_ends(&self) -> bool {
        let command = self.hooks.scripts.client_disconnect.as_ref();
        self.hooks.are_set(Hook::ClientDisconnect, command) || self.tells_addresses()
    }

    /// Whether `learn-address` or a plugin in its place is told of addresses.
    pub(super) fn tells_addresses(&self) -> bool {
        self.hooks.are_set(Hook::LearnAddress, self.hooks.scripts.learn_address.as_ref())
    }

    /// Tells hooks about the end of what they were told.
    pub(super) fn say_farewell(&mut self, key: SessionKey, farewell: Farewell) {
        let Farewell { env, common_name, were_asked, mut addresses } = farewell;
        if !self.tells_addresses() {
            addresses.clear(); // and nobody's names are put together: that looks at every client
        } else if !addresses.is_empty() {
            let of_others = self.names_of_others(key);
            addresses.retain(|address| !of_others.contains(address));
        }
        let hooks = Arc::clone(&self.hooks);
        let telling = async move {
            // Before the program that may take long: the addresses may be the next client's soon.
            for address in addresses {
                hooks.learn_address(key, Learned::Delete, &address, &common_name, &env).await;
            }
            if were_asked {
                let command = hooks.scripts.client_disconnect.as_ref();
                hooks.run_for(Some(key), Hook::ClientDisconnect, command, &[], &env).await;
            }
            hooks.plugins.forget(key.0);
        };
        while self.farewells.try_join_next().is_some() {}
        self.farewells.spawn(telling.in_current_span());
    }

    /// Waits until hooks have heard of every end: what they opened or count is not left behind when the server ends.
    pub(super) async fn finish_farewells(&mut self) {
        let told = async { while self.farewells.join_next().await.is_some() {} };
        if timeout(PATIENCE, told).await.is_err() {
            ovlog!(warn 1, "client-disconnect or learn-address takes too long; the server ends without it");
        }
    }
}
