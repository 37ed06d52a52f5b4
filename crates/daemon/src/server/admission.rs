//! Who may come in: the scripts and plugins that judge certificates and connections. Logins are in [`super::login`].
//!
//! Each judgement runs in a task of its own and comes back as a [`Decision`]; a slow script delays its own peer alone.
//! What scripts would see is put together only where one is configured: most servers have none, and it costs as much
//! as a signature. Anything but an explicit yes denies (SEC-AUTH-1).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use culvert_config::{ClientOverrides, Profile, parse_ccd, profile::AuthUserPassVerify, value::Command};
use culvert_offload::Station;
use culvert_plugin::PluginHook;
use culvert_proto::{
    Authorization, Verdict,
    tls::{PeerIdentity, Standing},
};
use culvert_wire::KeyId;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};
use tracing::{Instrument, warn};

use super::login::PendingLogins;
use crate::{
    auth::{plugins::PluginConnect, users::Users},
    hooks::Hooks,
    scripts::{CharClass, ConnectVerdict, Hook, Learned, ScriptEnv},
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
    Connect(SessionKey, Result<Box<Collected>, String>),
    /// About the configuration of a client that is connected, collected again.
    Again(SessionKey, Result<Box<Collected>, Refused>),
    /// The files of `client-config-dir` were looked at: a number that changes with them.
    ClientFiles(u64),
    /// About the certificate of a client that is connected.
    Standing(SessionKey, Standing),
    /// About a client's addresses.
    Learned(SessionKey, bool),
    /// About an Ethernet address of a client that is connected.
    Station(SessionKey, Station, bool),
}

/// A client's own configuration.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) overrides: ClientOverrides,
    /// What plugins, `client-connect` and `client-auth` added: they are asked once for each connection.
    pub(super) added: String,
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
    fn into_reason(self) -> String {
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
    /// Logins whose answer comes later.
    pub(super) pending: PendingLogins,
    pub(super) client_config_dir: Option<PathBuf>,
    pub(super) ccd_exclusive: bool,
    pub(super) tmp_dir: PathBuf,
    /// How long an answer may be deferred: no session waits longer.
    pub(super) patience: Duration,
    pub(super) decisions: mpsc::Sender<Decision>,
}

impl Admission {
    /// Judges by the rules of a profile.
    pub(super) fn new(profile: &Profile, hooks: Arc<Hooks>, decisions: mpsc::Sender<Decision>) -> Self {
        let server = &profile.server;
        Self {
            hooks,
            verify: server.auth_user_pass_verify.clone(),
            users: server.auth_users.as_ref().map(|path| Arc::new(Users::of_file(path.clone()))),
            password_optional: server.auth_user_pass_optional,
            asks_management: profile.management.client_auth,
            key_verify: profile.tls.tls_crypt_v2_verify.clone(),
            pending: PendingLogins::default(),
            client_config_dir: server.client_config_dir.clone(),
            ccd_exclusive: server.ccd_exclusive,
            patience: profile.session.hand_window.max(profile.session.reneg.unwrap_or_default() / 2),
            tmp_dir: profile.process.tmp_dir.clone().unwrap_or_else(std::env::temp_dir),
            decisions,
        }
    }

    /// Judges by the rules of another profile, knowing what was asked and answered before.
    pub(super) fn renewed(&self, profile: &Profile, hooks: Arc<Hooks>) -> Self {
        let mut renewed = Self::new(profile, hooks, self.decisions.clone());
        renewed.pending = self.pending.clone();
        if let (Some(users), Some(path)) = (&self.users, &profile.server.auth_users)
            && users.are_in(path)
        {
            renewed.users = Some(Arc::clone(users));
        }
        renewed
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
        self.spawn(move |this: Self| async move {
            let verdict = this.hooks.judge_certificates(Some(session), &identity, &env).await;
            Decision::Peer(session, key, verdict)
        });
    }

    /// Collects a client's own configuration: its file, then plugins and `client-connect`, then what `client-auth` of the
    /// management interface gave it.
    pub(super) fn judge_connect(
        &self,
        session: SessionKey,
        common_name: String,
        managed: String,
        env: impl FnOnce() -> ScriptEnv,
    ) {
        let is_asked = self.hooks.are_set(Hook::ClientConnect, self.hooks.scripts.client_connect.as_ref())
            || self.hooks.plugins.want(PluginHook::ClientConnectV2)
            || self.hooks.plugins.want(PluginHook::TlsFinal);
        let asked = is_asked.then(env);
        if !is_asked && self.client_config_dir.is_none() && managed.is_empty() {
            return self.decide(Decision::Connect(session, Ok(Box::default())));
        }
        self.spawn(move |this: Self| async move {
            let overrides = this.client_overrides(session, &common_name, asked, &managed).await;
            Decision::Connect(session, overrides.map(Box::new))
        });
    }

    /// Collects the configuration of a client that is connected once more: its file as it is now, with what
    /// `client-connect` said when it connected.
    pub(super) fn judge_again(&self, session: SessionKey, common_name: String, added: String) {
        self.spawn(move |this: Self| async move {
            let collected = this.client_file(&common_name).await;
            let collected = collected.and_then(|text| collect(text, added, &common_name));
            Decision::Again(session, collected.map(Box::new))
        });
    }

    async fn client_overrides(
        &self,
        session: SessionKey,
        common_name: &str,
        asked: Option<ScriptEnv>,
        managed: &str,
    ) -> Result<Collected, String> {
        let text = self.client_file(common_name).await.map_err(Refused::into_reason)?;
        let mut added = String::new();
        if let Some(env) = &asked {
            let client = Some(session.0);
            if !self.hooks.plugins.agree(PluginHook::TlsFinal, &[], env, client).await {
                return Err("a plugin refused the session's keys".to_owned());
            }
            match self.hooks.plugins.judge_connect(&self.tmp_dir, env, session.0).await {
                PluginConnect::Accept(options) => added = options,
                PluginConnect::Reject => return Err("a plugin refused the client".to_owned()),
            }
        }
        if let (Some(env), Some(command)) = (&asked, &self.hooks.scripts.client_connect) {
            let options = match self.hooks.runner.client_connect(command, &self.tmp_dir, env).await {
                ConnectVerdict::Accept(added) => added,
                ConnectVerdict::Reject => return Err("client-connect refused the client".to_owned()),
                ConnectVerdict::Deferred(files) => {
                    if !timeout(self.patience, files.wait()).await.unwrap_or(false) {
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
        addresses: Vec<String>,
        name: String,
        env: ScriptEnv,
    ) {
        let command = self.hooks.scripts.learn_address.clone();
        if !self.hooks.are_set(Hook::LearnAddress, command.as_ref()) {
            return self.decide(Decision::Learned(session, true));
        }
        self.spawn(move |this: Self| async move {
            for address in addresses {
                let words = ["add".to_owned(), address.clone(), CharClass::Printable.clean(&name)];
                if !this.hooks.plugins_agree(Some(session), Hook::LearnAddress, &words, &env).await {
                    return Decision::Learned(session, false);
                }
                let Some(command) = &command else { continue };
                if !this.hooks.runner.learn_address(command, Learned::Add, &address, &name, &env).await {
                    return Decision::Learned(session, false);
                }
            }
            Decision::Learned(session, true)
        });
    }

    /// Runs a judgement in its own task, in the span of the peer.
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

/// Reads a client's file together with what its script added.
fn collect(mut text: String, added: String, name: &str) -> Result<Collected, Refused> {
    text.push('\n');
    text.push_str(&added);
    let (overrides, problems) = parse_ccd(&text, name);
    for problem in &problems {
        warn!("{}", problem.openvpn_line);
    }
    if overrides.disable {
        return Err(Refused::Withdrawn("`disable` is set for this client".to_owned()));
    }
    Ok(Collected { overrides, added })
}
