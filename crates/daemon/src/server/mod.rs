//! The server task: owns what clients share (addresses, peer ids, limits) and every client's state.
//!
//! The walk of a client: a [`listeners`] task answers the stranger; once its address is proven the server makes a
//! [`client::Client`] and a session task ([`sessions`]); scripts judge certificate and login ([`admission`]); then its
//! configuration is collected, addresses are leased, the peer is created in the offload and the push reply goes out
//! ([`configure`]). One end: [`Server::remove`].
//!
//! A point-to-point end that waits for its peer (TLS server) is a server with one client, without pool and push.

mod admission;
mod ciphers;
mod client;
mod client_key;
pub(crate) mod configure;
mod environment;
mod farewell;
mod host_routes;
mod judges;
pub(crate) mod listeners;
mod login;
mod management;
mod owners;
mod peer_ids;
mod port_share;
mod push;
mod push_update;
mod reading;
mod refusals;
mod reload;
mod revocation;
mod routes;
pub(crate) mod sessions;
mod share;
mod sockets;
mod start;
mod stations;
mod status;
mod tls_in_force;
mod turned_away;
mod under_way;
mod up_delay;
mod users;
mod watch;

use std::{collections::HashMap, future::poll_fn, net::SocketAddr, sync::Arc, time::Duration};

use culvert_config::{Configuration, Profile, Role};
use culvert_offload::{DeleteReason, Device, Offload, OffloadEvent, PeerChange, TransportId};
use culvert_proto::{Command, Event, Session, SessionConfig, tls::Expiries};
use culvert_wire::PeerId;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};
use tracing::warn;

use crate::{
    auth::tokens::Tokens,
    exit::Ended,
    firewall::Guard,
    handshakes::Handshakes,
    hooks::Hooks,
    life::Life,
    log::Logger,
    ovlog,
    places::Places,
    pool::Pool,
    session_task::{Report, SessionKey},
    signals::{Request, Signals},
    sizes,
    status_file::StatusFile,
    usage,
};
use admission::{Admission, Decision};
use client::Client;
use host_routes::HostRoutes;
use listeners::{ListenerId, ListenerReport, Orders};
use management::Interface;
use peer_ids::PeerIds;
use port_share::PortShare;
use reading::Reloads;
use revocation::Rules;
use routes::ClientRoutes;
use tls_in_force::TlsInForce;
use watch::Watch;

pub(crate) use start::{Standing, run};

/// Messages of sessions that may wait for the server. Sessions wait when it is full.
const REPORTS: usize = 256;

/// How a server ends whose device vanished.
pub(crate) const DEVICE_GONE: Ended = Ended::Soft(Request::SoftRestart, "device-gone");

/// How often limits are looked at.
const TICK: Duration = usage::INTERVAL;

struct Server {
    profile: Arc<Profile>,
    hooks: Arc<Hooks>,
    offload: Arc<dyn Offload>,
    tls: Arc<TlsInForce>,
    /// When what it rests on ends, as of the last look.
    expiries: Expiries,
    handshakes: Arc<Handshakes<Session>>,
    /// For peers over UDP and over TCP.
    configs: Configs,
    admission: Admission,
    /// `auth-gen-token`.
    tokens: Option<Arc<Tokens>>,
    clients: HashMap<SessionKey, Client>,
    by_peer: HashMap<PeerId, SessionKey>,
    peer_ids: PeerIds,
    /// `max-clients` of the start, for which tables and device have room.
    most_clients: u32,
    pool: Option<Pool>,
    listeners: HashMap<ListenerId, Orders>,
    /// Streams of strangers (SEC-CTL-11): a net that has many keeps nobody out.
    strangers: Arc<Places>,
    acceptors: Vec<JoinHandle<()>>,
    endpoints: start::EndpointFactory,
    next_session: u64,
    next_listener: u64,
    /// Routes of the machine to clients and their networks.
    client_routes: ClientRoutes,
    /// Networks that somebody routes to clients of the engine.
    host_routes: HostRoutes,
    /// Keeps clients apart where the machine forwards their packets.
    guard: Guard,
    /// The offload's device as the tunnel was made of it.
    device: Device,
    /// `single-session`: the one session was there, and nobody else is let in.
    sealed: bool,
    /// The one peer is carried by another device.
    device_changed: bool,
    /// The one peer is there, for which the tunnel waited (`up-delay`).
    up_due: Option<SessionKey>,
    /// The device vanished: a new one is needed.
    device_lost: bool,
    /// UDP sockets that were opened.
    bound: Vec<TransportId>,
    /// Notices when files take back what they granted.
    watch: Watch,
    /// What is let in by now.
    rules: Rules,
    /// Other configurations that are on their way.
    reloads: Reloads,
    /// When learned addresses are looked at for stale ones next (`stale-routes-check`).
    stations_due: Instant,
    /// Hooks that are hearing of the end of clients.
    farewells: JoinSet<()>,
    status: Option<Arc<StatusFile>>,
    /// `ifconfig-pool-persist`.
    pool_file: Option<Arc<StatusFile>>,
    logger: Logger,
    inbox: Inbox,
    outbox: Outbox,
    interface: Interface,
}

/// The configuration of sessions, by what runs below.
struct Configs {
    udp: Vec<Arc<SessionConfig>>,
    tcp: Vec<Arc<SessionConfig>>,
}

/// Where tasks tell the server what happened.
struct Inbox {
    reports: mpsc::Receiver<Report>,
    listeners: mpsc::Receiver<ListenerReport>,
    decisions: mpsc::Receiver<Decision>,
    streams: mpsc::Receiver<(TcpStream, SocketAddr)>,
}

/// The other ends of [`Inbox`], for new tasks.
struct Outbox {
    reports: mpsc::Sender<Report>,
    listeners: mpsc::Sender<ListenerReport>,
    streams: mpsc::Sender<(TcpStream, SocketAddr)>,
}

impl Server {
    /// Serves until a signal ends it.
    async fn serve(
        &mut self,
        life: &mut Life,
        signals: &mut Signals,
        standing: &mut Standing,
        configuration: &Arc<Configuration>,
    ) -> Ended {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut status_due = Instant::now();
        let pool_interval = self.profile.server.pool_persist.as_ref().map(|persist| persist.interval);
        let mut pool_due = Instant::now();
        loop {
            if std::mem::take(&mut self.device_changed) {
                self.device = self.offload.device();
                if let Err(failure) = standing.follow_device(&self.profile).await {
                    return Ended::Fatal(failure);
                }
            }
            if let Some(key) = self.up_due.take()
                && let Err(failure) = self.come_up(life, standing, key).await
            {
                return Ended::Fatal(failure);
            }
            let offload = Arc::clone(&self.offload);
            tokio::select! {
                Some(report) = self.inbox.reports.recv() => self.handle_report(report),
                Some(report) = self.inbox.listeners.recv() => self.handle_listener(report),
                Some(decision) = self.inbox.decisions.recv() => self.handle_decision(decision),
                Some(order) = self.interface.orders.recv() => {
                    self.handle_order(order, life, configuration);
                }
                read = self.reloads.read() => self.reload(read, life, standing, configuration),
                Some((stream, remote)) = self.inbox.streams.recv() => self.adopt_stream(stream, remote),
                event = poll_fn(move |cx| offload.poll_event(cx)) => match event {
                    Some(OffloadEvent::DeviceGone) | None => return self.lost_device(),
                    Some(event) => self.handle_offload(event),
                },
                request = signals.next() => match request {
                    Request::Statistics => self.log_status(),
                    Request::Restart if self.profile.role() == Role::Server => {
                        self.reload_by_signal(life, configuration);
                    }
                    request => return Ended::by_signal(request),
                },
                now = tick.tick() => {
                    if let Some(reason) = self.enforce_limits(now) {
                        return Ended::Soft(Request::Terminate, reason);
                    }
                    self.renew_tokens();
                    self.watch_host_routes();
                    self.watch_for_withdrawals();
                    self.expire_stations(now);
                    if usage::is_limited(&self.profile) {
                        self.report_usage();
                    }
                    let status_interval = self.profile.log.status.as_ref().map(|status| status.interval);
                    if let Some(every) = status_interval && !every.is_zero() && now >= status_due {
                        status_due = now + every;
                        self.write_status();
                    }
                    if let Some(every) = pool_interval && now >= pool_due {
                        pool_due = now + every;
                        self.write_pool();
                    }
                }
            }
        }
    }

    fn handle_offload(&mut self, event: OffloadEvent) {
        let of = |peer: &PeerId| self.by_peer.get(peer).copied();
        match event {
            OffloadEvent::PeerGone(peer, reason, last) => {
                let Some(key) = of(&peer) else { return };
                if self.offload.stats(Some(peer), &mut Vec::new()).is_ok() {
                    // Its client was removed before this was read, and the id is another's already.
                    return;
                }
                let why = match reason {
                    DeleteReason::Expired => {
                        ovlog!(1, "Inactivity timeout (--ping-restart), restarting");
                        "SIGUSR1[soft,ping-restart] received, client-instance restarting"
                    }
                    // Also when somebody else removed it: what is not in the data plane is not connected.
                    _ => {
                        ovlog!(1, "Connection reset, restarting [0]");
                        "SIGUSR1[soft,connection-reset] received, client-instance restarting"
                    }
                };
                if let Some(client) = self.clients.get_mut(&key) {
                    client.last_stats = last;
                }
                self.remove(key, why);
            }
            OffloadEvent::ExitNotified(peer) => {
                if let Some(key) = of(&peer) {
                    self.remove(key, "SIGTERM[soft,remote-exit] received, client-instance exiting");
                }
            }
            OffloadEvent::KeyExhausted(peer, _key) => {
                if let Some(client) = of(&peer).and_then(|key| self.clients.get(&key)) {
                    client.handle.command(Command::Renegotiate);
                }
            }
            OffloadEvent::Floated(peer, address) => {
                // The event may be older than the peer that has this id now.
                let mut stats = Vec::new();
                let is_there = self.offload.stats(Some(peer), &mut stats).is_ok()
                    && stats.first().is_some_and(|now| now.remote == address);
                if let Some(key) = of(&peer).filter(|_| is_there) {
                    self.floated(key, address);
                }
            }
            OffloadEvent::Learned { peer, station, moved } => self.learned(peer, station, moved),
            OffloadEvent::Forgotten(peer, station) => self.forgotten(peer, station),
            OffloadEvent::PathMtu(peer, _) | OffloadEvent::SizesMeasured(peer, _) => {
                let Some(client) = of(&peer).and_then(|key| self.clients.get(&key)) else { return };
                let _in = client.span.enter();
                let mtu = self.profile.connections.first().map(|entry| entry.mtu).unwrap_or_default();
                sizes::log(&event, &mtu);
            }
            OffloadEvent::DeviceGone => {} // ends the loop
        }
    }

    /// The device was removed, or its module: packet ids went with it, so everybody negotiates anew.
    fn lost_device(&mut self) -> Ended {
        ovlog!(error 1, "the tunnel device is gone: it is made anew, and all clients are told to connect again");
        self.device_lost = true;
        DEVICE_GONE
    }

    /// A peer sends from a new address, proven by authenticated data: control packets follow it.
    fn floated(&mut self, key: SessionKey, address: SocketAddr) {
        let taken = self
            .clients
            .iter()
            .any(|(other, client)| *other != key && client.remote == address && client.connected().is_some());
        let Some(client) = self.clients.get_mut(&key) else { return };
        if taken {
            // The kernel follows every packet that authenticates: it is set back.
            ovlog!(warn 1, "Disallow float to an address taken by another client {address}");
            let back = PeerChange { remote: Some(client.remote), ..PeerChange::default() };
            if let Some(connected) = client.connected()
                && let Err(failure) = self.offload.peer_set(connected.peer, &back)
            {
                tracing::debug!("setting peer {} back: {failure}", connected.peer);
            }
            return;
        }
        let old = std::mem::replace(&mut client.remote, address);
        let _in = client.span.enter();
        ovlog!(1, "Float requested for peer {} to {address}", client.connected().map_or(0, |c| c.peer.get()));
        client.handle.command(Command::Floated(address));
        if let Some(orders) = self.listeners.get(&client.listener) {
            let _gone = orders.send(listeners::ListenerOrder::Moved(client.endpoint, address));
        }
        let name = client.connected().map(|connected| connected.common_name.clone()).unwrap_or_default();
        client.span.rename(&format!("{name}/{}", client.real_address()));
        tracing::debug!("moved from {old}");
    }

    /// `session-timeout` and `inactive`. Returns why the process ends: one of two ends has nothing else to do.
    fn enforce_limits(&mut self, now: Instant) -> Option<&'static str> {
        let mut over = Vec::new();
        let mut stats = Vec::new();
        for (&key, client) in &mut self.clients {
            let client::State::Connected(connected) = &mut client.state else { continue };
            if connected.ends.is_some_and(|ends| now >= ends) {
                over.push((key, "session-timeout"));
            }
            if let Some(inactivity) = &mut connected.inactivity
                && now >= inactivity.due
            {
                stats.clear();
                let counted = match self.offload.stats(Some(connected.peer), &mut stats) {
                    Ok(()) => stats.first().map_or(0, |s| s.tunnel.rx_bytes + s.tunnel.tx_bytes),
                    Err(_gone) => continue,
                };
                if counted - inactivity.counted.min(counted) < inactivity.bytes.max(1) {
                    over.push((key, "inactive"));
                }
                inactivity.counted = counted;
                inactivity.due = now + inactivity.period;
            }
        }
        if self.profile.role() == Role::P2p {
            let reason = over.first().map(|&(_, reason)| reason)?;
            let what =
                if reason == "inactive" { "Inactivity timeout (--inactive)" } else { "Session timeout" };
            ovlog!(1, "{what}, exiting");
            return Some(reason);
        }
        for (key, reason) in over {
            if let Some(client) = self.clients.get(&key) {
                client.handle.command(Command::SendMessage("RESTART".to_owned()));
            }
            self.remove(key, &format!("SIGTERM[soft,{reason}] received, client-instance exiting"));
        }
        None
    }

    /// Tells sessions what their keys carried.
    fn report_usage(&self) {
        let mut stats = Vec::new();
        if self.offload.stats(None, &mut stats).is_err() {
            return; // the device is gone: its event says so
        }
        for peer in &stats {
            if let Some(client) = self.by_peer.get(&peer.id).and_then(|key| self.clients.get(key)) {
                client.handle.command(usage::report(peer));
            }
        }
    }

    /// Tells clients that the server leaves, where it was asked to, and gives the packets time to go.
    async fn say_goodbye(&mut self) {
        let Some(entry) = self.profile.connections.first() else { return };
        let message = match (self.profile.role(), entry.explicit_exit_notify) {
            (_, 0) if !self.device_lost => return,
            // One of two equal ends takes no orders to restart; that the other leaves makes it call again.
            (Role::P2p, _) => "EXIT",
            (_, 0 | 1) => "RESTART",
            _ => "RESTART,[N]",
        };
        // Nobody new from here on: a client that heard us comes back at once, and must find our successor.
        self.listeners.clear();
        let told = self
            .clients
            .values()
            .filter(|client| client.connected().is_some())
            .filter(|client| client.handle.command(Command::SendMessage(message.to_owned())))
            .count();
        if told == 0 {
            return;
        }
        let end = Instant::now() + GOODBYE;
        // Sessions wait for whoever takes their reports; they must not wait now.
        while let Ok(Some(report)) = timeout_at(end, self.inbox.reports.recv()).await {
            if let (Event::Note(note), Some(client)) = (report.event, self.clients.get(&report.session)) {
                let _in = client.span.enter();
                sessions::log_note(&note);
            }
        }
    }

    /// Ends everything, clients first are told; then the caller closes the tunnel.
    async fn shut_down(&mut self, why: &str) {
        // Waited for, so that the next life finds the listening addresses free.
        for acceptor in self.acceptors.drain(..) {
            acceptor.abort();
            let _cancelled = acceptor.await;
        }
        for orders in self.listeners.values() {
            let _gone = orders.send(listeners::ListenerOrder::Leave);
        }
        self.say_goodbye().await;
        for key in self.clients.keys().copied().collect::<Vec<_>>() {
            self.remove(key, why);
        }
        self.finish_farewells().await;
    }
}

/// How long clients are given to hear that the server leaves.
const GOODBYE: Duration = Duration::from_secs(2);

/// Accepts TCP connections and hands them to the server, or to the one that shares the port.
fn accept_streams(
    listener: TcpListener,
    streams: mpsc::Sender<(TcpStream, SocketAddr)>,
    share: Option<PortShare>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, remote)) if let Some(share) = &share => {
                    share.sort(stream, remote, streams.clone());
                }
                Ok(accepted) => {
                    if streams.send(accepted).await.is_err() {
                        return;
                    }
                }
                // Out of descriptors, most likely (SEC-CTL-11): pause instead of spinning.
                Err(failure) => {
                    warn!("TCP: accept failed: {failure}; pausing");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    })
}
