//! From negotiated parameters to a connected client: addresses, its own options, the peer in the offload, the push.

use std::{
    collections::{BTreeSet, HashSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use culvert_config::{
    ClientOverrides, Role,
    value::{ClientNat, Compression, PingAction, Topology},
};
use culvert_offload::{Framing, Keepalive, NatEnd, NatRule, OffloadError, PeerSpec, Protocol, VpnAddresses};
use culvert_plugin::PluginHook;
use culvert_proto::{Command, NegotiatedParams, options_string};
use culvert_wire::{CipherName, PeerId};
use tokio::time::Instant;
use tracing::{error, warn};

use super::{
    Server,
    admission::{Collected, Declined},
    client::{Client, Connected, Inactivity, Pending, State},
    environment,
    farewell::Farewell,
    push::{self, ClientAddresses},
    up_delay,
};
use crate::{
    bridge, clock, ovlog,
    scripts::Learned,
    session_task::{SessionInput, SessionKey},
    settings::shape::{Form, Framed, Path},
    sizes,
};

impl Server {
    /// Parameters are fixed: leases addresses and collects the client's own options.
    pub(super) fn configure(&mut self, key: SessionKey, params: NegotiatedParams) {
        if self.profile.data.force_tls_export && !params.flags.tls_ekm {
            ovlog!(
                1,
                "PUSH: client does not support TLS Keying Material Exporters but --force-tls-key-material-export is enabled."
            );
            return self.tell(key, Command::Refuse(Some(NO_EXPORTER.to_owned())));
        }
        let Some(client) = self.clients.get(&key) else { return };
        let name = self.common_name(client);
        self.drop_duplicates(key, &name);
        let lease = self.pool.as_mut().and_then(|pool| pool.acquire(&name));
        if self.pool.is_some() && lease.is_none() {
            // A fixed address may still come from the client's own file.
            warn!("MULTI: no free --ifconfig-pool addresses are available");
        }
        let Some(client) = self.clients.get_mut(&key) else { return };
        client.peer_info = Arc::clone(&params.peer_info);
        client.span.rename(&format!("{name}/{}", client.real_address()));
        if let Some(lease) = &lease {
            let shown =
                |address: Option<IpAddr>| address.map_or("(Not enabled)".to_owned(), |a| a.to_string());
            let (v4, v6) = (lease.v4.as_ref().map(|v4| v4.remote.into()), lease.v6.map(Into::into));
            ovlog!(3, "MULTI_sva: pool returned IPv4={}, IPv6={}", shown(v4), shown(v6));
        }
        client.lease = lease;
        let since = clock::wall();
        let exported = params.exported.clone();
        client.state = State::Configuring(Box::new(Pending {
            params,
            common_name: name.clone(),
            own_name: name.clone(),
            overrides: ClientOverrides::default(),
            added: String::new(),
            were_asked: false,
            announced: Vec::new(),
            addresses: ClientAddresses::default(),
            since,
        }));
        if self.profile.role() == Role::P2p {
            let mut env = self.hooks.environment();
            environment::client(&mut env, client, &name);
            return self.admission.judge_keys(key, env, exported);
        }
        let env = || {
            let mut env = self.hooks.environment();
            let pooled = addresses(&self.profile, client, &ClientOverrides::default());
            environment::client(&mut env, client, &name);
            environment::pool(&mut env, &self.profile, &pooled);
            environment::since(&mut env, since);
            // As in OpenVPN: where no plugin waits for it, it stays here.
            if let Some(exported) = exported.filter(|_| self.hooks.plugins.want(PluginHook::TlsFinal)) {
                env.set("exported_keying_material", exported.hex().as_str());
            }
            env
        };
        let managed = client.managed.options().to_owned();
        self.admission.judge_connect((key, client.remote), name.clone(), managed, env);
    }

    /// The name that everything else uses: the common name, or the login where that replaces it.
    fn common_name(&self, client: &Client) -> String {
        let name = if self.profile.server.username_as_common_name && !client.username.is_empty() {
            &client.username
        } else {
            &client.identity.common_name
        };
        if name.is_empty() { "UNDEF".to_owned() } else { name.clone() }
    }

    /// A client that connects again replaces itself: the addresses inside the tunnel are unique in the offload.
    fn drop_duplicates(&mut self, newcomer: SessionKey, name: &str) {
        let one_peer = self.profile.role() == Role::P2p;
        if !one_peer && (self.profile.server.duplicate_cn || name == "UNDEF") {
            return;
        }
        let same: Vec<_> = self
            .clients
            .iter()
            .filter(|(key, client)| {
                **key != newcomer
                    && match &client.state {
                        State::Connected(connected) => one_peer || connected.own_name == name,
                        State::Configuring(pending) => one_peer || pending.own_name == name,
                        State::Handshaking => false,
                    }
            })
            .map(|(&key, _)| key)
            .collect();
        for key in same {
            if !one_peer {
                ovlog!(
                    1,
                    "MULTI: new connection by client '{name}' will cause previous active sessions by this client to be dropped.  Remember to use the --duplicate-cn option if you want multiple clients using the same certificate or username to concurrently connect."
                );
            }
            self.remove(key, "SIGTERM[soft,delayed-exit] received, client-instance exiting");
        }
    }

    /// The client's own options are known: fixes its addresses.
    pub(super) fn collected(&mut self, key: SessionKey, collected: Collected) {
        let Collected { overrides, added, asked } = collected;
        match self.clients.get_mut(&key).map(|client| &mut client.state) {
            Some(State::Configuring(pending)) => pending.were_asked |= asked.is_some(),
            _ => return self.left_while_asked(key, asked),
        }
        let learns = self.tells_addresses();
        if let Some((local, ..)) = overrides.ifconfig_push
            && let Err(reason) = check_constraint(&self.profile, local)
        {
            return self.refuse(key, &format!("ifconfig-push: {reason}"));
        }
        let Some(client) = self.clients.get_mut(&key) else { return };
        if let Some(name) = &overrides.override_username {
            let old = std::mem::replace(&mut client.username, name.clone());
            ovlog!(3, "MULTI: override-username changes the username from '{old}' to '{name}'");
            if self.profile.server.username_as_common_name
                && let State::Configuring(pending) = &mut client.state
            {
                pending.common_name.clone_from(name);
            }
        }
        let addresses = addresses(&self.profile, client, &overrides);
        let State::Configuring(pending) = &mut client.state else { return };
        pending.addresses = addresses;
        pending.overrides = overrides.clone();
        pending.added = added;
        let of_others = if learns { self.names_of_others(key) } else { HashSet::new() };
        // Known first, above: what others lose by it is this one's then.
        self.take_fixed(key, &overrides);
        if self.has_lost_lease(key, &addresses) {
            return self.dismiss(key, "its address from the pool is another client's fixed one by now");
        }
        let Some(client) = self.clients.get_mut(&key) else { return };
        let State::Configuring(pending) = &mut client.state else { return };
        if !learns {
            return self.connect(key);
        }
        let vpn = pending.addresses.vpn();
        let iroutes = iroutes(&self.profile, &pending.overrides, &vpn);
        let change =
            |address: &String| if of_others.contains(address) { Learned::Update } else { Learned::Add };
        let wanted = learned_addresses(&self.profile, &vpn, &iroutes);
        // What was told already, before rules changed.
        let announced = std::mem::take(&mut pending.announced);
        let (kept, gone): (Vec<_>, Vec<_>) =
            announced.into_iter().partition(|address| wanted.contains(address));
        let new = wanted.into_iter().filter(|address| !kept.contains(address));
        let new = new.map(|address| (change(&address), address)).collect::<Vec<_>>();
        let gone = gone.into_iter().filter(|address| !of_others.contains(address));
        let learned = gone.map(|address| (Learned::Delete, address)).chain(new).collect();
        pending.announced = kept;
        let name = pending.common_name.clone();
        let mut env = self.hooks.environment();
        let (given, since) = (pending.addresses, pending.since);
        environment::client(&mut env, client, &name);
        environment::pool(&mut env, &self.profile, &given);
        environment::since(&mut env, since);
        self.admission.judge_addresses(key, learned, name, env);
    }

    /// A client is not connected: its file, a plugin or a program says so. As in OpenVPN, `client-disconnect` follows.
    pub(super) fn declined(&mut self, key: SessionKey, declined: Declined) {
        match self.clients.get_mut(&key).map(|client| &mut client.state) {
            Some(State::Configuring(pending)) => pending.were_asked = true,
            _ => return self.left_while_asked(key, declined.asked),
        }
        self.refuse(key, &declined.reason);
    }

    /// `learn-address` was told a client's addresses, and agreed to all of them or not.
    pub(super) fn addresses_judged(&mut self, key: SessionKey, agreed: bool, mut farewell: Farewell) {
        match self.clients.get_mut(&key).map(|client| &mut client.state) {
            Some(State::Configuring(pending)) => pending.announced.append(&mut farewell.addresses),
            // It left meanwhile.
            _ => return self.say_farewell(key, farewell),
        }
        if agreed {
            self.connect(key);
        } else {
            self.refuse(key, "learn-address refused an address");
        }
    }

    /// The client's own options were read again before it was connected. Addresses and networks that `learn-address` has
    /// not heard of are fixed anew; anything else just holds.
    pub(super) fn collected_anew(&mut self, key: SessionKey, collected: Collected) {
        let Some(client) = self.clients.get(&key) else { return };
        let State::Configuring(pending) = &client.state else { return };
        let given = addresses(&self.profile, client, &collected.overrides);
        let networks = |overrides| iroutes(&self.profile, overrides, &given.vpn());
        let is_same =
            given == pending.addresses && networks(&collected.overrides) == networks(&pending.overrides);
        let reserved = client.reserved.clone();
        if !is_same {
            self.unclaim(key, &reserved);
            return self.collected(key, collected);
        }
        if let Some(State::Configuring(pending)) = self.clients.get_mut(&key).map(|client| &mut client.state)
        {
            pending.overrides = collected.overrides;
        }
        self.connect(key);
    }

    /// Creates the peer in the offload and sends the push reply.
    pub(super) fn connect(&mut self, key: SessionKey) {
        let Some(span) = self.clients.get(&key).map(|client| client.span.clone()) else { return };
        let _in = span.enter();
        if self.refuses_user(key) || self.judges_newcomer_again(key) {
            return;
        }
        if self.by_peer.len() >= self.max_clients() {
            return self.turn_away(key, FULL);
        }
        let Some(cipher) = self.offer_own_ciphers(key) else { return };
        let Some(client) = self.clients.get(&key) else { return };
        let State::Configuring(pending) = &client.state else { return };
        let (framing, migration) = self.framing(pending);
        let wanted = self.peer_spec(client, pending, cipher, framing);
        report_quota(&self.profile, &pending.overrides, &wanted, &pending.common_name);
        let agreed = pending.params.peer_id;
        let Some((spec, slot)) = self.create_peer(key, wanted, agreed) else { return };
        let device = self.offload.device_of(spec.id);
        self.device_changed = self.offload.device() != self.device;
        self.guard.cover(&device);
        if self.device != device && self.profile.role() == Role::Server {
            self.host_routes.follow(&device);
            self.watch_host_routes();
        }
        let routes = self.client_routes.install(&spec, &device);
        let Some(client) = self.clients.get(&key) else { return };
        let State::Configuring(pending) = &client.state else { return };
        let pushed = pending.overrides.push_list(&self.profile.server.push);
        let mut options = pushed.clone();
        options.extend(migration.map(str::to_owned));
        let push = self.push_reply(client, pending, options);
        ovlog!(2, "Data Channel: cipher '{}', peer-id: {}", spec.cipher, spec.id);
        let mut connected = self.connected(pending, &spec, slot, routes);
        connected.pushed = pushed;
        for address in learned_addresses(&self.profile, &spec.vpn, &spec.iroutes) {
            ovlog!(2, "MULTI: Learn: {address} -> {}/{}", connected.common_name, client.real_address());
        }
        self.by_peer.insert(spec.id, key);
        let Some(client) = self.clients.get_mut(&key) else { return };
        client.state = State::Connected(Box::new(connected));
        // Now, not when the push reply is out: until then a newer half-open session of this address would evict it.
        self.settle(key);
        let Some(client) = self.clients.get(&key) else { return };
        let told = client.handle.send(SessionInput::Bound(spec.id))
            && client.handle.command(Command::Configured { peer_id: Some(spec.id), push });
        if !told {
            return self.remove(key, "the session does not take orders any more");
        }
        if !self.host_routes.behind(&spec.vpn).is_empty() {
            self.apply_host_routes();
        }
    }

    /// What the offload has to know of a client. Its id is settled in [`Self::create_peer`].
    fn peer_spec(&self, client: &Client, pending: &Pending, cipher: CipherName, framing: Framed) -> PeerSpec {
        let params = &pending.params;
        let form = self.form(client, params, framing);
        let vpn = pending.addresses.vpn();
        PeerSpec {
            id: params.peer_id.unwrap_or(PeerId::FIRST),
            tx_id: None,
            transport: client.transport,
            remote: client.remote,
            local: client.local,
            vpn,
            iroutes: self.routed_behind(&pending.overrides, &vpn, &pending.common_name),
            keepalive: self.keepalive(&pending.overrides),
            float: self.may_float(),
            shape: form.shape,
            cipher,
            mss: form.mss,
            port: bridge::port(&self.profile, &pending.overrides),
            nat: nat_rules(&self.profile.routes.client_nat),
        }
    }

    /// Creates a client's peer in the offload; returns it with its place among the ids. `None`: the client was sent away.
    /// Between two equal ends the id was agreed upon in the key exchange; a server gives it.
    fn create_peer(
        &mut self,
        key: SessionKey,
        mut spec: PeerSpec,
        agreed: Option<PeerId>,
    ) -> Option<(PeerSpec, PeerId)> {
        let placement = self.offload.placement(&spec);
        let Some(slot) = self.peer_ids.take(placement.first_id) else {
            self.turn_away(key, FULL);
            return None;
        };
        self.take_from_others(key, &spec.vpn, &spec.iroutes);
        spec.id = agreed.unwrap_or(slot);
        if let Err(failure) = self.offload.peer_new(spec.clone()) {
            error!("the offload refused the client: {}", crate::link::describe(&failure));
            self.peer_ids.give_back(slot);
            match failure {
                OffloadError::PeerExists(_) => self.turn_away(key, TAKEN),
                _ => self.refuse(key, "the offload refused it"),
            }
            return None;
        }
        if !placement.because.is_empty() {
            let reasons: Vec<_> = placement.because.iter().map(ToString::to_string).collect();
            ovlog!(1, "offload: engine for this client, because {}", reasons.join(", and because "));
        }
        sizes::test(&*self.offload, spec.id, self.tun_mtu(), &self.profile);
        Some((spec, slot))
    }

    /// What a client is told: options, its addresses, its token. Between two equal ends nothing is pushed.
    fn push_reply(&self, client: &Client, pending: &Pending, options: Vec<String>) -> Vec<String> {
        match self.profile.role() {
            Role::Server => {
                let token = client.login.token_option();
                push::compose(options, &pending.addresses, self.tun_mtu(), &client.peer_info, token)
            }
            Role::Client | Role::P2p => Vec::new(),
        }
    }

    fn connected(
        &self,
        pending: &Pending,
        spec: &PeerSpec,
        slot: PeerId,
        routes: Vec<culvert_host::Route>,
    ) -> Connected {
        let now = Instant::now();
        let limits = &self.profile.keepalive;
        let inactive = pending.overrides.inactive.or(limits.inactive);
        Connected {
            common_name: pending.common_name.clone(),
            own_name: pending.own_name.clone(),
            peer: spec.id,
            slot,
            vpn: spec.vpn,
            addresses: pending.addresses,
            configured: pending.addresses,
            iroutes: spec.iroutes.clone(),
            pushed: Vec::new(),
            untold: Default::default(),
            stations: BTreeSet::new(),
            added: pending.added.clone(),
            spec: spec.clone(),
            routed: Vec::new(),
            routes,
            cipher: spec.cipher,
            since: pending.since,
            started: now,
            ends: pending.overrides.session_timeout.or(limits.session_timeout).map(|after| now + after),
            inactivity: inactive.map(Inactivity::from_now),
        }
    }

    /// The push reply is on its way: the client is there.
    pub(super) fn established(&mut self, key: SessionKey) {
        let Some(client) = self.clients.get(&key) else { return };
        let Some(connected) = client.connected() else { return };
        if let Some(v4) = connected.vpn.v4 {
            let (name, address) = (&connected.common_name, client.real_address());
            ovlog!(1, "MULTI: primary virtual IP for {name}/{address}: {v4}");
        }
        self.interface.hub.tally().connected();
        match self.profile.role() {
            Role::Server => self.tell_established(key, client, connected),
            Role::Client | Role::P2p if up_delay::is_set(&self.profile) => self.up_due = Some(key),
            Role::Client | Role::P2p => self.tell_peer_is_there(key),
        }
    }

    /// The MTU of the tunnel.
    fn tun_mtu(&self) -> u16 {
        self.profile
            .connections
            .first()
            .map_or(1500, |entry| u16::try_from(entry.mtu.tun_mtu).unwrap_or(u16::MAX))
    }

    /// A server's clients may move; a point-to-point peer that is named by `remote` needs `float` for it.
    fn may_float(&self) -> bool {
        let named =
            self.profile.connections.first().is_some_and(|entry| entry.remote.is_some() && !entry.float);
        self.profile.role() == Role::Server || !named
    }

    pub(super) fn keepalive(&self, overrides: &ClientOverrides) -> Option<Keepalive> {
        let own = &self.profile.keepalive;
        let interval = overrides.ping.or(own.ping).unwrap_or_default();
        let timeout = overrides.ping_timeout.or(own.timeout);
        // An instance that times out is dropped, whether `ping-exit` or `ping-restart` says so.
        let timeout = timeout.map(|(after, _action): (_, PingAction)| after).unwrap_or_default();
        (!interval.is_zero() || !timeout.is_zero()).then_some(Keepalive { interval, timeout })
    }

    /// Compression framing with this client, and the option that moves it off compression (`compress migrate`).
    fn framing(&self, pending: &Pending) -> (Framed, Option<&'static str>) {
        let compression = self.profile.data.compression;
        if compression != Compression::Migrate || !options_string::has_comp_lzo(&pending.params.peer_options)
        {
            return (compression.into(), None);
        }
        if pending.params.peer_info.value("IV_COMP_STUBv2") == Some("1") {
            (Framed::stub(Framing::V2), Some("compress stub-v2"))
        } else {
            (Framed::stub(Framing::Lzo), Some("comp-lzo no"))
        }
    }

    fn form(&self, client: &Client, params: &NegotiatedParams, framing: Framed) -> Form {
        let mtu = self.profile.connections.first().map(|entry| entry.mtu).unwrap_or_default();
        let path = Path { tcp: client.protocol == Protocol::Tcp, ipv6: client.remote.is_ipv6() };
        Form::new(&self.profile, &mtu, params, framing, path)
    }
}

/// Why a client shall come again.
const FULL: &str = "the server is full";
const TAKEN: &str = "an address or network of this client is still another's";

/// What a client hears that `force-tls-key-material-export` refuses.
const NO_EXPORTER: &str = "Client incompatible with this server. Keying Material Exporters (RFC 5705) support missing. \
                           Upgrade to a client that supports this feature (OpenVPN 2.6.0+).";

/// `client-nat` in the offload's words.
pub(crate) fn nat_rules(rules: &[ClientNat]) -> Vec<NatRule> {
    let one = |&ClientNat { destination, network, netmask, alias }: &ClientNat| {
        let end = if destination { NatEnd::Destination } else { NatEnd::Source };
        NatRule { end, network, netmask, alias }
    };
    rules.iter().map(one).collect()
}

/// The addresses that a client gets: its own file first, then the pool's.
pub(super) fn addresses(
    profile: &culvert_config::Profile,
    client: &Client,
    overrides: &ClientOverrides,
) -> ClientAddresses {
    if profile.role() == Role::P2p {
        return ClientAddresses::default();
    }
    let device = &profile.device;
    // A TAP device is a subnet, whatever is written.
    let topology = device.topology.filter(|_| !device.tap).unwrap_or(Topology::Subnet);
    let lease = client.lease.as_ref();
    let pooled = || {
        let v4 = lease?.v4.as_ref()?;
        let second = match topology {
            Topology::Subnet => subnet_mask(profile)?,
            Topology::Net30 => v4.local?,
            Topology::P2p => device.ifconfig?.local,
        };
        Some((v4.remote, second))
    };
    let pooled6 = || {
        let address = lease?.v6?;
        let bits = profile.server.pool6?.base.bits;
        Some((address, bits, device.ifconfig_ipv6?.local.address))
    };
    ClientAddresses {
        v4: overrides
            .ifconfig_push
            .map(|(local, second, alias)| (alias.unwrap_or(local), second))
            .or_else(pooled),
        v6: overrides
            .ifconfig_ipv6_push
            .map(|(net, remote)| {
                let server = device.ifconfig_ipv6.map(|own| own.local.address);
                (net.address, net.bits, remote.or(server).unwrap_or(net.address))
            })
            .or_else(pooled6),
    }
}

/// Checks a client's fixed address.
///
/// # Errors
/// A sentence, where `ifconfig-push-constraint` forbids it.
pub(super) fn check_constraint(profile: &culvert_config::Profile, address: Ipv4Addr) -> Result<(), String> {
    match profile.server.push_constraint {
        Some(allowed) if address.to_bits() & allowed.mask().to_bits() != allowed.address.to_bits() => {
            Err(format!("{address} is outside --ifconfig-push-constraint"))
        }
        _ => Ok(()),
    }
}

fn subnet_mask(profile: &culvert_config::Profile) -> Option<Ipv4Addr> {
    profile
        .server
        .pool
        .and_then(|pool| pool.netmask)
        .or_else(|| profile.device.ifconfig.map(|own| own.second))
}

/// The networks behind a client. `max-routes-per-client` counts its own addresses first.
pub(super) fn iroutes(
    profile: &culvert_config::Profile,
    overrides: &ClientOverrides,
    own: &VpnAddresses,
) -> Vec<(IpAddr, u8)> {
    let v4 = overrides.iroutes.iter().map(|net| (IpAddr::V4(net.address), net.bits));
    let v6 = overrides.iroutes6.iter().map(|net| (IpAddr::V6(net.address), net.bits));
    let own = usize::from(own.v4.is_some()) + usize::from(own.v6.is_some());
    let quota = usize::try_from(routes_quota(profile, overrides)).unwrap_or(usize::MAX);
    v4.chain(v6).take(quota.saturating_sub(own)).collect()
}

fn routes_quota(profile: &culvert_config::Profile, overrides: &ClientOverrides) -> u32 {
    overrides.max_routes_per_client.unwrap_or(profile.server.max_routes_per_client)
}

/// Says that a client has more networks behind it than it may.
fn report_quota(profile: &culvert_config::Profile, overrides: &ClientOverrides, spec: &PeerSpec, name: &str) {
    if spec.iroutes.len() < overrides.iroutes.len() + overrides.iroutes6.len() {
        let quota = routes_quota(profile, overrides);
        ovlog!(
            error 1,
            "MULTI ROUTE: route quota ({quota}) exceeded for {name} (see --max-routes-per-client option)"
        );
    }
}

/// A client's addresses and networks, as `learn-address` and the log name them.
///
/// On a TAP device those are Ethernet addresses, and come with the traffic ([`super::stations`]).
pub(super) fn learned_addresses(
    profile: &culvert_config::Profile,
    vpn: &VpnAddresses,
    iroutes: &[(IpAddr, u8)],
) -> Vec<String> {
    if profile.device.tap {
        return Vec::new();
    }
    let own = vpn.v4.map(|a| a.to_string()).into_iter().chain(vpn.v6.map(|a| a.to_string()));
    own.chain(iroutes.iter().map(|(network, bits)| format!("{network}/{bits}"))).collect()
}
