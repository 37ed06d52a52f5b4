//! Starting programs and waiting for them.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use culvert_config::{profile::ScriptSecurity, value::Command};
use culvert_sys::process::{KillSignal, kill_group, terminating_signal};
use tokio::sync::Semaphore;

use super::ScriptEnv;

/// How long a program may run, and how long it may take to end when asked (SEC-EXEC-2).
const TIME_LIMIT: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(2);
/// Programs that run at a time; more wait.
const MAX_RUNNING: usize = 64;
/// Of these, programs that judge the same client: one that asks again and again takes no turn of others.
const MAX_FOR_CLIENT: usize = 2;

/// A point at which a program runs. The name is what the program sees as `script_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the options' own names")]
pub enum Hook {
    Up,
    Down,
    RouteUp,
    RoutePreDown,
    IpChange,
    TlsVerify,
    TlsCryptV2Verify,
    AuthUserPassVerify,
    ClientConnect,
    ClientDisconnect,
    LearnAddress,
    ClientCrResponse,
    DnsUp,
    DnsDown,
}

impl Hook {
    /// Returns the value of `script_type`.
    #[must_use]
    pub fn script_type(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::RouteUp => "route-up",
            Self::RoutePreDown => "route-pre-down",
            Self::IpChange => "ipchange",
            Self::TlsVerify => "tls-verify",
            Self::TlsCryptV2Verify => "tls-crypt-v2-verify",
            // Recorded; the manual says auth-user-pass-verify.
            Self::AuthUserPassVerify => "user-pass-verify",
            Self::ClientConnect => "client-connect",
            Self::ClientDisconnect => "client-disconnect",
            Self::LearnAddress => "learn-address",
            Self::ClientCrResponse => "client-crresponse",
            Self::DnsUp => "dns-up",
            Self::DnsDown => "dns-down",
        }
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptExit {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl std::fmt::Display for ScriptExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "external program exited with error status: {status}"),
            Self::Signal(signal) => write!(f, "external program received signal {signal}"),
        }
    }
}

impl ScriptExit {
    /// Whether it ended with 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Status(0)
    }
}

/// Why a program did not run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// `script-security` forbids it.
    #[error(
        "WARNING: External program may not be called unless '--script-security 2' or higher is enabled. See --help text or man page for detailed info."
    )]
    Forbidden,
    /// It could not be started.
    #[error("could not execute external program {}: {source}", program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was still running after the time limit and was killed.
    #[error("external program {} did not end within {seconds} seconds and was killed", program.display())]
    Timeout {
        /// Which.
        program: PathBuf,
        /// The limit.
        seconds: u64,
    },
}

/// Starts programs within the limits. Clones share them.
#[derive(Clone, Debug)]
pub struct ScriptRunner {
    security: ScriptSecurity,
    time_limit: Duration,
    grace: Duration,
    slots: Arc<Semaphore>,
    /// The slots of the client that programs are run for.
    share: Option<Arc<Semaphore>>,
    /// The same of all clients that programs run for just now.
    shares: Arc<Mutex<HashMap<u64, Weak<Semaphore>>>>,
}

impl ScriptRunner {
    /// Returns a runner for this `script-security`.
    #[must_use]
    pub fn new(security: ScriptSecurity) -> Self {
        Self {
            security,
            time_limit: TIME_LIMIT,
            grace: GRACE,
            slots: Arc::new(Semaphore::new(MAX_RUNNING)),
            share: None,
            shares: Arc::default(),
        }
    }

    /// Returns a runner for another `script-security` that shares the limits of this one.
    #[must_use]
    pub fn with_security(&self, security: ScriptSecurity) -> Self {
        Self { security, ..self.clone() }
    }

    /// Whether programs of both count together.
    #[cfg(test)]
    pub(crate) fn shares_limits_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.slots, &other.slots) && Arc::ptr_eq(&self.shares, &other.shares)
    }

    /// Returns the same runner on behalf of one client: no more than two programs run for it at a time.
    #[must_use]
    pub fn for_client(&self, client: u64) -> Self {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let share = shares.get(&client).and_then(Weak::upgrade).unwrap_or_else(|| {
            shares.retain(|_, share| share.strong_count() > 0);
            let share = Arc::new(Semaphore::new(MAX_FOR_CLIENT));
            shares.insert(client, Arc::downgrade(&share));
            share
        });
        drop(shares);
        Self { share: Some(share), ..self.clone() }
    }

    /// Whether programs of the configuration may run (`script-security 2`).
    #[must_use]
    pub fn scripts_allowed(&self) -> bool {
        self.security >= ScriptSecurity::Scripts
    }

    /// Whether passwords may be put into the environment (`script-security 3`).
    #[must_use]
    pub fn passwords_allowed(&self) -> bool {
        self.security >= ScriptSecurity::PasswordsInEnvironment
    }

    /// Runs a program to its end: `command`'s words, then `arguments`; `env` plus `script_type`. Its standard
    /// descriptors, and any other that culvert's caller left open, are culvert's own.
    ///
    /// Dropping the future kills the program's group.
    ///
    /// # Errors
    /// It is forbidden, cannot be started, or takes too long. A status other than 0 is not an error here.
    pub async fn run(
        &self,
        hook: Hook,
        command: &Command,
        arguments: &[String],
        env: &ScriptEnv,
    ) -> Result<ScriptExit, ScriptError> {
        if !self.scripts_allowed() {
            return Err(ScriptError::Forbidden);
        }
        let Some((program, fixed)) = command.argv.split_first() else { return Err(ScriptError::Forbidden) };
        // Semaphores are never closed; if they were, running one program more would be the smaller evil. A client waits
        // for its own first: it holds no place in the line of all meanwhile.
        let _own = match &self.share {
            Some(share) => share.acquire().await.ok(),
            None => None,
        };
        let _slot = self.slots.acquire().await.ok();
        // What it copies of the environment nobody can wipe: a password is there as long as the program runs, as it is in
        // the program's own.
        // A name alone is a file in the current directory (`cd`), as for OpenVPN: it is not looked for elsewhere.
        let mut child = tokio::process::Command::new(Path::new(".").join(program));
        child
            .args(fixed)
            .args(arguments)
            .env_clear()
            .envs(env.iter())
            .env("script_type", hook.script_type())
            .process_group(0)
            .kill_on_drop(true);
        let started = |source| ScriptError::Start { program: program.into(), source };
        let mut child = child.spawn().map_err(started)?;
        let group = Group { leader: child.id() };
        let status = match tokio::time::timeout(self.time_limit, child.wait()).await {
            Ok(status) => status.map_err(started)?,
            Err(_) => {
                self.end(&mut child, group).await;
                return Err(ScriptError::Timeout {
                    program: program.into(),
                    seconds: self.time_limit.as_secs(),
                });
            }
        };
        group.spare();
        Ok(exit_of(status))
    }

    /// Asks the group to end, waits a moment, ends it. The leader is waited for last: until then its number can mean
    /// nobody but this group.
    async fn end(&self, child: &mut tokio::process::Child, group: Group) {
        group.signal(KillSignal::Term);
        tokio::time::sleep(self.grace).await;
        group.signal(KillSignal::Kill);
        group.spare();
        let _ = child.wait().await;
    }
}

/// The process group of a running program; killed when dropped, unless spared.
struct Group {
    leader: Option<u32>,
}

impl Group {
    fn signal(&self, signal: KillSignal) {
        if let Some(leader) = self.leader {
            let _ = kill_group(leader, signal);
        }
    }

    fn spare(mut self) {
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(KillSignal::Kill);
    }
}

fn exit_of(status: std::process::ExitStatus) -> ScriptExit {
    match status.code() {
        Some(code) => ScriptExit::Status(code),
        None => ScriptExit::Signal(terminating_signal(status).unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn shell(script: &str) -> Command {
        Command { argv: ["/bin/sh", "-c", script, "hook"].map(str::to_owned).to_vec() }
    }

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("culvert-script-{name}-{}", std::process::id()))
    }

    async fn run(script: &str, arguments: &[String], env: &ScriptEnv) -> ScriptExit {
        ScriptRunner::new(ScriptSecurity::Scripts)
            .run(Hook::ClientConnect, &shell(script), arguments, env)
            .await
            .expect("the program runs")
    }

    #[tokio::test]
    async fn a_program_gets_its_arguments_after_the_fixed_ones() {
        let arguments = ["one".to_owned(), "two words".to_owned()];
        let script = r#"test "$1" = one && test "$2" = "two words" && exit 7"#;
        assert_eq!(run(script, &arguments, &ScriptEnv::new()).await, ScriptExit::Status(7));
    }

    /// SEC-EXEC-1
    #[tokio::test]
    async fn a_program_sees_the_variables_given_and_no_other() {
        let out = scratch("env");
        let mut env = ScriptEnv::new();
        env.set("common_name", "alice").set(
            "evil", "a
b",
        );
        let script = format!("/usr/bin/env > {}", out.display());
        assert!(run(&script, &[], &env).await.is_success());
        let text = std::fs::read_to_string(&out).expect("the program wrote");
        let mut names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
        names.retain(|name| !matches!(*name, "PWD" | "_" | "SHLVL" | "OLDPWD"));
        names.sort_unstable();
        assert_eq!(names, ["common_name", "script_type"], "{text}");
        assert!(text.contains("script_type=client-connect"));
        std::fs::remove_file(&out).expect("the file goes");
    }

    #[tokio::test]
    async fn below_script_security_2_nothing_runs() {
        let runner = ScriptRunner::new(ScriptSecurity::BuiltIn);
        let result = runner.run(Hook::Up, &shell("exit 0"), &[], &ScriptEnv::new()).await;
        assert!(matches!(result, Err(ScriptError::Forbidden)));
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_an_error_with_its_name() {
        let command = Command { argv: vec!["/nonexistent/program".to_owned()] };
        let runner = ScriptRunner::new(ScriptSecurity::Scripts);
        let error =
            runner.run(Hook::Up, &command, &[], &ScriptEnv::new()).await.expect_err("it is not there");
        assert!(error.to_string().contains("/nonexistent/program"));
    }

    #[tokio::test]
    async fn a_signal_is_not_a_status() {
        assert_eq!(run("kill -9 $$", &[], &ScriptEnv::new()).await, ScriptExit::Signal(9));
    }

    /// SEC-EXEC-2
    #[tokio::test]
    async fn a_hanging_program_is_killed_with_its_children() {
        let pid_file = scratch("hang");
        let script =
            format!("trap '' TERM; sleep 1000 & echo $! > {}; wait; wait; sleep 1000", pid_file.display());
        let limit = Duration::from_millis(300);
        let runner =
            ScriptRunner { time_limit: limit, grace: limit, ..ScriptRunner::new(ScriptSecurity::Scripts) };
        let result = runner.run(Hook::Up, &shell(&script), &[], &ScriptEnv::new()).await;
        assert!(matches!(result, Err(ScriptError::Timeout { .. })));
        let child = std::fs::read_to_string(&pid_file).expect("the program wrote");
        wait_until_gone(child.trim()).await;
        std::fs::remove_file(&pid_file).expect("the file goes");
    }

    #[tokio::test]
    async fn one_client_takes_two_slots_and_no_more() {
        let runner = ScriptRunner::new(ScriptSecurity::Scripts);
        let pid_file = scratch("share");
        let script = format!("echo x >> {}; exec sleep 1000", pid_file.display());
        let (command, env) = (shell(&script), ScriptEnv::new());
        let greedy: Vec<_> = (0..3).map(|_| runner.for_client(1)).collect();
        let running = async {
            tokio::join!(
                greedy[0].run(Hook::Up, &command, &[], &env),
                greedy[1].run(Hook::Up, &command, &[], &env),
                greedy[2].run(Hook::Up, &command, &[], &env),
            )
        };
        let other = async {
            while std::fs::read_to_string(&pid_file).map_or(0, |text| text.lines().count()) < 2 {
                tokio::task::yield_now().await;
            }
            let quick = shell("exit 0");
            runner.for_client(2).run(Hook::Up, &quick, &[], &env).await.expect("it runs")
        };
        let exit = tokio::select! {
            ended = running => panic!("they should hang: {ended:?}"),
            exit = other => exit,
        };
        assert!(exit.is_success());
        let began = std::fs::read_to_string(&pid_file).expect("two programs wrote").lines().count();
        assert_eq!(began, 2);
        assert_eq!(runner.slots.available_permits(), MAX_RUNNING, "all were given back");
        std::fs::remove_file(&pid_file).expect("the file goes");
    }

    /// SEC-EXEC-2: also when its session goes away meanwhile.
    #[tokio::test]
    async fn a_program_that_nobody_waits_for_is_killed() {
        let pid_file = scratch("drop");
        let script = format!("echo $$ > {}; sleep 1000", pid_file.display());
        let runner = ScriptRunner::new(ScriptSecurity::Scripts);
        let (command, env) = (shell(&script), ScriptEnv::new());
        let running = runner.run(Hook::Up, &command, &[], &env);
        let written = async {
            while std::fs::read_to_string(&pid_file).map_or(true, |text| !text.ends_with('\n')) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            result = running => panic!("it should hang: {result:?}"),
            () = written => {}
        }
        let leader = std::fs::read_to_string(&pid_file).expect("the program wrote");
        wait_until_gone(leader.trim()).await;
        std::fs::remove_file(&pid_file).expect("the file goes");
    }

    /// A killed process may be a zombie until its parent looks; that counts as gone.
    async fn wait_until_gone(pid: &str) {
        let gone = async {
            loop {
                let stat =
                    std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
                if stat.is_empty() || stat.contains(") Z ") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the process goes");
    }
}
