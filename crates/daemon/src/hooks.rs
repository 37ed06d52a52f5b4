//! The scripts of a profile, with the environment that every one of them sees.

use culvert_config::{
    Profile,
    profile::Scripts,
    value::{Command, Port},
};
use tracing::error;

use crate::{
    clock,
    scripts::{Hook, ScriptEnv, ScriptExit, ScriptRunner},
};

/// Runs the scripts that a profile names.
#[derive(Debug)]
pub(crate) struct Hooks {
    /// Which programs.
    pub(crate) scripts: Scripts,
    runner: ScriptRunner,
    base: ScriptEnv,
}

/// How a hook answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HookOutcome {
    /// It ended with 0, or there is none.
    Passed,
    /// It ended with 2.
    Deferred,
    /// It ended otherwise, or did not run; the text is for the log.
    Failed(String),
}

impl HookOutcome {
    /// Whether it ended with 0.
    pub(crate) fn passed(&self) -> bool {
        *self == Self::Passed
    }
}

impl Hooks {
    /// Takes the scripts and what is known at the start.
    pub(crate) fn new(profile: &Profile) -> Self {
        Self {
            scripts: profile.scripts.clone(),
            runner: ScriptRunner::new(profile.scripts.security),
            base: base_environment(profile),
        }
    }

    /// What every script sees; the caller adds its own.
    pub(crate) fn environment(&self) -> ScriptEnv {
        self.base.clone()
    }

    /// Whether passwords may be put into the environment.
    pub(crate) fn passwords_allowed(&self) -> bool {
        self.runner.passwords_allowed()
    }

    /// Runs a program if there is one. A failure is logged here, by the hook's name.
    pub(crate) async fn run(
        &self,
        hook: Hook,
        command: Option<&Command>,
        arguments: &[String],
        env: &ScriptEnv,
    ) -> HookOutcome {
        let Some(command) = command else { return HookOutcome::Passed };
        let failed = match self.runner.run(hook, command, arguments, env).await {
            Ok(exit) if exit.is_success() => return HookOutcome::Passed,
            Ok(exit) if exit.is_deferred() => return HookOutcome::Deferred,
            Ok(ScriptExit::Status(status)) => {
                format!("{}: external program exited with error status: {status}", hook.script_type())
            }
            Ok(ScriptExit::Signal(signal)) => {
                format!("{}: external program was ended by signal {signal}", hook.script_type())
            }
            Err(failure) => format!("{}: {failure}", hook.script_type()),
        };
        error!("{failed}");
        HookOutcome::Failed(failed)
    }
}

fn base_environment(profile: &Profile) -> ScriptEnv {
    let mut env = ScriptEnv::new();
    env.set_opt("config", profile.config_file.as_ref().map(|path| path.display()));
    env.set("verb", profile.log.verb);
    env.set("daemon", u8::from(profile.process.daemon.is_some()));
    let redirected = matches!(profile.log.destination, culvert_config::LogDestination::File { .. });
    env.set("daemon_log_redirect", u8::from(redirected));
    env.set("daemon_start_time", clock::unix_seconds());
    env.set("daemon_pid", std::process::id());
    for (n, entry) in profile.connections.iter().enumerate().map(|(i, entry)| (i + 1, entry)) {
        env.set(&format!("proto_{n}"), entry.proto);
        env.set_opt(&format!("local_port_{n}"), entry.local_port.as_ref());
        if let Some(remote) = &entry.remote {
            env.set(&format!("remote_{n}"), &remote.host);
            env.set(&format!("remote_port_{n}"), &remote.port);
        } else {
            env.set(&format!("remote_port_{n}"), entry.local_port.as_ref().unwrap_or(&Port::OPENVPN));
        }
        env.set_opt(&format!("local_{n}"), entry.locals.first().and_then(|local| local.host.as_ref()));
    }
    for (name, value) in &profile.setenv {
        env.set(name, value);
    }
    env
}
