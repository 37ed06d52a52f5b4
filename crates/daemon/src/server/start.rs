//! The life of a server from its device to its end.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use culvert_config::{
    Configuration, Profile, Role,
    profile::{ConnectionEntry, Multihome},
    value::{Family, Transport},
};
use culvert_mgmt::StateName;
use culvert_offload::{Offload, Protocol, TransportSpec};
use culvert_proto::{
    SessionConfig,
    endpoint::{Endpoint, EndpointConfig},
    tls::{TlsFactory, TlsRole},
    wrap::ReplayLimits,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    Admission, ClientRoutes, Configs, HostRoutes, Inbox, Interface, Outbox, PeerIds, REPORTS, Reloads,
    Server, accept_streams, judges,
    listeners::{Limits, Port as ListenerPort},
    port_share::PortShare,
    revocation::Rules,
    sockets,
    tls_in_force::TlsInForce,
    up_delay,
    watch::Watch,
};
use crate::{
    address::AfAddress,
    exit::Ended,
    firewall::Guard,
    hooks::Hooks,
    life::Life,
    link, offload, ovlog,
    places::{Places, WhenFull},
    pool::{Pool, PoolConfig},
    random,
    settings::{session::session_config, tls::make_factory, wrapping},
    signals::{Request, Signals},
    tunnel::{Completion, Tunnel, TunnelRequest, TunnelSpec},
};

/// TCP streams of strangers at a time (SEC-CTL-11): without a client that connected or showed a good certificate.
const STRANGERS: usize = 1024;

/// Where nobody has more than others, a stream that is older gives way. Not any stream: where a large site comes back at
/// once, those whose handshakes wait would put each other out.
const STRANGER_IS_OLD: Duration = Duration::from_secs(10);

/// Runs a server, or a point-to-point end that waits for its peer.
pub(crate) async fn run(life: &mut Life, signals: &mut Signals, configuration: &Arc<Configuration>) -> Ended {
    // What can be wrong with keys is found out before the machine is changed. They stay over SIGUSR1: by then, the rights
    // to read them may be gone.
    if life.tls.is_none() {
        match make_factory(life, TlsRole::Server, signals).await {
            Ok(tls) => life.tls = Some(Arc::new(tls)),
            Err(ended) => return ended,
        }
    }
    let peer = match sockets::peer_family(&life.profile, signals).await {
        Ok(family) => family,
        Err(ended) => {
            // After SIGUSR1 the next life takes it over.
            if ended != Ended::Signal(Request::SoftRestart)
                && let Some(standing) = life.kept_tunnel.take()
            {
                standing.down(&ended.script_word()).await;
            }
            return ended;
        }
    };
    let kept = life.kept_tunnel.take();
    match start(life, kept, peer).await {
        Ok((mut server, mut standing)) => {
            let ended = server.serve(life, signals, &mut standing, configuration).await;
            server.give_up_reload(&ended);
            server.shut_down("SIGTERM[soft,] received, client-instance exiting").await;
            server.save_pool();
            server.close_transports();
            let soft =
                matches!(ended, Ended::Signal(Request::SoftRestart) | Ended::Soft(Request::SoftRestart, _));
            let stands = !server.device_lost;
            drop(server);
            if soft && stands && life.profile.device.is_kept() {
                life.kept_tunnel = Some(standing);
            } else {
                standing.down(&ended.script_word()).await;
            }
            ended
        }
        Err(failure) => Ended::Fatal(failure),
    }
}

/// A device and what was made of it: it stays over SIGUSR1 with `persist-tun`.
pub(crate) struct Standing {
    pub(super) offload: Arc<dyn Offload>,
    pub(super) hooks: Arc<Hooks>,
    /// `None` while it is made anew, and with `up-delay` before there is a peer.
    pub(super) tunnel: Option<Raised>,
    pub(super) completion: Completion,
}

impl Standing {
    pub(super) async fn raise(
        profile: &Profile,
        hooks: &Arc<Hooks>,
        offload: Arc<dyn Offload>,
    ) -> Result<Self, String> {
        let (tunnel, completion) = Tunnel::up(TunnelRequest {
            hooks: Arc::clone(hooks),
            offload: Arc::clone(&offload),
            spec: TunnelSpec::from_profile(profile).on(&*offload, profile),
            dns_updown: profile.routes.dns_updown.clone(),
            remote: None,
            keeper: None,
            env: hooks.environment(),
        })
        .await
        .map_err(|failure| failure.to_string())?;
        Ok(Self {
            offload,
            hooks: Arc::clone(hooks),
            tunnel: Some(Raised::Idle(Box::new(tunnel))),
            completion,
        })
    }

    async fn down(self, signal: &str) {
        let Self { offload, tunnel, .. } = self;
        if let Some(tunnel) = tunnel
            && let Some(tunnel) = tunnel.idle().await
        {
            tunnel.down(signal, async { drop(offload) }).await;
        }
    }

    /// Routes of the server's own configuration changed: the machine gets them, what others have is left alone. In a task
    /// of its own, after a change that may still be under way: names are looked up, and `route-up` may take its time.
    pub(super) fn follow_routes(&mut self, profile: &Profile) -> RoutesChanged {
        let (done, changed) = oneshot::channel();
        let Some(tunnel) = self.tunnel.take() else {
            let _waited_for = done.send(Ok(Completion::Complete));
            return changed;
        };
        let spec = TunnelSpec::from_profile(profile).on(&*self.offload, profile);
        let device = self.offload.device();
        let dns_updown = profile.routes.dns_updown.clone();
        let changing = async move {
            let mut tunnel = tunnel.idle().await?;
            let changed = tunnel.change(&spec, &device.name, &dns_updown, None).await;
            let _waited_for = done.send(changed.map_err(|failure| failure.to_string()));
            Some(tunnel)
        };
        self.tunnel = Some(Raised::Changing(tokio::spawn(changing)));
        changed
    }

    /// The offload has another device now: everything that was made of the former one is made of it.
    pub(super) async fn follow_device(&mut self, profile: &Profile) -> Result<(), String> {
        let Some(tunnel) = self.tunnel.take() else { return Ok(()) }; // nothing was made of it
        if let Some(tunnel) = tunnel.idle().await {
            tunnel.down("restart", std::future::ready(())).await;
        }
        *self = Self::raise(profile, &self.hooks, Arc::clone(&self.offload)).await?;
        Ok(())
    }
}

/// A tunnel that stands.
pub(super) enum Raised {
    Idle(Box<Tunnel>),
    /// Its routes are being changed.
    Changing(JoinHandle<Option<Box<Tunnel>>>),
}

impl Raised {
    /// Waits until nothing is being changed. `None`: changing it has panicked; what is left of it is taken back at the
    /// next start.
    async fn idle(self) -> Option<Box<Tunnel>> {
        match self {
            Self::Idle(tunnel) => Some(tunnel),
            Self::Changing(task) => task.await.ok().flatten(),
        }
    }
}

/// Tells when routes are what they are to be.
pub(super) type RoutesChanged = oneshot::Receiver<Result<Completion, String>>;

/// Device, addresses, sockets, privileges: in this order. `peer`: see [`sockets::peer_family`].
async fn start(life: &mut Life, kept: Option<Standing>, peer: Family) -> Result<(Server, Standing), String> {
    let profile = Arc::clone(&life.profile);
    let hooks = Hooks::new(&profile, life.management.clone());
    let plugins = life.plugins(&hooks.environment()).await?;
    judges::check(&profile, &plugins)?;
    let hooks = Arc::new(hooks.with_plugins(plugins));
    let entry = profile.connections.first().ok_or("internal error: a server without a connection")?;
    let again = kept.is_some();
    let standing = match kept {
        Some(standing) => {
            ovlog!(1, "Preserving previous TUN/TAP instance: {}", standing.offload.device().name);
            standing
        }
        None => bring_up(life, &hooks).await?,
    };
    let opened = async {
        let tls = life.tls.clone().ok_or("internal error: a server without keys")?;
        let endpoints = EndpointFactory::new(&profile, entry).map_err(|failure| failure.to_string())?;
        let mut server = Server::new(life, &profile, hooks, Arc::clone(&standing.offload), tls, endpoints)?;
        server.bind_patiently(entry, peer, if life.is_later { BIND_TRIES } else { 1 }).await?;
        if standing.tunnel.is_some() {
            life.drop_privileges()?;
        }
        Ok(server)
    };
    let server = match opened.await {
        Ok(server) => server,
        Err(failure) => {
            standing.down("UNKNOWN").await;
            if !again {
                return Err(failure);
            }
            // The offload still holds the former sockets: a new device, then.
            return Box::pin(start(life, None, peer)).await;
        }
    };
    life.ready();
    if profile.role() == Role::Server {
        let detail = match standing.completion {
            Completion::Complete => "SUCCESS",
            Completion::WithErrors => "ROUTE_ERROR",
        };
        let addresses = TunnelSpec::from_profile(&profile).addresses();
        life.management.set_state_at(StateName::Connected, detail, addresses);
        life.completed(standing.completion == Completion::Complete);
    }
    Ok((server, standing))
}

/// How often a socket is bound anew after SIGUSR1 or SIGHUP.
const BIND_TRIES: u32 = 10;
const BIND_PAUSE: Duration = Duration::from_millis(100);

async fn bring_up(life: &Life, hooks: &Arc<Hooks>) -> Result<Standing, String> {
    let profile = &life.profile;
    let offload = offload::open(profile, life.threads)?;
    if up_delay::is_set(profile) {
        return Ok(Standing::waiting(hooks, offload));
    }
    Standing::raise(profile, hooks, offload).await
}

impl Server {
    fn new(
        life: &mut Life,
        profile: &Arc<Profile>,
        hooks: Arc<Hooks>,
        offload: Arc<dyn Offload>,
        tls: Arc<dyn TlsFactory>,
        endpoints: EndpointFactory,
    ) -> Result<Self, String> {
        let (reports, reports_inbox) = mpsc::channel(REPORTS);
        let (listeners, listeners_inbox) = mpsc::channel(REPORTS);
        let (decisions, decisions_inbox) = mpsc::channel(REPORTS);
        let (streams, streams_inbox) = mpsc::channel(16);
        let server = &profile.server;
        let admission = Admission::new(profile, Arc::clone(&hooks), decisions, &mut life.logins);
        let pool = make_pool(profile)?;
        let client_routes = ClientRoutes::new(profile, &*offload);
        Ok(Self {
            client_routes,
            host_routes: HostRoutes::of(profile, &*offload),
            guard: Guard::of_server(profile, &*offload),
            device: offload.device(),
            sealed: false,
            device_changed: false,
            up_due: None,
            device_lost: false,
            configs: Configs::new(profile, &*offload),
            admission,
            tokens: life.tokens()?,
            clients: HashMap::new(),
            by_peer: HashMap::new(),
            // One more than clients: a newcomer replaces its older session only once it has an id.
            peer_ids: PeerIds::new(server.max_clients.saturating_add(1)),
            most_clients: server.max_clients,
            pool,
            listeners: HashMap::new(),
            strangers: Places::new(STRANGERS, WhenFull::OldestLeavesAfter(STRANGER_IS_OLD)),
            acceptors: Vec::new(),
            bound: Vec::new(),
            endpoints,
            next_session: 0,
            next_listener: 0,
            watch: Watch::of(profile),
            rules: Rules::default(),
            reloads: Reloads::default(),
            expiries: tls.expiries(),
            status: life.status_file(),
            stations_due: tokio::time::Instant::now(),
            farewells: tokio::task::JoinSet::new(),
            pool_file: life.pool_file(),
            logger: life.logger.clone(),
            interface: Interface::new(life.management.clone()),
            inbox: Inbox {
                reports: reports_inbox,
                listeners: listeners_inbox,
                decisions: decisions_inbox,
                streams: streams_inbox,
            },
            outbox: Outbox { reports, listeners, streams },
            handshakes: Arc::clone(&life.handshakes),
            profile: Arc::clone(profile),
            hooks,
            offload,
            tls: Arc::new(TlsInForce::new(tls)),
        })
    }

    /// Opens sockets that a former life may still hold: they are free when the offload's threads have looked up from
    /// their work.
    async fn bind_patiently(
        &mut self,
        entry: &ConnectionEntry,
        peer: Family,
        tries: u32,
    ) -> Result<(), String> {
        let mut bound = self.bind(entry, peer).await;
        for _ in 1..tries {
            if bound.is_ok() {
                break;
            }
            self.close_transports();
            tokio::time::sleep(BIND_PAUSE).await;
            bound = self.bind(entry, peer).await;
        }
        bound
    }

    /// Opens every socket that the profile names.
    async fn bind(&mut self, entry: &ConnectionEntry, peer: Family) -> Result<(), String> {
        let share = PortShare::of(&self.profile).await?;
        for local in entry.listeners() {
            let address = sockets::address(&local, peer).await?;
            match local.proto.transport {
                Transport::Udp => self.bind_udp(address, entry)?,
                Transport::TcpServer | Transport::TcpClient => {
                    let listener = link::listen_tcp(Some(&self.profile), address)?;
                    ovlog!(1, "Listening for incoming TCP connection on {}", AfAddress(address));
                    if self.profile.role() == Role::Server {
                        log_link(if address.is_ipv4() { "TCPv4_SERVER" } else { "TCPv6_SERVER" }, address);
                    }
                    self.acceptors.push(accept_streams(listener, self.outbox.streams.clone(), share.clone()));
                }
            }
        }
        Ok(())
    }

    fn bind_udp(&mut self, local: SocketAddr, entry: &ConnectionEntry) -> Result<(), String> {
        let options = link::udp_options(&self.profile, entry);
        let spec = TransportSpec::BindUdp { local, remote: None, options };
        let (transport, receiver, control) =
            self.offload.open_transport(spec).map_err(|failure| link::describe(&failure))?;
        self.bound.push(transport);
        log_link(if local.is_ipv4() { "UDPv4" } else { "UDPv6" }, local);
        let same_interface = self.profile.link.multihome == Multihome::SameInterface;
        self.listen(Protocol::Udp, ListenerPort { same_interface, transport, receiver, control }, None);
        Ok(())
    }

    /// Frees the ports: with `persist-tun` the offload outlives this server.
    fn close_transports(&mut self) {
        for acceptor in self.acceptors.drain(..) {
            acceptor.abort();
        }
        self.listeners.clear();
        for transport in self.bound.drain(..) {
            if let Err(failure) = self.offload.close_transport(transport) {
                tracing::debug!("closing a transport: {failure}");
            }
        }
    }

    /// Writes `ifconfig-pool-persist`.
    pub(super) fn write_pool(&self) {
        if let (Some(pool), Some(file)) = (&self.pool, &self.pool_file) {
            file.write(pool.save());
        }
    }

    /// Writes it for the last time.
    fn save_pool(&self) {
        if let (Some(pool), Some(file)) = (&self.pool, &self.pool_file) {
            file.write_now(pool.save());
        }
    }
}

/// OpenVPN's lines about a socket that has no peer yet.
fn log_link(word: &str, local: SocketAddr) {
    ovlog!(1, "{word} link local (bound): {}", AfAddress(local));
    ovlog!(1, "{word} link remote: [AF_UNSPEC]");
}

fn make_pool(profile: &Profile) -> Result<Option<Pool>, String> {
    let server = &profile.server;
    if server.pool.is_none() && server.pool6.is_none() {
        return Ok(None);
    }
    let config = PoolConfig {
        v4: server.pool,
        v6: server.pool6,
        topology: TunnelSpec::from_profile(profile).topology,
        sticky: !server.duplicate_cn,
    };
    let mut pool = Pool::new(config).map_err(|failure| failure.to_string())?;
    if let Some(persist) = &server.pool_persist
        && let Ok(text) = std::fs::read_to_string(&persist.path)
    {
        for problem in pool.load(&text) {
            ovlog!(warn 1, "ifconfig-pool-persist {}: {problem}", persist.path.display());
        }
    }
    Ok(Some(pool))
}

impl Configs {
    /// Sessions renegotiate at different times: a few configurations with different jitter serve all of them.
    pub(super) fn new(profile: &Profile, offload: &dyn Offload) -> Self {
        let variants = |tcp: bool| {
            let mut entry = profile.connections.first().cloned().unwrap_or_default();
            entry.proto.transport = if tcp { Transport::TcpServer } else { Transport::Udp };
            (0..VARIANTS)
                .map(|n| {
                    let jitter =
                        u16::try_from(u32::from(n) * 65536 / u32::from(VARIANTS)).unwrap_or(u16::MAX);
                    Arc::new(session_config(profile, &entry, offload.capabilities(), jitter))
                })
                .collect()
        };
        Self { udp: variants(false), tcp: variants(true) }
    }

    /// Picks one for a new session.
    pub(super) fn pick(&self, protocol: Protocol) -> Arc<SessionConfig> {
        let mut random = [0];
        random::fill(&mut random);
        let variants = match protocol {
            Protocol::Udp => &self.udp,
            Protocol::Tcp => &self.tcp,
        };
        Arc::clone(&variants[usize::from(random[0] % VARIANTS)])
    }
}

/// Configurations with different jitter.
const VARIANTS: u8 = 16;

/// Makes the doors of listeners.
pub(super) struct EndpointFactory {
    keys: wrapping::ServerWrapping,
    replay: ReplayLimits,
    /// Of the newest reload; keys stay those of the start.
    pub(super) profile: Arc<Profile>,
}

impl EndpointFactory {
    fn new(profile: &Arc<Profile>, entry: &ConnectionEntry) -> Result<Self, crate::settings::SettingsError> {
        Ok(Self {
            keys: wrapping::server(profile, entry)?,
            replay: wrapping::replay_limits(profile),
            profile: Arc::clone(profile),
        })
    }

    /// Makes one for a listener.
    pub(super) fn make(&self, protocol: Protocol) -> Endpoint {
        let limits = Limits::of(&self.profile);
        let config = EndpointConfig {
            transport: match protocol {
                Protocol::Udp => culvert_proto::Transport::Udp,
                Protocol::Tcp => culvert_proto::Transport::Tcp,
            },
            wrap: self.keys.wrap.clone(),
            tls_crypt_v2: self.keys.tls_crypt_v2.clone(),
            force_cookie: self.keys.force_cookie,
            replay: self.replay,
            hand_window: self.profile.session.hand_window,
            initial_rate: limits.initial,
            session_rate: limits.sessions,
            max_half_open: limits.max_half_open,
        };
        let mut secret = [0; 32];
        random::fill(&mut secret);
        Endpoint::new(config, &secret)
    }
}
