//! Sessions of a server: from the accepted stranger to the removed client.

use std::{net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use culvert_config::Role;
use culvert_mgmt::StateName;
use culvert_offload::{Protocol, TransportSpec};
use culvert_proto::{
    Authorization, CloseReason, Command, Event, Note, PeerMessage, Session, Verdict, endpoint::Accepted,
};
use tokio::net::TcpStream;
use tracing::{debug, error, warn};
use zeroize::Zeroizing;

use super::{
    Server,
    admission::Decision,
    client::{Client, State},
    client_key,
    listeners::{self, AcceptRequest, Limits, ListenerId, ListenerOrder, ListenerReport},
    management::Managed,
    tls_in_force::TlsInForce,
};
use crate::{
    address::{AfAddress, RealAddress},
    clock,
    log::PeerSpan,
    ovlog,
    places::Place,
    random,
    scripts::{ScriptEnv, Trust},
    session_task::{self, Ports, Report, SessionKey},
};

impl Server {
    /// A TCP stream was accepted: it becomes a transport of its own.
    pub(super) fn adopt_stream(&mut self, stream: TcpStream, remote: SocketAddr) {
        let Some(place) = self.strangers.take(remote.ip()) else {
            return debug!("too many connections of strangers; the one from {remote} is closed");
        };
        ovlog!(1, "TCP connection established with {}", AfAddress(remote));
        let stream: OwnedFd = match stream.into_std() {
            Ok(stream) => stream.into(),
            Err(failure) => return warn!("cannot take over the stream from {remote}: {failure}"),
        };
        match self.offload.open_transport(TransportSpec::AdoptTcp { stream, remote }) {
            Ok((transport, receiver, control)) => {
                let port = listeners::Port { same_interface: false, transport, receiver, control };
                self.listen(Protocol::Tcp, port, Some(place));
            }
            Err(failure) => warn!("cannot take over the stream from {remote}: {failure}"),
        }
    }

    /// Starts the task of a transport; a stream has a place among those of strangers.
    pub(super) fn listen(&mut self, protocol: Protocol, port: listeners::Port, place: Option<Place>) {
        let id = ListenerId(self.next_listener);
        self.next_listener += 1;
        let endpoint = self.endpoints.make(protocol);
        let reports = self.outbox.listeners.clone();
        let tally = Arc::clone(self.interface.hub.tally());
        let orders = listeners::spawn(id, protocol, port, place, endpoint, reports, tally);
        self.listeners.insert(id, orders);
    }

    pub(super) fn handle_listener(&mut self, report: ListenerReport) {
        match report {
            ListenerReport::Accept(request) => self.accept(request),
            ListenerReport::Evicted(keys) => {
                for key in keys {
                    self.remove(key, "gave way to a newer session");
                }
            }
            ListenerReport::Ended(id, transport) => {
                self.listeners.remove(&id);
                // Clients first: closing a socket takes its peers out of a kernel, and their counters with them.
                let over: Vec<_> = self
                    .clients
                    .iter()
                    .filter(|(_, client)| client.listener == id)
                    .map(|(&key, _)| key)
                    .collect();
                for key in over {
                    self.remove(key, "SIGUSR1[soft,connection-reset] received, client-instance restarting");
                }
                if let Err(failure) = self.offload.close_transport(transport) {
                    debug!("closing a transport, or closed already with its client: {failure}");
                }
            }
        }
    }

    /// Makes a session for a peer that proved its address, if there is a place.
    fn accept(&mut self, request: AcceptRequest) {
        let AcceptRequest { listener, protocol, transport, control, local, accepted, answer } = request;
        let (remote, endpoint) = (accepted.from, accepted.handle);
        if self.has_no_place(&accepted) {
            let _refused = answer.send(None);
            return;
        }
        if self.profile.role() == Role::P2p {
            // In this order: OpenVPN announces the packet before the handshake that it begins.
            self.interface.hub.set_state(StateName::Auth, "");
            self.interface.hub.set_state(StateName::Wait, "");
        }
        let judged = accepted.metadata.clone().filter(|_| self.admission.key_verify.is_some());
        let key = SessionKey(self.next_session);
        self.next_session += 1;
        self.admission.under_way.begin(key);
        let config = self.configs.pick(protocol);
        let session = Session::accepted(
            config,
            Arc::<TlsInForce>::clone(&self.tls),
            *accepted,
            random::source(),
            clock::now(),
        );
        let span = PeerSpan::new(&RealAddress { address: remote, protocol }.to_string());
        let ports = Ports {
            control,
            local,
            offload: Arc::clone(&self.offload),
            handshakes: Arc::clone(&self.handshakes),
        };
        let owner = self.outbox.reports.clone();
        let handle = match judged {
            None => session_task::spawn(key, session, ports, owner, span.span()),
            Some(metadata) => {
                let gate = self.admission.clone().judge_client_key(key, metadata);
                session_task::spawn_behind(gate, key, session, ports, owner, span.span())
            }
        };
        let client = Client {
            handle: handle.clone(),
            listener,
            endpoint,
            transport,
            protocol,
            remote,
            local,
            identity: Default::default(),
            username: String::new(),
            login: Default::default(),
            password: None,
            managed: Managed::default(),
            peer_info: Default::default(),
            span,
            lease: None,
            reserved: Vec::new(),
            last_stats: None,
            rules: self.rules,
            is_settled: false,
            state: State::Handshaking,
        };
        self.clients.insert(key, client);
        if answer.send(Some(handle)).is_err() {
            self.remove(key, "its listener is gone");
        }
    }

    /// Whether a peer that proved its address is refused; the log says why.
    fn has_no_place(&self, accepted: &Accepted) -> bool {
        let remote = accepted.from;
        if self.sealed {
            ovlog!(1, "--single-session: {} is refused, there was a session already", AfAddress(remote));
        } else if self.has_all_sessions() || self.is_full_for(remote) {
            warn!(
                "MULTI: new incoming connection would exceed maximum number of clients ({})",
                self.max_clients()
            );
        } else if let Err(problem) = client_key::check_age(accepted, self.profile.tls.tls_crypt_v2_max_age) {
            warn!("ERROR: {problem} (from {remote})");
        } else {
            return false;
        }
        true
    }

    /// Whether there are as many sessions as there may be: connected clients, and those on their way (SEC-CTL-5). Those of
    /// strangers over TCP have a bound of their own (SEC-CTL-11): they keep nobody out who comes over UDP.
    fn has_all_sessions(&self) -> bool {
        let most = self.max_clients() + Limits::of(&self.profile).max_half_open;
        self.clients.len() >= most
            && self.clients.values().filter(|client| !client.is_stranger_over_tcp()).count() >= most
    }

    /// Whether all places are taken and this is not the address of a client that may be coming back.
    fn is_full_for(&self, remote: SocketAddr) -> bool {
        self.by_peer.len() >= self.max_clients()
            && !self
                .clients
                .values()
                .any(|client| client.connected().is_some() && client.remote.ip() == remote.ip())
    }

    pub(super) fn max_clients(&self) -> usize {
        usize::try_from(self.profile.server.max_clients).unwrap_or(usize::MAX)
    }

    pub(super) fn handle_report(&mut self, report: Report) {
        let key = report.session;
        let Some(client) = self.clients.get_mut(&key) else { return };
        let span = client.span.clone();
        let _in = span.enter();
        match report.event {
            Event::Started(from, sid) => {
                ovlog!(1, "TLS: Initial packet from {}, sid={}", AfAddress(from), sid.0);
            }
            Event::VerifyPeer { key: id, identity, tls } => {
                for line in &identity.log {
                    ovlog!(1, "{line}");
                }
                ovlog!(2, "Control Channel: {tls}");
                let env = || Self::environment(&self.admission, client, &identity);
                self.admission.judge_peer(key, id, &identity, env);
                client.identity = identity;
            }
            Event::Authenticate(request) => self.authenticate(key, request),
            Event::Configure(params) => self.configure(key, params),
            Event::Established => self.established(key),
            Event::Renegotiated(_) | Event::OptionsRequested | Event::PushReply(_) | Event::Key(_) => {}
            Event::Message(message) => self.handle_message(key, message),
            Event::Note(note) => log_note(&note),
            Event::Closed(reason) => self.closed(key, &reason),
        }
    }

    /// What scripts see of a client that has not logged in yet.
    pub(super) fn environment(
        admission: &super::Admission,
        client: &Client,
        identity: &culvert_proto::tls::PeerIdentity,
    ) -> ScriptEnv {
        let mut env = admission.hooks.environment();
        env.set_identity(identity).set_peer_address(Trust::Untrusted, client.remote);
        env
    }

    pub(super) fn handle_decision(&mut self, decision: Decision) {
        match decision {
            Decision::Peer(key, id, verdict) => {
                if verdict == Verdict::Accept {
                    self.certified(key);
                }
                self.tell(key, Command::PeerVerdict(id, verdict));
            }
            Decision::Login(key, id, Authorization::Accept) if self.profile.management.client_auth => {
                self.ask_management(key, id);
            }
            Decision::Login(key, id, authorization) | Decision::Token(key, id, authorization) => {
                self.login_decided(key, id, authorization);
            }
            Decision::Connect(key, Ok(collected)) => self.collected(key, *collected),
            Decision::Connect(key, Err(declined)) => self.declined(key, declined),
            Decision::Again(key, collected) => self.collected_again(key, collected),
            Decision::Looked(look) => self.looked(&look),
            Decision::Withdrawn(key, reason) => self.dismiss(key, &reason),
            Decision::Judged(round) => self.round_judged(round),
            Decision::Newcomer(key, standing, collected) => self.newcomer_judged(key, standing, collected),
            Decision::Routes(seen) => self.host_routes_seen(*seen),
            Decision::Users(outcome) => self.users_seen(outcome),
            Decision::Learned(key, agreed, farewell) => self.addresses_judged(key, agreed, *farewell),
            Decision::Station(key, station, allowed) => self.station_judged(key, station, allowed),
        }
    }

    /// A client showed a good certificate: it may take its time to log in, and gives way to no stranger.
    fn certified(&mut self, key: SessionKey) {
        if self.clients.get(&key).is_some_and(|client| !client.identity.chain.is_empty()) {
            self.settle(key);
        }
    }

    /// From here on a client gives way to no half-open session: its listener hears it once.
    pub(super) fn settle(&mut self, key: SessionKey) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        if !std::mem::replace(&mut client.is_settled, true)
            && let Some(orders) = self.listeners.get(&client.listener)
        {
            let _gone = orders.send(ListenerOrder::Established(client.endpoint));
        }
    }

    pub(super) fn refuse(&mut self, key: SessionKey, reason: &str) {
        if let Some(client) = self.clients.get(&key) {
            let _in = client.span.enter();
            ovlog!(error 1, "MULTI: client has been rejected: {reason}");
        }
        self.tell(key, Command::Refuse(None));
    }

    /// Sends a command; a session that cannot take it is over.
    pub(super) fn tell(&mut self, key: SessionKey, command: Command) {
        if let Some(client) = self.clients.get(&key)
            && !client.handle.command(command)
        {
            self.remove(key, "the session does not take orders any more");
        }
    }

    fn handle_message(&mut self, key: SessionKey, message: PeerMessage) {
        match message {
            PeerMessage::Exit => {
                self.remove(key, "SIGTERM[soft,remote-exit] received, client-instance exiting")
            }
            PeerMessage::ChallengeResponse(response) => {
                let response = Zeroizing::new(response);
                // Both: a renegotiation may be judged while the login before it still waits.
                let by_judges = self.admission.answer_challenge(key, &response);
                let by_management = self.challenge_answered(key, &response);
                if !by_judges && !by_management {
                    debug!("a challenge response that nobody asked for");
                }
            }
            other => debug!("a message that a server does not expect: {other:?}"),
        }
    }

    fn closed(&mut self, key: SessionKey, reason: &CloseReason) {
        if self.clients.get(&key).is_some_and(|client| client.connected().is_none()) {
            self.interface.hub.tally().failed(reason);
        }
        let word = match reason {
            CloseReason::HandshakeTimeout => {
                let window = self.profile.session.hand_window.as_secs();
                ovlog!(
                    error 1,
                    "TLS Error: TLS key negotiation failed to occur within {window} seconds (check your network connectivity)"
                );
                ovlog!(error 1, "TLS Error: TLS handshake failed");
                "tls-error"
            }
            CloseReason::Tls(text) => {
                crate::log::log_error_lines(text);
                ovlog!(error 1, "TLS Error: TLS handshake failed");
                "tls-error"
            }
            CloseReason::Protocol(text) => {
                error!("{text}");
                "tls-error"
            }
            CloseReason::Denied(text) => {
                ovlog!(1, "refused: {text}");
                "auth-control-exit"
            }
            CloseReason::NoCommonCipher => "no-cipher",
            CloseReason::PeerExit => "remote-exit",
            other => {
                debug!("session closed: {other:?}");
                "connection-reset"
            }
        };
        self.remove(key, &format!("SIGTERM[soft,{word}] received, client-instance exiting"));
    }

    /// The one end of a client: gives back everything that it held, in the reverse order of its making.
    pub(super) fn remove(&mut self, key: SessionKey, why: &str) {
        let Some(client) = self.clients.remove(&key) else { return };
        self.admission.under_way.end(key);
        let _in = client.span.enter();
        ovlog!(2, "{why}");
        if let Some(orders) = self.listeners.get(&client.listener) {
            let _gone = orders.send(ListenerOrder::Forget(client.endpoint));
        }
        client.handle.revoke();
        let stats = match &client.state {
            State::Connected(connected) => self.disconnect(key, &client, connected),
            State::Configuring(pending) => {
                self.run_early_disconnect_hooks(key, &client, pending);
                None
            }
            State::Handshaking => {
                self.hooks.plugins.forget(key.0);
                None
            }
        };
        self.tell_disconnected(key, &client, stats.as_ref());
        if let Some(pool) = &mut self.pool {
            if let Some(lease) = &client.lease {
                pool.release(lease.id);
            }
            for &address in &client.reserved {
                pool.unreserve(address);
            }
        }
        if client.protocol == Protocol::Tcp {
            self.listeners.remove(&client.listener);
            if let Err(failure) = self.offload.close_transport(client.transport) {
                debug!("closing a transport: {failure}");
            }
        }
    }

    /// Gives back what a connected client held; its scripts run on their own.
    fn disconnect(
        &mut self,
        key: SessionKey,
        client: &Client,
        connected: &super::client::Connected,
    ) -> Option<culvert_offload::PeerStats> {
        let mut stats = Vec::new();
        if self.offload.stats(Some(connected.peer), &mut stats).is_err() {
            stats.extend(client.last_stats.as_deref()); // it ended by itself
        }
        self.client_routes.remove(&connected.routes);
        if let Err(failure) = self.offload.peer_del(connected.peer) {
            debug!("removing peer {}: {failure}", connected.peer);
        }
        self.by_peer.remove(&connected.peer);
        self.peer_ids.give_back(connected.slot);
        self.run_disconnect_hooks(key, client, connected, stats.first());
        stats.into_iter().next()
    }
}

/// Writes a note of a session into the log.
pub(crate) fn log_note(note: &Note) {
    match note {
        Note::Line(0 | 1, text) => ovlog!(1, "{text}"),
        Note::Line(2, text) => ovlog!(2, "{text}"),
        Note::Line(3, text) => ovlog!(3, "{text}"),
        Note::Line(4, text) => ovlog!(4, "{text}"),
        Note::Line(_, text) => ovlog!(7, "{text}"),
        Note::Dropped(reason) => debug!("dropped a packet: {reason}"),
    }
}
