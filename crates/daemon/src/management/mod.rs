//! The management interface, and culvert's own control socket.
//!
//! [`Management`] is the hub: roles tell it what happens ([`Management::set_state`], [`Management::tell`]) and ask it
//! what only a person knows ([`query`]); connections ([`connection`]) carry both to those who are connected. Commands are
//! answered in [`dispatch`]: what every process knows there, the rest at the role's [`Desk`]: a server's task takes
//! [`Order`]s between two of its other duties, a client answers from what it shares ([`client_desk`]).
//!
//! Nobody waits for a client of the interface, but who asked it something: what it is told goes to a queue of at most
//! [`QUEUE`] bytes, and who lets that fill is cut off (SEC-MGMT-1). Several clients may be connected at once; a question
//! is answered by whoever answers first.
//!
//! The hub's lock is taken inside that of the log (each log line passes here), so nothing is logged while it is held.

mod client_desk;
mod connection;
mod control;
mod dispatch;
mod door;
mod events;
mod external;
mod history;
mod listen;
mod query;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use culvert_config::{
    Profile,
    profile::{self, AuthRetry, RemapUsr1},
};
use culvert_mgmt::{KeyName, LogFlag, Notification, Request, StateLine, StateName, client_env_shown};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use zeroize::Zeroizing;

use crate::{
    clock,
    log::{LogTap, Logger},
    metrics::Tally,
    ovlog,
    scripts::ScriptEnv,
    signals,
};
use history::Lines;

pub(crate) use client_desk::{ClientDesk, kind_word};
pub(crate) use dispatch::role_command;
pub(crate) use external::ManagementKey;
pub(crate) use listen::bind_private;
pub(crate) use query::RemoteChoice;

/// What may wait for a client that does not read (SEC-MGMT-1).
const QUEUE: usize = 1024 * 1024;
/// Kept log lines, unless `management-log-cache` says otherwise; kept states and echoes. As OpenVPN's.
const LOG_LINES: usize = 250;
const OTHER_LINES: usize = 100;
/// Orders that may wait for a server.
const ORDERS: usize = 64;
/// How long clients are given to read the last lines.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The hub. Clones are the same.
#[derive(Clone)]
pub(crate) struct Management {
    shared: Arc<Shared>,
}

struct Shared {
    settings: profile::Management,
    config_name: String,
    password: Option<Zeroizing<String>>,
    logger: Logger,
    signals: signals::Asked,
    remap_usr1: Option<RemapUsr1>,
    door: door::Door,
    state: Mutex<State>,
    /// Counts what those who wait for a client are interested in.
    changes: watch::Sender<u64>,
    /// One question at a time.
    asking: tokio::sync::Mutex<()>,
    events: tokio::sync::broadcast::Sender<String>,
    tally: Arc<Tally>,
}

struct State {
    desk: Desk,
    watchers: BTreeMap<u64, Watcher>,
    next_watcher: u64,
    log: Lines<String>,
    echo: Lines<String>,
    states: Lines<StateLine>,
    hold: bool,
    /// With the pause that a hold took the place of.
    holding: Option<u64>,
    question: Option<query::Question>,
    /// Certificates on tokens: name, and DER in base64.
    token_ids: Vec<(String, String)>,
    auth_retry: AuthRetry,
    /// Passwords are to be forgotten.
    forget: bool,
    /// A listener on the address inside the tunnel was started.
    tunnel_listener: bool,
    /// The control socket, once it is open.
    control: Option<std::path::PathBuf>,
}

/// Who answers what concerns the role.
#[derive(Clone)]
pub(crate) enum Desk {
    /// Nobody: between two lives, or during the hold at the start.
    Vacant,
    /// A server's task.
    Server(mpsc::Sender<Order>),
    /// A client, or the calling end of a point-to-point tunnel.
    Client(Arc<ClientDesk>),
}

/// A command for a server, and where the answer goes.
pub(crate) struct Order {
    pub(crate) what: What,
    pub(crate) answer: oneshot::Sender<String>,
}

/// What a server is to do.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A command of the management interface.
    Request(Request),
    /// `client-auth`, with the options.
    ClientAuth(KeyName, Vec<Zeroizing<String>>),
    /// Lines of byte counts.
    Bytecount,
    /// `culvert status --json`.
    JsonStatus,
    /// `culvert kill NAME`.
    JsonKill(String),
    /// `culvert reload`.
    JsonReload,
    /// A scrape of `metrics`.
    Metrics,
}

/// One client of the interface, as far as others tell it something.
struct Watcher {
    /// May hold a password that a server's client sent.
    queue: Zeroizing<Vec<u8>>,
    wake: Arc<Notify>,
    /// It knows the password: it is told things.
    greeted: bool,
    /// It did not read what it was told, or the process ends: it is cut off.
    over: bool,
    /// What is queued is the last.
    closing: bool,
    log: bool,
    echo: bool,
    states: bool,
    env_filter: i64,
    version: i64,
}

impl Watcher {
    fn push(&mut self, text: &str) {
        if self.over || self.closing {
            return;
        }
        // One answer may be larger: the status of thousands of clients.
        if self.queue.len() > QUEUE {
            self.over = true;
            self.queue = Zeroizing::default();
        } else {
            self.queue.extend_from_slice(text.as_bytes());
        }
        self.wake.notify_one();
    }
}

/// What a state is about, beside its name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) tunnel4: Option<Ipv4Addr>,
    pub(crate) tunnel6: Option<Ipv6Addr>,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
}

/// A role's place at the hub, vacant again when it is dropped.
pub(crate) struct Seat {
    management: Management,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let left = std::mem::replace(&mut self.management.lock().desk, Desk::Vacant);
        // Out of the lock: what it holds may log at its end.
        drop(left);
    }
}

impl Management {
    /// Makes the hub. What it asks for is to be treated like a signal.
    pub(crate) fn new(
        profile: &Profile,
        logger: &Logger,
        password: Option<Zeroizing<String>>,
    ) -> (Self, signals::Asked) {
        let asked = signals::Asked::default();
        let settings = profile.management.clone();
        let mut echo = Lines::new(OTHER_LINES);
        for text in &settings.echo {
            echo.add(format!("{},{text}", clock::unix_seconds()));
        }
        let state = State {
            desk: Desk::Vacant,
            watchers: BTreeMap::new(),
            next_watcher: 0,
            log: Lines::new(settings.log_cache.unwrap_or(LOG_LINES)),
            echo,
            states: Lines::new(OTHER_LINES),
            hold: settings.hold,
            holding: None,
            question: None,
            token_ids: Vec::new(),
            auth_retry: profile.client.auth_retry,
            forget: false,
            tunnel_listener: false,
            control: None,
        };
        let config = profile.config_file.as_deref().and_then(std::path::Path::file_stem);
        let shared = Arc::new(Shared {
            config_name: config.map_or("culvert".to_owned(), |name| name.to_string_lossy().into_owned()),
            settings,
            password,
            logger: logger.clone(),
            signals: asked.clone(),
            remap_usr1: profile.process.remap_usr1,
            door: door::Door::new(),
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
            asking: tokio::sync::Mutex::new(()),
            events: tokio::sync::broadcast::Sender::new(events::BACKLOG),
            tally: Arc::default(),
        });
        let management = Self { shared };
        let tap = Tap { management: management.clone() };
        logger.set_tap(management.is_configured().then(|| Arc::new(tap) as Arc<dyn LogTap>));
        (management, asked)
    }

    /// Counts over the life of the process.
    pub(crate) fn tally(&self) -> &Arc<Tally> {
        &self.shared.tally
    }

    /// Whether there is a management interface at all.
    pub(crate) fn is_configured(&self) -> bool {
        self.shared.settings.at.is_some()
    }

    /// The options, as they were at the start: the interface outlives SIGHUP.
    pub(crate) fn settings(&self) -> &profile::Management {
        &self.shared.settings
    }

    /// Whether a profile that was read again wants the sockets, or who may use them, otherwise.
    pub(crate) fn has_moved(&self, profile: &Profile) -> bool {
        let (old, new) = (&self.shared.settings, &profile.management);
        old.at != new.at
            || old.password != new.password
            || old.control != new.control
            || (old.connects, &old.client_user, &old.client_group)
                != (new.connects, &new.client_user, &new.client_group)
    }

    /// Takes the hub's place for a server; orders arrive at the receiver.
    pub(crate) fn seat_server(&self) -> (Seat, mpsc::Receiver<Order>) {
        let (orders, inbox) = mpsc::channel(ORDERS);
        self.lock().desk = Desk::Server(orders);
        (Seat { management: self.clone() }, inbox)
    }

    /// Takes the hub's place for a client.
    pub(crate) fn seat_client(&self, desk: Arc<ClientDesk>) -> Seat {
        self.lock().desk = Desk::Client(desk);
        Seat { management: self.clone() }
    }

    /// Tells where the connection stands.
    pub(crate) fn set_state(&self, state: StateName, detail: &str) {
        self.set_state_at(state, detail, Addresses::default());
    }

    /// The same, with addresses.
    pub(crate) fn set_state_at(&self, state: StateName, detail: &str, addresses: Addresses) {
        let Addresses { tunnel4, tunnel6, remote, local } = addresses;
        let time = u64::from(clock::unix_seconds());
        let line = StateLine { time, state, detail: detail.to_owned(), tunnel4, tunnel6, remote, local };
        self.emit_state(&line);
        let text = Notification::State(line.clone()).to_string();
        let told = {
            let mut hub = self.lock();
            hub.states.add(line);
            hub.tell_those(&text, |watcher| watcher.states)
        };
        if told {
            ovlog!(3, "MANAGEMENT: {}", text.trim_end());
        }
        if state == StateName::AssignIp {
            self.listen_inside(tunnel4.map(Into::into).or(tunnel6.map(Into::into)));
        }
    }

    /// Tells every client something.
    pub(crate) fn tell(&self, notification: &Notification) {
        self.emit_notification(notification);
        let mut hub = self.lock();
        if let Notification::Client { event, env } = notification {
            for watcher in hub.watchers.values_mut().filter(|watcher| watcher.greeted) {
                let level = watcher.env_filter;
                // What the peer says of itself always accompanies a filtered list.
                let shown = |name: &str| {
                    client_env_shown(name, level) || name.starts_with("IV_") || name.starts_with("UV_")
                };
                let env = env.iter().filter(|(name, _)| shown(name)).cloned().collect();
                let shown = Notification::Client { event: event.clone(), env };
                watcher.push(&Zeroizing::new(shown.to_string()));
            }
            return;
        }
        hub.tell_those(&notification.to_string(), |_| true);
    }

    /// `echo`, own or pushed.
    pub(crate) fn echo(&self, text: &str) {
        let time = u64::from(clock::unix_seconds());
        let line = Notification::Echo { time, text: text.to_owned() }.to_string();
        let mut hub = self.lock();
        hub.echo.add(line.trim_start_matches(">ECHO:").trim_end().to_owned());
        hub.tell_those(&line, |watcher| watcher.echo);
    }

    /// `management-up-down`.
    pub(crate) fn up_down(&self, up: bool, env: &ScriptEnv) {
        if self.shared.settings.up_down {
            let env = env.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            self.tell(&Notification::UpDown { up, env });
        }
    }

    /// What `auth-retry` says now.
    pub(crate) fn auth_retry(&self) -> AuthRetry {
        self.lock().auth_retry
    }

    /// Whether passwords are to be forgotten; asked for once.
    pub(crate) fn take_forget(&self) -> bool {
        std::mem::take(&mut self.lock().forget)
    }

    /// The process ends: clients are given a moment to read the last lines.
    pub(crate) async fn close(&self) {
        for watcher in self.lock().watchers.values_mut() {
            watcher.closing = true;
            watcher.wake.notify_one();
        }
        let drained = async {
            let mut changes = self.shared.changes.subscribe();
            while !self.lock().watchers.is_empty() {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _slow_reader = tokio::time::timeout(LAST_WORDS, drained).await;
        self.remove_sockets();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those who wait for a client.
    fn changed(&self) {
        self.shared.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Does what a signal would do.
    fn raise(&self, request: signals::Request) {
        self.shared.signals.raise(request);
    }
}

impl State {
    /// Tells those clients that want it; returns whether there was one.
    fn tell_those(&mut self, text: &str, wants: impl Fn(&Watcher) -> bool) -> bool {
        let mut told = false;
        for watcher in self.watchers.values_mut().filter(|watcher| watcher.greeted && wants(watcher)) {
            watcher.push(text);
            told = true;
        }
        told
    }
}

/// Takes log lines.
struct Tap {
    management: Management,
}

impl LogTap for Tap {
    fn line(&self, verb: u8, gravity: crate::log::Gravity, peer: Option<&str>, text: &str) {
        use crate::log::Gravity;
        let flag = match gravity {
            Gravity::Fatal => LogFlag::Fatal,
            Gravity::Error => LogFlag::Error,
            Gravity::Warning => LogFlag::Warning,
            Gravity::Info if verb <= 1 => LogFlag::Info,
            Gravity::Info if verb >= 5 => LogFlag::Debug,
            Gravity::Info => LogFlag::Other,
        };
        let text = match peer {
            Some(peer) => format!("{peer} {text}"),
            None => text.to_owned(),
        };
        let fatal = (flag == LogFlag::Fatal).then(|| Notification::Fatal(text.clone()).to_string());
        let line = Notification::Log { time: u64::from(clock::unix_seconds()), flag, text }.to_string();
        let mut hub = self.management.lock();
        hub.log.add(line.trim_start_matches(">LOG:").trim_end().to_owned());
        hub.tell_those(&line, |watcher| watcher.log);
        if let Some(fatal) = fatal {
            hub.tell_those(&fatal, |_| true);
        }
    }
}
