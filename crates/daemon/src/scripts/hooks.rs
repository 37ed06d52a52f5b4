//! What the end of a program means, hook by hook.

use std::path::Path;

use culvert_config::{
    profile::{AuthUserPassVerify, VerifyVia},
    value::Command,
};
use culvert_proto::tls::CertificateInfo;

use super::{ConnectFiles, DeferredAuth, ExchangeFile, Hook, ScriptEnv, ScriptExit, ScriptRunner};

/// What `auth-user-pass-verify` said.
#[derive(Debug)]
pub enum LoginVerdict {
    /// Status 0.
    Accept,
    /// Status 2: the answer comes through the files ([`DeferredAuth::wait`]); [`DeferredAuth::pending`] tells whether
    /// the client must be asked for a second factor. With what programs see that go on with this login.
    Deferred(DeferredAuth, ScriptEnv),
    /// Any other end, or none: the reason for the client, if the program gave one. An error denies too (SEC-AUTH-1).
    Reject(Option<String>),
}

/// What `client-connect` said.
#[derive(Debug)]
pub enum ConnectVerdict {
    /// Status 0, with options for this client as in a file of `client-config-dir`.
    Accept(String),
    /// The answer comes later: [`ConnectFiles::wait`], then [`ConnectFiles::config`].
    Deferred(ConnectFiles),
    /// Any other end, or none.
    Reject,
}

/// What happened to an address, for `learn-address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the hook")]
pub enum Learned {
    Add,
    Update,
    Delete,
}

impl Learned {
    /// What plugins and the program are called with.
    #[must_use]
    pub fn arguments(self, address: &str, common_name: &str) -> Vec<String> {
        let verb = match self {
            Self::Add => "add",
            Self::Update => "update",
            Self::Delete => "delete",
        };
        let mut arguments = vec![verb.to_owned(), address.to_owned()];
        if self != Self::Delete {
            arguments.push(super::CharClass::Printable.clean(common_name));
        }
        arguments
    }
}

impl ScriptRunner {
    /// Runs a hook whose end is only logged: `ipchange`, `route-up`, `route-pre-down`, `down`, `client-disconnect`.
    /// Returns whether it ended with 0; for `up` anything else is fatal.
    pub async fn run_logged(
        &self,
        hook: Hook,
        command: &Command,
        arguments: &[String],
        env: &ScriptEnv,
    ) -> bool {
        match self.run(hook, command, arguments, env).await {
            Ok(exit) if exit.is_success() => true,
            Ok(exit) => {
                crate::ovlog!(warn 1, "WARNING: Failed running command (--{}): {exit}", hook.option());
                false
            }
            Err(error) => {
                crate::ovlog!(warn 1, "WARNING: Failed running command (--{}): {error}", hook.option());
                false
            }
        }
    }

    /// Asks `tls-verify` about one certificate. `env` has the chain ([`ScriptEnv::set_certificate`]).
    pub async fn verify_certificate(
        &self,
        command: &Command,
        certificate: &CertificateInfo,
        env: &ScriptEnv,
    ) -> bool {
        let arguments = certificate_arguments(certificate);
        let accepted = match self.run(Hook::TlsVerify, command, &arguments, env).await {
            Ok(exit) => exit.is_success(),
            Err(error) => {
                crate::ovlog!(warn 1, "WARNING: Failed running command (--tls-verify script): {error}");
                false
            }
        };
        let (depth, subject) = (certificate.depth, &certificate.subject);
        if accepted {
            crate::ovlog!(1, "VERIFY SCRIPT OK: depth={depth}, {subject}");
        } else {
            crate::ovlog!(1, "VERIFY SCRIPT ERROR: depth={depth}, {subject}");
        }
        accepted
    }

    /// Asks `auth-user-pass-verify`. In file and variable alike, what is not printable in the name becomes `_`; in the
    /// password only where it goes into the environment.
    pub async fn verify_login(
        &self,
        verify: &AuthUserPassVerify,
        directory: &Path,
        username: &str,
        password: &str,
        env: &ScriptEnv,
    ) -> LoginVerdict {
        let name = super::CharClass::Printable.clean(username);
        let mut env = env.clone();
        env.set("username", &name);
        let files = DeferredAuth::create(directory).and_then(|deferred| {
            let file = match verify.via {
                VerifyVia::Env => None,
                VerifyVia::File => Some(ExchangeFile::create(directory, &name, password)?),
            };
            Ok((deferred, file))
        });
        let (deferred, file) = match files {
            Ok(files) => files,
            Err(error) => {
                crate::ovlog!(warn 1, "TLS Auth Error: could not write files for the script in {}: {error}", directory.display());
                return LoginVerdict::Reject(None);
            }
        };
        deferred.export(&mut env);
        let mut arguments = Vec::new();
        match &file {
            Some(file) => arguments.push(file.path().display().to_string()),
            None if self.passwords_allowed() => {
                env.set("password", password);
            }
            None => {
                crate::ovlog!(
                    warn 1,
                    "WARNING: auth-user-pass-verify via-env needs --script-security 3: passwords are not given to programs"
                );
                return LoginVerdict::Reject(None);
            }
        }
        match self.run(Hook::AuthUserPassVerify, &verify.command, &arguments, &env).await {
            Ok(ScriptExit::Status(0)) => LoginVerdict::Accept,
            Ok(ScriptExit::Status(2)) => {
                env.remove("password");
                LoginVerdict::Deferred(deferred, env)
            }
            Ok(_) => LoginVerdict::Reject(deferred.reason()),
            Err(error) => {
                crate::ovlog!(warn 1, "WARNING: Failed running command (--auth-user-pass-verify): {error}");
                LoginVerdict::Reject(None)
            }
        }
    }

    /// Hands the answer to a challenge to `client-crresponse`, in a file that is its last argument: what it makes of it,
    /// it writes into the files of the login, which are in `env`. Returns whether it ended with 0.
    pub async fn challenge_answered(
        &self,
        command: &Command,
        directory: &Path,
        response: &str,
        env: &ScriptEnv,
    ) -> bool {
        let file = match ExchangeFile::of_bytes(directory, "cr", response.as_bytes()) {
            Ok(file) => file,
            Err(error) => {
                crate::ovlog!(
                    warn 1,
                    "TLS CR Response Error: could not write crtext challenge response to file: {}: {error}",
                    directory.display()
                );
                return false;
            }
        };
        let arguments = [file.path().display().to_string()];
        self.run_logged(Hook::ClientCrResponse, command, &arguments, env).await
    }

    /// Asks `client-connect`.
    pub async fn client_connect(
        &self,
        command: &Command,
        directory: &Path,
        env: &ScriptEnv,
    ) -> ConnectVerdict {
        let files = match ConnectFiles::create(directory) {
            Ok(files) => files,
            Err(error) => {
                crate::ovlog!(warn 1, "WARNING: client-connect: could not write files in {}: {error}", directory.display());
                return ConnectVerdict::Reject;
            }
        };
        let mut env = env.clone();
        files.export(&mut env);
        let arguments = [files.config_path().display().to_string()];
        if !self.run_logged(Hook::ClientConnect, command, &arguments, &env).await {
            return ConnectVerdict::Reject;
        }
        if files.is_deferred() {
            return ConnectVerdict::Deferred(files);
        }
        match files.config() {
            Ok(text) => ConnectVerdict::Accept(text),
            Err(error) => {
                crate::ovlog!(warn 1, "WARNING: client-connect: cannot read what the script wrote: {error}");
                ConnectVerdict::Reject
            }
        }
    }

    /// Tells `learn-address` about an address or network; returns whether it may be used (an answer to `delete` does not
    /// matter).
    pub async fn learn_address(
        &self,
        command: &Command,
        what: Learned,
        address: &str,
        common_name: &str,
        env: &ScriptEnv,
    ) -> bool {
        let arguments = what.arguments(address, common_name);
        self.run_logged(Hook::LearnAddress, command, &arguments, env).await || what == Learned::Delete
    }
}

/// The arguments of `tls-verify`: depth and subject.
pub(crate) fn certificate_arguments(certificate: &CertificateInfo) -> [String; 2] {
    let mut subject = super::CharClass::Printable.clean(&certificate.subject);
    if subject.starts_with('-') {
        // The program must not take it for an option.
        subject.replace_range(..1, "_");
    }
    [certificate.depth.to_string(), subject]
}

impl Hook {
    /// Returns the name in messages: the option's, mostly what `script_type` says.
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            Self::AuthUserPassVerify => "auth-user-pass-verify",
            Self::DnsUp | Self::DnsDown => "dns-updown",
            Self::Up | Self::Down => "up/--down",
            other => other.script_type(),
        }
    }
}

#[cfg(test)]
mod tests {
    use culvert_config::profile::ScriptSecurity;

    use super::*;
    use crate::scripts::AuthAnswer;

    fn shell(script: &str) -> Command {
        Command { argv: ["/bin/sh", "-c", script, "hook"].map(str::to_owned).to_vec() }
    }

    async fn login(via: VerifyVia, security: ScriptSecurity, script: &str) -> LoginVerdict {
        let verify = AuthUserPassVerify { command: shell(script), via };
        let runner = ScriptRunner::new(security);
        runner.verify_login(&verify, &std::env::temp_dir(), "bob", "it's $HOME", &ScriptEnv::new()).await
    }

    #[tokio::test]
    async fn a_login_by_file_has_name_and_password_as_lines_and_no_password_in_the_environment() {
        let script = r#"{ read u; read p; } < "$1"; test "$u" = bob && test "$p" = "it's \$HOME" && test -z "$password" && test "$username" = bob"#;
        assert!(matches!(
            login(VerifyVia::File, ScriptSecurity::Scripts, script).await,
            LoginVerdict::Accept
        ));
    }

    #[tokio::test]
    async fn a_login_by_environment_needs_script_security_3() {
        let script = r#"test "$password" = "it's \$HOME" && test "$username" = bob && test $# = 0"#;
        let accepted = login(VerifyVia::Env, ScriptSecurity::PasswordsInEnvironment, script).await;
        assert!(matches!(accepted, LoginVerdict::Accept));
        assert!(matches!(
            login(VerifyVia::Env, ScriptSecurity::Scripts, "exit 0").await,
            LoginVerdict::Reject(None)
        ));
    }

    #[tokio::test]
    async fn a_script_may_answer_later_or_say_why_not() {
        let LoginVerdict::Deferred(files, _) =
            login(VerifyVia::File, ScriptSecurity::Scripts, r#"printf 1 > "$auth_control_file"; exit 2"#)
                .await
        else {
            panic!("status 2 defers");
        };
        assert_eq!(files.answer(), Some(AuthAnswer::Accept));
        let rejected = login(
            VerifyVia::File,
            ScriptSecurity::Scripts,
            r#"echo "too late" > "$auth_failed_reason_file"; exit 1"#,
        )
        .await;
        assert!(matches!(rejected, LoginVerdict::Reject(Some(reason)) if reason == "too late"));
    }

    /// SEC-AUTH-1
    #[tokio::test]
    async fn a_script_that_crashes_or_cannot_run_denies() {
        for script in ["kill -9 $$", "exit 3", "exit 127"] {
            assert!(matches!(
                login(VerifyVia::File, ScriptSecurity::Scripts, script).await,
                LoginVerdict::Reject(None)
            ));
        }
        assert!(matches!(
            login(VerifyVia::File, ScriptSecurity::BuiltIn, "exit 0").await,
            LoginVerdict::Reject(None)
        ));
    }

    #[tokio::test]
    async fn client_connect_gives_options_or_rejects() {
        let runner = ScriptRunner::new(ScriptSecurity::Scripts);
        let env = ScriptEnv::new();
        let directory = std::env::temp_dir();
        let verdict =
            runner.client_connect(&shell(r#"echo "iroute 10.1.0.0" > "$1""#), &directory, &env).await;
        assert!(matches!(verdict, ConnectVerdict::Accept(text) if text == "iroute 10.1.0.0\n"));
        let verdict = runner.client_connect(&shell("exit 1"), &directory, &env).await;
        assert!(matches!(verdict, ConnectVerdict::Reject));
        let script = r#"printf 2 > "$client_connect_deferred_file""#;
        assert!(matches!(
            runner.client_connect(&shell(script), &directory, &env).await,
            ConnectVerdict::Deferred(_)
        ));
    }

    #[tokio::test]
    async fn learn_address_may_refuse_an_address_but_not_its_end() {
        let runner = ScriptRunner::new(ScriptSecurity::Scripts);
        let env = ScriptEnv::new();
        let learn = async |what, script: &str| {
            runner.learn_address(&shell(script), what, "10.8.0.2", "alice", &env).await
        };
        assert!(learn(Learned::Add, r#"test "$*" = "add 10.8.0.2 alice""#).await);
        assert!(!learn(Learned::Update, "exit 1").await);
        assert!(learn(Learned::Delete, r#"test "$*" = "delete 10.8.0.2" && exit 1"#).await);
    }

    #[tokio::test]
    async fn tls_verify_gets_depth_and_subject() {
        let runner = ScriptRunner::new(ScriptSecurity::Scripts);
        let certificate = CertificateInfo {
            depth: 1,
            subject: "CN=the CA".to_owned(),
            fields: Vec::new(),
            extensions: Vec::new(),
            serial: String::new(),
            serial_hex: String::new(),
            sha1: String::new(),
            sha256: String::new(),
        };
        let script = shell(r#"test "$1" = 1 && test "$2" = "CN=the CA""#);
        assert!(runner.verify_certificate(&script, &certificate, &ScriptEnv::new()).await);
        assert!(!runner.verify_certificate(&shell("exit 1"), &certificate, &ScriptEnv::new()).await);
    }
}
