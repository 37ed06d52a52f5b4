//! One client of the crowd: a socket, a session, and a thread that waits for either.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use culvert_config::{PushFilter, Pushed, profile::Client};
use culvert_proto::{
    CloseReason, Command, DataConfig, Event, Mode, PushedProtocol, Session, SessionConfig, Timing, Transport,
    Verdict,
    options_string::OptionsInput,
    peer_info::Announcement,
    tls::{OwnCertificate, Pem, RustlsFactory, SecretPem, TlsFactory, TlsRole, TlsSettings},
    wrap::{ReplayLimits, WrapKeys, Wrapping},
};
use culvert_wire::{CipherName, Now, Opcode};
use zeroize::Zeroizing;

use super::Settings;
use crate::BenchError;

/// The longest wait for a packet: then it is looked whether the others are there.
const GLANCE: Duration = Duration::from_millis(250);

/// What the members share.
pub(super) struct Shared {
    server: SocketAddr,
    sources: Option<Ipv4Addr>,
    patience: Duration,
    stay: Duration,
    clients: usize,
    config: Arc<SessionConfig>,
    tls: Arc<dyn TlsFactory>,
    pub(super) connected: AtomicUsize,
    failed: AtomicUsize,
    pub(super) renegotiated: AtomicUsize,
    times: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    last_connected: Option<Instant>,
    first_renegotiation: Option<Instant>,
    last_renegotiated: Option<Instant>,
}

/// How long the crowd as a whole took.
pub(super) struct Span {
    /// From the first packet to the last member's keys.
    pub(super) connected: Duration,
    /// The same of renegotiations.
    pub(super) renegotiated: Duration,
}

/// Why a member did not come to its end.
#[derive(Debug)]
pub(super) enum Failure {
    /// The socket.
    Socket(io::Error),
    /// The session ended.
    Closed(CloseReason),
    /// Time is over, during this.
    Patience(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => write!(f, "socket: {error}"),
            Self::Closed(reason) => write!(f, "the session ended: {reason:?}"),
            Self::Patience(what) => write!(f, "no answer in time: {what}"),
        }
    }
}

impl Shared {
    pub(super) fn new(settings: &Settings) -> Result<Self, BenchError> {
        let mut tls = TlsSettings::new(TlsRole::Client, Arc::new(|| u64::from(unix_seconds())));
        tls.ca = Some(pem("--ca", &settings.ca)?);
        let key = Zeroizing::new(read(&settings.key)?);
        tls.own = Some(OwnCertificate {
            certificate: pem("--cert", &settings.cert)?,
            extra: None,
            key: SecretPem { origin: format!("--key {}", settings.key.display()), text: key },
            passphrase: None,
        });
        let tls = RustlsFactory::new(tls)
            .map_err(|error| BenchError::Step { step: "certificates".to_owned(), why: error.to_string() })?;
        Ok(Self {
            server: settings.server,
            sources: settings.sources,
            patience: settings.patience,
            stay: settings.stay,
            clients: settings.clients,
            config: Arc::new(session_config(settings.patience)),
            tls: Arc::new(tls),
            connected: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            renegotiated: AtomicUsize::new(0),
            times: Mutex::default(),
        })
    }

    pub(super) fn note_connected(&self) {
        self.connected.fetch_add(1, Relaxed);
        self.times(|times| times.last_connected = Some(Instant::now()));
    }

    pub(super) fn note_failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    pub(super) fn note_renegotiated(&self) {
        self.renegotiated.fetch_add(1, Relaxed);
        self.times(|times| times.last_renegotiated = Some(Instant::now()));
    }

    /// Whether everybody is connected, or has failed to.
    pub(super) fn all_decided(&self) -> bool {
        self.connected.load(Relaxed) + self.failed.load(Relaxed) == self.clients
    }

    pub(super) fn span(&self, start: Instant) -> Span {
        self.times(|times| Span {
            connected: times.last_connected.map_or(Duration::ZERO, |last| last - start),
            renegotiated: match (times.first_renegotiation, times.last_renegotiated) {
                (Some(first), Some(last)) => last - first,
                _ => Duration::ZERO,
            },
        })
    }

    fn times<T>(&self, change: impl FnOnce(&mut Times) -> T) -> T {
        change(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One client.
pub(super) struct Member<'a> {
    shared: &'a Shared,
    socket: UdpSocket,
    session: Session,
    state: State,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Connected,
    Renegotiated,
}

impl<'a> Member<'a> {
    pub(super) fn new(shared: &'a Shared, number: usize) -> Result<Self, Failure> {
        let source = match shared.sources {
            Some(first) => {
                let offset = u32::try_from(number).unwrap_or(u32::MAX);
                IpAddr::from(Ipv4Addr::from_bits(first.to_bits().wrapping_add(offset)))
            }
            None if shared.server.is_ipv4() => Ipv4Addr::UNSPECIFIED.into(),
            None => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((source, 0)).map_err(Failure::Socket)?;
        socket.connect(shared.server).map_err(Failure::Socket)?;
        let wrapping = Wrapping::new(Arc::new(WrapKeys::none()), ReplayLimits::default());
        let random = Box::new(|buffer: &mut [u8]| {
            #[expect(clippy::expect_used, reason = "a system without randomness runs no VPN")]
            culvert_crypto::random_bytes(buffer).expect("the operating system gives random bytes");
        });
        let (config, tls) = (Arc::clone(&shared.config), Arc::clone(&shared.tls));
        let session = Session::client(config, tls, wrapping, shared.server, None, random, now());
        Ok(Self { shared, socket, session, state: State::Connecting })
    }

    /// Connects; returns how long it took.
    pub(super) fn connect(&mut self) -> Result<Duration, Failure> {
        let start = Instant::now();
        self.serve_for(self.shared.patience, |member| member.state != State::Connecting)?;
        if self.state == State::Connecting {
            Err(Failure::Patience("connecting"))
        } else {
            Ok(start.elapsed())
        }
    }

    /// Stays until all others are connected, or have failed to, and then for the time that was asked for.
    pub(super) fn stay(&mut self) -> Result<(), Failure> {
        let shared = self.shared;
        self.serve_for(shared.patience, |_| shared.all_decided())?;
        self.serve_for(shared.stay, |_| false)
    }

    /// Renegotiates; returns how long it took.
    pub(super) fn renegotiate(&mut self) -> Result<Duration, Failure> {
        let start = Instant::now();
        self.shared.times(|times| {
            times.first_renegotiation.get_or_insert(start);
        });
        self.session.handle_command(now(), Command::Renegotiate);
        self.serve_for(self.shared.patience, |member| member.state == State::Renegotiated)?;
        match self.state {
            State::Renegotiated => Ok(start.elapsed()),
            _ => Err(Failure::Patience("renegotiating")),
        }
    }

    /// Leaves, with a word where the server understands it.
    pub(super) fn leave(mut self) {
        self.session.handle_command(now(), Command::Exit);
        let _over = self.serve_for(Duration::from_millis(200), |member| member.session.is_closed());
    }

    /// Serves the session until `done`, or until time is over.
    fn serve_for(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let end = Instant::now() + limit;
        let mut buffer = [0; 2048];
        loop {
            self.deliver()?;
            let at = Instant::now();
            if done(self) || at >= end {
                return Ok(());
            }
            let next = self.session.poll_timeout().unwrap_or(end).min(end).min(at + GLANCE);
            let wait = next.saturating_duration_since(at).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(wait)).map_err(Failure::Socket)?;
            match self.socket.recv(&mut buffer) {
                Ok(len) => {
                    let packet = &buffer[..len];
                    let is_data = |op| matches!(op, Opcode::DataV1 | Opcode::DataV2);
                    let opcode = packet.first().and_then(|&first| Opcode::from_header(first));
                    if opcode.is_some_and(|op| !is_data(op)) {
                        // What it drops, it drops.
                        let _dropped = self.session.handle_datagram(now(), self.shared.server, packet);
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                // The server is not there yet, or no more: the protocol repeats.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(Failure::Socket(error)),
            }
            if self.session.poll_timeout().is_some_and(|due| due <= Instant::now()) {
                self.session.handle_timeout(now());
            }
        }
    }

    /// Answers events, then sends packets.
    fn deliver(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 2048];
        loop {
            while let Some(event) = self.session.poll_event() {
                let command = match event {
                    Event::VerifyPeer { key, .. } => Command::PeerVerdict(key, Verdict::Accept),
                    Event::PushReply(options) => Command::ApplyPush(pushed(&options)),
                    Event::Configure(params) => {
                        Command::Configured { peer_id: params.peer_id, push: Vec::new() }
                    }
                    Event::Established => {
                        self.state = State::Connected;
                        continue;
                    }
                    Event::Renegotiated(_) => {
                        self.state = State::Renegotiated;
                        continue;
                    }
                    Event::Closed(reason) => return Err(Failure::Closed(reason)),
                    // Keys are for nobody: they are wiped.
                    _ => continue,
                };
                self.session.handle_command(now(), command);
            }
            let Some(packet) = self.session.poll_transmit(now(), &mut buffer) else { return Ok(()) };
            // A full socket drops it, an absent server refuses it: the protocol repeats.
            let _dropped = self.socket.send(packet.bytes);
        }
    }
}

/// What the session needs of a push reply.
fn pushed(options: &[String]) -> PushedProtocol {
    let mut pushed = Pushed::default();
    // What it refuses is not for this client, which has no device.
    let _refused = PushFilter::new(&Client::default()).apply(&options.join(","), &mut pushed);
    PushedProtocol { peer_id: pushed.peer_id, cipher: pushed.cipher, flags: pushed.protocol }
}

fn session_config(patience: Duration) -> SessionConfig {
    let data = DataConfig {
        ciphers: vec![CipherName::Aes256Gcm, CipherName::ChaCha20Poly1305],
        fallback: None,
        digest: None,
        epoch: false,
        data_v1: true,
    };
    let announcement = Announcement {
        version: culvert_config::OPENVPN_VERSION,
        platform: "linux",
        max_mtu: 1600,
        push_update: false,
        compression_stubs: true,
        decompression: false,
    };
    // Servers note differences in their logs, and refuse a client that sends none.
    let options =
        OptionsInput { cipher: CipherName::Aes256Gcm, names_cipher: true, ..OptionsInput::default() };
    SessionConfig {
        mode: Mode::Client,
        transport: Transport::Udp,
        timing: Timing {
            hand_window: patience,
            tran_window: Duration::from_secs(3600),
            tls_timeout: Duration::from_secs(2),
            reneg_after: Duration::ZERO,
            reneg_sec: Duration::ZERO,
            reneg_bytes: None,
            reneg_packets: None,
        },
        max_packet_size: 1250,
        peer_info: announcement.lines(Mode::Client, &data),
        data,
        options: options.strings(),
        exit_notify: Some(1),
        check_options: false,
        require_credentials: false,
        forget_credentials: false,
        exporter: None,
    }
}

fn now() -> Now {
    Now { mono: Instant::now(), unix: unix_seconds() }
}

fn unix_seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    u32::try_from(since).unwrap_or(u32::MAX)
}

fn pem(option: &str, path: &Path) -> Result<Pem, BenchError> {
    Ok(Pem { origin: format!("{option} {}", path.display()), text: read(path)? })
}

fn read(path: &Path) -> Result<Vec<u8>, BenchError> {
    fs::read(path).map_err(|source| BenchError::File { path: path.to_owned(), source })
}
