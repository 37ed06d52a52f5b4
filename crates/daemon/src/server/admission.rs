//! Who may come in: the scripts that judge certificates, logins and connections.
//!
//! Each judgement runs in a task of its own and comes back as a [`Decision`]; a slow script delays its own peer alone.
//! Anything but an explicit yes denies (SEC-AUTH-1).

use std::{path::PathBuf, sync::Arc};

use culvert_config::{
    ClientOverrides, parse_ccd,
    profile::{AuthUserPassVerify, VerifyVia},
};
use culvert_proto::{AuthRequest, Authorization, Verdict, tls::PeerIdentity};
use culvert_wire::KeyId;
use tokio::sync::mpsc;
use tracing::{Instrument, error, warn};

use crate::{
    hooks::{HookOutcome, Hooks},
    ovlog,
    scripts::{AuthAnswer, CharClass, ConnectFiles, CredentialFile, DeferredAuth, Hook, ScriptEnv},
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
    Connect(SessionKey, Result<Box<ClientOverrides>, String>),
    /// About a client's addresses.
    Learned(SessionKey, bool),
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
    pub(super) decisions: mpsc::Sender<Decision>,
}

impl Admission {
    /// Judges a certificate chain that passed the configured checks: `tls-verify`, root first.
    pub(super) fn judge_peer(
        &self,
        session: SessionKey,
        key: KeyId,
        identity: &PeerIdentity,
        env: ScriptEnv,
    ) {
        let Some(command) = self.hooks.scripts.tls_verify.clone() else {
            return self.decide(Decision::Peer(session, key, Verdict::Accept));
        };
        let certificates: Vec<_> =
            identity.certificates.iter().rev().map(|cert| (cert.depth, cert.subject.clone())).collect();
        self.spawn(move |this: Self| async move {
            let mut verdict = Verdict::Accept;
            for (depth, subject) in certificates {
                let arguments = [depth.to_string(), CharClass::X509.clean(&subject)];
                if !this.hooks.run(Hook::TlsVerify, Some(&command), &arguments, &env).await.passed() {
                    warn!("VERIFY SCRIPT ERROR: depth={depth}, {subject}");
                    verdict = Verdict::Deny("tls-verify refused the certificate".to_owned());
                    break;
                }
                ovlog!(1, "VERIFY SCRIPT OK: depth={depth}, {subject}");
            }
            Decision::Peer(session, key, verdict)
        });
    }

    /// Judges a login: `auth-user-pass-verify`.
    pub(super) fn judge_login(&self, session: SessionKey, request: AuthRequest, mut env: ScriptEnv) {
        let key = request.key;
        let Some(verify) = self.verify.clone() else {
            return self.decide(Decision::Login(session, key, Authorization::Accept));
        };
        if request.username.is_empty() && request.password.is_empty() && self.password_optional {
            return self.decide(Decision::Login(session, key, Authorization::Accept));
        }
        env.set_name("username", &request.username);
        self.spawn(move |this: Self| async move {
            let authorization = this.run_verify(&verify, &request, env, session).await;
            if authorization == Authorization::Accept {
                ovlog!(
                    2,
                    "TLS: Username/Password authentication succeeded for username '{}' ",
                    request.username
                );
            } else {
                ovlog!(error 1, "TLS Auth Error: Auth Username/Password verification failed for peer");
            }
            Decision::Login(session, key, authorization)
        });
    }

    async fn run_verify(
        &self,
        verify: &AuthUserPassVerify,
        request: &AuthRequest,
        mut env: ScriptEnv,
        session: SessionKey,
    ) -> Authorization {
        let files = match DeferredAuth::create(&self.tmp_dir) {
            Ok(files) => files,
            Err(failure) => {
                error!(
                    "cannot create files for auth-user-pass-verify in {}: {failure}",
                    self.tmp_dir.display()
                );
                return Authorization::Deny(None);
            }
        };
        files.export(&mut env);
        let mut arguments = Vec::new();
        let credentials = match verify.via {
            VerifyVia::Env if self.hooks.passwords_allowed() => {
                env.set("password", request.password.as_str());
                None
            }
            VerifyVia::Env => {
                error!("auth-user-pass-verify via-env needs `script-security 3`; the login is refused");
                return Authorization::Deny(None);
            }
            VerifyVia::File => {
                match CredentialFile::create(&self.tmp_dir, &request.username, &request.password) {
                    Ok(file) => {
                        arguments.push(file.path().display().to_string());
                        Some(file)
                    }
                    Err(failure) => {
                        error!("cannot write the login into a file in {}: {failure}", self.tmp_dir.display());
                        return Authorization::Deny(None);
                    }
                }
            }
        };
        let outcome = self.hooks.run(Hook::AuthUserPassVerify, Some(&verify.command), &arguments, &env).await;
        drop(credentials);
        match outcome {
            HookOutcome::Passed => Authorization::Accept,
            HookOutcome::Failed(_) => Authorization::Deny(files.reason()),
            HookOutcome::Deferred => {
                if let Some(pending) = files.pending() {
                    let timeout = u32::try_from(pending.timeout.as_secs()).unwrap_or(u32::MAX);
                    let wait = Authorization::Pending { timeout, extra: Some(pending.extra) };
                    self.decide(Decision::Login(session, request.key, wait));
                }
                match files.wait().await {
                    AuthAnswer::Accept => Authorization::Accept,
                    AuthAnswer::Reject(reason) => Authorization::Deny(reason),
                }
            }
        }
    }

    /// Collects a client's own configuration: its file, then `client-connect`.
    pub(super) fn judge_connect(&self, session: SessionKey, common_name: String, env: ScriptEnv) {
        self.spawn(move |this: Self| async move {
            Decision::Connect(session, this.client_overrides(&common_name, env).await.map(Box::new))
        });
    }

    async fn client_overrides(
        &self,
        common_name: &str,
        mut env: ScriptEnv,
    ) -> Result<ClientOverrides, String> {
        let mut text = self.client_file(common_name).await?;
        if let Some(command) = self.hooks.scripts.client_connect.clone() {
            let files = ConnectFiles::create(&self.tmp_dir)
                .map_err(|failure| format!("cannot create files for client-connect: {failure}"))?;
            files.export(&mut env);
            let arguments = [files.config_path().display().to_string()];
            match self.hooks.run(Hook::ClientConnect, Some(&command), &arguments, &env).await {
                HookOutcome::Passed if files.is_deferred() && !files.wait().await => {
                    return Err("client-connect refused the client later".to_owned());
                }
                HookOutcome::Passed => {}
                HookOutcome::Deferred | HookOutcome::Failed(_) => {
                    return Err("client-connect refused the client".to_owned());
                }
            }
            let added = files
                .config()
                .map_err(|failure| format!("cannot read what client-connect wrote: {failure}"))?;
            text.push('\n');
            text.push_str(&added);
        }
        let (overrides, problems) = parse_ccd(&text, common_name);
        for problem in &problems {
            warn!("{}", problem.openvpn_line);
        }
        if overrides.disable { Err("`disable` is set for this client".to_owned()) } else { Ok(overrides) }
    }

    /// Reads `client-config-dir`: the file named like the client, else `DEFAULT`.
    async fn client_file(&self, common_name: &str) -> Result<String, String> {
        let Some(directory) = &self.client_config_dir else { return Ok(String::new()) };
        let name = CharClass::Name.clean(common_name);
        let own = (name != "." && name != ".." && !name.is_empty()).then(|| directory.join(&name));
        if let Some(own) = own {
            match tokio::fs::read_to_string(&own).await {
                Ok(text) => return Ok(text),
                Err(failure) if failure.kind() == std::io::ErrorKind::NotFound => {}
                Err(failure) => return Err(format!("cannot read {}: {failure}", own.display())),
            }
        }
        if self.ccd_exclusive {
            return Err(format!("ccd-exclusive: no file for '{name}' in {}", directory.display()));
        }
        Ok(tokio::fs::read_to_string(directory.join("DEFAULT")).await.unwrap_or_default())
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
                let arguments = ["add".to_owned(), address, name.clone()];
                if !this.hooks.run(Hook::LearnAddress, Some(&command), &arguments, &env).await.passed() {
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
        let decisions = self.decisions.clone();
        tokio::spawn(async move { drop(decisions.send(decision).await) });
    }
}
