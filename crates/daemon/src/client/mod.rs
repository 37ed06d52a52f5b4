//! A client, or the calling end of a point-to-point tunnel: one session at a time, over a list of remotes.
//!
//! [`run`] is one life. Inside it attempts follow each other ([`attempt`]) with growing pauses ([`remotes`]); what
//! outlives an attempt (device and addresses with `persist-tun`, credentials) stands in [`Client`].

mod asking;
mod attempt;
mod buffers;
mod configure;
mod data_plane;
mod drive;
mod ending;
mod first;
mod interface;
mod kill_switch;
mod leaving;
mod limits;
mod login;
mod messages;
mod network;
mod process;
pub(crate) mod proxy;
mod remotes;
mod scripts;
mod update;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use culvert_config::{
    Profile,
    profile::{AuthRetry, ConnectRetryMax},
    value::{Family, Port},
};
use culvert_offload::{Device, Offload};
use culvert_proto::{
    Session,
    tls::{TlsFactory, TlsRole},
};
use tracing::warn;

use crate::{
    exit::Ended,
    firewall::Guard,
    handshakes::Handshakes,
    hooks::Hooks,
    life::Life,
    log::Logger,
    management::{ClientDesk, Management, Seat},
    ovlog, random,
    settings::tls::make_factory,
    signals::{Request, Signals},
    tunnel::{Completion, Tunnel},
};
pub(crate) use kill_switch::{Guarded, conclude};
use login::Login;
use proxy::ProxyLogins;
use remotes::{Advance, Remotes};

/// Runs a client until something ends its life.
pub(crate) async fn run(life: &mut Life, signals: &mut Signals) -> Ended {
    let hooks = Hooks::new(&life.profile, life.management.clone());
    let hooks = match life.plugins(&hooks.environment()).await {
        Ok(plugins) => hooks.with_plugins(plugins),
        Err(failure) => return Ended::Fatal(failure),
    };
    let tls = match make_factory(life, TlsRole::Client, signals).await {
        Ok(tls) => Arc::new(tls),
        Err(ended) => return ended,
    };
    if let Err(failure) = Guarded::engage(life) {
        return Ended::Fatal(failure);
    }
    let mut client = Client::new(life, hooks, tls);
    let ended = client.attempts(life, signals).await;
    client.close_tunnel(&ended.script_word()).await;
    ended
}

/// The pause between attempts with `auth-retry nointeract`: none of them is waited for by anybody.
const UNATTENDED: Duration = Duration::from_secs(10);

/// How long a session that is over may hold the device.
const LETTING_GO: Duration = Duration::from_secs(1);

/// What outlives an attempt.
struct Client {
    profile: Arc<Profile>,
    hooks: Arc<Hooks>,
    tls: Arc<dyn TlsFactory>,
    handshakes: Arc<Handshakes<Session>>,
    remotes: Remotes,
    /// What [`Self::remotes`] holds the addresses of.
    first_hop: Option<(String, Port)>,
    login: Login,
    proxy_logins: ProxyLogins,
    /// What names resolved to, kept with `persist-remote-ip`.
    kept_addresses: HashMap<LookedUp, Vec<SocketAddr>>,
    offload: Option<Arc<dyn Offload>>,
    /// The device vanished: the next attempt makes another.
    device_lost: bool,
    /// `persist-tun`, configured or pushed, where the device can stay.
    keeps_device: bool,
    up: Option<Up>,
    logger: Logger,
    management: Management,
    /// What commands of the management interface are answered from.
    desk: Arc<ClientDesk>,
    _seat: Seat,
}

/// A name that was looked up, with the port, and the family that was wanted.
type LookedUp = (String, u16, Family);

/// A tunnel that is up, and the pushed options that made it.
struct Up {
    tunnel: Tunnel,
    device: Device,
    /// Rules that go with the tunnel.
    guard: Guard,
    made_of: Vec<String>,
    /// What is to be said of it when the peer has answered.
    completion: Completion,
    /// `route-delay` begins with the peer's answer.
    routes_wait: bool,
}

/// How an attempt ended.
enum Outcome {
    /// Try again.
    Restart(Restart),
    /// This life is over.
    Ended(Ended),
}

impl Outcome {
    /// A signal came before there was a session.
    const fn by_signal(request: Request) -> Self {
        match request {
            Request::SoftRestart => Self::Restart(Restart::by_hand()),
            request => Self::Ended(Ended::by_signal(request)),
        }
    }
}

/// Another attempt is due.
struct Restart {
    /// What it is called; empty: a signal.
    reason: &'static str,
    advance: Advance,
    /// `None`: as configured.
    pause: Option<Duration>,
}

impl Restart {
    const fn because(reason: &'static str) -> Self {
        Self { reason, advance: Advance::Usual, pause: None }
    }

    /// SIGUSR1.
    const fn by_hand() -> Self {
        Self { advance: Advance::ByHand, ..Self::because("") }
    }
}

impl Client {
    fn new(life: &mut Life, hooks: Hooks, tls: Arc<dyn TlsFactory>) -> Self {
        let profile = Arc::clone(&life.profile);
        let mut order: Vec<usize> = (0..profile.connections.len()).collect();
        if profile.link.remote_random {
            shuffle(&mut order);
        }
        let management = life.management.clone();
        let desk = ClientDesk::new(Arc::clone(&profile), life.logger.clone());
        Self {
            _seat: management.seat_client(Arc::clone(&desk)),
            desk,
            handshakes: Arc::clone(&life.handshakes),
            hooks: Arc::new(hooks),
            management,
            tls,
            remotes: Remotes::new(order),
            first_hop: None,
            proxy_logins: ProxyLogins::new(),
            login: Login::new(&profile, &mut life.secrets),
            kept_addresses: HashMap::new(),
            offload: None,
            device_lost: false,
            keeps_device: profile.device.is_kept(),
            up: None,
            logger: life.logger.clone(),
            profile,
        }
    }

    async fn attempts(&mut self, life: &mut Life, signals: &mut Signals) -> Ended {
        loop {
            if let ConnectRetryMax::Rounds(rounds) = self.profile.link.connect_retry_max
                && rounds > 0
                && self.remotes.are_exhausted(rounds)
            {
                return Ended::Unreachable(format!(
                    "All connections have been connect-retry-max ({rounds}) times unsuccessful, exiting"
                ));
            }
            let restart = match self.attempt(life, signals).await {
                Outcome::Ended(ended) => return ended,
                Outcome::Restart(restart) => restart,
            };
            let ended = match self.restart_signal() {
                Request::SoftRestart if restart.reason.is_empty() => Ended::Signal(Request::SoftRestart),
                Request::SoftRestart => Ended::Soft(Request::SoftRestart, restart.reason),
                other => return Ended::Soft(other, restart.reason),
            };
            ended.log();
            ended.tell(&self.management);
            if std::mem::take(&mut self.device_lost) || !self.keeps_device {
                self.close_tunnel(&ended.script_word()).await;
                if let Some(guarded) = &mut life.kill_switch {
                    guarded.set_device(None);
                }
            } else if let Some(up) = &mut self.up {
                up.tunnel.restarting(&ended.script_word()).await;
            }
            let (at_least, pause) = match restart.pause {
                Some(pause) => (pause, pause),
                None => (self.first_pause(), self.pause()),
            };
            let outside = self.remotes.address();
            self.remotes.advance(match restart.advance {
                // What it resolved to is to be kept.
                Advance::ByHand if self.profile.link.persist_remote_ip => Advance::Usual,
                advance => advance,
            });
            if let Some(ended) = self.rest(signals, (at_least, pause), outside).await {
                return ended;
            }
        }
    }

    /// What a soft restart counts as (`remap-usr1`).
    fn restart_signal(&self) -> Request {
        use culvert_config::profile::RemapUsr1;
        match self.profile.process.remap_usr1 {
            None => Request::SoftRestart,
            Some(RemapUsr1::Hup) => Request::Restart,
            Some(RemapUsr1::Term) => Request::Terminate,
        }
    }

    /// The pause before the next attempt, as long as there were few.
    fn first_pause(&self) -> Duration {
        if self.management.auth_retry() == AuthRetry::NoInteract {
            return UNATTENDED;
        }
        let entry = self.profile.connections.get(self.remotes.current());
        entry.map_or(Duration::from_secs(1), |entry| entry.connect_retry)
    }

    fn pause(&self) -> Duration {
        let entry = self.profile.connections.get(self.remotes.current());
        let longest = entry.map_or(Duration::MAX, |entry| entry.connect_retry_max);
        self.remotes.pause(self.first_pause(), longest)
    }

    /// Waits before the next attempt, unless the way out changes once `at_least` is over; signals are heard.
    /// `outside`: where the last attempt led.
    async fn rest(
        &mut self,
        signals: &mut Signals,
        (at_least, pause): (Duration, Duration),
        outside: Option<SocketAddr>,
    ) -> Option<Ended> {
        // A hold takes the place of the pause.
        match self.unless_signalled(self.management.hold(pause), signals).await {
            Ok(false) => {}
            Ok(true) | Err(Request::SoftRestart) => return None,
            Err(request) => return Some(Ended::by_signal(request)),
        }
        if pause.is_zero() {
            return None;
        }
        ovlog!(2, "Restart pause, {} second(s)", pause.as_secs());
        let is_own = |address| self.is_own(address);
        let pausing = network::pause(at_least, pause, &self.profile, outside, is_own);
        match self.unless_signalled(pausing, signals).await {
            Ok(()) | Err(Request::SoftRestart) => None,
            Err(request) => Some(Ended::by_signal(request)),
        }
    }

    /// Does something that takes time, unless a signal ends it. Asking for statistics ends nothing.
    async fn unless_signalled<T>(
        &self,
        work: impl Future<Output = T>,
        signals: &mut Signals,
    ) -> Result<T, Request> {
        signals.unless_any(work, || self.log_statistics()).await
    }

    /// Takes the tunnel down and lets the device go.
    async fn close_tunnel(&mut self, signal: &str) {
        let offload = self.offload.take();
        let close = async move {
            let Some(offload) = offload else { return };
            // Its session lets go of it a moment later; until then the device, and its name, are taken.
            let until = tokio::time::Instant::now() + LETTING_GO;
            while Arc::strong_count(&offload) > 1 && tokio::time::Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match self.up.take() {
            Some(up) => up.tunnel.down(signal, close).await,
            None => close.await,
        }
    }

    /// Writes the counters into the log (SIGUSR2).
    fn log_statistics(&self) {
        log_statistics(self.offload.as_deref(), &self.logger);
    }

    fn statistics(&self) -> String {
        statistics(self.offload.as_deref(), &self.logger)
    }
}

fn statistics(offload: Option<&dyn Offload>, logger: &Logger) -> String {
    let mut stats = Vec::new();
    if let Some(offload) = offload
        && let Err(failure) = offload.stats(None, &mut stats)
    {
        warn!("no statistics: {failure}");
    }
    crate::status_file::statistics(std::time::SystemTime::now(), &stats).render(&logger.zone())
}

fn log_statistics(offload: Option<&dyn Offload>, logger: &Logger) {
    for line in statistics(offload, logger).lines() {
        ovlog!(1, "{line}");
    }
}

/// Fisher and Yates, with randomness of the operating system.
fn shuffle(order: &mut [usize]) {
    for last in (1..order.len()).rev() {
        let mut random = [0; 8];
        random::fill(&mut random);
        let bound = u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1);
        let pick = usize::try_from(u64::from_ne_bytes(random) % bound).unwrap_or(0);
        order.swap(last, pick);
    }
}
