//! One attempt: resolve, open the transport, start a session.

use std::{future::poll_fn, net::SocketAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use culvert_config::{
    profile::{Bind, ConnectionEntry, MssFix, ResolvRetry},
    value::Family,
};
use culvert_mgmt::StateName;
use culvert_offload::{
    ControlBatch, ControlReceiver, ControlSender, Offload, SocksRelay, TransportId, TransportSpec, UdpOptions,
};
use culvert_proto::Session;
use culvert_wire::socks::{V4_HEADER_LEN, V6_HEADER_LEN};
use tokio::{sync::mpsc, time::Instant};
use tracing::{debug, warn};

use super::{
    Client, LookedUp, Outcome, Restart,
    kill_switch::{Guarded, Lookup, keeps_addresses, resolve_outside},
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
    /// When its way to the server was begun with.
    pub(super) began: Instant,
}

impl Link {
    /// Where packets go outside of the tunnel: to a relay, else to the server.
    pub(super) fn outside(&self) -> SocketAddr {
        self.association.as_ref().map_or(self.remote, |association| association.relay)
    }

    /// Bytes of a relay's header that a clamped MSS has to leave room for.
    pub(super) fn relay_header(&self, entry: &ConnectionEntry) -> u16 {
        let counts = self.association.is_some() && !matches!(entry.mtu.mssfix, MssFix::Fixed(_));
        if counts { relay_header(self.remote) } else { 0 }
    }
}

/// A transport that is open.
struct Opened {
    transport: TransportId,
    receiver: Box<dyn ControlReceiver>,
    control: Arc<dyn ControlSender>,
    association: Option<Association>,
}

/// Bytes of the header of a datagram through a relay.
fn relay_header(remote: SocketAddr) -> u16 {
    let len = if remote.is_ipv4() { V4_HEADER_LEN } else { V6_HEADER_LEN };
    u16::try_from(len).unwrap_or(0)
}

/// Whether datagrams go through a SOCKS proxy.
fn through_relay(entry: &ConnectionEntry) -> bool {
    entry.proxy.is_some() && !entry.proto.transport.is_tcp()
}

/// Which addresses of the next hop may be used: only those that an address of `local` reaches. What stands behind a relay
/// is no matter of this machine's.
fn server_family(entry: &ConnectionEntry) -> Family {
    if through_relay(entry) {
        return Family::Any;
    }
    let bound = entry.locals.first().filter(|_| entry.bind != Bind::NoBind);
    bound.map_or(entry.proto.family, |local| local.proto.family)
}

/// What OpenVPN says besides of a name that it was told to look up once, before it gives up altogether.
const NO_RETRY: &str =
    "(I would have retried this name query if you had specified the --resolv-retry option.)";

/// What the restart is called when there is no address to connect to.
const UNRESOLVED: &str = "Could not determine IPv4/IPv6 protocol";

/// How often one attempt tries to resolve a name. The attempts themselves are what goes on without end.
fn tries(retry: ResolvRetry) -> u64 {
    match retry {
        ResolvRetry::Infinite => 1,
        ResolvRetry::For(limit) => limit.as_secs().div_ceil(link::RESOLVE_PAUSE.as_secs()).max(1),
    }
}

impl Client {
    /// Makes one attempt, from the name of the remote to the end of its session.
    pub(super) async fn attempt(&mut self, life: &mut Life, signals: &mut Signals) -> Outcome {
        life.kill_switch.iter_mut().for_each(Guarded::renew);
        let Some(mut entry) = self.profile.connections.get(self.remotes.current()).cloned() else {
            return Outcome::Ended(Ended::Fatal("there is no remote to connect to".to_owned()));
        };
        if let Err(outcome) = self.ask_login(signals).await {
            return outcome;
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
            None => match self.resolve(&entry, life.kill_switch.as_mut(), signals).await {
                Ok(remote) => remote,
                Err(outcome) => return outcome,
            },
        };
        ovlog!(1, "TCP/UDP: Preserving recently used remote address: {}", AfAddress(remote));
        let offload = match self.open_device(life) {
            Ok(offload) => offload,
            Err(failure) => return Outcome::Ended(Ended::Fatal(failure)),
        };
        // `connect-timeout` counts from here on, whatever the way to the server takes.
        let mut began = Instant::now();
        let association = match self.prepare_way(life, &offload, &entry, remote, signals).await {
            Ok(association) => association,
            Err(outcome) => return outcome,
        };
        if self.comes_up_first() {
            // The peer had none of the time that `up` and names of routes took.
            began = Instant::now();
        }
        let guarded = life.kill_switch.as_mut();
        let opened = self.open_transport(&*offload, &entry, remote, (association, guarded), signals);
        let opened = match opened.await {
            Ok(opened) => opened,
            Err(outcome) => return outcome,
        };
        let transport = opened.transport;
        if self.comes_up_first()
            && let Err(ended) = self.drop_privileges(life).await
        {
            return Outcome::Ended(ended);
        }
        life.ready();
        let started = match self.start_session(&offload, &entry, remote, opened, began) {
            Ok(started) => started,
            Err(failure) => return Outcome::Ended(Ended::Fatal(failure)),
        };
        self.management.set_state(StateName::Wait, "");
        self.desk.session_began(started.session.clone(), &offload);
        let outcome = self.drive(life, signals, &entry, started, &offload).await;
        self.desk.session_ended();
        if let Err(failure) = offload.close_transport(transport) {
            debug!("closing the transport: {failure}");
        }
        outcome
    }

    /// With `remote-random-hostname` a name gets random digits in front, so that no cache knows it.
    fn looked_up_as(&self, host: String) -> String {
        if !self.profile.link.remote_random_hostname {
            return host;
        }
        if host.parse::<std::net::IpAddr>().is_ok() {
            ovlog!(warn 1, "WARNING: ignoring --remote-random-hostname because the hostname is an IP address");
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
        mut guarded: Option<&mut Guarded>,
        signals: &mut Signals,
    ) -> Result<SocketAddr, Outcome> {
        let fatal = |text: &str| Outcome::Ended(Ended::Fatal(text.to_owned()));
        let (host, port) = self.first_hop.clone().ok_or_else(|| fatal("a TLS client without `remote` has nobody to call\nhint: add `remote HOST`, or write `tls-server`"))?;
        let port = link::port_number(&port).map_err(|failure| fatal(&failure))?;
        let retry = self.profile.link.resolv_retry;
        let mut tries = tries(retry);
        let family = server_family(entry);
        let kept_as = (host.clone(), port, family);
        if let Some(kept) = self.kept_addresses.get(&kept_as) {
            self.remotes.resolved(kept.clone());
            return self.remotes.address().ok_or_else(|| fatal("a kept address is gone"));
        }
        if host.parse::<std::net::IpAddr>().is_err() {
            self.management.set_state(StateName::Resolve, "");
        }
        let host = self.looked_up_as(host);
        loop {
            let resolving = resolve_outside(guarded.as_deref_mut(), &host, port, family);
            match self.unless_signalled(resolving, signals).await.map_err(Outcome::by_signal)? {
                Ok(mut addresses) => {
                    if through_relay(entry) {
                        addresses.sort_by_key(SocketAddr::is_ipv6); // IPv4 is what every relay speaks
                    }
                    let first = addresses.first().copied();
                    self.keep_addresses(&kept_as, &addresses);
                    self.remotes.resolved(addresses);
                    return first.ok_or_else(|| Outcome::Restart(Restart::because(UNRESOLVED)));
                }
                Err(failure) if retry == ResolvRetry::For(Duration::ZERO) => {
                    return Err(fatal(&format!("{failure}{NO_RETRY}")));
                }
                Err(failure) => ovlog!(error 1, "{failure}"),
            }
            tries -= 1;
            if tries == 0 {
                return Err(Outcome::Restart(Restart::because(UNRESOLVED)));
            }
            tokio::select! {
                () = tokio::time::sleep(link::RESOLVE_PAUSE) => {}
                request = signals.next() => match request {
                    Request::SoftRestart | Request::Statistics => {}
                    request => return Err(Outcome::Ended(Ended::by_signal(request))),
                },
            }
        }
    }

    /// Keeps what a name means, where it is to be kept.
    pub(super) fn keep_addresses(&mut self, name: &LookedUp, addresses: &[SocketAddr]) {
        if self.profile.link.persist_remote_ip || keeps_addresses(&self.profile) {
            self.kept_addresses.insert(name.clone(), addresses.to_vec());
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

    /// What has to be there before the server is called: the relay of a SOCKS proxy, a way to it or to the server beside a
    /// tunnel that stands, and a tunnel that comes up first.
    async fn prepare_way(
        &mut self,
        life: &mut Life,
        offload: &Arc<dyn Offload>,
        entry: &ConnectionEntry,
        remote: SocketAddr,
        signals: &mut Signals,
    ) -> Result<Option<Association>, Outcome> {
        let association = match through_relay(entry) {
            true => self.associate(entry, life.kill_switch.as_mut(), signals).await?,
            false => None,
        };
        // A relay may be of another address family than the server.
        let outside = association.as_ref().map_or(remote, |association| association.relay);
        self.follow_network(outside).await;
        self.come_up_first(life, offload, outside).await.map_err(Outcome::Ended)?;
        Ok(association)
    }

    async fn open_transport(
        &mut self,
        offload: &dyn Offload,
        entry: &ConnectionEntry,
        remote: SocketAddr,
        (association, guarded): (Option<Association>, Option<&mut Guarded>),
        signals: &mut Signals,
    ) -> Result<Opened, Outcome> {
        let logger = self.logger.clone();
        let opening = self.try_transport(offload, entry, remote, association, guarded);
        let opened = signals.unless_any(opening, || super::log_statistics(Some(offload), &logger));
        opened.await.map_err(Outcome::by_signal)?.map_err(Outcome::of)
    }

    async fn try_transport(
        &mut self,
        offload: &dyn Offload,
        entry: &ConnectionEntry,
        remote: SocketAddr,
        association: Option<Association>,
        guarded: Option<&mut Guarded>,
    ) -> Result<Opened, NoWay> {
        let failed = |text| NoWay::Failed { reason: "connection-failed", text };
        let is_tcp = entry.proto.transport.is_tcp();
        let outside = association.as_ref().map_or(remote, |association| association.relay);
        let local = self.local_address(entry, outside, guarded).await.map_err(failed)?;
        let family = if outside.is_ipv4() { 4 } else { 6 };
        let spec = if is_tcp {
            self.management.set_state(StateName::TcpConnect, "");
            let stream = self.open_stream(entry, remote, local).await?;
            let stream: OwnedFd = stream
                .into_std()
                .map_err(|failure| failed(format!("cannot take over the stream: {failure}")))?
                .into();
            TransportSpec::AdoptTcp { stream, remote }
        } else {
            TransportSpec::BindUdp {
                local: local.unwrap_or_else(|| link::unspecified_like(outside, 0)),
                // Not connected: a connected socket keeps its source address when this machine's changes, and hears
                // no server that answers from another address (`float`). The session checks who speaks.
                remote: None,
                options: UdpOptions {
                    socks_relay: association
                        .as_ref()
                        .map(|association| SocksRelay { at: association.relay, server: remote }),
                    ..link::udp_options(&self.profile, entry)
                },
            }
        };
        let (transport, receiver, control) =
            offload.open_transport(spec).map_err(|failure| failed(link::describe(&failure)))?;
        let word = if is_tcp { format!("TCPv{family}_CLIENT") } else { format!("UDPv{family}") };
        match local {
            Some(local) => ovlog!(1, "{word} link local (bound): {}", AfAddress(local)),
            None => ovlog!(1, "{word} link local: (not bound)"),
        }
        ovlog!(1, "{word} link remote: {}", AfAddress(remote));
        Ok(Opened { transport, receiver, control, association })
    }

    /// Where to bind: `local` and `lport`; `None` with `nobind`.
    async fn local_address(
        &self,
        entry: &ConnectionEntry,
        outside: SocketAddr,
        guarded: Option<&mut Guarded>,
    ) -> Result<Option<SocketAddr>, String> {
        if entry.bind == Bind::NoBind {
            return Ok(None);
        }
        let host = entry.locals.first().and_then(|local| local.host.as_deref());
        let Some(port) = &entry.local_port else { return Ok(None) };
        let family = if outside.is_ipv4() { Family::V4 } else { Family::V6 };
        let _open = host.map(|host| Lookup::of(host, guarded));
        link::local_address(host, port, family).await.map(Some)
    }

    fn start_session(
        &self,
        offload: &Arc<dyn Offload>,
        entry: &ConnectionEntry,
        remote: SocketAddr,
        opened: Opened,
        began: Instant,
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
        Ok(Link { remote, association, transport, session: handle, reports, began })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_leave_room_for_the_header_that_a_relay_wants() {
        let servers = ["192.0.2.1:9", "[2001:db8::1]:9"].map(|server| server.parse().unwrap());
        assert_eq!(servers.map(relay_header), [10, 22]);
    }
}
