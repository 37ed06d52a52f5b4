//! Who may come in: the scripts and plugins that judge certificates and connections. Logins are in [`super::login`].
//!
//! Each judgement runs in a task of its own and comes back as a [`Decision`]; a slow script delays its own peer alone.
//! What scripts would see is put together only where one is configured: most servers have none, and it costs as much
//! as a signature. Anything but an explicit yes denies (SEC-AUTH-1).

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use culvert_config::{ClientOverrides, Profile, parse_ccd, profile::AuthUserPassVerify, value::Command};
use culvert_offload::Station;
use culvert_plugin::PluginHook;
use culvert_proto::{
    Authorization, ExportedKey, Verdict,
    tls::{PeerIdentity, Standing, TlsFactory},
};
use culvert_wire::KeyId;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};
use tracing::{Instrument, warn};

use super::{farewell::Farewell, host_routes::Seen, revocation::Round, under_way::UnderWay, watch::Look};
use crate::{
    auth::{memory::LoginMemory, plugins::PluginConnect, throttle::Throttle, users::Users},
    hooks::Hooks,
    scripts::{Answers, CharClass, ConnectVerdict, Hook, Learned, ScriptEnv, ipchange_arguments},
    session_task::SessionKey,
};

/// A judgement that is complete.
#[derive(Debug)]
pub(super) enum Decision {
    /// About a certificate.
    Peer(SessionKey, KeyId, Verdict),
    /// About a login.
    Login(SessionKey, KeyId, Authorization),
    /// About a token, which stands in for a whole login: nobody else is asked.
    Token(SessionKey, KeyId, Authorization),
    /// About a client's configuration; `Err` refuses it.
    Connect(SessionKey, Result<Box<Collected>, Declined>),
    /// About the configuration of a client that is connected, collected again.
    Again(SessionKey, Result<Box<Collected>, Refused>),
    /// About a client on its way, once more because rules changed: its certificate, and its configuration.
    Newcomer(SessionKey, Standing, Result<Box<Collected>, Refused>),
    /// Files that let clients in were looked at.
    Looked(Look),
    /// The certificate of a client that is connected is no longer let in.
    Withdrawn(SessionKey, String),
    /// The certificates of all clients that are connected were judged again.
    Judged(Round),
    /// The machine's routes were looked at.
    Routes(Box<Seen>),
    /// The file of `auth-users` was read again, or cannot be.
    Users(Result<(), String>),
    /// About a client's addresses: whether all may be used, and those that may.
    Learned(SessionKey, bool, Box<Farewell>),
    /// About an Ethernet address of a client that is connected.
    Station(SessionKey, Station, bool),
}

/// A client's own configuration.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) overrides: ClientOverrides,
    /// What plugins, `client-connect` and `client-auth` added: they are asked once for each connection.
    pub(super) added: String,
    /// What the hooks saw that were asked about the connection.
    pub(super) asked: Option<Box<ScriptEnv>>,
}

/// Why a client is not connected: its file, a plugin or a program says so.
#[derive(Debug)]
pub(super) struct Declined {
    pub(super) reason: String,
    /// What the hooks saw that were asked.
    pub(super) asked: Option<Box<ScriptEnv>>,
}

/// Why a client's own configuration lets nobody in.
#[derive(Debug)]
pub(super) enum Refused {
    /// It says so: `disable`, or no file under `ccd-exclusive`. Who is connected has to leave.
    Withdrawn(String),
    /// It cannot be read: nobody new is let in, who is connected stays.
    Unreadable(String),
}

impl Refused {
    pub(super) fn into_reason(self) -> String {
        match self {
            Self::Withdrawn(reason) | Self::Unreadable(reason) => reason,
        }
    }
}

/// Starts judgements.
#[derive(Clone)]
pub(super) struct Admission {
    pub(super) hooks: Arc<Hooks>,
    pub(super) verify: Option<AuthUserPassVerify>,
    pub(super) users: Option<Arc<Users>>,
    pub(super) password_optional: bool,
    /// `management-client-auth`: what passes here is asked there.
    pub(super) asks_management: bool,
    /// `tls-crypt-v2-verify`.
    pub(super) key_verify: Option<Command>,
    /// What ends with its session.
    pub(super) under_way: UnderWay,
    /// The brake on guessing.
    pub(super) throttle: Arc<Throttle>,
    pub(super) client_config_dir: Option<PathBuf>,
    pub(super) ccd_exclusive: bool,
    pub(super) tmp_dir: PathBuf,
    /// Of programs and plugins, in `tmp_dir`.
    pub(super) answers: Arc<Answers>,
    /// How long an answer may be deferred: no session waits longer.
    pub(super) patience: Duration,
    pub(super) decisions: mpsc::Sender<Decision>,
}

impl Admission {
    /// Judges by the rules of a profile.
    pub(super) fn new(
        profile: &Profile,
        hooks: Arc<Hooks>,
        decisions: mpsc::Sender<Decision>,
        memory: &mut LoginMemory,
    ) -> Self {
        let server = &profile.server;
        let tmp_dir = profile.process.tmp_dir.clone().unwrap_or_else(std::env::temp_dir);
        Self {
            hooks,
            verify: server.auth_user_pass_verify.clone(),
            users: memory.users(profile),
            password_optional: server.auth_user_pass_optional,
            asks_management: profile.management.client_auth,
            key_verify: profile.tls.tls_crypt_v2_verify.clone(),
            under_way: UnderWay::default(),
            throttle: memory.throttle(),
            client_config_dir: server.client_config_dir.clone(),
            ccd_exclusive: server.ccd_exclusive,
            patience: profile.session.hand_window.max(profile.session.reneg.unwrap_or_default() / 2),
            answers: Arc::new(Answers::of(&tmp_dir)),
            tmp_dir,
            decisions,
        }
    }

    /// Judges by the rules of another profile; what is under way goes on.
    pub(super) fn renewed(&self, profile: &Profile, hooks: Arc<Hooks>, memory: &mut LoginMemory) -> Self {
        let under_way = self.under_way.clone();
        Self { under_way, ..Self::new(profile, hooks, self.decisions.clone(), memory) }
    }

    /// Judges a certificate chain that passed the configured checks: `tls-verify`, root first.
    pub(super) fn judge_peer(
        &self,
        session: SessionKey,
        key: KeyId,
        identity: &Arc<PeerIdentity>,
        env: impl FnOnce() -> ScriptEnv,
    ) {
        if !self.hooks.are_set(Hook::TlsVerify, self.hooks.scripts.tls_verify.as_ref()) {
            return self.decide(Decision::Peer(session, key, Verdict::Accept));
        }
        let (env, identity) = (env(), Arc::clone(identity));
        self.spawn_for(session, move |this: Self| async move {
            let verdict = this.hooks.judge_certificates(Some(session), &identity, &env).await;
            Decision::Peer(session, key, verdict)
        });
    }

    /// Collects a client's own configuration: its file, then plugins and `client-connect`, then what `client-auth` of the
    /// management interface gave it.
    pub(super) fn judge_connect(
        &self,
        (session, remote): (SessionKey, SocketAddr),
        common_name: String,
        managed: String,
        env: impl FnOnce() -> ScriptEnv,
    ) {
        let is_asked = self.hooks.are_set(Hook::ClientConnect, self.hooks.scripts.client_connect.as_ref())
            || self.hooks.plugins.want(PluginHook::ClientConnectV2)
            || self.hooks.plugins.want(PluginHook::TlsFinal)
            || self.hooks.plugins.want(PluginHook::IpChange);
        let asked = is_asked.then(env);
        if !is_asked && self.client_config_dir.is_none() && managed.is_empty() {
            return self.decide(Decision::Connect(session, Ok(Box::default())));
        }
        self.spawn(move |this: Self| async move {
            let collected =
                this.client_overrides((session, remote), &common_name, asked.as_ref(), &managed).await;
            let asked = asked.map(Box::new);
            let decision = match collected {
                Ok(collected) => Ok(Box::new(Collected { asked, ..collected })),
                Err(reason) => Err(Declined { reason, asked }),
            };
            Decision::Connect(session, decision)
        });
    }

    /// Asks plugins about the keys of the one peer of a point-to-point tunnel, of whom nothing else is asked.
    pub(super) fn judge_keys(&self, session: SessionKey, env: ScriptEnv, exported: Option<Arc<ExportedKey>>) {
        if !self.hooks.plugins.want(PluginHook::TlsFinal) {
            return self.decide(Decision::Connect(session, Ok(Box::default())));
        }
        self.spawn(move |this: Self| async move {
            let agreed = this.hooks.agree_to_keys(&env, exported.as_deref()).await;
            let refused =
                || Declined { reason: "a plugin refused the session's keys".to_owned(), asked: None };
            Decision::Connect(session, agreed.then(Box::default).ok_or_else(refused))
        });
    }

    /// Collects the configuration of a client that is connected once more: its file as it is now, with what
    /// `client-connect` said when it connected.
    pub(super) fn judge_again(&self, session: SessionKey, common_name: String, added: String) {
        self.spawn(move |this: Self| async move {
            Decision::Again(session, this.collect_again(&common_name, added).await)
        });
    }

    /// Judges a client on its way by rules that changed since it was judged: its certificate, and its file.
    pub(super) fn judge_newcomer_again(
        &self,
        session: SessionKey,
        (tls, identity): (Arc<dyn TlsFactory>, Arc<PeerIdentity>),
        common_name: String,
        added: String,
    ) {
        self.spawn(move |this: Self| async move {
            let judged = tokio::task::spawn_blocking(move || tls.judge_again(&identity)).await;
            // Anything but an explicit yes denies (SEC-AUTH-1).
            let standing =
                judged.unwrap_or_else(|failure| Standing::Unknown(format!("internal error: {failure}")));
            Decision::Newcomer(session, standing, this.collect_again(&common_name, added).await)
        });
    }

    async fn collect_again(&self, common_name: &str, added: String) -> Result<Box<Collected>, Refused> {
        let text = self.client_file(common_name).await?;
        collect(text, added, common_name).map(Box::new)
    }

    async fn client_overrides(
        &self,
        (session, remote): (SessionKey, SocketAddr),
        common_name: &str,
        env: Option<&ScriptEnv>,
        managed: &str,
    ) -> Result<Collected, String> {
        let text = self.client_file(common_name).await.map_err(Refused::into_reason)?;
        // Nobody is asked about a client that may not come in anyway.
        if parse_ccd(&text, common_name).0.disable {
            return Err(DISABLED.to_owned());
        }
        let mut added = String::new();
        if let Some(env) = env {
            // Whom a plugin was told to forget it must not hear of again.
            let asked = self.plugins_at_connect((session, remote), env);
            added =
                self.under_way.while_there(session, asked).await.unwrap_or_else(|| Err(LEFT.to_owned()))?;
        }
        if let (Some(env), Some(command)) = (env, &self.hooks.scripts.client_connect) {
            let options = match self.hooks.runner.client_connect(command, &self.tmp_dir, env).await {
                ConnectVerdict::Accept(added) => added,
                ConnectVerdict::Reject => return Err("client-connect refused the client".to_owned()),
                ConnectVerdict::Deferred(files) => {
                    let answer = timeout(self.patience, files.wait(&self.answers));
                    let Some(answer) = self.under_way.while_there(session, answer).await else {
                        return Err(LEFT.to_owned());
                    };
                    if !answer.unwrap_or(false) {
                        return Err("client-connect refused the client later".to_owned());
                    }
                    let unreadable = |failure| format!("cannot read what client-connect wrote: {failure}");
                    files.config().map_err(unreadable)?
                }
            };
            added.push('\n');
            added.push_str(&options);
        }
        if !managed.is_empty() {
            added.push('\n');
            added.push_str(managed);
        }
        collect(text, added, common_name).map_err(Refused::into_reason)
    }

    /// Asks plugins about a client that connects; returns what they add to its options.
    async fn plugins_at_connect(
        &self,
        (session, remote): (SessionKey, SocketAddr),
        env: &ScriptEnv,
    ) -> Result<String, String> {
        let plugins = &self.hooks.plugins;
        if !plugins.agree(PluginHook::TlsFinal, &[], env, Some(session.0)).await {
            return Err("a plugin refused the session's keys".to_owned());
        }
        // As in OpenVPN, where it cannot refuse the client.
        plugins.agree(PluginHook::IpChange, &ipchange_arguments(remote), env, Some(session.0)).await;
        match plugins.judge_connect(&self.tmp_dir, env, session.0).await {
            PluginConnect::Accept(options) => Ok(options),
            PluginConnect::Reject => Err("a plugin refused the client".to_owned()),
        }
    }

    /// Reads `client-config-dir`: the file named like the client, else `DEFAULT`.
    async fn client_file(&self, common_name: &str) -> Result<String, Refused> {
        let unreadable =
            |path: &Path, failure| Refused::Unreadable(format!("cannot read {}: {failure}", path.display()));
        let Some(directory) = &self.client_config_dir else { return Ok(String::new()) };
        let name = CharClass::FileName.clean(common_name);
        let own = (name != "." && name != ".." && !name.is_empty()).then(|| directory.join(&name));
        if let Some(own) = own {
            match tokio::fs::read_to_string(&own).await {
                Ok(text) => return Ok(text),
                Err(failure) if failure.kind() == std::io::ErrorKind::NotFound => {}
                Err(failure) => return Err(unreadable(&own, failure)),
            }
        }
        if self.ccd_exclusive {
            // A directory that went away must not read as "everybody is to leave".
            if let Err(failure) = tokio::fs::metadata(directory).await {
                return Err(unreadable(directory, failure));
            }
            let reason = format!("ccd-exclusive: no file for '{name}' in {}", directory.display());
            return Err(Refused::Withdrawn(reason));
        }
        let default = directory.join("DEFAULT");
        match tokio::fs::read_to_string(&default).await {
            Ok(text) => Ok(text),
            Err(failure) if failure.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            // It may hold a `disable` (SEC-AUTH-1).
            Err(failure) => Err(unreadable(&default, failure)),
        }
    }

    /// Tells `learn-address` about a client's addresses; one refusal refuses the client.
    pub(super) fn judge_addresses(
        &self,
        session: SessionKey,
        addresses: Vec<(Learned, String)>,
        name: String,
        env: ScriptEnv,
    ) {
        self.spawn(move |this: Self| async move {
            let mut told = Vec::new();
            let mut agreed = true;
            for (change, address) in addresses {
                // Whom a plugin was told to forget it must not hear of again.
                let is_there = this.under_way.while_there(session, std::future::ready(())).await.is_some();
                if !is_there || !this.hooks.learn_address(session, change, &address, &name, &env).await {
                    agreed = false;
                    break;
                }
                if change != Learned::Delete {
                    told.push(address);
                }
            }
            let farewell = Farewell { env, common_name: name, were_asked: false, addresses: told };
            Decision::Learned(session, agreed, Box::new(farewell))
        });
    }

    /// Runs a judgement in its own task, in the span of the peer, as long as its session is there.
    pub(super) fn spawn_for<F>(&self, session: SessionKey, judge: impl FnOnce(Self) -> F)
    where
        F: Future<Output = Decision> + Send + 'static,
    {
        let judging = judge(self.clone());
        let (under_way, decisions) = (self.under_way.clone(), self.decisions.clone());
        let asked = async move {
            if let Some(decision) = under_way.while_there(session, judging).await {
                drop(decisions.send(decision).await);
            }
        };
        tokio::spawn(asked.in_current_span());
    }

    /// Runs a judgement to its end, whatever becomes of its session: a program that connects clients must not be killed
    /// half way.
    pub(super) fn spawn<F>(&self, judge: impl FnOnce(Self) -> F)
    where
        F: Future<Output = Decision> + Send + 'static,
    {
        let judging = judge(self.clone());
        let decisions = self.decisions.clone();
        tokio::spawn(async move { drop(decisions.send(judging.await).await) }.in_current_span());
    }

    /// Hands over a decision that needs no waiting.
    pub(super) fn decide(&self, decision: Decision) {
        if let Err(TrySendError::Full(decision)) = self.decisions.try_send(decision) {
            // The server is who reads them, and it is who calls this: it must not wait.
            let decisions = self.decisions.clone();
            tokio::spawn(async move { drop(decisions.send(decision).await) });
        }
    }
}

/// Why a client is kept out by its file, or by what its script adds to that.
const DISABLED: &str = "`disable` is set for this client";

/// Why a client is not connected that has left meanwhile: nobody hears of it.
const LEFT: &str = "the client has left";

/// Reads a client's file together with what its script added.
fn collect(mut text: String, added: String, name: &str) -> Result<Collected, Refused> {
    text.push('\n');
    text.push_str(&added);
    let (overrides, problems) = parse_ccd(&text, name);
    for problem in &problems {
        warn!("{}", problem.openvpn_line);
    }
    if overrides.disable {
        return Err(Refused::Withdrawn(DISABLED.to_owned()));
    }
    Ok(Collected { overrides, added, asked: None })
}
