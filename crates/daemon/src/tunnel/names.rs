//! The name servers of a tunnel: told to the resolver, by this process or the program of `dns-updown`, while the peer is there.
//! Once rights were given up, a process that kept them does both ([`crate::name_keeper`]).

use std::sync::{Arc, Mutex, PoisonError};

use culvert_config::{profile::DnsUpdown, value::Command};
use culvert_host::{Plan, Step};
use tracing::{debug, warn};

use super::{Completion, Tunnel, TunnelSpec};
use crate::{
    name_keeper::{NameKeeper, Verb},
    network::{self, Teller},
    ovlog,
    scripts::{Hook, ScriptEnv},
};

/// A name keeper, for one tunnel after the other.
pub(crate) type SharedKeeper = Arc<Mutex<NameKeeper>>;

/// What the resolver is to know.
#[derive(Default)]
pub(super) struct Names {
    /// For this process; empty where somebody else tells the resolver.
    plan: Plan,
    /// The program that tells it instead.
    program: Option<Command>,
    /// What the program is told: nothing but this, as in OpenVPN.
    env: ScriptEnv,
    /// The resolver knows.
    told: bool,
}

impl Names {
    /// Works out what there is to tell, and who tells it.
    fn of(spec: &TunnelSpec, device: &str, updown: &DnsUpdown, has_up: bool) -> Self {
        let mut names = Self::default();
        let Some(settings) = network::dns_settings(&spec.routes) else { return names };
        names.env.set("dev", device);
        network::export_dns(&mut names.env, &settings);
        match (Teller::of(updown, has_up), updown) {
            (Teller::Program, DnsUpdown::Command(command)) => names.program = Some(command.clone()),
            (Teller::BuiltIn, _) if !spec.device.is_virtual() => {
                names.plan = Plan::from_iter([Step::Dns { device: device.to_owned(), settings }]);
            }
            _ => {}
        }
        names
    }

    /// Whether both say the same.
    fn says(&self, other: &Self) -> bool {
        self.plan == other.plan && self.program == other.program && self.env == other.env
    }

    /// Whether there is nothing to tell, or nobody here to tell it.
    fn is_silent(&self) -> bool {
        self.plan.is_empty() && self.program.is_none()
    }
}

impl Tunnel {
    /// Tells the resolver about the name servers of a tunnel, in place of what it was told before.
    pub(super) async fn set_names(
        &mut self,
        spec: &TunnelSpec,
        device: &str,
        updown: &DnsUpdown,
    ) -> Completion {
        let names = Names::of(spec, device, updown, self.hooks.scripts.up.is_some());
        if self.names.told && self.names.says(&names) {
            return Completion::Complete;
        }
        self.suspend_names().await;
        self.names = names;
        self.resume_names().await
    }

    /// Takes back what the resolver was told.
    pub(super) async fn suspend_names(&mut self) {
        if !std::mem::take(&mut self.names.told) {
            return;
        }
        if let Some(keeper) = &self.keeper {
            self.ask(keeper, Verb::Down).await;
            return;
        }
        self.run_dns_program(Hook::DnsDown).await;
        let plan = self.names.plan.clone();
        if !plan.is_empty() {
            // What could not be taken back was logged.
            let _logged = self.revise(&plan, &Plan::new()).await;
        }
    }

    /// Tells it again.
    pub(super) async fn resume_names(&mut self) -> Completion {
        if std::mem::replace(&mut self.names.told, true) {
            return Completion::Complete;
        }
        if let Some(keeper) = &self.keeper {
            return self.ask(keeper, Verb::Up).await;
        }
        self.run_dns_program(Hook::DnsUp).await;
        let plan = self.names.plan.clone();
        if plan.is_empty() {
            return Completion::Complete;
        }
        self.revise(&Plan::new(), &plan).await.unwrap_or(Completion::WithErrors)
    }

    async fn run_dns_program(&self, hook: Hook) {
        if let Some(command) = &self.names.program {
            self.hooks.run(hook, Some(command), &[], &self.names.env).await;
        }
    }

    /// Leaves the resolver to a process that keeps its rights, which this one is about to give up. `None`: nobody here
    /// tells it anything, nor will (`more_may_come`).
    pub(crate) async fn entrust_names(
        &mut self,
        updown: &DnsUpdown,
        more_may_come: bool,
    ) -> Option<SharedKeeper> {
        if self.names.is_silent() && !more_may_come {
            return None;
        }
        let program = match (Teller::of(updown, self.hooks.scripts.up.is_some()), updown) {
            (Teller::Program, DnsUpdown::Command(command)) if self.hooks.runner.scripts_allowed() => {
                Some(command)
            }
            (Teller::BuiltIn, _) => None,
            _ => return None,
        };
        let changes = self.changes.as_mut()?;
        let keeper = match NameKeeper::start(program, changes.ledger.dns()) {
            Ok(keeper) => Arc::new(Mutex::new(keeper)),
            Err(failure) => {
                ovlog!(warn 1, "WARNING: DNS cannot be set again once rights are given up: {failure}");
                return None;
            }
        };
        // Only then does it answer for what was told, in a journal of its own.
        if self.names.told && self.ask(&keeper, Verb::Stands).await == Completion::Complete {
            self.changes.as_mut()?.ledger.forget_dns();
        }
        self.keeper = Some(Arc::clone(&keeper));
        Some(keeper)
    }

    async fn ask(&self, keeper: &SharedKeeper, verb: Verb) -> Completion {
        if self.names.is_silent() {
            return Completion::Complete;
        }
        let (keeper, env) = (Arc::clone(keeper), self.names.env.clone());
        let asking = move || keeper.lock().unwrap_or_else(PoisonError::into_inner).ask(verb, &env);
        match tokio::task::spawn_blocking(asking).await {
            Ok(Ok(())) => Completion::Complete,
            Ok(Err(failure)) => {
                warn!("{failure}");
                Completion::WithErrors
            }
            Err(failure) => {
                debug!("asking the name keeper: {failure}");
                Completion::WithErrors
            }
        }
    }
}
