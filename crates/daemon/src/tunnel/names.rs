//! The name servers of a tunnel: told to the resolver, by this process or the program of `dns-updown`, while the peer is there.

use culvert_config::{profile::DnsUpdown, value::Command};
use culvert_host::{Plan, Step};

use super::{Completion, Tunnel, TunnelSpec};
use crate::{
    network::{self, Teller},
    scripts::{Hook, ScriptEnv},
};

/// What the resolver is to know.
#[derive(Default)]
pub(super) struct Names {
    /// For this process; empty where somebody else tells the resolver.
    plan: Plan,
    /// The program that tells it instead, and what it is told: nothing but this, as in OpenVPN.
    program: Option<(Command, ScriptEnv)>,
    /// The resolver knows.
    told: bool,
}

impl Names {
    /// Works out what there is to tell, and who tells it.
    fn of(spec: &TunnelSpec, device: &str, updown: &DnsUpdown, has_up: bool) -> Self {
        let mut names = Self::default();
        let Some(settings) = network::dns_settings(&spec.routes) else { return names };
        match (Teller::of(updown, has_up), updown) {
            (Teller::Program, DnsUpdown::Command(command)) => {
                let mut env = ScriptEnv::new();
                env.set("dev", device);
                network::export_dns(&mut env, &settings);
                names.program = Some((command.clone(), env));
            }
            (Teller::BuiltIn, _) if !spec.device.is_virtual() => {
                names.plan = Plan::from_iter([Step::Dns { device: device.to_owned(), settings }]);
            }
            _ => {}
        }
        names
    }

    /// Whether both say the same.
    fn says(&self, other: &Self) -> bool {
        self.plan == other.plan && self.program == other.program
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
        self.run_dns_program(Hook::DnsUp).await;
        let plan = self.names.plan.clone();
        if plan.is_empty() {
            return Completion::Complete;
        }
        self.revise(&Plan::new(), &plan).await.unwrap_or(Completion::WithErrors)
    }

    async fn run_dns_program(&self, hook: Hook) {
        if let Some((command, env)) = &self.names.program {
            self.hooks.run(hook, Some(command), &[], env).await;
        }
    }
}
