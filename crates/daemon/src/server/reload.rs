//! Reload: another configuration comes into force while clients stay connected.
//!
//! [`Configuration::reread`] gives the profile that a running server can have: new values of live options, former ones of
//! all others. Everything that may fail is tried before anything changes ([`super::reading`]); then the parts of the
//! server that were made of the profile are made anew, and every connected client is judged again (`revocation`,
//! `push_update`): who is affected is told, or has to leave; nobody else notices.

use std::{fmt, sync::Arc};

use culvert_config::{Changed, Configuration, Profile, Role};
use culvert_proto::{Command, tls::TlsFactory};
use serde_json::json;

use super::{
    Configs, Server, Standing,
    listeners::{Limits, ListenerOrder},
    reading::{Asker, Prepared},
    start::RoutesChanged,
    watch::Watch,
};
use crate::{bridge, life::Life, ovlog, settings::session::requires_credentials, tunnel::Completion};

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

impl Reloaded {
    fn log(&self) {
        let list = |options: &[String]| match options {
            [] => "no option".to_owned(),
            options => options.join(", "),
        };
        let keys = if self.has_new_tls {
            "keys, certificates and revocation lists were read again"
        } else {
            "keys and certificates stay as they were"
        };
        ovlog!(1, "reload: changed: {}; {keys}", list(&self.applied));
        if !self.needs_restart.is_empty() {
            ovlog!(warn 1, "reload: needs a restart: {}", list(&self.needs_restart));
        }
        for problem in &self.problems {
            ovlog!(warn 1, "reload: {problem}");
        }
    }
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
    pub(super) fn reload_by_signal(&mut self, life: &Life, configuration: &Arc<Configuration>) {
        ovlog!(1, "SIGHUP[hard,] received, reading the configuration again; clients stay connected");
        self.begin_reload(life, configuration, Vec::new());
    }

    /// `culvert reload`: the same, and whoever asked is told as well, in JSON, when routes are what they are to be.
    pub(super) fn reload_by_order(&mut self, life: &Life, configuration: &Arc<Configuration>, asker: Asker) {
        if self.profile.role() != Role::Server {
            let refusal =
                json!({ "error": "only a server reloads; a point-to-point end restarts on SIGHUP" });
            return drop(asker.send(refusal.to_string()));
        }
        ovlog!(1, "culvert reload: reading the configuration again; clients stay connected");
        self.begin_reload(life, configuration, vec![asker]);
    }

    /// Files were read: what a running server can take comes into force, and whoever asked is told.
    pub(super) fn reload(
        &mut self,
        (outcome, askers): (Result<Box<Prepared>, ReloadRefused>, Vec<Asker>),
        life: &mut Life,
        standing: &mut Standing,
        configuration: &Arc<Configuration>,
    ) {
        match outcome {
            Err(refused) => {
                let refused = refused.to_string();
                for line in refused.lines() {
                    ovlog!(error 1, "{line}");
                }
                ovlog!(error 1, "reload: nothing was changed, the server goes on as before");
                answer(askers, &json!({ "error": refused }));
            }
            Ok(prepared) => {
                let (reloaded, routes) = self.bring_into_force(*prepared, life, standing, configuration);
                reloaded.log();
                let Reloaded { applied, needs_restart, mut problems, has_new_tls: _ } = reloaded;
                tokio::spawn(async move {
                    problems.extend(log_routes(routes).await);
                    let told =
                        json!({ "changed": applied, "needs_restart": needs_restart, "problems": problems });
                    answer(askers, &told);
                });
            }
        }
        if let Some(askers) = self.reloads.take_next() {
            self.begin_reload(life, configuration, askers);
        }
    }

    fn bring_into_force(
        &mut self,
        prepared: Prepared,
        life: &mut Life,
        standing: &mut Standing,
        configuration: &Configuration,
    ) -> (Reloaded, RoutesChanged) {
        let Prepared { reread, tls, status, log, mut reloaded } = prepared;
        let shown = |changes: &[Changed]| changes.iter().map(ToString::to_string).collect::<Vec<_>>();
        reloaded.applied = shown(&reread.changes.live);
        // Options first, then keys and limits that were put back.
        reloaded.needs_restart.splice(0..0, shown(&reread.changes.restart));
        configuration.adopt(&reread);
        if let Some(log) = log {
            life.logger.apply(log);
        }
        if let Some(status) = status {
            life.replace_status_file(Arc::clone(&status));
            self.status = Some(status);
        }
        self.take_over(life, Arc::new(reread.profile), tls);
        let routes = standing.follow_routes(&self.profile);
        self.judge_certificates_again();
        self.judge_clients_again();
        (reloaded, routes)
    }

    /// Makes anew what was made of the profile. Nothing here can fail.
    fn take_over(&mut self, life: &mut Life, profile: Arc<Profile>, tls: Option<Arc<dyn TlsFactory>>) {
        life.profile = Arc::clone(&profile);
        if let Some(tls) = tls {
            life.tls = Some(Arc::clone(&tls));
            self.tls.replace(tls);
        }
        self.ask_for_logins(&profile);
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

/// Tells everybody who asked; they may have left.
pub(super) fn answer(askers: Vec<Asker>, told: &serde_json::Value) {
    for asker in askers {
        drop(asker.send(told.to_string()));
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
