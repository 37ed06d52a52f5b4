//! A client and a server with its endpoint, a network between them, and virtual time.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_crypto::{AuthDigest, KeyDirection, KeyMaterial, TlsCryptV2ServerKey, TlsRole};
use culvert_wire::{CipherName, Now};

use super::{
    driver::{Driver, Script},
    fake_tls::FakeTls,
    net::{Net, Rng, Side, Weather},
};
use crate::{
    Command, Credentials, DataConfig, Mode, RandomSource, Session, SessionConfig, Timing, Transport,
    endpoint::{Endpoint, EndpointAction, EndpointConfig, MAX_FIRST_PACKET},
    options_string::OptionsInput,
    peer_info::Announcement,
    tls::TlsFactory,
    wrap::{EARLY_NEGOTIATION_START, ReplayLimits, WrapKeys, Wrapping},
};

/// The control wrappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrap {
    None,
    TlsAuth,
    TlsCrypt,
    /// A client of 2.6 or later, which can resend its wrapped key.
    TlsCryptV2,
    /// An older one: the server keeps state from the first packet on.
    TlsCryptV2Old,
}

impl Wrap {
    pub(super) const ALL: [Self; 5] =
        [Self::None, Self::TlsAuth, Self::TlsCrypt, Self::TlsCryptV2, Self::TlsCryptV2Old];

    const fn is_v2(self) -> bool {
        matches!(self, Self::TlsCryptV2 | Self::TlsCryptV2Old)
    }
}

/// What a test varies.
pub(super) struct Setup {
    pub(super) client: SessionConfig,
    pub(super) server: SessionConfig,
    pub(super) wrap: Wrap,
    pub(super) weather: Weather,
    pub(super) seed: u64,
    pub(super) credentials: Option<Credentials>,
    pub(super) client_tls: Arc<dyn TlsFactory>,
    pub(super) server_tls: Arc<dyn TlsFactory>,
    pub(super) client_script: Script,
    pub(super) server_script: Script,
}

pub(super) fn timing() -> Timing {
    Timing {
        hand_window: Duration::from_secs(60),
        tran_window: Duration::from_secs(3600),
        tls_timeout: Duration::from_secs(2),
        reneg_after: Duration::ZERO,
        reneg_sec: Duration::from_secs(3600),
        reneg_bytes: None,
        reneg_packets: None,
    }
}

/// Credentials to log in with.
pub(super) fn login(username: &str, password: &str) -> Credentials {
    Credentials { username: username.to_owned(), password: zeroize::Zeroizing::new(password.to_owned()) }
}

fn config(mode: Mode) -> SessionConfig {
    let ciphers = vec![CipherName::Aes256Gcm, CipherName::Aes128Gcm, CipherName::ChaCha20Poly1305];
    let data = DataConfig { ciphers, fallback: None, digest: None, epoch: true, data_v1: true };
    let announcement = Announcement {
        version: "2.7.8",
        platform: "linux",
        max_mtu: 1600,
        push_update: true,
        compression_stubs: true,
        decompression: false,
    };
    let options = OptionsInput { tls_server: mode.is_tls_server(), ..OptionsInput::default() };
    SessionConfig {
        mode,
        transport: Transport::Udp,
        timing: timing(),
        max_packet_size: 1250,
        peer_info: announcement.lines(mode, &data),
        data,
        options: options.strings(),
        exit_notify: Some(3),
        check_options: true,
        require_credentials: false,
        forget_credentials: false,
        exporter: None,
    }
}

impl Setup {
    pub(super) fn new() -> Self {
        Self::between(Mode::Client, Mode::Server)
    }

    pub(super) fn point_to_point() -> Self {
        Self::between(Mode::PointToPoint { tls_server: false }, Mode::PointToPoint { tls_server: true })
    }

    fn between(client: Mode, server: Mode) -> Self {
        Self {
            client: config(client),
            server: config(server),
            wrap: Wrap::None,
            weather: super::net::CALM,
            seed: 1,
            credentials: None,
            client_tls: Arc::new(FakeTls::new(false, "client")),
            server_tls: Arc::new(FakeTls::new(true, "server")),
            client_script: Script::default(),
            server_script: Script::default(),
        }
    }

    pub(super) fn timing(mut self, change: impl Fn(&mut Timing)) -> Self {
        change(&mut self.client.timing);
        change(&mut self.server.timing);
        self
    }

    pub(super) fn transport(mut self, transport: Transport) -> Self {
        self.client.transport = transport;
        self.server.transport = transport;
        self
    }
}

pub(super) struct Pair {
    start: Instant,
    pub(super) now: Instant,
    pub(super) net: Net,
    endpoint: Endpoint,
    pub(super) client: Session,
    pub(super) server: Option<Session>,
    pub(super) at_client: Driver,
    pub(super) at_server: Driver,
    server_config: Arc<SessionConfig>,
    server_tls: Arc<dyn TlsFactory>,
    seed: u64,
    /// Sessions beyond the first are not driven: a test that wants them says so.
    pub(super) strangers: u32,
}

pub(super) fn client_address() -> SocketAddr {
    "192.0.2.1:40000".parse().unwrap()
}

pub(super) fn server_address() -> SocketAddr {
    "198.51.100.1:1194".parse().unwrap()
}

fn keys(wrap: Wrap, role: TlsRole) -> Arc<WrapKeys> {
    let mut rng = Rng::new(99);
    let mut material = KeyMaterial::zeroed();
    rng.fill(material.as_mut_bytes());
    let direction = match role {
        TlsRole::Server => KeyDirection::Normal,
        TlsRole::Client => KeyDirection::Inverse,
    };
    Arc::new(match wrap {
        Wrap::None => WrapKeys::none(),
        Wrap::TlsAuth => WrapKeys::tls_auth(material, AuthDigest::Sha1, direction),
        Wrap::TlsCrypt => WrapKeys::tls_crypt(material, role).unwrap(),
        Wrap::TlsCryptV2 | Wrap::TlsCryptV2Old => {
            let wkc = v2_server_key().wrap(&material, &[0, b'x']).unwrap();
            WrapKeys::tls_crypt_v2_client(material, &wkc).unwrap()
        }
    })
}

fn v2_server_key() -> TlsCryptV2ServerKey {
    TlsCryptV2ServerKey::from_slice(&[9; 128]).unwrap()
}

fn random(seed: u64) -> RandomSource {
    let mut rng = Rng::new(seed);
    Box::new(move |out| rng.fill(out))
}

impl Pair {
    pub(super) fn new(setup: Setup) -> Self {
        let start = Instant::now();
        let now = Now { mono: start, unix: 1_800_000_000 };
        let endpoint = EndpointConfig {
            transport: setup.server.transport,
            wrap: (!setup.wrap.is_v2()).then(|| keys(setup.wrap, TlsRole::Server)),
            tls_crypt_v2: setup.wrap.is_v2().then(|| Arc::new(v2_server_key())),
            force_cookie: false,
            replay: ReplayLimits::default(),
            hand_window: setup.server.timing.hand_window,
            initial_rate: None,
            session_rate: None,
            max_half_open: 256,
        };
        let sent = if setup.wrap == Wrap::TlsCryptV2 { EARLY_NEGOTIATION_START } else { 0 };
        let client = Session::client(
            Arc::new(setup.client),
            setup.client_tls,
            Wrapping::continuing(keys(setup.wrap, TlsRole::Client), ReplayLimits::default(), sent),
            server_address(),
            setup.credentials,
            random(setup.seed + 1),
            now,
        );
        Self {
            start,
            now: start,
            net: Net::new(setup.seed, setup.weather),
            endpoint: Endpoint::new(endpoint, &[3; 32]),
            client,
            server: None,
            at_client: Driver { script: setup.client_script, ..Driver::default() },
            at_server: Driver { script: setup.server_script, ..Driver::default() },
            server_config: Arc::new(setup.server),
            server_tls: setup.server_tls,
            seed: setup.seed,
            strangers: 0,
        }
    }

    pub(super) fn clock(&self) -> Now {
        let elapsed = self.now.duration_since(self.start).as_secs();
        Now { mono: self.now, unix: 1_800_000_000 + u32::try_from(elapsed).unwrap() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now.duration_since(self.start)
    }

    /// Runs until `done` or for `limit` of virtual time; returns whether it was done.
    pub(super) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        self.drain();
        loop {
            if done(self) {
                return true;
            }
            match self.next_event() {
                Some(at) if at <= end => self.now = at.max(self.now),
                _ => {
                    self.now = end;
                    return false;
                }
            }
            self.step();
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Runs until both ends say that the tunnel is up.
    pub(super) fn establish(&mut self) {
        let up = self.run_until(Duration::from_secs(120), |pair| {
            pair.at_client.established > 0 && pair.at_server.established > 0
        });
        assert!(
            up,
            "seed {}, after {:?}: not established: client {:?} {:?}, server {:?} {:?}",
            self.seed,
            self.elapsed(),
            self.at_client.closed,
            self.at_client.lines,
            self.at_server.closed,
            self.at_server.lines
        );
    }

    pub(super) fn command(&mut self, side: Side, command: Command) {
        let now = self.clock();
        if let Some(session) = self.session_mut(side) {
            session.handle_command(now, command);
        }
        self.drain();
    }

    pub(super) fn server(&self) -> &Session {
        self.server.as_ref().unwrap()
    }

    fn session_mut(&mut self, side: Side) -> Option<&mut Session> {
        match side {
            Side::Client => Some(&mut self.client),
            Side::Server => self.server.as_mut(),
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let server = self.server.as_ref().and_then(Session::poll_timeout);
        [self.net.next_arrival(), self.client.poll_timeout(), server].into_iter().flatten().min()
    }

    /// Delivers what has arrived and calls expired timers, draining after each.
    fn step(&mut self) {
        let now = self.clock();
        while let Some((to, bytes)) = self.net.arrived(self.now) {
            self.deliver(to, &bytes);
            self.drain();
        }
        for side in [Side::Client, Side::Server] {
            let at = self.now;
            if let Some(session) = self.session_mut(side)
                && session.poll_timeout().is_some_and(|deadline| deadline <= at)
            {
                session.handle_timeout(now);
                let next = session.poll_timeout();
                self.drain();
                assert!(
                    next.is_none() || self.poll(side) > Some(at),
                    "{side:?} does not get past a deadline"
                );
            }
        }
    }

    fn poll(&mut self, side: Side) -> Option<Instant> {
        let far = self.now + Duration::from_secs(1_000_000);
        Some(self.session_mut(side).and_then(|session| session.poll_timeout()).unwrap_or(far))
    }

    /// Gives a packet to an end, as if it came from the other one.
    pub(super) fn deliver(&mut self, to: Side, bytes: &[u8]) {
        let now = self.clock();
        match to {
            Side::Client => {
                let _ = self.client.handle_datagram(now, server_address(), bytes);
            }
            Side::Server => self.at_door(now, bytes),
        }
    }

    fn at_door(&mut self, now: Now, bytes: &[u8]) {
        let mut reply = [0; MAX_FIRST_PACKET];
        match self.endpoint.handle_datagram(now, client_address(), bytes, &mut reply) {
            EndpointAction::Reply(reply) => {
                let reply = reply.to_vec();
                self.net.send(self.now, Side::Client, &reply);
            }
            EndpointAction::Accept(accepted) => {
                if self.server.is_some() {
                    self.strangers += 1;
                    return;
                }
                let (config, tls) = (self.server_config.clone(), self.server_tls.clone());
                let mut session = Session::accepted(config, tls, *accepted, random(self.seed + 2), now);
                let _ = session.handle_datagram(now, client_address(), bytes);
                self.server = Some(session);
            }
            EndpointAction::Route(_) => {
                if let Some(server) = &mut self.server {
                    let _ = server.handle_datagram(now, client_address(), bytes);
                }
            }
            EndpointAction::Drop(_) => {}
        }
    }

    /// Events first, then packets, as the session's contract says.
    pub(super) fn drain(&mut self) {
        let now = self.clock();
        while let Some(event) = self.client.poll_event() {
            self.at_client.take(now, &mut self.client, event);
        }
        let mut buf = [0; 2048];
        while let Some(transmit) = self.client.poll_transmit(now, &mut buf) {
            assert_eq!(transmit.to, server_address());
            self.net.send(now.mono, Side::Server, transmit.bytes);
        }
        let Some(server) = &mut self.server else { return };
        while let Some(event) = server.poll_event() {
            self.at_server.take(now, server, event);
        }
        while let Some(transmit) = server.poll_transmit(now, &mut buf) {
            self.net.send(now.mono, Side::Client, transmit.bytes);
        }
    }

    /// Both ends hold the same keys, crosswise, and each end decrypts what the other sends.
    pub(super) fn assert_data_flows(&self) {
        for (sender, receiver) in [
            (&self.at_client.offload, &self.at_server.offload),
            (&self.at_server.offload, &self.at_client.offload),
        ] {
            let key = sender.primary.as_ref().expect("a sending key");
            let other = receiver.decrypts(key.id).unwrap_or_else(|| panic!("nobody decrypts key {}", key.id));
            assert_eq!((key.send, key.epoch), (other.recv, other.epoch));
        }
    }
}

impl Side {
    pub(super) fn both() -> [Self; 2] {
        [Self::Client, Self::Server]
    }
}
