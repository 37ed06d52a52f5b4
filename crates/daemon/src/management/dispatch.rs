//! What commands do, and how they are answered.

use std::time::Duration;

use base64::Engine as _;
use culvert_config::{
    profile::{AuthRetry, RemapUsr1},
    title,
};
use culvert_mgmt::{
    BlockOf, History, HistoryOf, Hold, Notification, Request, SetNumber, client_version, reply,
};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{Desk, Management, Order, What, connection::Client, query::Entry};
use crate::{ovlog, signals};

/// The highest `verb` that is accepted, as by OpenVPN; from 12 on nothing is added.
const MOST_VERB: i64 = 15;
/// The longest password, as OpenVPN's.
const MOST_PASSWORD: usize = 4095;

impl Management {
    /// Answers a command.
    pub(super) async fn dispatch(&self, client: &mut Client, request: Request) {
        let answer = match request {
            Request::Exit => {
                client.leaving = true;
                return;
            }
            Request::History(of, wanted) => return self.send_history(client.id, of, &wanted),
            Request::Bytecount(seconds) => {
                client.bytecount = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
                "SUCCESS: bytecount interval changed".to_owned()
            }
            Request::EnvFilter(level) => {
                if let Some(watcher) = self.lock().watchers.get_mut(&client.id) {
                    watcher.env_filter = level;
                }
                format!("SUCCESS: env_filter_level={level}")
            }
            Request::Version(Some(version)) if !(0..=i64::from(i32::MAX)).contains(&version) => {
                "ERROR: Invalid value specified for management client version".to_owned()
            }
            Request::Version(Some(version)) => {
                if let Some(watcher) = self.lock().watchers.get_mut(&client.id) {
                    watcher.version = version;
                }
                if version < i64::from(client_version::USERNAME_ONLY) {
                    return;
                }
                format!("SUCCESS: Management client version set to {version}")
            }
            Request::Password { kind, password: None } => match self.begin_password(client, kind) {
                Some(refusal) => refusal,
                None => return,
            },
            Request::PkSig(_) | Request::Certificate | Request::ClientAuth(_) => {
                match self.begin_block(client, &request).await {
                    Some(refusal) => refusal,
                    None => return,
                }
            }
            other => self.answer(other).await,
        };
        if !answer.is_empty() {
            self.push(client.id, &lines(&answer));
        }
    }

    /// Answers the end of a block.
    pub(super) async fn dispatch_block(&self, client: &Client, of: BlockOf, block: Vec<Zeroizing<String>>) {
        let answer = match of {
            BlockOf::ClientAuth(key) => self.ask_role(What::ClientAuth(key, block), "client-auth").await,
            BlockOf::Signature => self.take_block("pk-sig", &of, block),
            BlockOf::Certificate => self.take_block("certificate", &of, block),
            BlockOf::Password(kind) => self.take_password_lines(&kind, &block),
        };
        self.push(client.id, &lines(&answer));
    }

    /// Commands whose answer is one text, whoever asks.
    async fn answer(&self, request: Request) -> String {
        match request {
            Request::Help => reply::help(&title()),
            Request::Version(_) => reply::version(&title()),
            Request::Pid => format!("SUCCESS: pid={}", std::process::id()),
            Request::Test(count) => reply::test(count),
            Request::Verb(verb) => self.verb(verb),
            Request::Mute(mute) => self.mute(mute),
            Request::AuthRetry(mode) => self.change_auth_retry(mode.as_deref()),
            Request::Hold(hold) => self.change_hold(hold),
            Request::Signal(name) => self.throw(&name),
            Request::ForgetPasswords => {
                self.forget_passwords();
                "SUCCESS: Passwords were forgotten".to_owned()
            }
            Request::Username { kind, name } => self.enter(&kind, Entry::Username(name)),
            Request::Password { kind, password } => {
                self.enter(&kind, Entry::Password(password.unwrap_or_default()))
            }
            Request::NeedOk { name, answer } => self.enter(&name, Entry::NeedOk(answer)),
            Request::NeedStr { name, answer } => self.enter(&name, Entry::NeedStr(answer)),
            Request::Pkcs11IdCount => self.token_count(),
            Request::Pkcs11IdGet(index) => self.token_entry(index),
            Request::Net if !self.is_vacant() => {
                "ERROR: Sorry, this command is currently only implemented on Windows".to_owned()
            }
            Request::LoadStats if self.is_vacant() => "SUCCESS: nclients=0,bytesin=0,bytesout=0".to_owned(),
            Request::Remote(words) if self.is_client() => self.choose_remote(&words),
            Request::Proxy(choice) if self.is_client() => self.choose_proxy(choice),
            other => {
                let name = role_command(&other);
                self.ask_role(What::Request(other), name).await
            }
        }
    }

    /// Lets the role answer.
    pub(crate) async fn ask_role(&self, what: What, command: &str) -> String {
        // Out of the lock first: a desk may log.
        let desk = self.lock().desk.clone();
        let sender = match desk {
            Desk::Vacant => return reply::wrong_mode(command),
            Desk::Client(desk) => return desk.answer(&what, command),
            Desk::Server(orders) => orders,
        };
        let (answer, answered) = oneshot::channel();
        if sender.send(Order { what, answer }).await.is_err() {
            return reply::wrong_mode(command);
        }
        // It went between two lives, with the order unread.
        answered.await.unwrap_or_else(|_| reply::wrong_mode(command))
    }

    /// Sends `>BYTECOUNT` or `>BYTECOUNT_CLI` lines.
    pub(super) async fn send_bytecount(&self, client: &Client) {
        if !self.is_vacant() {
            let text = self.ask_role(What::Bytecount, "bytecount").await;
            self.push(client.id, &text);
        }
    }

    /// `forget-passwords`: the next login asks for them.
    pub(super) fn forget_passwords(&self) {
        self.lock().forget = true;
    }

    fn is_vacant(&self) -> bool {
        matches!(self.lock().desk, Desk::Vacant)
    }

    fn is_client(&self) -> bool {
        matches!(self.lock().desk, Desk::Client(_))
    }

    fn send_history(&self, id: u64, of: HistoryOf, wanted: &[History]) {
        let mut hub = self.lock();
        let hub = &mut *hub;
        let Some(watcher) = hub.watchers.get_mut(&id) else { return };
        for &wanted in wanted {
            let text = match of {
                HistoryOf::Log => hub.log.answer(of, wanted, &mut watcher.log),
                HistoryOf::Echo => hub.echo.answer(of, wanted, &mut watcher.echo),
                HistoryOf::State => hub.states.answer(of, wanted, &mut watcher.states),
            };
            watcher.push(&text);
        }
    }

    fn verb(&self, wanted: SetNumber) -> String {
        let logger = &self.shared.logger;
        match wanted {
            SetNumber::Show => format!("SUCCESS: verb={}", logger.verb()),
            SetNumber::To(verb) => match u8::try_from(verb) {
                Ok(verb) if i64::from(verb) <= MOST_VERB => {
                    logger.set_verb(verb);
                    "SUCCESS: verb level changed".to_owned()
                }
                _ => "ERROR: verb level is out of range".to_owned(),
            },
        }
    }

    fn mute(&self, wanted: SetNumber) -> String {
        let logger = &self.shared.logger;
        match wanted {
            SetNumber::Show => format!("SUCCESS: mute={}", logger.mute().unwrap_or(0)),
            SetNumber::To(mute) => match u32::try_from(mute) {
                Ok(mute) => {
                    logger.set_mute(Some(mute).filter(|&mute| mute > 0));
                    "SUCCESS: mute level changed".to_owned()
                }
                Err(_) => "ERROR: mute level is out of range".to_owned(),
            },
        }
    }

    fn change_auth_retry(&self, mode: Option<&str>) -> String {
        let mode = match mode {
            None => {
                let word = match self.auth_retry() {
                    AuthRetry::None => "none",
                    AuthRetry::NoInteract => "nointeract",
                    AuthRetry::Interact => "interact",
                };
                return format!("SUCCESS: auth-retry={word}");
            }
            Some("none") => AuthRetry::None,
            Some("nointeract") => AuthRetry::NoInteract,
            Some("interact") => AuthRetry::Interact,
            Some(_) => {
                return "--auth-retry method must be 'interact', 'nointeract', or 'none'\r\n\
                        ERROR: bad auth-retry parameter"
                    .to_owned();
            }
        };
        self.lock().auth_retry = mode;
        "SUCCESS: auth-retry parameter changed".to_owned()
    }

    fn change_hold(&self, hold: Hold) -> String {
        let mut hub = self.lock();
        let text = match hold {
            Hold::Show => return format!("SUCCESS: hold={}", u8::from(hub.hold)),
            Hold::On => {
                hub.hold = true;
                "SUCCESS: hold flag set to ON"
            }
            Hold::Off => {
                hub.hold = false;
                "SUCCESS: hold flag set to OFF"
            }
            Hold::Release => {
                hub.holding = None;
                "SUCCESS: hold release succeeded"
            }
        };
        drop(hub);
        self.changed();
        text.to_owned()
    }

    fn throw(&self, name: &str) -> String {
        use signals::Request::{Interrupt, Restart, SoftRestart, Statistics, Terminate};
        let known = [Restart, SoftRestart, Statistics, Terminate, Interrupt];
        let Some(request) = known.into_iter().find(|request| request.name() == name) else {
            return format!("ERROR: signal '{name}' is not a known signal type");
        };
        match self.raise_unless_held(request) {
            Ok(thrown) => format!("SUCCESS: signal {} thrown", thrown.name()),
            // Once more what is waited for, as OpenVPN.
            Err(hold) => format!("ERROR: signal '{name}' is currently ignored\r\n{hold}"),
        }
    }

    /// Raises a signal, as `remap-usr1` has it. What is held does not restart: then the line about the hold comes back.
    pub(super) fn raise_unless_held(
        &self,
        request: signals::Request,
    ) -> Result<signals::Request, Notification> {
        use signals::Request::{Restart, SoftRestart, Terminate};
        let request = match (request, self.shared.remap_usr1) {
            (SoftRestart, Some(RemapUsr1::Hup)) => Restart,
            (SoftRestart, Some(RemapUsr1::Term)) => Terminate,
            (other, _) => other,
        };
        let holding = self.lock().holding.filter(|_| matches!(request, Restart | SoftRestart));
        if let Some(pause) = holding {
            return Err(Notification::Hold(pause));
        }
        self.raise(request);
        Ok(request)
    }

    /// `password TYPE` alone: lines follow, where the client may do so. Returns the refusal.
    fn begin_password(&self, client: &mut Client, kind: String) -> Option<String> {
        let version = self.lock().watchers.get(&client.id).map_or(0, |watcher| watcher.version);
        if version < i64::from(client_version::PASSWORD_LINES) {
            return Some("ERROR: the 'password' command requires 2 parameters".to_owned());
        }
        if let Err(refusal) = self.wants_password(&kind) {
            return Some(refusal);
        }
        client.codec.begin_block(BlockOf::Password(kind));
        None
    }

    /// Other commands that go on over lines. Returns the refusal.
    async fn begin_block(&self, client: &mut Client, request: &Request) -> Option<String> {
        let (name, of) = match request {
            // Whether there is such a client is known at its end: the lines are coming anyway.
            Request::ClientAuth(key) => {
                client.codec.begin_block(BlockOf::ClientAuth(*key));
                return None;
            }
            Request::PkSig(name) => (*name, BlockOf::Signature),
            _ => ("certificate", BlockOf::Certificate),
        };
        if !self.wants_block(&of) {
            return Some(format!("ERROR: The {name} command is not currently available"));
        }
        client.codec.begin_block(of);
        None
    }

    fn take_password_lines(&self, kind: &str, block: &[Zeroizing<String>]) -> String {
        let mut text = Zeroizing::new(String::with_capacity(block.iter().map(|line| line.len()).sum()));
        for line in block {
            text.push_str(line.trim());
        }
        if text.len() / 4 * 3 > MOST_PASSWORD {
            return "ERROR: password too long".to_owned();
        }
        let decoded = base64::prelude::BASE64_STANDARD.decode(text.as_bytes()).map(Zeroizing::new);
        let password = decoded
            .ok()
            .and_then(|bytes| std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned())));
        match password {
            Some(password) => self.enter(kind, Entry::Password(password)),
            None => "ERROR: could not base64-decode password".to_owned(),
        }
    }
}

/// The line ends of an answer.
fn lines(answer: &str) -> String {
    if answer.ends_with('\n') { answer.to_owned() } else { format!("{answer}\r\n") }
}

/// What a refusal calls a command that only a role can answer.
pub(crate) fn role_command(request: &Request) -> &'static str {
    match request {
        Request::Status(_) => "status",
        Request::Kill(_) => "kill",
        Request::NClients => "nclients",
        Request::LoadStats => "load-stats",
        Request::ClientKill { .. } => "client-kill",
        Request::ClientDeny { .. } => "client-deny",
        // OpenVPN names both so.
        Request::ClientAuth(_) | Request::ClientAuthNt(_) => "client-auth",
        Request::ClientPendingAuth { .. } => "client-pending-auth",
        // OpenVPN's own spelling.
        Request::CrResponse(_) => "cr-repsonse",
        Request::PushUpdateBroad(_) => "push-update-broad",
        Request::PushUpdateCid { .. } => "push-update-cid",
        Request::Net => "net",
        Request::Remote(_) => "remote",
        Request::Proxy(_) => "proxy",
        Request::RemoteEntryCount => "remote-entry-count",
        Request::RemoteEntryGet { .. } => "remote-entry-get",
        _ => "command",
    }
}

/// Commands are in the log from verb 3 on, without what is secret in them.
pub(super) fn log_command(line: &str, request: &Request) {
    match request {
        Request::Password { .. } => ovlog!(3, "MANAGEMENT: CMD 'password [...]'"),
        Request::NeedStr { .. } => ovlog!(3, "MANAGEMENT: CMD 'needstr [...]'"),
        Request::CrResponse(_) => ovlog!(3, "MANAGEMENT: CMD 'cr-response [...]'"),
        // Asked for every second by monitors.
        Request::LoadStats => {}
        _ => ovlog!(3, "MANAGEMENT: CMD '{line}'"),
    }
}
