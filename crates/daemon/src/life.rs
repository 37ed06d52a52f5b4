//! What outlives a restart: the log, the service manager, secrets, privileges, the status file.
//!
//! One **life** lasts from a start to SIGHUP, SIGUSR1 (on a server) or the end. [`run`] leads from life to life.

use std::{sync::Arc, time::Instant};

use culvert_config::{Configuration, LogDestination, Profile, Role, profile::TlsRole, title};
use culvert_mgmt::StateName;
use culvert_proto::{Credentials, Session, tls::TlsFactory};
use zeroize::Zeroizing;

use crate::{
    auth::{memory::LoginMemory, plugins::Plugins, tokens::Tokens},
    client,
    credentials::{self, Prompter},
    device_rest::DeviceRest,
    exit::{Ended, Exit},
    handshakes::Handshakes,
    log::{LogConfig, Logger},
    management::Management,
    offload, ovlog,
    privileges::{self, Identity},
    scripts::ScriptEnv,
    server,
    settings::{own_files::wants_passphrase, wrapping},
    signals::{Asked, Request, Signals},
    status_file::{StatusFile, finish_writing},
    systemd::Notifier,
    threads::ThreadBudget,
    tunnel::{SharedKeeper, recover_machine},
    writepid::PidFile,
};

/// What a process starts from.
pub struct Startup<'a> {
    /// A configuration that passed all checks.
    pub profile: Profile,
    /// The log, already open.
    pub logger: Logger,
    /// Reads the same command line again (SIGHUP) and reports what is wrong with it; `None` when it is unusable.
    pub reload: &'a dyn Fn() -> Option<Profile>,
    /// The same for a server that goes on: what it reads comes into force beside its clients.
    pub configuration: Arc<Configuration>,
}

/// Secrets that are asked for once, while somebody can be asked.
#[derive(Default)]
pub(crate) struct Secrets {
    /// Opens the private key.
    pub(crate) passphrase: Option<Zeroizing<String>>,
    /// What a client logs in with.
    pub(crate) login: Option<Credentials>,
    /// What clients of the management interface have to know.
    management: Option<Zeroizing<String>>,
}

/// The state that is handed from life to life.
pub(crate) struct Life {
    pub(crate) profile: Arc<Profile>,
    pub(crate) logger: Logger,
    pub(crate) secrets: Secrets,
    /// A server's, from the files as they were at the start or at SIGHUP: SIGUSR1 does not read them again.
    pub(crate) tls: Option<Arc<dyn TlsFactory>>,
    /// A server's device and its configuration, over SIGUSR1 with `persist-tun`.
    pub(crate) kept_tunnel: Option<server::Standing>,
    /// There was a life before this one: its sockets may be free only in a moment.
    pub(crate) is_later: bool,
    /// Who gets how many threads.
    pub(crate) threads: ThreadBudget,
    pub(crate) handshakes: Arc<Handshakes<Session>>,
    pub(crate) management: Management,
    /// `kill-switch`, once it is in force.
    pub(crate) kill_switch: Option<client::Guarded>,
    /// What it asks for.
    asked: Asked,
    /// They stay loaded over restarts, as long as the configuration names the same.
    plugins: Option<Plugins>,
    /// Tokens stay good over SIGUSR1, also where their key is drawn at the start.
    tokens: Option<Arc<Tokens>>,
    /// What is remembered of logins.
    pub(crate) logins: LoginMemory,
    notifier: Notifier,
    identity: Identity,
    /// Tells the resolver about name servers once privileges are gone.
    pub(crate) name_keeper: Option<SharedKeeper>,
    /// Privileges are gone: they cannot be dropped again, nor files of root be opened.
    dropped: bool,
    status: Option<Arc<StatusFile>>,
    pool_file: Option<Arc<StatusFile>>,
}

/// Runs culvert: from an accepted configuration to the end of the process.
pub fn run(startup: Startup<'_>) -> Exit {
    let Startup { profile, logger, reload, configuration } = startup;
    announce();
    match prepare(profile, logger.clone()) {
        Ok((life, _pid_file)) => {
            let exit = start_runtime(life, reload, &configuration);
            logger.flush();
            exit
        }
        Err(failure) => {
            Ended::Fatal(failure).log();
            logger.flush();
            Exit::FAILURE
        }
    }
}

/// The mark that the configuration was accepted: title, libraries, kernel offload.
fn announce() {
    ovlog!(1, "{}", title());
    ovlog!(1, "library versions: {}", culvert_proto::tls::LIBRARY_VERSIONS);
    ovlog!(1, "DCO version: {}", offload::kernel_version().as_deref().unwrap_or("N/A"));
}

/// Everything that must happen before the first thread: questions, the way into the background, limits.
fn prepare(mut profile: Profile, logger: Logger) -> Result<(Life, Option<PidFile>), String> {
    let notifier = Notifier::from_env();
    let mut secrets = ask_secrets(&profile)?;
    wrapping::preload(&mut profile).map_err(|failure| failure.to_string())?;
    let identity = Identity::resolve(&profile.process).map_err(|failure| failure.to_string())?;
    if profile.process.daemon.is_some() {
        let keep_output = profile.log.destination == LogDestination::Stdout;
        privileges::detach(&profile.process, keep_output, notifier.is_active())
            .map_err(|failure| failure.to_string())?;
    }
    if let LogDestination::File { path, .. } = &profile.log.destination {
        Logger::take_standard_output(path).map_err(|failure| failure.to_string())?;
    }
    privileges::schedule(&profile.process).map_err(|failure| failure.to_string())?;
    privileges::protect().map_err(|failure| failure.to_string())?;
    logger.start_writer().map_err(|failure| format!("cannot start the thread of the log: {failure}"))?;
    let pid_file = match &profile.process.writepid {
        Some(path) => Some(
            PidFile::write(path)
                .map_err(|failure| format!("Open error on pid file {}: {failure}", path.display()))?,
        ),
        None => None,
    };
    let threads = ThreadBudget::of_this_process();
    let (management, asked) = Management::new(&profile, &logger, secrets.management.take());
    let life = Life {
        profile: Arc::new(profile),
        logger,
        secrets,
        tls: None,
        kept_tunnel: None,
        logins: LoginMemory::default(),
        is_later: false,
        threads,
        handshakes: Arc::new(Handshakes::new(threads.handshakes)),
        management,
        kill_switch: None,
        asked,
        plugins: None,
        tokens: None,
        notifier,
        identity,
        name_keeper: None,
        dropped: false,
        status: None,
        pool_file: None,
    };
    Ok((life, pid_file))
}

/// Asks for what the profile leaves open, while there is a terminal.
fn ask_secrets(profile: &Profile) -> Result<Secrets, String> {
    let prompter = Prompter::detect();
    let mut secrets = Secrets::default();
    if let Some(source) = &profile.management.password {
        let password = credentials::management_password(source, &prompter);
        secrets.management = Some(password.map_err(|failure| failure.to_string())?);
    }
    if profile.management.query_passwords {
        return Ok(secrets); // asked for when they are needed
    }
    let needs = wants_passphrase(&profile.tls).map_err(|failure| failure.to_string())?;
    if needs || matches!(profile.tls.askpass, Some(Some(_))) {
        let source = profile.tls.askpass.as_ref().and_then(Option::as_ref);
        let passphrase = credentials::passphrase(source, &prompter).map_err(|failure| failure.to_string())?;
        secrets.passphrase = Some(passphrase);
    }
    if let Some(source) = &profile.client.auth_user_pass {
        let challenge = profile.client.static_challenge.as_ref();
        let login = credentials::login_with_challenge(source, challenge, &prompter);
        secrets.login = Some(login.map_err(|failure| failure.to_string())?);
    }
    Ok(secrets)
}

/// Runs the control plane: one thread for all tasks, others only for what blocks.
fn start_runtime(
    life: Life,
    reload: &dyn Fn() -> Option<Profile>,
    configuration: &Arc<Configuration>,
) -> Exit {
    ovlog!(3, "{}", life.threads);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(life.threads.blocking)
        .thread_name("culvert-file")
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(lives(life, reload, configuration));
            runtime.shutdown_timeout(std::time::Duration::from_secs(1));
            finish_writing();
            exit
        }
        Err(failure) => {
            Ended::Fatal(format!("cannot start threads: {failure}")).log();
            Exit::FAILURE
        }
    }
}

/// Leads from life to life.
async fn lives(
    mut life: Life,
    reload: &dyn Fn() -> Option<Profile>,
    configuration: &Arc<Configuration>,
) -> Exit {
    let mut signals = match Signals::new(life.asked.clone()) {
        Ok(signals) => signals,
        Err(failure) => {
            Ended::Fatal(format!("cannot listen to signals: {failure}")).log();
            return Exit::FAILURE;
        }
    };
    recover_machine();
    let management = life.management.clone();
    let opened = match management.open().await {
        Ok(()) => match management.open_control() {
            Ok(()) => management.open_metrics().await,
            Err(failure) => Err(failure),
        },
        Err(failure) => Err(failure),
    };
    let exit = match opened {
        Ok(()) => live(&mut life, &mut signals, reload, configuration).await,
        Err(failure) => {
            Ended::Fatal(failure).log();
            Exit::FAILURE
        }
    };
    management.close().await;
    exit
}

async fn live(
    life: &mut Life,
    signals: &mut Signals,
    reload: &dyn Fn() -> Option<Profile>,
    configuration: &Arc<Configuration>,
) -> Exit {
    // Once for each configuration that is read, not for each attempt; and before the hold.
    life.management.set_state(StateName::Connecting, "");
    let mut device_rest = DeviceRest::default();
    loop {
        if let Some(ended) = hold(life, signals).await {
            client::conclude(life, &ended);
            return ended.exit(life.profile.process.exit_codes);
        }
        let waits = life.profile.role() == Role::Server || life.profile.tls.role == Some(TlsRole::Server);
        let began = Instant::now();
        let mut ended = if waits {
            server::run(life, signals, configuration).await
        } else {
            client::run(life, signals).await
        };
        client::conclude(life, &ended);
        life.is_later = true;
        ended.log();
        ended.tell(&life.management);
        if ended == server::DEVICE_GONE
            && let Some(by_signal) = device_rest.rest(began.elapsed(), signals).await
        {
            by_signal.log();
            by_signal.tell(&life.management);
            ended = by_signal;
        }
        match ended {
            Ended::Signal(Request::Restart) | Ended::Soft(Request::Restart, _) => match reload() {
                Some(mut profile) => {
                    if let Err(failure) = wrapping::preload(&mut profile) {
                        Ended::Fatal(failure.to_string()).log();
                        return unusable(life);
                    }
                    if let Err(failure) = life.logger.reconfigure(LogConfig::from(&profile.log)) {
                        ovlog!(warn 1, "the log stays where it is: {failure}");
                    }
                    if life.management.has_moved(&profile) {
                        ovlog!(warn 1, "management and control-socket stay as they are until culvert is started anew");
                    }
                    life.profile = Arc::new(profile);
                    life.tls = None;
                    life.tokens = None;
                    announce();
                    life.management.set_state(StateName::Connecting, "");
                }
                None => return unusable(life),
            },
            Ended::Signal(Request::SoftRestart) | Ended::Soft(Request::SoftRestart, _) => {}
            Ended::Signal(_) | Ended::Told | Ended::Soft(..) => {
                life.notifier.stopping();
                return ended.exit(life.profile.process.exit_codes);
            }
            Ended::Fatal(_) | Ended::Unreachable(_) => return ended.exit(life.profile.process.exit_codes),
        }
    }
}

/// What is to come into force at a restart cannot be read: the process ends, and a kill switch stays.
fn unusable(life: &Life) -> Exit {
    if let Some(guarded) = &life.kill_switch {
        guarded.remind();
    }
    Exit::FAILURE
}

/// Waits for the release of `management-hold`, if there is one; a signal that ends the process ends the wait.
async fn hold(life: &Life, signals: &mut Signals) -> Option<Ended> {
    let held = life.management.hold(std::time::Duration::ZERO);
    tokio::pin!(held);
    loop {
        tokio::select! {
            _ = &mut held => return None,
            request = signals.next() => match request {
                Request::Terminate | Request::Interrupt => {
                    let ended = Ended::by_signal(request);
                    ended.log();
                    ended.tell(&life.management);
                    return Some(ended);
                }
                Request::Restart | Request::SoftRestart | Request::Statistics => {
                    ovlog!(1, "{} has no effect before the hold is released", request.name());
                }
            },
        }
    }
}

impl Life {
    /// Whether [`Self::drop_privileges`] has something to do.
    pub(crate) fn is_about_to_drop_privileges(&self) -> bool {
        !self.dropped && !self.identity.is_unchanged()
    }

    /// Changes to `user` and `group`, once.
    pub(crate) fn drop_privileges(&mut self) -> Result<(), String> {
        if !self.is_about_to_drop_privileges() {
            return Ok(());
        }
        self.status_file();
        self.pool_file();
        self.identity.assume().map_err(|failure| failure.to_string())?;
        self.dropped = true;
        Ok(())
    }

    /// The plugins of the profile, loaded where they are not. `env` is what they see while they begin.
    pub(crate) async fn plugins(&mut self, env: &ScriptEnv) -> Result<Plugins, String> {
        let written = &self.profile.scripts.plugins;
        if let Some(plugins) = self.plugins.as_ref().filter(|plugins| plugins.are(written)) {
            return Ok(plugins.clone());
        }
        let plugins = Plugins::load(written, env).await?;
        self.plugins = Some(plugins.clone());
        Ok(plugins)
    }

    /// The maker of tokens, where the profile wants them.
    pub(crate) fn tokens(&mut self) -> Result<Option<Arc<Tokens>>, String> {
        if self.tokens.is_none() {
            let tokens = Tokens::from_profile(&self.profile).map_err(|failure| failure.to_string())?;
            self.tokens = tokens.map(Arc::new);
        }
        Ok(self.tokens.clone())
    }

    /// The status file, opened while the rights to do so are there.
    pub(crate) fn status_file(&mut self) -> Option<Arc<StatusFile>> {
        if let Some(file) = StatusFile::of_profile(&self.profile, self.status.as_deref()) {
            self.status = Some(file);
        }
        self.status.clone()
    }

    /// Another one was opened.
    pub(crate) fn replace_status_file(&mut self, file: Arc<StatusFile>) {
        self.status = Some(file);
    }

    /// The file of `ifconfig-pool-persist`, opened while the rights to do so are there. `None` also where it is only read.
    pub(crate) fn pool_file(&mut self) -> Option<Arc<StatusFile>> {
        // With 0 seconds it is the administrator's own list, never written.
        let wanted = self.profile.server.pool_persist.as_ref().filter(|wanted| !wanted.interval.is_zero());
        if let Some(wanted) = wanted
            && let Some(file) =
                StatusFile::unless_open("ifconfig-pool-persist", &wanted.path, self.pool_file.as_deref())
        {
            self.pool_file = Some(file);
        }
        self.pool_file.clone()
    }

    /// Sockets are open, the configuration is accepted.
    pub(crate) fn ready(&self) {
        self.notifier.ready();
    }

    /// The tunnel is up: OpenVPN's line, which everybody waits for.
    pub(crate) fn completed(&self, complete: bool) {
        if complete {
            ovlog!(1, "Initialization Sequence Completed");
            self.notifier.completed();
        } else {
            ovlog!(1, "Initialization Sequence Completed With Errors");
            self.notifier.completed_with_errors();
        }
    }
}
