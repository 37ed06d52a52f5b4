//! What a reload reads, on one of the threads for what may block: the files may lie on a disk that hangs, and neither
//! tunnels nor handshakes wait for it. Nothing comes into force here; that is [`super::reload`]'s.

use std::{io, sync::Arc};

use culvert_config::{Configuration, Profile, Reread, render_all};
use culvert_proto::tls::{TlsFactory, TlsRole};
use serde_json::json;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_blocking},
};

use super::{
    Server, judges,
    reload::{ReloadRefused, Reloaded, answer},
};
use crate::{
    auth::plugins::Plugins,
    exit::Ended,
    life::Life,
    log::{LogChange, LogConfig, Logger},
    ovlog,
    settings::{
        SettingsError,
        tls::{Unasked, remake_factory},
        wrapping,
    },
    status_file::StatusFile,
};

/// Who wants to hear what a reload did.
pub(super) type Asker = oneshot::Sender<String>;

/// Reloads, one at a time.
#[derive(Default)]
pub(super) struct Reloads {
    reading: Option<Reading>,
    /// Came while files were read: they may have changed since.
    again: Option<Vec<Asker>>,
}

struct Reading {
    task: JoinHandle<Result<Box<Prepared>, ReloadRefused>>,
    askers: Vec<Asker>,
}

/// A configuration that was read again and can come into force.
pub(super) struct Prepared {
    pub(super) reread: Reread,
    /// `None`: it stays as it is.
    pub(super) tls: Option<Arc<dyn TlsFactory>>,
    /// Where another one is to be written.
    pub(super) status: Option<Arc<StatusFile>>,
    /// `None`: it stays where it is.
    pub(super) log: Option<LogChange>,
    /// What can be said about it so far.
    pub(super) reloaded: Reloaded,
}

impl Reloads {
    /// Waits until files are read; forever where none are. Returns what was read, and who asked.
    pub(super) async fn read(&mut self) -> (Result<Box<Prepared>, ReloadRefused>, Vec<Asker>) {
        let Some(reading) = &mut self.reading else { return std::future::pending().await };
        let outcome = (&mut reading.task).await;
        let outcome = outcome.unwrap_or_else(|failure| {
            Err(ReloadRefused(format!("internal error: the reload failed: {failure}")))
        });
        let askers = self.reading.take().map(|reading| reading.askers);
        (outcome, askers.unwrap_or_default())
    }

    /// The server ends: what is read still is not wanted any more. Returns who asked; `None`: nothing is read.
    fn give_up(&mut self) -> Option<Vec<Asker>> {
        let mut askers = self.reading.take()?.askers;
        askers.extend(self.again.take().unwrap_or_default());
        Some(askers)
    }

    /// Who asked for a reload that came during the last one.
    pub(super) fn take_next(&mut self) -> Option<Vec<Asker>> {
        self.again.take()
    }
}

impl Server {
    /// The server ends: whoever asked for a reload whose files are still being read is told.
    pub(super) fn give_up_reload(&mut self, ended: &Ended) {
        let Some(askers) = self.reloads.give_up() else { return };
        let fate = if ended.is_restart() { "restarts" } else { "ends" };
        ovlog!(warn 1, "reload: given up: the server {fate}");
        answer(askers, &json!({ "error": format!("given up: the server {fate}") }));
    }

    /// Begins to read, or sees to it that files are read once more after the reading that is under way.
    pub(super) fn begin_reload(
        &mut self,
        life: &Life,
        configuration: &Arc<Configuration>,
        askers: Vec<Asker>,
    ) {
        if self.reloads.reading.is_some() {
            ovlog!(1, "reload: the one before still reads its files; this one follows it");
            self.reloads.again.get_or_insert_default().extend(askers);
            return;
        }
        let start = Start {
            configuration: Arc::clone(configuration),
            running: Arc::clone(&self.profile),
            most_clients: self.most_clients,
            plugins: self.hooks.plugins.clone(),
            unasked: Unasked::of(life),
            status: self.status.clone(),
            logger: self.logger.clone(),
        };
        self.reloads.reading =
            Some(Reading { task: spawn_blocking(move || start.read().map(Box::new)), askers });
    }
}

/// What a reload starts from.
struct Start {
    configuration: Arc<Configuration>,
    running: Arc<Profile>,
    /// For whom there is room.
    most_clients: u32,
    plugins: Plugins,
    unasked: Unasked,
    /// The one that is written now.
    status: Option<Arc<StatusFile>>,
    logger: Logger,
}

impl Start {
    fn read(self) -> Result<Prepared, ReloadRefused> {
        let reread = self.configuration.reread().map_err(|errors| ReloadRefused(render_all(&errors)))?;
        judges::check(&reread.profile, &self.plugins).map_err(ReloadRefused)?;
        let mut reloaded = Reloaded::default();
        reloaded.problems.extend(reread.notes.iter().map(|note| note.openvpn_line.clone()));
        let mut prepared = Prepared { reread, tls: None, status: None, log: None, reloaded };
        self.keep_what_stands(&mut prepared);
        self.remake_tls(&mut prepared)?;
        let Prepared { reread, status, log, reloaded, .. } = &mut prepared;
        // Nothing can refuse the reload from here on.
        *status = StatusFile::of_profile(&reread.profile, self.status.as_deref());
        match self.logger.prepare(LogConfig::from(&reread.profile.log)) {
            Ok(change) => *log = Some(change),
            Err(failure) => reloaded.problems.push(format!("the log stays where it is: {failure}")),
        }
        Ok(prepared)
    }

    /// Puts back what is bound to sockets and tables that stay: the connection with its control channel keys, the key of
    /// tokens, and the number of clients for which there is room. What differs waits for a restart.
    fn keep_what_stands(&self, prepared: &mut Prepared) {
        let profile = &mut prepared.reread.profile;
        let waiting = &mut prepared.reloaded.needs_restart;
        let changed = wrapping::changed_keys(&self.running, profile).into_iter();
        waiting.extend(changed.map(|option| format!("the key of `{option}`, which changed on disk")));
        profile.connections.clone_from(&self.running.connections);
        profile.server.auth_gen_token_secret.clone_from(&self.running.server.auth_gen_token_secret);
        let (most, wanted) = (self.most_clients, profile.server.max_clients);
        if wanted > most {
            waiting.push(format!("`max-clients {wanted}`: until then there is room for {most}"));
            profile.server.max_clients = most;
        }
    }

    /// TLS for new sessions and key exchanges, from the files as they are. A process that gave up its privileges may not
    /// be able to read its key again, and one that had to ask for passphrase or certificate does not ask while it serves:
    /// then TLS stays as it is.
    fn remake_tls(&self, prepared: &mut Prepared) -> Result<(), ReloadRefused> {
        let reason = match remake_factory(&self.unasked, &prepared.reread.profile, TlsRole::Server) {
            Ok(Some(factory)) => {
                prepared.tls = Some(Arc::new(factory));
                prepared.reloaded.has_new_tls = true;
                return Ok(());
            }
            Ok(None) => {
                "passphrase or certificate come from the management interface, which is asked at a start only; restart the server".to_owned()
            }
            Err(SettingsError::File { option, path, source })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                format!(
                    "without its former privileges the process cannot read --{option} {}; restart the server, or let its `user` read the file",
                    path.display()
                )
            }
            Err(failure) => return Err(ReloadRefused(failure.to_string())),
        };
        let problem = format!("keys, certificates and TLS options stay as they are: {reason}");
        prepared.reloaded.problems.push(problem);
        prepared.reread.keep_tls(&self.running);
        Ok(())
    }
}
