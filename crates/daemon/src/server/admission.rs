//! Who may come in: the scripts that judge certificates, logins and connections.
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
use culvert_proto::{
    AuthRequest, Authorization, Verdict,
    tls::{PeerIdentity, Standing},
};
use culvert_wire::KeyId;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};
use tracing::{Instrument, warn};

use crate::{
    hooks::Hooks,
    scripts::{AuthAnswer, CharClass, ConnectVerdict, Learned, LoginVerdict, ScriptEnv},
    session_task::SessionKey,
};

/// A judgement that is complete.
#[derive(Debug)]
pub(super) enum Decision {
    /// About a certificate.
    Peer(SessionKey, KeyId, Verdict),
    /// About a login.
    Login(SessionKey, KeyId, Authorization),
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
}

/// A client's own configuration.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) overrides: ClientOverrides,
    /// What `client-connect` added: it runs once for each connection.
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
    pub(super) password_optional: bool,
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
            password_optional: server.auth_user_pass_optional,
            client_config_dir: server.client_config_dir.clone(),
            ccd_exclusive: server.ccd_exclusive,
            patience: profile.session.hand_window.max(profile.session.reneg.unwrap_or_default() / 2),
            tmp_dir: profile.process.tmp_dir.clone().unwrap_or_else(std::env::temp_dir),
            decisions,
        }
    }

    /// Judges a certificate chain that passed the configured checks: `tls-verify`, root first.
    pub(super) fn judge_peer(
        &self,
        session: SessionKey,
        key: KeyId,
        identity: &PeerIdentity,
        env: impl FnOnce() -> ScriptEnv,
    ) {
        let Some(command) = self.hooks.scripts.tls_verify.clone() else {
            return self.decide(Decision::Peer(session, key, Verdict::Accept));
        };
        let Some(certificates) = identity.certificates() else {
            let reason = "a certificate is not understood, so tls-verify cannot judge it".to_owned();
            return self.decide(Decision::Peer(session, key, Verdict::Deny(reason)));
        };
        let env = env();
        self.spawn(move |this: Self| async move {
            for certificate in certificates.iter().rev() {
                if !this.hooks.runner.verify_certificate(&command, certificate, &env).await {
                    let reason = "tls-verify refused the certificate".to_owned();
                    return Decision::Peer(session, key, Verdict::Deny(reason));
                }
            }
            Decision::Peer(session, key, Verdict::Accept)
        });
    }

    /// Judges a login: `auth-user-pass-verify`.
    pub(super) fn judge_login(
        &self,
        session: SessionKey,
        request: AuthRequest,
        env: impl FnOnce() -> ScriptEnv,
    ) {
        let key = request.key;
        let Some(verify) = self.verify.clone() else {
            return self.decide(Decision::Login(session, key, Authorization::Accept));
        };
        if request.username.is_empty() && request.password.is_empty() && self.password_optional {
            return self.decide(Decision::Login(session, key, Authorization::Accept));
        }
        let env = env();
        self.spawn(move |this: Self| async move {
            let authorization = this.run_verify(&verify, &request, &env, session).await;
            Decision::Login(session, key, authorization)
        });
    }

    async fn run_verify(
        &self,
        verify: &AuthUserPassVerify,
        request: &AuthRequest,
        env: &ScriptEnv,
        session: SessionKey,
    ) -> Authorization {
        let runner = &self.hooks.runner;
        let (username, password) = (&request.username, &request.password);
        match runner.verify_login(verify, &self.tmp_dir, username, password, env).await {
            LoginVerdict::Accept => Authorization::Accept,
            LoginVerdict::Reject(reason) => Authorization::Deny(reason),
            LoginVerdict::Deferred(files) => {
                if let Some(pending) = files.pending() {
                    let timeout = u32::try_from(pending.timeout.as_secs()).unwrap_or(u32::MAX);
                    let wait = Authorization::Pending { timeout, extra: Some(pending.extra) };
                    self.decide(Decision::Login(session, request.key, wait));
                }
                match timeout(self.patience, files.wait()).await {
                    Ok(AuthAnswer::Accept) => Authorization::Accept,
                    Ok(AuthAnswer::Reject(reason)) => Authorization::Deny(reason),
                    Err(_elapsed) => Authorization::Deny(None),
                }
            }
        }
    }

    /// Collects a client's own configuration: its file, then `client-connect`, then what `client-auth` of the management
    /// interface gave it.
    pub(super) fn judge_connect(
        &self,
        session: SessionKey,
        common_name: String,
        managed: String,
        env: impl FnOnce() -> ScriptEnv,
    ) {
        let script = self.hooks.scripts.client_connect.clone().map(|command| (command, env()));
        if script.is_none() && self.client_config_dir.is_none() && managed.is_empty() {
            return self.decide(Decision::Connect(session, Ok(Box::default())));
        }
        self.spawn(move |this: Self| async move {
            Decision::Connect(
                session,
                this.client_overrides(&common_name, script, &managed).await.map(Box::new),
            )
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
        common_name: &str,
        script: Option<(Command, ScriptEnv)>,
        managed: &str,
    ) -> Result<Collected, String> {
        let text = self.client_file(common_name).await.map_err(Refused::into_reason)?;
        let mut added = String::new();
        if let Some((command, env)) = &script {
            added = match self.hooks.runner.client_connect(command, &self.tmp_dir, env).await {
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
        let Some(command) = self.hooks.scripts.learn_address.clone() else {
            return self.decide(Decision::Learned(session, true));
        };
        self.spawn(move |this: Self| async move {
            for address in addresses {
                if !this.hooks.runner.learn_address(&command, Learned::Add, &address, &name, &env).await {
                    return Decision::Learned(session, false);
                }
            }
            Decision::Learned(session, true)
        });
    }

    /// Runs a judgement in its own task, in the span of the peer.
    fn spawn<F>(&self, judge: impl FnOnce(Self) -> F)
    where
        F: Future<Output = Decision> + Send + 'static,
    {
        let judging = judge(self.clone());
        let decisions = self.decisions.clone();
        tokio::spawn(async move { drop(decisions.send(judging.await).await) }.in_current_span());
    }

    /// Hands over a decision that needs no waiting.
    fn decide(&self, decision: Decision) {
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
