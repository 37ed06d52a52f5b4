//! Reload: another configuration comes into force while clients stay connected.
//!
//! [`Configuration::reread`] gives the profile that a running server can have: new values of live options, former ones of
//! all others. Everything that may fail is tried before anything changes; then the parts of the server that were made
//! of the profile are made anew, and every connected client is judged again (`revocation`, `push_update`): who is
//! affected is told, or has to leave; nobody else notices.

use std::{fmt, io, sync::Arc};

use culvert_config::{Changed, Configuration, Profile, Reread, Role, render_all};
use culvert_proto::{
    Command,
    tls::{TlsFactory, TlsRole},
};
use serde_json::json;
use tokio::sync::oneshot;

use super::{
    Configs, Server, Standing, judges,
    listeners::{Limits, ListenerOrder},
    start::RoutesChanged,
    watch::Watch,
};
use crate::{
    bridge,
    life::Life,
    log::LogConfig,
    ovlog,
    settings::{SettingsError, session::requires_credentials, tls::remake_factory, wrapping},
    tunnel::Completion,
};

/// What a reload did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reloaded {
    /// Options that have another value now, with their places.
    pub(super) applied: Vec<String>,
    /// Options whose new value needs a restart.
    pub(super) needs_restart: Vec<String>,
    /// What did not work out.
    pub(super) problems: Vec<String>,
    /// TLS was made anew from its files.
    pub(super) has_new_tls: bool,
}

/// Why nothing was changed: the messages, as at a start.
#[derive(Debug)]
pub(super) struct ReloadRefused(pub(super) String);

impl fmt::Display for ReloadRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

impl Server {
    /// SIGHUP: a reload that tells the log how it went.
    pub(super) fn reload_by_signal(
        &mut self,
        life: &mut Life,
        standing: &mut Standing,
        configuration: &Configuration<'_>,
    ) {
        ovlog!(1, "SIGHUP[hard,] received, reading the configuration again; clients stay connected");
        if let Ok((_in_the_log, routes)) = self.reload_and_log(life, standing, configuration) {
            tokio::spawn(async move { drop(log_routes(routes).await) });
        }
    }

    /// `culvert reload`: the same, and whoever asked is told as well, in JSON, when routes are what they are to be.
    pub(super) fn reload_by_order(
        &mut self,
        life: &mut Life,
        standing: &mut Standing,
        configuration: &Configuration<'_>,
        answer: oneshot::Sender<String>,
    ) {
        if self.profile.role() != Role::Server {
            let refusal =
                json!({ "error": "only a server reloads; a point-to-point end restarts on SIGHUP" });
            return drop(answer.send(refusal.to_string()));
        }
        ovlog!(1, "culvert reload: reading the configuration again; clients stay connected");
        match self.reload_and_log(life, standing, configuration) {
            Ok((reloaded, routes)) => {
                let Reloaded { applied, needs_restart, mut problems, has_new_tls: _ } = reloaded;
                tokio::spawn(async move {
                    problems.extend(log_routes(routes).await);
                    let told =
                        json!({ "changed": applied, "needs_restart": needs_restart, "problems": problems });
                    // Whoever asked may have left.
                    drop(answer.send(told.to_string()));
                });
            }
            Err(refused) => drop(answer.send(json!({ "error": refused.to_string() }).to_string())),
        }
    }

    fn reload_and_log(
        &mut self,
        life: &mut Life,
        standing: &mut Standing,
        configuration: &Configuration<'_>,
    ) -> Result<(Reloaded, RoutesChanged), ReloadRefused> {
        let outcome = self.reload(life, standing, configuration);
        match &outcome {
            Err(refused) => {
                for line in refused.to_string().lines() {
                    ovlog!(error 1, "{line}");
                }
                ovlog!(error 1, "reload: nothing was changed, the server goes on as before");
            }
            Ok((reloaded, _)) => {
                let list = |options: &[String]| match options {
                    [] => "no option".to_owned(),
                    options => options.join(", "),
                };
                let keys = if reloaded.has_new_tls {
                    "keys, certificates and revocation lists were read again"
                } else {
                    "keys and certificates stay as they were"
                };
                ovlog!(1, "reload: changed: {}; {keys}", list(&reloaded.applied));
                if !reloaded.needs_restart.is_empty() {
                    ovlog!(warn 1, "reload: needs a restart: {}", list(&reloaded.needs_restart));
                }
                for problem in &reloaded.problems {
                    ovlog!(warn 1, "reload: {problem}");
                }
            }
        }
        outcome
    }

    /// Reads the configuration again and brings into force what a running server can take.
    ///
    /// # Errors
    /// What is wrong with the configuration. Nothing has changed then.
    fn reload(
        &mut self,
        life: &mut Life,
        standing: &mut Standing,
        configuration: &Configuration<'_>,
    ) -> Result<(Reloaded, RoutesChanged), ReloadRefused> {
        let mut reread = configuration.reread().map_err(|errors| ReloadRefused(render_all(&errors)))?;
        judges::check(&reread.profile, &self.hooks.plugins).map_err(ReloadRefused)?;
        let mut reloaded = Reloaded::default();
        reloaded.problems.extend(reread.notes.iter().map(|note| note.openvpn_line.clone()));
        let mut waiting = self.keep_what_stands(&mut reread);
        let tls = self.new_tls(life, &mut reread, &mut reloaded)?;
        let shown = |changes: &[Changed]| changes.iter().map(ToString::to_string).collect::<Vec<_>>();
        reloaded.applied = shown(&reread.changes.live);
        reloaded.needs_restart = shown(&reread.changes.restart);
        reloaded.needs_restart.append(&mut waiting);
        configuration.adopt(&reread);
        self.take_over(life, Arc::new(reread.profile), tls, &mut reloaded);
        let routes = standing.follow_routes(&self.profile);
        self.judge_certificates_again();
        self.judge_clients_again();
        Ok((reloaded, routes))
    }

    /// Puts back what is bound to sockets and tables that stay: the connection with its control channel keys, the key of
    /// tokens, and the number of clients for which there is room. Returns what therefore waits for a restart.
    fn keep_what_stands(&self, reread: &mut Reread) -> Vec<String> {
        let profile = &mut reread.profile;
        let mut waiting: Vec<String> = wrapping::changed_keys(&self.profile, profile)
            .into_iter()
            .map(|option| format!("the key of `{option}`, which changed on disk"))
            .collect();
        profile.connections.clone_from(&self.profile.connections);
        profile.server.auth_gen_token_secret.clone_from(&self.profile.server.auth_gen_token_secret);
        let most = self.most_clients;
        if profile.server.max_clients > most {
            waiting.push(format!(
                "`max-clients {}`: until then there is room for {most}",
                profile.server.max_clients
            ));
            profile.server.max_clients = most;
        }
        waiting
    }

    /// TLS for new sessions and key exchanges, from the files as they are. A process that gave up its privileges may not
    /// be able to read its key again, and one that had to ask for passphrase or certificate does not ask while it serves:
    /// then TLS stays as it is.
    fn new_tls(
        &self,
        life: &Life,
        reread: &mut Reread,
        reloaded: &mut Reloaded,
    ) -> Result<Arc<dyn TlsFactory>, ReloadRefused> {
        let reason = match remake_factory(life, &reread.profile, TlsRole::Server) {
            Ok(Some(factory)) => {
                reloaded.has_new_tls = true;
                return Ok(Arc::new(factory));
            }
            Ok(None) => {
                "passphrase or certificate come from the management interface, which is asked at a start only; restart the server".to_owned()
            }
            Err(SettingsError::File { option, path, source })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                format!(
                    "without its former privileges the process cannot read --{option} {}; restart the server, or let its `user` read the file",
                    path.display()
                )
            }
            Err(failure) => return Err(ReloadRefused(failure.to_string())),
        };
        reloaded.problems.push(format!("keys, certificates and TLS options stay as they are: {reason}"));
        reread.keep_tls(&self.profile);
        Ok(self.tls.current())
    }

    /// Makes anew what was made of the profile. Nothing here can fail.
    fn take_over(
        &mut self,
        life: &mut Life,
        profile: Arc<Profile>,
        tls: Arc<dyn TlsFactory>,
        reloaded: &mut Reloaded,
    ) {
        life.profile = Arc::clone(&profile);
        life.tls = Some(Arc::clone(&tls));
        if let Err(failure) = life.logger.reconfigure(LogConfig::from(&profile.log)) {
            reloaded.problems.push(format!("the log stays where it is: {failure}"));
        }
        self.tls.replace(tls);
        self.ask_for_logins(&profile);
        self.status = life.status_file();
        self.hooks = Arc::new(self.hooks.renewed(&profile));
        self.admission = self.admission.renewed(&profile, Arc::clone(&self.hooks), &mut life.logins);
        self.offload.ask_about_stations(bridge::asks(&profile));
        self.configs = Configs::new(&profile, &*self.offload);
        self.endpoints.profile = Arc::clone(&profile);
        self.watch = Watch::of(&profile).following(&self.watch);
        if let Some(pool) = &mut self.pool {
            pool.set_sticky(!profile.server.duplicate_cn);
        }
        let limits = Limits::of(&profile);
        for orders in self.listeners.values() {
            let _gone = orders.send(ListenerOrder::Limits(limits));
        }
        self.profile = profile;
    }

    /// Sessions that began when nobody judged logins have none. Where somebody does now, their next key exchange has to
    /// show one.
    fn ask_for_logins(&mut self, profile: &Profile) {
        let required = requires_credentials(profile);
        if required == requires_credentials(&self.profile) {
            return;
        }
        if required && !self.clients.is_empty() {
            ovlog!(
                1,
                "reload: logins are judged now; clients that are connected show theirs at the next renegotiation"
            );
        }
        for key in self.clients.keys().copied().collect::<Vec<_>>() {
            self.tell(key, Command::RequireCredentials(required));
        }
    }
}

/// Waits until routes are what they are to be; logs and returns what went wrong.
async fn log_routes(routes: RoutesChanged) -> Option<String> {
    let problem = match routes.await {
        Ok(Ok(Completion::Complete)) => return None,
        Ok(Ok(Completion::WithErrors)) => "not every route could be set; see above".to_owned(),
        Ok(Err(failure)) => failure,
        Err(_ended) => "the server ended before its routes were changed".to_owned(),
    };
    ovlog!(warn 1, "reload: {problem}");
    Some(problem)
}
