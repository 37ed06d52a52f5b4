//! The scripts and plugins of a profile, with the environment that every one of them sees.

use std::sync::{Mutex, PoisonError};

use culvert_config::{LogDestination, Profile, profile::Scripts, value::Command};
use culvert_plugin::PluginHook;
use culvert_proto::{ExportedKey, Verdict, tls::PeerIdentity};

use crate::{
    auth::plugins::{Plugins, plugin_hook},
    clock,
    management::Management,
    ovlog,
    scripts::{ExchangeFile, Hook, Learned, ProcessFacts, ScriptEnv, ScriptRunner, certificate_arguments},
    session_task::SessionKey,
};

/// The scripts and plugins that a profile names.
pub(crate) struct Hooks {
    /// Which programs.
    pub(crate) scripts: Scripts,
    /// Runs them.
    pub(crate) runner: ScriptRunner,
    /// Asked before the script of the same kind.
    pub(crate) plugins: Plugins,
    /// Is told the same as some of them.
    pub(crate) management: Management,
    base: ScriptEnv,
    /// What a server pushed (`setenv-safe`).
    pushed: Mutex<ScriptEnv>,
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
        base.set_process(profile, facts).track(&profile.scripts.x509_track);
        Self {
            scripts: profile.scripts.clone(),
            plugins: Plugins::default(),
            runner: ScriptRunner::new(profile.scripts.security),
            management,
            base,
            pushed: Mutex::default(),
            device: Mutex::default(),
        }
    }

    /// The same with these plugins.
    pub(crate) fn with_plugins(mut self, plugins: Plugins) -> Self {
        self.plugins = plugins;
        self
    }

    /// Asks plugins about the keys of the one peer (`PLUGIN_TLS_FINAL`), of which they get what `keying-material-exporter`
    /// names; returns whether all agree.
    pub(crate) async fn agree_to_keys(&self, env: &ScriptEnv, exported: Option<&ExportedKey>) -> bool {
        if !self.plugins.want(PluginHook::TlsFinal) {
            return true;
        }
        let mut env = env.clone();
        if let Some(exported) = exported {
            env.set("exported_keying_material", exported.hex().as_str());
        }
        let agreed = self.plugins.agree(PluginHook::TlsFinal, &[], &env, None).await;
        if !agreed {
            ovlog!(error 1, "TLS Error: a plugin refused the session's keys");
        }
        agreed
    }

    /// Whether anybody wants to be called: a program, or a plugin.
    pub(crate) fn are_set(&self, hook: Hook, command: Option<&Command>) -> bool {
        command.is_some() || plugin_hook(hook).is_some_and(|hook| self.plugins.want(hook))
    }

    /// Takes the scripts of another profile, with the plugins that run and what is known of the device. Programs that still
    /// run for the old one count for the new one.
    pub(crate) fn renewed(&self, profile: &Profile) -> Self {
        let mut renewed = Self::new(profile, self.management.clone()).with_plugins(self.plugins.clone());
        renewed.runner = self.runner.with_security(profile.scripts.security);
        renewed.remember(self.device.lock().unwrap_or_else(PoisonError::into_inner).clone());
        renewed
    }

    /// What every script sees; the caller adds its own.
    pub(crate) fn environment(&self) -> ScriptEnv {
        let mut env = self.base.clone();
        env.extend(&self.pushed.lock().unwrap_or_else(PoisonError::into_inner));
        env.extend(&self.device.lock().unwrap_or_else(PoisonError::into_inner));
        env
    }

    /// From here on every script sees these too, which a server pushed.
    pub(crate) fn add(&self, variables: &[(String, String)]) {
        let mut pushed = self.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, value) in variables {
            pushed.set(name, value);
        }
    }

    /// What a server pushed holds for its session.
    pub(crate) fn forget_pushed(&self) {
        *self.pushed.lock().unwrap_or_else(PoisonError::into_inner) = ScriptEnv::new();
    }

    /// From here on every script sees these too, in place of what was remembered before.
    pub(crate) fn remember(&self, device: ScriptEnv) {
        *self.device.lock().unwrap_or_else(PoisonError::into_inner) = device;
    }

    /// Calls the plugins, then runs a program if there is one; returns whether all agree (ended with 0). A failure is
    /// logged here.
    pub(crate) async fn run(
        &self,
        hook: Hook,
        command: Option<&Command>,
        arguments: &[String],
        env: &ScriptEnv,
    ) -> bool {
        self.run_for(None, hook, command, arguments, env).await
    }

    /// The same about a client of a server.
    pub(crate) async fn run_for(
        &self,
        client: Option<SessionKey>,
        hook: Hook,
        command: Option<&Command>,
        arguments: &[String],
        env: &ScriptEnv,
    ) -> bool {
        if !self.plugins_agree(client, hook, arguments, env).await {
            return false;
        }
        match command {
            Some(command) => self.runner.run_logged(hook, command, arguments, env).await,
            None => true,
        }
    }

    /// Calls the plugins alone.
    pub(crate) async fn plugins_agree(
        &self,
        client: Option<SessionKey>,
        hook: Hook,
        arguments: &[String],
        env: &ScriptEnv,
    ) -> bool {
        match plugin_hook(hook) {
            Some(hook) if self.plugins.want(hook) => {
                self.plugins.agree(hook, arguments, env, client.map(|client| client.0)).await
            }
            _ => true,
        }
    }

    /// Tells plugins, then `learn-address`, about an address of a client; returns whether it may be used. Nobody can object
    /// to its end.
    pub(crate) async fn learn_address(
        &self,
        client: SessionKey,
        what: Learned,
        address: &str,
        common_name: &str,
        env: &ScriptEnv,
    ) -> bool {
        let words = what.arguments(address, common_name);
        let agreed = self.plugins_agree(Some(client), Hook::LearnAddress, &words, env).await;
        if !agreed && what != Learned::Delete {
            return false;
        }
        match &self.scripts.learn_address {
            Some(command) => self.runner.learn_address(command, what, address, common_name, env).await,
            None => true,
        }
    }

    /// Asks about every certificate of a chain, root first: plugins, then `tls-verify`.
    pub(crate) async fn judge_certificates(
        &self,
        client: Option<SessionKey>,
        identity: &PeerIdentity,
        env: &ScriptEnv,
    ) -> Verdict {
        let Some(certificates) = identity.certificates() else {
            let reason = "a certificate is not understood, so tls-verify cannot judge it";
            return Verdict::Deny(reason.to_owned());
        };
        let runner = match client {
            Some(client) => &self.runner.for_client(client.0),
            None => &self.runner,
        };
        for (certificate, der) in certificates.iter().zip(&identity.chain).rev() {
            let arguments = certificate_arguments(certificate);
            let mut env = env.clone();
            // The file is there as long as this value.
            let _exported = match &self.scripts.tls_export_cert {
                None => None,
                Some(directory) => match ExchangeFile::of_certificate(directory, der) {
                    Ok(file) => {
                        env.set("peer_cert", file.path().display());
                        Some(file)
                    }
                    Err(failure) => {
                        let place = directory.display();
                        return Verdict::Deny(format!(
                            "TLS Error: Failed to export certificate for --tls-export-cert in {place}: {failure}"
                        ));
                    }
                },
            };
            let (of_client, shown) = (client.map(|client| client.0), (certificate.depth, &der[..]));
            let mut accepted = self.plugins.agree_to_certificate(&arguments, &env, of_client, shown).await;
            if let Some(command) = &self.scripts.tls_verify {
                accepted = accepted && runner.verify_certificate(command, certificate, &env).await;
            }
            if !accepted {
                return Verdict::Deny("tls-verify refused the certificate".to_owned());
            }
        }
        Verdict::Accept
    }
}

#[cfg(test)]
mod tests {
    use culvert_config::profile::ScriptSecurity;

    use super::*;
    use crate::log::Logger;

    #[test]
    fn sec_exec_2_a_reload_gives_hanging_programs_no_second_set_of_slots() {
        let mut profile = Profile::default();
        let (management, _signals) = Management::new(&profile, &Logger::silent(), None);
        let hooks = Hooks::new(&profile, management);
        profile.scripts.security = ScriptSecurity::PasswordsInEnvironment;
        let renewed = hooks.renewed(&profile);
        assert!(renewed.runner.passwords_allowed());
        assert!(renewed.runner.shares_limits_with(&hooks.runner));
    }
}
