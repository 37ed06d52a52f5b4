//! Plugins, each on a thread of its own: one that blocks holds up its own answers and nothing else.
//!
//! A plugin is called by one thread only, as its authors expect; calls to it wait in a queue. Whoever asked waits at most
//! [`TIME_LIMIT`], then the answer is no (SEC-AUTH-1, SEC-EXEC-2).

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use culvert_config::{OPENVPN_VERSION, value::Command};
use culvert_plugin::{Answer, Call, HookMask, Level, Plugin, PluginHook};
use tokio::{sync::oneshot, time::timeout};
use zeroize::Zeroize as _;

use crate::{
    ovlog,
    scripts::{DeferredAuth, Hook, ScriptEnv},
};

/// How long an answer is waited for.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Calls that may wait for one plugin.
const QUEUE: usize = 1024;
/// Plugins lead into libraries with large frames: PAM, LDAP, interpreters.
const STACK: usize = 8 * 1024 * 1024;
/// Where names without a slash in front are looked for: Debian's, then where it is built from source.
const DIRECTORIES: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/openvpn/plugins",
    "/usr/lib/aarch64-linux-gnu/openvpn/plugins",
    "/usr/lib64/openvpn/plugins",
    "/usr/lib/openvpn/plugins",
    "/usr/local/lib/openvpn/plugins",
];

/// The plugins of a profile, in its order. Clones are the same plugins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plugins {
    threads: Arc<[PluginThread]>,
    written: Arc<[Command]>,
}

/// One plugin's place in the queue of calls.
#[derive(Debug)]
struct PluginThread {
    name: String,
    hooks: HookMask,
    /// `None` only at its end.
    jobs: Option<SyncSender<Job>>,
    /// Disconnected once the plugin is closed.
    ended: Mutex<mpsc::Receiver<()>>,
}

/// How long a plugin may take to close.
const CLOSING: Duration = Duration::from_secs(2);

impl Drop for PluginThread {
    /// Lets the plugin close before the process ends, unless it hangs.
    fn drop(&mut self) {
        self.jobs = None;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(CLOSING) == Err(RecvTimeoutError::Timeout) {
            ovlog!(warn 1, "PLUGIN_CLOSE: plugin {} does not return; it is left behind", self.name);
        } else {
            ovlog!(3, "PLUGIN_CLOSE: {}", self.name);
        }
    }
}

enum Job {
    Call(OwnedCall, oneshot::Sender<Answer>),
    Forget(u64),
}

/// A call that can wait. Values are wiped: one may be a password.
struct OwnedCall {
    hook: PluginHook,
    arguments: Vec<String>,
    env: Vec<(String, String)>,
    client: Option<u64>,
    /// With its depth, in DER.
    certificate: Option<(u8, Vec<u8>)>,
}

impl Drop for OwnedCall {
    fn drop(&mut self) {
        for (_, value) in &mut self.env {
            value.zeroize();
        }
    }
}

/// What plugins said about a login.
pub(crate) enum PluginLogin {
    /// All agree.
    Accept,
    /// One answers later through these files, the others agree.
    Deferred(DeferredAuth, ScriptEnv),
    /// One refuses: its reason for the client, if it left one.
    Reject(Option<String>),
}

/// What plugins said about a client that connects.
pub(crate) enum PluginConnect {
    /// All agree: options for this client.
    Accept(String),
    /// One refuses.
    Reject,
}

impl Plugins {
    /// Loads all of a profile's plugins and waits for their initialisation. `env` is what they see while they begin.
    ///
    /// # Errors
    /// The first that fails: a server without one of its judges must not start.
    pub(crate) async fn load(written: &[Command], env: &ScriptEnv) -> Result<Self, String> {
        let mut threads = Vec::new();
        for command in written {
            threads.push(PluginThread::start(command, env).await?);
        }
        Ok(Self { threads: threads.into(), written: written.into() })
    }

    /// Whether these are the plugins that a profile wants.
    pub(crate) fn are(&self, written: &[Command]) -> bool {
        *self.written == *written
    }

    /// Whether one of them wants to be called for a hook.
    pub(crate) fn want(&self, hook: PluginHook) -> bool {
        self.threads.iter().any(|plugin| plugin.hooks.has(hook))
    }

    /// Calls all of them; returns whether all agree.
    pub(crate) async fn agree(
        &self,
        hook: PluginHook,
        arguments: &[String],
        env: &ScriptEnv,
        client: Option<u64>,
    ) -> bool {
        self.agree_about(hook, arguments, env, client, None).await
    }

    /// Asks all of them about a certificate, and logs what they say as OpenVPN does.
    pub(crate) async fn agree_to_certificate(
        &self,
        [depth, subject]: &[String; 2],
        env: &ScriptEnv,
        client: Option<u64>,
        certificate: (u8, &[u8]),
    ) -> bool {
        let hook = PluginHook::TlsVerify;
        if !self.want(hook) {
            return true;
        }
        let arguments = [depth.clone(), subject.clone()];
        let agreed = self.agree_about(hook, &arguments, env, client, Some(certificate)).await;
        let word = if agreed { "OK" } else { "ERROR" };
        ovlog!(1, "VERIFY PLUGIN {word}: depth={depth}, {subject}");
        agreed
    }

    async fn agree_about(
        &self,
        hook: PluginHook,
        arguments: &[String],
        env: &ScriptEnv,
        client: Option<u64>,
        certificate: Option<(u8, &[u8])>,
    ) -> bool {
        for plugin in self.threads.iter() {
            let certificate = certificate.map(|(depth, der)| (depth, der.to_vec()));
            let call =
                OwnedCall { hook, arguments: arguments.to_vec(), env: pairs(env), client, certificate };
            match plugin.answer(call).await {
                Answer::Success(_) => {}
                Answer::Error => return false,
                Answer::Deferred => {
                    ovlog!(warn 1, "PLUGIN_CALL: {} cannot answer {} later", plugin.name, hook.name());
                    return false;
                }
            }
        }
        true
    }

    /// Asks about a login. The answer of one of them may come later.
    pub(crate) async fn judge_login(
        &self,
        directory: &Path,
        (username, password): (&str, &str),
        env: &ScriptEnv,
        client: u64,
    ) -> PluginLogin {
        let hook = PluginHook::AuthUserPassVerify;
        let mut later = None;
        for plugin in self.threads.iter().filter(|plugin| plugin.hooks.has(hook)) {
            let files = match DeferredAuth::create(directory) {
                Ok(files) => files,
                Err(error) => {
                    ovlog!(warn 1, "TLS Auth Error: could not write files for a plugin in {}: {error}", directory.display());
                    return PluginLogin::Reject(None);
                }
            };
            let mut env = env.clone();
            files.export(&mut env);
            env.set("username", username);
            let mut asked = env.clone();
            asked.set("password", password);
            match plugin.call(hook, &[], &asked, Some(client)).await {
                Answer::Success(_) => {}
                Answer::Error => return PluginLogin::Reject(files.reason()),
                Answer::Deferred if later.is_none() => later = Some((files, env)),
                Answer::Deferred => {
                    ovlog!(warn 1, "PLUGIN_CALL: only one plugin may answer a login later; {} wants to as well", plugin.name);
                    return PluginLogin::Reject(None);
                }
            }
        }
        match later {
            Some((files, env)) => PluginLogin::Deferred(files, env),
            None => PluginLogin::Accept,
        }
    }

    /// Asks about a client that connects, and collects options for it: by file (version 1 of the hook), and by returned
    /// lists with the name `config` (version 2). Who answers later is asked again until it does.
    pub(crate) async fn judge_connect(
        &self,
        directory: &Path,
        env: &ScriptEnv,
        client: u64,
    ) -> PluginConnect {
        let mut options = String::new();
        for plugin in self.threads.iter() {
            for version in [ConnectVersion::V1, ConnectVersion::V2] {
                match plugin.connect(version, directory, env, client).await {
                    Some(added) => {
                        options.push_str(&added);
                        options.push('\n');
                    }
                    None => return PluginConnect::Reject,
                }
            }
        }
        PluginConnect::Accept(options)
    }

    /// A client is gone.
    pub(crate) fn forget(&self, client: u64) {
        for plugin in self.threads.iter() {
            // A queue that is full is one whose plugin hangs: what it remembers goes with the process.
            let _full = plugin.jobs.as_ref().map(|jobs| jobs.try_send(Job::Forget(client)));
        }
    }
}

/// The two forms of the hook for clients that connect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ConnectVersion {
    V1,
    V2,
}

/// How often a plugin that answers a connect later is asked.
const ASK_EVERY: Duration = Duration::from_millis(250);

impl PluginThread {
    async fn start(command: &Command, env: &ScriptEnv) -> Result<Self, String> {
        let written = command.argv.first().cloned().unwrap_or_default();
        let path = locate(&written);
        let (jobs, inbox) = mpsc::sync_channel(QUEUE);
        let (opened, is_open) = oneshot::channel();
        let (alive, ended) = mpsc::channel();
        let (arguments, env) = (command.argv.clone(), pairs(env));
        let run = move || {
            let plugin = match Plugin::open(&path, &arguments, &env, version(), log) {
                Ok(plugin) => plugin,
                Err(failure) => return drop(opened.send(Err(failure.to_string()))),
            };
            let _gone = opened.send(Ok(plugin.hooks()));
            work(plugin, &inbox);
            drop(alive);
        };
        thread::Builder::new()
            .name("culvert-plugin".to_owned())
            .stack_size(STACK)
            .spawn(run)
            .map_err(|failure| format!("cannot start a thread for plugin {written}: {failure}"))?;
        let hooks = match timeout(TIME_LIMIT, is_open).await {
            Ok(Ok(opened)) => opened?,
            Ok(Err(_panicked)) => return Err(format!("PLUGIN_INIT: the thread of plugin {written} ended")),
            Err(_elapsed) => {
                let limit = TIME_LIMIT.as_secs();
                return Err(format!("PLUGIN_INIT: plugin {written} was not initialised within {limit} s"));
            }
        };
        let shown: Vec<_> = command.argv.iter().map(|word| format!("[{word}]")).collect();
        ovlog!(1, "PLUGIN_INIT: POST {written} '{}' intercepted={hooks} ", shown.join(" "));
        Ok(Self { name: written, hooks, jobs: Some(jobs), ended: Mutex::new(ended) })
    }

    /// Calls a hook without a certificate.
    async fn call(
        &self,
        hook: PluginHook,
        arguments: &[String],
        env: &ScriptEnv,
        client: Option<u64>,
    ) -> Answer {
        let (arguments, env) = (arguments.to_vec(), pairs(env));
        self.answer(OwnedCall { hook, arguments, env, client, certificate: None }).await
    }

    /// Calls a hook. No answer in time is an error, and so is a queue that is full.
    async fn answer(&self, call: OwnedCall) -> Answer {
        if !self.hooks.has(call.hook) {
            return Answer::Success(Vec::new());
        }
        let (answer, answered) = oneshot::channel();
        let (name, what) = (&self.name, call.hook.name());
        let Some(jobs) = &self.jobs else { return Answer::Error };
        match jobs.try_send(Job::Call(call, answer)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                ovlog!(warn 1, "PLUGIN_CALL: too many calls wait for plugin {name}; {what} counts as refused");
                return Answer::Error;
            }
            Err(TrySendError::Disconnected(_)) => {
                ovlog!(warn 1, "PLUGIN_CALL: the thread of plugin {name} is gone; {what} counts as refused");
                return Answer::Error;
            }
        }
        let answer = match timeout(TIME_LIMIT, answered).await {
            Ok(answer) => answer.unwrap_or(Answer::Error),
            Err(_elapsed) => {
                ovlog!(
                    warn 1,
                    "PLUGIN_CALL: plugin {name} has not answered {what} within {} s; it counts as refused, and further \
                     calls to this plugin wait until it returns",
                    TIME_LIMIT.as_secs()
                );
                return Answer::Error;
            }
        };
        let status = match answer {
            Answer::Success(_) => 0,
            Answer::Error => 1,
            Answer::Deferred => 2,
        };
        ovlog!(3, "PLUGIN_CALL: POST {name}/{what} status={status}");
        if answer == Answer::Error {
            ovlog!(warn 1, "PLUGIN_CALL: plugin function {what} failed with status 1: {name}");
        }
        answer
    }

    /// Asks about a client that connects; `None` refuses it.
    async fn connect(
        &self,
        version: ConnectVersion,
        directory: &Path,
        env: &ScriptEnv,
        client: u64,
    ) -> Option<String> {
        let (first, again) = match version {
            ConnectVersion::V1 => (PluginHook::ClientConnect, PluginHook::ClientConnectDefer),
            ConnectVersion::V2 => (PluginHook::ClientConnectV2, PluginHook::ClientConnectDeferV2),
        };
        if !self.hooks.has(first) {
            return Some(String::new());
        }
        let files = crate::scripts::ConnectFiles::create(directory)
            .map_err(|error| ovlog!(warn 1, "client-connect: could not write files in {}: {error}", directory.display()))
            .ok()?;
        let mut env = env.clone();
        files.export(&mut env);
        let arguments = match version {
            ConnectVersion::V1 => vec![files.config_path().display().to_string()],
            ConnectVersion::V2 => Vec::new(),
        };
        // Version 1 may also answer through the file, and then needs no second hook.
        let by_file = |answer| match (version, answer) {
            (ConnectVersion::V1, _) if files.is_refused() => Answer::Error,
            (ConnectVersion::V1, Answer::Success(_)) if files.is_deferred() => Answer::Deferred,
            (_, answer) => answer,
        };
        let mut answer = by_file(self.call(first, &arguments, &env, Some(client)).await);
        if answer == Answer::Deferred && version == ConnectVersion::V2 && !self.hooks.has(again) {
            ovlog!(warn 1, "PLUGIN_CALL: {} answers later, but has no {}", self.name, again.name());
            return None;
        }
        let until = tokio::time::Instant::now() + TIME_LIMIT;
        while answer == Answer::Deferred {
            if tokio::time::Instant::now() >= until {
                ovlog!(warn 1, "PLUGIN_CALL: plugin {} has not decided about the client in time", self.name);
                return None;
            }
            tokio::time::sleep(ASK_EVERY).await;
            answer = by_file(self.call(again, &arguments, &env, Some(client)).await);
        }
        match (answer, version) {
            (Answer::Success(_), ConnectVersion::V1) => files.config().ok(),
            (Answer::Success(returned), ConnectVersion::V2) => {
                let config = returned.into_iter().filter(|(name, _)| name == "config");
                Some(config.map(|(_, value)| value + "\n").collect())
            }
            (Answer::Error | Answer::Deferred, _) => None,
        }
    }
}

/// One plugin's life: until nobody can call it any more.
fn work(mut plugin: Plugin, inbox: &mpsc::Receiver<Job>) {
    while let Ok(job) = inbox.recv() {
        match job {
            // Whoever asked has given up, most likely because the client is gone.
            Job::Call(_, answer) if answer.is_closed() => {}
            Job::Call(call, answer) => {
                let OwnedCall { hook, arguments, env, client, certificate } = &call;
                let certificate = certificate.as_ref().map(|(depth, der)| (*depth, &der[..]));
                let answered =
                    plugin.call(&Call { hook: *hook, arguments, env, client: *client, certificate });
                // Whoever asked may have given up.
                let _gone = answer.send(answered);
            }
            Job::Forget(client) => plugin.forget(client),
        }
    }
}

/// The hook of plugins that belongs to one of programs.
pub(crate) fn plugin_hook(hook: Hook) -> Option<PluginHook> {
    Some(match hook {
        Hook::Up => PluginHook::Up,
        Hook::Down => PluginHook::Down,
        Hook::RouteUp => PluginHook::RouteUp,
        Hook::RoutePreDown => PluginHook::RoutePreDown,
        Hook::IpChange => PluginHook::IpChange,
        Hook::TlsVerify => PluginHook::TlsVerify,
        Hook::AuthUserPassVerify => PluginHook::AuthUserPassVerify,
        Hook::ClientConnect => PluginHook::ClientConnect,
        Hook::ClientDisconnect => PluginHook::ClientDisconnect,
        Hook::LearnAddress => PluginHook::LearnAddress,
        Hook::ClientCrResponse => PluginHook::ClientCrResponse,
        Hook::TlsCryptV2Verify | Hook::DnsUp | Hook::DnsDown => return None,
    })
}

/// Absolute names, and such that begin with a dot, are taken as they are; others are looked for where plugins lie.
fn locate(written: &str) -> PathBuf {
    let path = PathBuf::from(written);
    if path.is_absolute() || written.starts_with('.') {
        return path;
    }
    let places = DIRECTORIES.map(|directory| Path::new(directory).join(&path));
    // Where it is nowhere, the first place is named in the message.
    places.iter().find(|place| place.is_file()).unwrap_or(&places[0]).clone()
}

fn pairs(env: &ScriptEnv) -> Vec<(String, String)> {
    env.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The version that plugins are told: the one that peers are told.
fn version() -> (u32, u32, u32) {
    let mut numbers = OPENVPN_VERSION.split('.').map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

/// Writes what plugins say into the log.
fn log(level: Level, plugin: &str, text: &str) {
    let text = text.trim_end();
    match level {
        Level::Error => ovlog!(error 1, "PLUGIN {plugin}: {text}"),
        Level::Warning => ovlog!(warn 1, "PLUGIN {plugin}: {text}"),
        Level::Note => ovlog!(1, "PLUGIN {plugin}: {text}"),
        Level::Debug => ovlog!(7, "PLUGIN {plugin}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_names_are_looked_for_where_plugins_lie() {
        assert_eq!(locate("/opt/x.so"), Path::new("/opt/x.so"));
        assert_eq!(locate("./x.so"), Path::new("./x.so"));
        assert_eq!(locate("nowhere.so"), Path::new(DIRECTORIES[0]).join("nowhere.so"));
    }

    #[tokio::test]
    async fn a_plugin_that_cannot_be_loaded_is_an_error_with_its_name() {
        let command = Command { argv: vec!["/nonexistent/plugin.so".to_owned()] };
        let failure = Plugins::load(&[command], &ScriptEnv::new()).await.expect_err("it is not there");
        assert!(failure.contains("/nonexistent/plugin.so"), "{failure}");
    }

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_any_more_is_not_made() {
        let folder = culvert_testkit::TempDir::new().unwrap();
        let module = culvert_testkit::c_plugin(&folder, 3).unwrap().display().to_string();
        let calls = folder.path().join("calls");
        let command = Command { argv: vec![module, format!("note:{}", calls.display())] };
        let plugins = Plugins::load(&[command], &ScriptEnv::new()).await.unwrap();
        let count = || std::fs::read(&calls).unwrap_or_default().len();
        let call = |client| {
            let (plugins, hook) = (plugins.clone(), PluginHook::AuthUserPassVerify);
            tokio::spawn(async move { plugins.agree(hook, &[], &ScriptEnv::new(), Some(client)).await })
        };
        let first = call(1);
        while count() < 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (second, third) = (call(2), call(3));
        tokio::task::yield_now().await;
        second.abort();
        assert!(second.await.is_err());
        std::fs::write(folder.path().join("calls.go"), "").unwrap();
        assert!(first.await.unwrap() && third.await.unwrap());
        assert_eq!(count(), 2);
    }

    #[tokio::test]
    async fn a_plugin_may_answer_about_a_client_through_the_file_alone() {
        let folder = culvert_testkit::TempDir::new().unwrap();
        let module = culvert_testkit::c_plugin(&folder, 3).unwrap().display().to_string();
        for (mode, accepted) in [("connect-later", true), ("connect-never", false)] {
            let command = Command { argv: vec![module.clone(), mode.to_owned()] };
            let plugins = Plugins::load(&[command], &ScriptEnv::new()).await.unwrap();
            let judged = plugins.judge_connect(folder.path(), &ScriptEnv::new(), 1).await;
            let options = match judged {
                PluginConnect::Accept(options) => Some(options.trim().to_owned()),
                PluginConnect::Reject => None,
            };
            let expected = "push \"route 192.0.2.0 255.255.255.0\"".to_owned();
            assert_eq!(options, accepted.then_some(expected), "{mode}");
        }
    }

    #[tokio::test]
    async fn a_plugin_is_closed_when_nobody_can_call_it_any_more() {
        let folder = culvert_testkit::TempDir::new().unwrap();
        let module = culvert_testkit::c_plugin(&folder, 3).unwrap().display().to_string();
        let closed = folder.path().join("closed");
        let command = Command { argv: vec![module, format!("touch:{}", closed.display())] };
        let plugins = Plugins::load(std::slice::from_ref(&command), &ScriptEnv::new()).await.unwrap();
        assert!(plugins.are(&[command]) && plugins.want(PluginHook::AuthUserPassVerify));
        let another = plugins.clone();
        drop(plugins);
        assert!(!closed.exists());
        drop(another);
        assert!(closed.exists());
    }
}
