//! The scripts of a profile, with the environment that every one of them sees.

use std::sync::{Mutex, PoisonError};

use culvert_config::{LogDestination, Profile, profile::Scripts, value::Command};

use crate::{
    clock,
    management::Management,
    scripts::{Hook, ProcessFacts, ScriptEnv, ScriptRunner},
};

/// The scripts that a profile names.
pub(crate) struct Hooks {
    /// Which programs.
    pub(crate) scripts: Scripts,
    /// Runs them.
    pub(crate) runner: ScriptRunner,
    /// Is told the same as some of them.
    pub(crate) management: Management,
    base: ScriptEnv,
    /// About device and routes, once they stand.
    device: Mutex<ScriptEnv>,
}

impl Hooks {
    /// Takes the scripts and what is known at the start.
    pub(crate) fn new(profile: &Profile, management: Management) -> Self {
        let facts = ProcessFacts {
            started: clock::wall(),
            is_daemon: profile.process.daemon.is_some(),
            log_redirected: matches!(profile.log.destination, LogDestination::File { .. }),
        };
        let mut base = ScriptEnv::new();
        base.set_process(profile, facts);
        Self {
            scripts: profile.scripts.clone(),
            runner: ScriptRunner::new(profile.scripts.security),
            management,
            base,
            device: Mutex::default(),
        }
    }

    /// Takes the scripts of another profile, with what is known of the device.
    pub(crate) fn renewed(&self, profile: &Profile) -> Self {
        let renewed = Self::new(profile, self.management.clone());
        renewed.remember(self.device.lock().unwrap_or_else(PoisonError::into_inner).clone());
        renewed
    }

    /// What every script sees; the caller adds its own.
    pub(crate) fn environment(&self) -> ScriptEnv {
        let mut env = self.base.clone();
        env.extend(&self.device.lock().unwrap_or_else(PoisonError::into_inner));
        env
    }

    /// From here on every script sees these too, in place of what was remembered before.
    pub(crate) fn remember(&self, device: ScriptEnv) {
        *self.device.lock().unwrap_or_else(PoisonError::into_inner) = device;
    }

    /// Runs a program if there is one; returns whether it ended with 0. A failure is logged here.
    pub(crate) async fn run(
        &self,
        hook: Hook,
        command: Option<&Command>,
        arguments: &[String],
        env: &ScriptEnv,
    ) -> bool {
        match command {
            Some(command) => self.runner.run_logged(hook, command, arguments, env).await,
            None => true,
        }
    }
}
