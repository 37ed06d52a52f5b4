//! What a server answers to the management interface, and tells it about its clients.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use culvert_config::{Configuration, Role};
use culvert_mgmt::{ClientEvent, KeyName, KillTarget, Notification, ProxyChoice, Request, reply};
use culvert_offload::{PeerStats, Protocol};
use culvert_proto::{AuthRequest, Authorization, Command};
use culvert_wire::KeyId;
use serde_json::json;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::{
    Server,
    client::{Client, Connected},
    configure::learned_addresses,
    environment,
    push_update::Recipients,
};
use crate::{
    auth::throttle::is_guess,
    clock,
    life::Life,
    management::{Management, Order, Seat, What, kind_word, role_command},
    ovlog,
    scripts::{ScriptEnv, Trust},
    session_task::SessionKey,
    status_file::StatusVersion,
};

/// A server's connection to the hub.
pub(super) struct Interface {
    pub(super) hub: Management,
    pub(super) orders: mpsc::Receiver<Order>,
    /// Bytes received from and sent to clients that are gone.
    earlier: (u64, u64),
    _seat: Seat,
}

impl Interface {
    pub(super) fn new(hub: Management) -> Self {
        let (seat, orders) = hub.seat_server();
        Self { hub, orders, earlier: (0, 0), _seat: seat }
    }
}

/// What the management interface has to do with one client.
#[derive(Debug, Default)]
pub(super) struct Managed {
    /// The number of the next key: each login has its own.
    next_key: u32,
    /// The login that waits for `client-auth` or `client-deny`.
    waiting: Option<(u32, KeyId)>,
    /// It was announced by CONNECT: then its end is, too.
    announced: bool,
    /// It was let in: the next login is a renegotiation.
    accepted: bool,
    /// The options of `client-auth`.
    options: String,
}

impl Managed {
    /// The options that `client-auth` gave this client.
    pub(super) fn options(&self) -> &str {
        &self.options
    }
}

impl Server {
    /// Executes one order; the answer goes to whoever gave it.
    pub(super) fn handle_order(&mut self, order: Order, life: &Life, configuration: &Arc<Configuration>) {
        let text = match order.what {
            What::JsonReload => return self.reload_by_order(life, configuration, order.answer),
            What::Request(request) => self.answer(request),
            What::ClientAuth(key, lines) => self.let_in(key, &lines),
            What::Bytecount => self.bytecount(),
            What::JsonStatus => self.json_status(),
            What::Metrics => self.metrics(),
            What::JsonKill(name) => {
                let killed = self.kill_named(&name);
                json!({ "killed": killed }).to_string()
            }
        };
        // Whoever asked may have left.
        let _gone = order.answer.send(text);
    }

    fn answer(&mut self, request: Request) -> String {
        let is_server = self.profile.role() == Role::Server;
        match request {
            Request::Status(version) => self.status_of(version),
            Request::LoadStats => {
                let (received, sent) = self.bytes();
                let clients = if is_server { self.by_peer.len() } else { 0 };
                format!("SUCCESS: nclients={clients},bytesin={received},bytesout={sent}")
            }
            Request::NClients if is_server => format!("SUCCESS: nclients={}", self.by_peer.len()),
            Request::Kill(target) if is_server => self.kill(target),
            Request::ClientKill { client, message } if is_server => {
                let message = message.unwrap_or_else(|| "RESTART".to_owned());
                reply::outcome("client-kill", self.kill_client(SessionKey(client), message))
            }
            Request::ClientAuthNt(key) if is_server => self.let_in(key, &[]),
            Request::ClientDeny { key, reason, client_reason } if is_server => {
                reply::outcome("client-deny", self.deny(key, &reason, client_reason))
            }
            Request::ClientPendingAuth { key, extra, timeout } if is_server => {
                if self.defer(key, extra, timeout) {
                    "SUCCESS: client-pending-auth command succeeded".to_owned()
                } else {
                    "ERROR: client-pending-auth command failed. Extra parameter might be too long".to_owned()
                }
            }
            Request::PushUpdateBroad(options) if is_server => self.tell_options(Recipients::All, &options),
            Request::PushUpdateCid { client: Some(client), options } if is_server => {
                self.tell_options(Recipients::One(SessionKey(client)), &options)
            }
            Request::PushUpdateCid { client: None, .. } if is_server => {
                "ERROR: cannot parse CID\r\nERROR: push-update-cid fail during cid parsing".to_owned()
            }
            // A waiting end answers as a calling one, which it could be.
            Request::RemoteEntryCount if !is_server => format!("{}\r\nEND", self.profile.connections.len()),
            Request::RemoteEntryGet { .. } if !is_server => "END".to_owned(),
            Request::Remote(_) if !is_server => reply::outcome("remote", false),
            Request::Proxy(choice) if !is_server => {
                reply::outcome("proxy", choice == Some(ProxyChoice::None))
            }
            other => reply::wrong_mode(role_command(&other)),
        }
    }

    fn status_of(&self, version: i64) -> String {
        match self.profile.role() {
            Role::Server => {
                let version = match version {
                    0 => Some(StatusVersion::V1),
                    number => u8::try_from(number).ok().and_then(StatusVersion::from_number),
                };
                let Some(version) = version else {
                    return "ERROR: bad status format version number".to_owned();
                };
                self.server_status().render(version, &self.logger.zone())
            }
            Role::Client | Role::P2p => self.statistics().render(&self.logger.zone()),
        }
        .replace('\n', "\r\n")
    }

    pub(super) fn counters(&self) -> Vec<PeerStats> {
        let mut stats = Vec::new();
        // A device that is gone has counted nothing.
        let _gone = self.offload.stats(None, &mut stats);
        stats
    }

    fn bytes(&self) -> (u64, u64) {
        self.counters().iter().fold(self.interface.earlier, |(received, sent), peer| {
            (received + peer.link.rx_bytes, sent + peer.link.tx_bytes)
        })
    }

    fn bytecount(&self) -> String {
        if self.profile.role() != Role::Server {
            let (received, sent) = self.bytes();
            return Notification::Bytecount { received, sent }.to_string();
        }
        self.counters()
            .iter()
            .filter_map(|peer| {
                let client = self.by_peer.get(&peer.id)?.0;
                let (received, sent) = (peer.link.rx_bytes, peer.link.tx_bytes);
                Some(Notification::BytecountClient { client, received, sent }.to_string())
            })
            .collect()
    }

    fn kill(&mut self, target: Option<KillTarget>) -> String {
        match target {
            None => "ERROR: kill parse".to_owned(),
            Some(KillTarget::CommonName(name)) => match self.kill_named(&name) {
                0 => format!("ERROR: common name '{name}' not found"),
                killed => format!("SUCCESS: common name '{name}' found, {killed} client(s) killed"),
            },
            Some(KillTarget::Address { protocol, ip, port }) => self.kill_address(&protocol, &ip, &port),
        }
    }

    fn kill_named(&mut self, name: &str) -> usize {
        // Also who has not finished to log in.
        self.kill_where(|client| match client.connected() {
            Some(connected) => connected.common_name == name,
            None => !name.is_empty() && client.identity.common_name == name,
        })
    }

    fn kill_address(&mut self, protocol: &str, ip: &str, port: &str) -> String {
        let Ok(ip) = ip.parse::<Ipv4Addr>() else { return format!("ERROR: error parsing IP address: {ip}") };
        let transport = match protocol {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        };
        let (Some(transport), Ok(number @ 1..)) = (transport, port.parse::<u16>()) else {
            return format!("ERROR: port number or protocol out of range: {port} {protocol}");
        };
        let killed = self.kill_where(|client| {
            client.protocol == transport
                && client.remote.port() == number
                && client.remote.ip().to_canonical() == IpAddr::V4(ip)
        });
        // OpenVPN names a server's TCP so.
        let shown = if transport == Protocol::Tcp { "tcp-server" } else { "udp" };
        match killed {
            0 => format!("ERROR: client at address {shown}:{ip}:{number} not found"),
            killed => format!("SUCCESS: {killed} client(s) at address {shown}:{ip}:{number} killed"),
        }
    }

    fn kill_where(&mut self, is_meant: impl Fn(&Client) -> bool) -> usize {
        let meant: Vec<_> =
            self.clients.iter().filter(|(_, client)| is_meant(client)).map(|(&key, _)| key).collect();
        for &key in &meant {
            self.remove(key, "SIGTERM[soft,management-kill] received, client-instance exiting");
        }
        meant.len()
    }

    /// Ends one session with a message to the client (`RESTART`, `HALT`).
    fn kill_client(&mut self, key: SessionKey, message: String) -> bool {
        let Some(client) = self.clients.get(&key) else { return false };
        if client.connected().is_some() {
            client.handle.command(Command::SendMessage(message));
        }
        self.remove(key, "SIGTERM[soft,management-kill] received, client-instance exiting");
        true
    }

    /// Lets whoever is connected decide about a login that everything else accepts.
    pub(super) fn ask_management(&mut self, session: SessionKey, id: KeyId) {
        let Some(client) = self.clients.get_mut(&session) else { return };
        let key = KeyName { client: session.0, key: client.managed.next_key };
        client.managed.next_key += 1;
        client.managed.waiting = Some((key.key, id));
        client.managed.announced = true;
        let event =
            if client.managed.accepted { ClientEvent::Reauth(key) } else { ClientEvent::Connect(key) };
        let mut env = self.hooks.environment();
        env.set_identity(&client.identity)
            .set_peer_address(Trust::Untrusted, client.remote)
            .set_peer_info(&client.peer_info)
            .set("username", &client.username);
        client.login.export(&mut env);
        if let Some(password) = client.password.take() {
            env.set("password", &*password);
        }
        self.tell_client_event(event, &env);
    }

    /// Whether the management interface decides about logins. Then the password is kept until it was asked.
    pub(super) fn keep_for_management(&mut self, session: SessionKey, request: &AuthRequest) {
        if self.profile.management.client_auth
            && let Some(client) = self.clients.get_mut(&session)
        {
            client.password = Some(request.password.clone());
        }
    }

    fn tell_client_event(&self, event: ClientEvent, env: &ScriptEnv) {
        // Of the count OpenVPN tells first.
        let count = ("n_clients".to_owned(), Zeroizing::new(self.by_peer.len().to_string()));
        let env = env.iter().map(|(name, value)| (name.to_owned(), Zeroizing::new(value.to_owned())));
        self.interface
            .hub
            .tell(&Notification::Client { event, env: std::iter::once(count).chain(env).collect() });
    }

    /// The login that waits under this name.
    fn take_waiting(&mut self, key: KeyName) -> Option<(SessionKey, KeyId)> {
        let session = SessionKey(key.client);
        let client = self.clients.get_mut(&session)?;
        let (_, id) = client.managed.waiting.take_if(|(number, _)| *number == key.key)?;
        Some((session, id))
    }

    fn let_in(&mut self, key: KeyName, lines: &[Zeroizing<String>]) -> String {
        let waiting = self.take_waiting(key);
        if let Some((session, id)) = waiting {
            if let Some(client) = self.clients.get_mut(&session) {
                client.managed.accepted = true;
                let lines: Vec<&str> = lines.iter().map(|line| line.as_str()).collect();
                client.managed.options = lines.join("\n");
                self.admission.throttle.succeeded(&client.username, client.remote.ip());
            }
            self.login_decided(session, id, Authorization::Accept);
        }
        reply::outcome("client-auth", waiting.is_some())
    }

    fn deny(&mut self, key: KeyName, reason: &str, client_reason: Option<String>) -> bool {
        let Some((session, id)) = self.take_waiting(key) else { return false };
        if let Some(client) = self.clients.get(&session) {
            let _in = client.span.enter();
            ovlog!(
                1,
                "MULTI: connection rejected: {reason}, CLI:{}",
                client_reason.as_deref().unwrap_or("[NULL]")
            );
            if is_guess(client_reason.as_deref()) {
                self.admission.throttle.failed(&client.username, client.remote.ip(), clock::now().mono);
            }
        }
        self.login_decided(session, id, Authorization::Deny(client_reason));
        true
    }

    /// `client-pending-auth`: the client is told to wait, and for what.
    fn defer(&mut self, key: KeyName, extra: String, timeout: u32) -> bool {
        let session = SessionKey(key.client);
        let waiting = self.clients.get(&session).and_then(|client| client.managed.waiting);
        let Some((_, id)) = waiting.filter(|(number, _)| *number == key.key) else { return false };
        let extra = (!extra.is_empty()).then_some(extra);
        self.tell(session, Command::AuthVerdict(id, Authorization::Pending { timeout, extra }));
        true
    }

    /// The client answered a challenge: tells whoever its login waits for; returns whether it waits.
    pub(super) fn challenge_answered(&self, session: SessionKey, answer: &str) -> bool {
        let Some(client) = self.clients.get(&session) else { return false };
        let Some((number, _)) = client.managed.waiting else { return false };
        let mut env = self.hooks.environment();
        environment::client(&mut env, client, &client.identity.common_name);
        let key = KeyName { client: session.0, key: number };
        self.tell_client_event(ClientEvent::CrResponse(key, answer.to_owned()), &env);
        true
    }

    /// A client is connected.
    pub(super) fn tell_established(&self, session: SessionKey, client: &Client, connected: &Connected) {
        if !self.interface.hub.has_audience() {
            return;
        }
        let mut env = self.hooks.environment();
        environment::client(&mut env, client, &connected.common_name);
        environment::connected(&mut env, &self.profile, connected);
        self.tell_client_event(ClientEvent::Established(session.0), &env);
        self.tell_addresses(session, client, connected, &[]);
    }

    /// A connected client has addresses, or networks behind it, beside those from before.
    pub(super) fn tell_addresses(
        &self,
        session: SessionKey,
        client: &Client,
        connected: &Connected,
        before: &[String],
    ) {
        if !client.managed.announced {
            return;
        }
        let addresses = learned_addresses(&self.profile, &connected.vpn, &connected.iroutes);
        for (index, address) in addresses.into_iter().enumerate().filter(|(_, new)| !before.contains(new)) {
            let primary = index == 0;
            self.interface.hub.tell(&Notification::ClientAddress { client: session.0, address, primary });
        }
    }

    /// A client is gone.
    pub(super) fn tell_disconnected(
        &mut self,
        session: SessionKey,
        client: &Client,
        stats: Option<&PeerStats>,
    ) {
        let link = stats.map(|stats| stats.link).unwrap_or_default();
        self.interface.earlier.0 += link.rx_bytes;
        self.interface.earlier.1 += link.tx_bytes;
        self.interface.hub.tally().data_dropped(stats.map(|stats| stats.drops).unwrap_or_default());
        if !self.interface.hub.has_audience() {
            return;
        }
        let mut env = self.hooks.environment();
        environment::client(&mut env, client, &client.identity.common_name);
        if let Some(connected) = client.connected() {
            environment::client(&mut env, client, &connected.common_name);
            environment::connected(&mut env, &self.profile, connected);
            let lasted = connected.since.elapsed().unwrap_or_default();
            env.set_session_end(lasted, link.rx_bytes, link.tx_bytes);
        }
        let event = ClientEvent::Disconnect(session.0);
        if client.managed.announced {
            self.tell_client_event(event, &env);
        } else if client.connected().is_some() {
            // OpenVPN announces ends of announced clients only; who watches sees all.
            let env =
                env.iter().map(|(name, value)| (name.to_owned(), Zeroizing::new(value.to_owned()))).collect();
            self.interface.hub.tell_watchers(&Notification::Client { event, env });
        }
    }

    /// `push-update-broad` and `push-update-cid`. OpenVPN gives no reasons in its answer; the log has them.
    fn tell_options(&mut self, recipients: Recipients, options: &str) -> String {
        let told = self.push_update(recipients, options).unwrap_or_else(|failure| {
            ovlog!(warn 1, "push-update: nobody was told: {failure}");
            0
        });
        match told {
            0 => "ERROR: no client updated\r\nERROR: push-update command failed".to_owned(),
            told => format!("SUCCESS: {told} client(s) updated\r\nSUCCESS: push-update command succeeded"),
        }
    }

    fn json_status(&self) -> String {
        let status = self.server_status();
        let clients: Vec<_> = status
            .clients
            .iter()
            .map(|row| {
                json!({
                    "id": row.client_id,
                    "common_name": row.common_name,
                    "username": row.username,
                    "address": row.real_address,
                    "ipv4": row.virtual_v4,
                    "ipv6": row.virtual_v6,
                    "bytes_received": row.bytes_received,
                    "bytes_sent": row.bytes_sent,
                    "connected_since": row.connected_since
                        .duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs(),
                    "peer_id": row.peer_id,
                    "cipher": row.cipher,
                })
            })
            .collect();
        let (received, sent) = self.bytes();
        json!({
            "role": if self.profile.role() == Role::Server { "server" } else { "p2p" },
            "title": status.title,
            "offload": {
                "kind": kind_word(self.offload.capabilities().kind),
                "device": self.offload.device().name,
            },
            "bytes_received": received,
            "bytes_sent": sent,
            "clients": clients,
        })
        .to_string()
    }
}
