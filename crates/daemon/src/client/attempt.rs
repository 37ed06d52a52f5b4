//! One attempt: resolve, open the transport, start a session.

use std::{future::poll_fn, net::SocketAddr, os::fd::OwnedFd, pin::pin, sync::Arc, time::Duration};

use culvert_config::profile::{Bind, ConnectionEntry, MssFix, ResolvRetry};
use culvert_mgmt::StateName;
use culvert_offload::{
    ControlBatch, ControlReceiver, ControlSender, Offload, TransportId, TransportSpec, UdpOptions,
};
use culvert_proto::Session;
use tokio::{sync::mpsc, time::Instant};
use tracing::{debug, warn};

use super::{
    Advance, Client, Outcome, Restart,
    kill_switch::keeps_addresses,
    proxy::{Association, NoWay, first_hop},
};
use crate::{
    address::AfAddress,
    clock,
    exit::Ended,
    life::Life,
    link, offload, ovlog, random,
    session_task::{self, Ports, Report, SessionHandle, SessionInput, SessionKey},
    settings::{session::session_config, wrapping},
    signals::{Request, Signals},
};

/// A session with its transport, while it lasts.
pub(super) struct Link {
    pub(super) remote: SocketAddr,
    /// The relay of a SOCKS proxy that packets go through.
    pub(super) association: Option<Association>,
    pub(super) transport: TransportId,
    pub(super) session: SessionHandle,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) started: Instant,
}

impl Link {
    /// Where packets go outside of the tunnel: to a relay, else to the server.
    pub(super) fn outside(&self) -> SocketAddr {
        self.association.as_ref().map_or(self.remote, |association| association.relay)
    }

    /// Bytes of a relay's header that a clamped MSS has to leave room for.
    pub(super) fn relay_header(&self, entry: &ConnectionEntry) -> u16 {
        let counts = self.association.is_some() && !matches!(entry.mtu.mssfix, MssFix::Fixed(_));
        if counts { RELAY_HEADER } else { 0 }
    }
}

/// A transport that is open.
struct Opened {
    transport: TransportId,
    receiver: Box<dyn ControlReceiver>,
    control: Arc<dyn ControlSender>,
    association: Option<Association>,
}

/// The header of a datagram to an IPv4 address ([`culvert_wire::socks::V4_HEADER_LEN`]).
const RELAY_HEADER: u16 = 10;

/// How long to wait between two tries to resolve a name.
const RESOLVE_PAUSE: Duration = Duration::from_secs(5);
/// What OpenVPN says besides of a name that it was told to look up once, before it gives up altogether.
const NO_RETRY: &str =
    "(I would have retried this name query if you had specified the --resolv-retry option.)";

impl Client {
    /// Makes one attempt, from the name of the remote to the end of its session.
    pub(super) async fn attempt(&mut self, life: &mut Life, signals: &mut Signals) -> Outcome {
        let Some(mut entry) = self.profile.connections.get(self.remotes.current()).cloned() else {
            return Outcome::Ended(Ended::Fatal("there is no remote to connect to".to_owned()));
        };
        if let Err(ended) = self.ask_login(signals).await {
            return Outcome::Ended(ended);
        }
        if let Err(outcome) = self.ask_remote(&mut entry, signals).await {
            return outcome;
        }
        let hop = first_hop(&entry);
        if self.first_hop != hop {
            // What was resolved before is another host's.
            self.remotes.resolved(Vec::new());
            self.first_hop = hop;
        }
        let remote = match self.remotes.address() {
            Some(remote) => remote,
            None => {
                let guarded = &mut life.kill_switch;
                let asks = self.asks_resolver();
                guarded.iter_mut().for_each(|guarded| guarded.set_resolving(asks));
                let resolved = self.resolve(&entry, signals).await;
                guarded.iter_mut().for_each(|guarded| guarded.set_resolving(false));
                match resolved {
                    Ok(remote) => remote,
                    Err(outcome) => return outcome,
                }
            }
        };
        ovlog!(1, "TCP/UDP: Preserving recently used remote address: {}", AfAddress(remote));
        let offload = match self.open_device(life) {
            Ok(offload) => offload,
            Err(failure) => return Outcome::Ended(Ended::Fatal(failure)),
        };
        // A relay is not known yet.
        if entry.proto.transport.is_tcp() || entry.proxy.is_none() {
            self.follow_network(remote).await;
        }
        let opened = match self.open_transport(&*offload, &entry, remote, signals).await {
            Ok(opened) => opened,
            Err(outcome) => return outcome,
        };
        let transport = opened.transport;
        if let Some(association) = &opened.association {
            self.follow_network(association.relay).await;
        }
        life.ready();
        let started = match self.start_session(&offload, &entry, remote, opened) {
            Ok(started) => started,
            Err(failure) => return Outcome::Ended(Ended::Fatal(failure)),
        };
        self.management.set_state(StateName::Wait, "");
        self.desk.session_began(started.session.clone(), &offload);
        if self.login.forget_used() {
            life.secrets.login = None;
        }
        let outcome = self.drive(life, signals, &entry, started, &offload).await;
        self.desk.session_ended();
        if let Err(failure) = offload.close_transport(transport) {
            debug!("closing the transport: {failure}");
        }
        outcome
    }

    /// Whether the next hop's name is to be looked up: it is one, and what it means is not kept.
    fn asks_resolver(&self) -> bool {
        let Some((host, port)) = &self.first_hop else { return false };
        let is_kept = |port| self.kept_addresses.contains_key(&(host.clone(), port));
        host.parse::<std::net::IpAddr>().is_err() && !link::port_number(port).is_ok_and(is_kept)
    }

    /// With `remote-random-hostname` a name gets random digits in front, so that no cache knows it.
    fn looked_up_as(&self, host: String) -> String {
        if !self.profile.link.remote_random_hostname || host.parse::<std::net::IpAddr>().is_ok() {
            return host;
        }
        let mut bytes = [0; 6];
        random::fill(&mut bytes);
        let digits = bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        format!("{digits}.{host}")
    }

    async fn resolve(
        &mut self,
        entry: &ConnectionEntry,
        signals: &mut Signals,
    ) -> Result<SocketAddr, Outcome> {
        let fatal = |text: &str| Outcome::Ended(Ended::Fatal(text.to_owned()));
        let (host, port) = self.first_hop.clone().ok_or_else(|| fatal("a TLS client without `remote` has nobody to call\nhint: add `remote HOST`, or write `tls-server`"))?;
        let port = link::port_number(&port).map_err(|failure| fatal(&failure))?;
        let give_up = match self.profile.link.resolv_retry {
            ResolvRetry::Infinite => None,
            ResolvRetry::For(limit) => Some(Instant::now() + limit),
        };
        let several = self.profile.connections.len() > 1;
        let kept_as = (host.clone(), port);
        if let Some(kept) = self.kept_addresses.get(&kept_as) {
            self.remotes.resolved(kept.clone());
            return self.remotes.address().ok_or_else(|| fatal("a kept address is gone"));
        }
        if host.parse::<std::net::IpAddr>().is_err() {
            self.management.set_state(StateName::Resolve, "");
        }
        let host = self.looked_up_as(host);
        loop {
            let resolving = link::resolve(&host, port, entry.proto.family);
            match self.unless_signalled(resolving, signals).await.map_err(Outcome::by_signal)? {
                Ok(addresses) => {
                    let first = addresses.first().copied();
                    if self.profile.link.persist_remote_ip || keeps_addresses(&self.profile) {
                        self.kept_addresses.insert(kept_as.clone(), addresses.clone());
                    }
                    self.remotes.resolved(addresses);
                    return first.ok_or_else(|| Outcome::Restart(Restart::because("init_instance")));
                }
                Err(failure) if self.profile.link.resolv_retry == ResolvRetry::For(Duration::ZERO) => {
                    return Err(fatal(&format!("{failure}{NO_RETRY}")));
                }
                Err(failure) => ovlog!(error 1, "{failure}"),
            }
            if several || give_up.is_some_and(|limit| Instant::now() >= limit) {
                let advance = Advance::Remote;
                return Err(Outcome::Restart(Restart { advance, ..Restart::because("init_instance") }));
            }
            tokio::select! {
                () = tokio::time::sleep(RESOLVE_PAUSE) => {}
                request = signals.next() => match request {
                    Request::SoftRestart | Request::Statistics => {}
                    request => return Err(Outcome::Ended(Ended::by_signal(request))),
                },
            }
        }
    }

    /// The device of this life; it stays over attempts with `persist-tun`.
    fn open_device(&mut self, life: &Life) -> Result<Arc<dyn Offload>, String> {
        if let Some(offload) = &self.offload {
            return Ok(Arc::clone(offload));
        }
        let offload = offload::open(&self.profile, life.threads)?;
        self.offload = Some(Arc::clone(&offload));
        Ok(offload)
    }

    async fn open_transport(
        &mut self,
        offload: &dyn Offload,
        entry: &ConnectionEntry,
        remote: SocketAddr,
        signals: &mut Signals,
    ) -> Result<Opened, Outcome> {
        let logger = self.logger.clone();
        let opening = self.try_transport(offload, entry, remote);
        let mut opening = pin!(opening);
        let opened = loop {
            tokio::select! {
                opened = &mut opening => break opened,
                request = signals.next() => match request {
                    Request::Statistics => super::log_statistics(Some(offload), &logger),
                    request => return Err(Outcome::by_signal(request)),
                },
            }
        };
        opened.map_err(|NoWay { reason, text }| {
            ovlog!(error 1, "{text}");
            Outcome::Restart(Restart::because(reason))
        })
    }

    async fn try_transport(
        &mut self,
        offload: &dyn Offload,
        entry: &ConnectionEntry,
        remote: SocketAddr,
    ) -> Result<Opened, NoWay> {
        let failed = |text| NoWay { reason: "connection-failed", text };
        let local = self.local_address(entry, remote).await.map_err(failed)?;
        let family = if remote.is_ipv4() { 4 } else { 6 };
        let mut association = None;
        let spec = if entry.proto.transport.is_tcp() {
            self.management.set_state(StateName::TcpConnect, "");
            let stream = self.open_stream(entry, remote, local).await?;
            let stream: OwnedFd = stream
                .into_std()
                .map_err(|failure| failed(format!("cannot take over the stream: {failure}")))?
                .into();
            TransportSpec::AdoptTcp { stream, remote }
        } else {
            association = self.associate(entry).await?;
            TransportSpec::BindUdp {
                local: local.unwrap_or_else(|| link::unspecified_like(remote, 0)),
                // Not connected: a connected socket keeps its source address when this machine's changes, and hears
                // no server that answers from another address (`float`). The session checks who speaks.
                remote: None,
                options: UdpOptions {
                    socks_relay: association.as_ref().map(|association| association.relay),
                    ..link::udp_options(&self.profile, entry)
                },
            }
        };
        let word = if entry.proto.transport.is_tcp() {
            format!("TCPv{family}_CLIENT")
        } else {
            format!("UDPv{family}")
        };
        match local {
            Some(local) => ovlog!(1, "{word} link local (bound): {}", AfAddress(local)),
            None => ovlog!(1, "{word} link local: (not bound)"),
        }
        ovlog!(1, "{word} link remote: {}", AfAddress(remote));
        let (transport, receiver, control) =
            offload.open_transport(spec).map_err(|failure| failed(link::describe(&failure)))?;
        Ok(Opened { transport, receiver, control, association })
    }

    /// Where to bind: `local` and `lport`; `None` with `nobind`.
    async fn local_address(
        &self,
        entry: &ConnectionEntry,
        remote: SocketAddr,
    ) -> Result<Option<SocketAddr>, String> {
        if entry.bind == Bind::NoBind {
            return Ok(None);
        }
        let host = entry.locals.first().and_then(|local| local.host.as_deref());
        let Some(port) = &entry.local_port else { return Ok(None) };
        let family = if remote.is_ipv4() {
            culvert_config::value::Family::V4
        } else {
            culvert_config::value::Family::V6
        };
        link::local_address(host, port, family).await.map(Some)
    }

    fn start_session(
        &self,
        offload: &Arc<dyn Offload>,
        entry: &ConnectionEntry,
        remote: SocketAddr,
        opened: Opened,
    ) -> Result<Link, String> {
        let Opened { transport, receiver, control, association } = opened;
        let config = Arc::new(session_config(&self.profile, entry, offload.capabilities(), 0));
        let wrapping = wrapping::client(&self.profile, entry).map_err(|failure| failure.to_string())?;
        let tls = Arc::clone(&self.tls);
        let credentials = self.login.credentials().cloned();
        let session =
            Session::client(config, tls, wrapping, remote, credentials, random::source(), clock::now());
        let (owner, reports) = mpsc::channel(64);
        let ports = Ports {
            control,
            local: None,
            offload: Arc::clone(offload),
            handshakes: Arc::clone(&self.handshakes),
        };
        let handle = session_task::spawn(SessionKey(0), session, ports, owner, tracing::Span::none());
        tokio::spawn(pump(receiver, handle.clone()));
        Ok(Link { remote, association, transport, session: handle, reports, started: Instant::now() })
    }
}

/// Carries control packets to the session; ends with either.
async fn pump(mut receiver: Box<dyn ControlReceiver>, session: SessionHandle) {
    let mut batch = ControlBatch::default();
    loop {
        tokio::select! {
            read = poll_fn(|cx| receiver.poll_recv(cx, &mut batch)) => {
                if let Err(failure) = read {
                    warn!("control port failed: {failure}");
                    break;
                }
                if batch.packets.is_empty() {
                    break;
                }
                for packet in batch.packets.drain(..) {
                    if !session.send(SessionInput::Packet(packet)) {
                        debug!("the session cannot keep up with its control packets; one was dropped");
                    }
                }
            }
            () = session.closed() => return,
        }
    }
    session.send(SessionInput::TransportEnded);
}
