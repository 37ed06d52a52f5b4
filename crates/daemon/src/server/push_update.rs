//! PUSH_UPDATE: options of clients that are connected change, without a new connection.
//!
//! Only clients that announce it are told (OpenVPN 2.7, culvert). The offload is told first when a client's address
//! changes, so that its packets from the new address pass.

use std::{net::IpAddr, sync::Arc};

use culvert_config::{ClientOverrides, PushFilter, Pushed, UpdateSequence, find, table};
use culvert_offload::{Keepalive, PeerChange, VpnAddresses};
use culvert_proto::{Command, peer_info::proto_bit, split_update};
use tracing::{Instrument as _, warn};

use super::{
    Server,
    client::State,
    configure::{self, learned_addresses},
    environment,
    push::ClientAddresses,
};
use crate::{ovlog, scripts::Learned, session_task::SessionKey};

/// Who is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Recipients {
    /// Everybody who takes updates.
    All,
    /// One client.
    One(SessionKey),
}

impl Server {
    /// Sends an update: comma-separated items, `[-][?]option …`, as PUSH_UPDATE has them. Returns how many were told.
    ///
    /// # Errors
    /// A sentence: what is wrong with the items, or with the one client. Nobody was told then.
    pub(super) fn push_update(&mut self, recipients: Recipients, items: &str) -> Result<usize, String> {
        let change = understood(items)?;
        let messages = split_update(items).map_err(|item| format!("too long for one message: '{item}'"))?;
        let keys: Vec<SessionKey> = match recipients {
            Recipients::One(key) => vec![key],
            Recipients::All if change.ifconfig.is_some() || change.ifconfig_ipv6.is_some() => {
                return Err("an address can be pushed to one client only".to_owned());
            }
            Recipients::All => {
                let takes = |key: &SessionKey| self.takes_updates(*key).is_ok();
                self.clients.keys().copied().filter(takes).collect()
            }
        };
        for &key in &keys {
            self.takes_updates(key)?;
            self.readdress(key, &change)?;
            for message in &messages {
                self.tell(key, Command::SendMessage(message.clone()));
            }
        }
        Ok(keys.len())
    }

    /// Whether a client can be told.
    fn takes_updates(&self, key: SessionKey) -> Result<(), String> {
        let client = self.clients.get(&key).filter(|client| client.connected().is_some());
        match client {
            None => Err("no such client is connected".to_owned()),
            Some(client) if client.peer_info.has(proto_bit::PUSH_UPDATE) => Ok(()),
            Some(_) => Err("the client does not take PUSH_UPDATE, which begins with OpenVPN 2.7".to_owned()),
        }
    }

    /// Gives a client other addresses inside the tunnel, where the update has some.
    fn readdress(&mut self, key: SessionKey, change: &Pushed) -> Result<(), String> {
        if change.ifconfig.is_none() && change.ifconfig_ipv6.is_none() {
            return Ok(());
        }
        let Some(connected) = self.clients.get(&key).and_then(|client| client.connected()) else {
            return Ok(());
        };
        let mut addresses = connected.addresses;
        if let Some(own) = change.ifconfig {
            addresses.v4 = Some((own.local, own.second));
        }
        if let Some(own) = change.ifconfig_ipv6 {
            addresses.v6 = Some((own.local.address, own.local.bits, own.remote));
        }
        if let Some(own) = change.ifconfig {
            configure::check_constraint(&self.profile, own.local)?;
        }
        let (before, iroutes) = (connected.vpn, connected.iroutes.clone());
        let claimed = self.claim(key, &addresses.vpn())?;
        let rerouted = self.reroute(key, addresses, iroutes);
        // What it has now stays claimed, and what it had before is free.
        let given_back = match &rerouted {
            Ok(()) => {
                let left = |old: Option<IpAddr>, new: Option<IpAddr>| old.filter(|_| old != new);
                let vpn = addresses.vpn();
                [
                    left(before.v4.map(IpAddr::V4), vpn.v4.map(IpAddr::V4)),
                    left(before.v6.map(IpAddr::V6), vpn.v6.map(IpAddr::V6)),
                ]
                .into_iter()
                .flatten()
                .collect()
            }
            Err(_) => claimed,
        };
        self.unclaim(key, &given_back);
        rerouted
    }

    /// Makes sure that addresses are a client's alone: nobody has them who is connected or on its way, and the pool gives
    /// them to nobody else. Returns those that were reserved for that.
    fn claim(&mut self, key: SessionKey, vpn: &VpnAddresses) -> Result<Vec<IpAddr>, String> {
        let taken = || Err("another client has this address".to_owned());
        if self.has_holder(key, vpn) {
            return taken();
        }
        let (Some(client), Some(pool)) = (self.clients.get_mut(&key), &mut self.pool) else {
            return Ok(Vec::new());
        };
        let mut claimed = Vec::new();
        for address in [vpn.v4.map(IpAddr::V4), vpn.v6.map(IpAddr::V6)].into_iter().flatten() {
            let is_leased = client.lease.as_ref().is_some_and(|lease| lease.has(address));
            if is_leased || client.reserved.contains(&address) {
                continue;
            }
            if pool.reserve(address) {
                client.reserved.push(address);
                claimed.push(address);
            } else {
                self.unclaim(key, &claimed);
                return taken();
            }
        }
        Ok(claimed)
    }

    /// Gives reservations of a client back.
    pub(super) fn unclaim(&mut self, key: SessionKey, addresses: &[IpAddr]) {
        let (Some(client), Some(pool)) = (self.clients.get_mut(&key), &mut self.pool) else { return };
        for &address in addresses {
            if let Some(at) = client.reserved.iter().position(|&reserved| reserved == address) {
                client.reserved.swap_remove(at);
                pool.unreserve(address);
            }
        }
    }

    /// Tells the offload and the machine which addresses and networks are a client's from here on.
    pub(super) fn reroute(
        &mut self,
        key: SessionKey,
        addresses: ClientAddresses,
        iroutes: Vec<(IpAddr, u8)>,
    ) -> Result<(), String> {
        let Some(client) = self.clients.get_mut(&key) else { return Ok(()) };
        let _in = client.span.clone().enter();
        let State::Connected(connected) = &mut client.state else { return Ok(()) };
        let vpn = addresses.vpn();
        let known = [iroutes.clone(), connected.routed.clone()].concat();
        let change = PeerChange { vpn: Some((vpn, known)), ..PeerChange::default() };
        self.offload.peer_set(connected.peer, &change).map_err(|failure| failure.to_string())?;
        let before = learned_addresses(&self.profile, &connected.vpn, &connected.iroutes);
        connected.spec.vpn = vpn;
        connected.spec.iroutes.clone_from(&iroutes);
        self.client_routes.remove(&connected.routes);
        let device = self.offload.device_of(connected.peer);
        connected.routes = self.client_routes.install(&connected.spec, &device);
        (connected.vpn, connected.addresses, connected.iroutes) = (vpn, addresses, iroutes);
        let after = learned_addresses(&self.profile, &connected.vpn, &connected.iroutes);
        for address in &after {
            ovlog!(2, "MULTI: Learn: {address} -> {}", connected.common_name);
        }
        let gone = before.iter().filter(|address| !after.contains(address)).cloned().collect();
        let new = after.iter().filter(|address| !before.contains(address)).cloned().collect();
        self.tell_learn_address(key, gone, new);
        if let Some(client) = self.clients.get(&key)
            && let Some(connected) = client.connected()
        {
            self.tell_addresses(key, client, connected, &before);
        }
        Ok(())
    }

    /// Tells `learn-address` about addresses that a connected client lost and got.
    fn tell_learn_address(&self, key: SessionKey, mut gone: Vec<String>, new: Vec<String>) {
        if !self.tells_addresses() {
            return;
        }
        let of_others = self.names_of_others(key);
        gone.retain(|address| !of_others.contains(address));
        let Some(client) = self.clients.get(&key) else { return };
        let Some(connected) = client.connected() else { return };
        let mut env = self.hooks.environment();
        environment::client(&mut env, client, &connected.common_name);
        environment::connected(&mut env, &self.profile, connected);
        let (hooks, name) = (Arc::clone(&self.hooks), connected.common_name.clone());
        let telling = async move {
            for address in gone {
                hooks.learn_address(key, Learned::Delete, &address, &name, &env).await;
            }
            for address in new {
                if !hooks.learn_address(key, Learned::Add, &address, &name, &env).await {
                    warn!(
                        "learn-address refused {address}, which the client has already; end its session to take it away"
                    );
                }
            }
        };
        tokio::spawn(telling.in_current_span());
    }

    /// Brings a connected client's own configuration, read again, into force: pushed options, networks behind it,
    /// keepalive and fixed addresses.
    pub(super) fn reconfigure(&mut self, key: SessionKey, overrides: &ClientOverrides) {
        let Some(client) = self.clients.get(&key) else { return };
        let Some(connected) = client.connected() else { return };
        let _in = client.span.clone().enter();
        let peer = connected.peer;
        let pushed = overrides.push_list(&self.profile.server.push);
        let mut difference = Difference::between(&connected.pushed, &pushed);
        let fixed = configure::addresses(&self.profile, client, overrides);
        let addresses = connected.addresses;
        let iroutes = self.routed_behind(overrides, &connected.vpn, &connected.common_name);
        // What a client took that connected later stays there.
        let iroutes = self.left_to(key, &iroutes);
        self.tell_port(connected, overrides);
        // Compared with what the configuration said before: the management interface may have given it others since.
        let readdresses = fixed != connected.configured;
        if readdresses {
            difference.readdress(&fixed);
        }
        let reroutes = iroutes != connected.iroutes;
        let keepalive = self.keepalive(overrides);
        let rekeeps = keepalive != connected.spec.keepalive;
        if reroutes && let Err(failure) = self.reroute(key, addresses, iroutes) {
            warn!("the networks behind this client stay as they were: {failure}");
        }
        if rekeeps {
            let off = Keepalive { interval: Default::default(), timeout: Default::default() };
            let change = PeerChange { keepalive: Some(keepalive.unwrap_or(off)), ..PeerChange::default() };
            if let Err(failure) = self.offload.peer_set(peer, &change) {
                warn!("the keepalive of this client stays as it was: {failure}");
            }
        }
        let told = self.tell_difference(key, &difference);
        let Some(State::Connected(connected)) = self.clients.get_mut(&key).map(|client| &mut client.state)
        else {
            return;
        };
        let limits = &self.profile.keepalive;
        connected.limit(
            overrides.session_timeout.or(limits.session_timeout),
            overrides.inactive.or(limits.inactive),
        );
        connected.spec.keepalive = keepalive;
        if told {
            connected.pushed = difference.reached(&connected.pushed, &pushed);
            connected.configured = fixed;
        }
        connected.untold = if told { Difference { items: Vec::new(), ..difference } } else { difference };
    }

    /// Tells a client what differs; returns whether it knows. What it cannot be told is logged once.
    fn tell_difference(&mut self, key: SessionKey, difference: &Difference) -> bool {
        let known =
            self.clients.get(&key).and_then(|client| client.connected()).map(|now| now.untold.clone());
        let known = known.unwrap_or_default();
        let mut told = true;
        if !difference.items.is_empty() {
            match self.push_update(Recipients::One(key), &difference.items.join(",")) {
                Ok(_) => ovlog!(1, "pushed options changed: the client was told"),
                Err(failure) => {
                    told = false;
                    if difference.items != known.items {
                        ovlog!(1, "pushed options changed: from the next connection on ({failure})");
                    }
                }
            }
        }
        if !difference.later.is_empty() && difference.later != known.later {
            let later = difference.later.join(", ");
            ovlog!(1, "pushed options changed: {later} from the next connection on");
        }
        told
    }
}

/// Reads the items as a client will.
fn understood(items: &str) -> Result<Pushed, String> {
    let filter = PushFilter { filters: &[], route_nopull: false, allow_fqdn: true };
    let mut pushed = Pushed::default();
    filter
        .update(&format!("PUSH_UPDATE,{items}"), &mut UpdateSequence::default(), &mut pushed)
        .map_err(|failure| failure.to_string())?;
    match pushed.notes.first() {
        Some(note) => Err(note.to_string()),
        None => Ok(pushed),
    }
}

/// What has to be told for one list of pushed options to become another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Items of an update.
    items: Vec<String>,
    /// Options that cannot change in an update.
    later: Vec<String>,
}

impl Difference {
    fn between(old: &[String], new: &[String]) -> Self {
        let mut difference = Self::default();
        let mut seen = Vec::new();
        for name in new.iter().chain(old).map(|option| name(option)) {
            if seen.contains(&name) {
                continue;
            }
            seen.push(name);
            let of = |list: &[String]| -> Vec<String> {
                list.iter().filter(|option| self::name(option) == name).cloned().collect()
            };
            let (before, after) = (of(old), of(new));
            if before == after {
                continue;
            }
            if !find(name).is_some_and(|row| row.contexts.has(table::UPDATE)) {
                difference.later.push(name.to_owned());
            } else if after.is_empty() {
                difference.items.push(format!("-{name}"));
            } else {
                // The first one clears what the client had of its kind.
                difference.items.extend(after);
            }
        }
        difference
    }

    /// What a client has of a new list, once it was told the items: of options that have to wait it has the old ones.
    fn reached(&self, old: &[String], new: &[String]) -> Vec<String> {
        let waits = |option: &&String| self.later.iter().any(|later| later == name(option));
        let (kept, taken) = (old.iter().filter(waits), new.iter().filter(|option| !waits(option)));
        kept.chain(taken).cloned().collect()
    }

    fn readdress(&mut self, addresses: &ClientAddresses) {
        if let Some((local, second)) = addresses.v4 {
            self.items.push(format!("ifconfig {local} {second}"));
        }
        if let Some((local, bits, remote)) = addresses.v6 {
            self.items.push(format!("ifconfig-ipv6 {local}/{bits} {remote}"));
        }
    }
}

fn name(option: &str) -> &str {
    option.split_ascii_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(options: &[&str]) -> Vec<String> {
        options.iter().map(|&option| option.to_owned()).collect()
    }

    #[test]
    fn only_what_differs_is_told_and_routes_are_told_all_together() {
        let old =
            list(&["topology subnet", "route 10.1.0.0 255.255.0.0", "dhcp-option DNS 10.8.0.1", "ping 10"]);
        let new =
            list(&["topology subnet", "route 10.1.0.0 255.255.0.0", "route 10.2.0.0 255.255.0.0", "ping 20"]);
        let difference = Difference::between(&old, &new);
        assert_eq!(
            difference.items,
            ["route 10.1.0.0 255.255.0.0", "route 10.2.0.0 255.255.0.0", "-dhcp-option"]
        );
        assert_eq!(difference.later, ["ping"]);
        assert_eq!(Difference::between(&new, &new), Difference::default());
        // It was told, and what had to wait still does.
        let has = difference.reached(&old, &new);
        let again = Difference::between(&has, &new);
        assert_eq!(again, Difference { later: list(&["ping"]), ..Difference::default() });
        assert_eq!(Difference::between(&has, &old).later, Vec::<String>::new());
    }

    #[test]
    fn an_update_that_clients_would_refuse_is_refused_here() {
        assert!(understood("route 10.1.0.0 255.255.0.0,-dns").is_ok());
        assert!(understood("dev tun").unwrap_err().contains("dev tun"));
        assert!(understood("route 10.1.0.0 foo").is_err());
    }
}
