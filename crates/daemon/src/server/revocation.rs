//! What ends sessions that are under way: a certificate that was revoked, a client that its file disables, a user who is
//! no longer in the file of users ([`super::users`]).
//!
//! Clients are judged again when the files behind a judgement change, and at every reload. Who can no longer be judged,
//! because a list is garbage or a file cannot be read, stays: nobody new is let in meanwhile.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use culvert_config::{Profile, profile::CrlSource, value::FileOrInline};
use culvert_proto::{Command, tls::Standing};
use tokio::time::Instant;

use super::{
    Server,
    admission::{Collected, Decision, Refused},
    client::State,
};
use crate::{ovlog, session_task::SessionKey};

/// How often the files of clients are looked at: one look per file.
const CLIENT_FILES: Duration = Duration::from_secs(3);

/// Notices when files change that let clients in.
pub(super) struct Watch {
    /// `crl-verify`: file or directory, and what it looked like.
    lists: Option<(PathBuf, Stamp)>,
    /// `client-config-dir`, and what its files looked like.
    clients: Option<PathBuf>,
    seen: Option<u64>,
    due: Instant,
}

/// Tells one state of a file from another.
type Stamp = Option<(SystemTime, u64)>;

fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

impl Watch {
    /// Watches what a profile names.
    pub(super) fn of(profile: &Profile) -> Self {
        let lists = match &profile.tls.crl {
            Some(CrlSource::Directory(path) | CrlSource::Pem(FileOrInline::File(path))) => Some(path.clone()),
            Some(CrlSource::Pem(FileOrInline::Inline(_))) | None => None,
        };
        let lists = lists.map(|path| {
            let now = stamp(&path);
            (path, now)
        });
        let clients = profile.server.client_config_dir.clone();
        Self { lists, clients, seen: None, due: Instant::now() }
    }

    /// What was seen of the same directory before still counts: nothing that changes meanwhile is missed.
    pub(super) fn following(mut self, former: &Self) -> Self {
        if self.clients == former.clients {
            self.seen = former.seen;
        }
        self
    }

    fn lists_changed(&mut self) -> bool {
        self.lists.as_mut().is_some_and(|(path, seen)| {
            let now = stamp(path);
            std::mem::replace(seen, now) != now
        })
    }

    /// The directory to look into, when it is time.
    fn due_clients(&mut self) -> Option<PathBuf> {
        let now = Instant::now();
        if now < self.due {
            return None;
        }
        self.due = now + CLIENT_FILES;
        self.clients.clone()
    }
}

/// A number that changes with the names, times and sizes of a directory's files. `None` when it cannot be read.
fn fingerprint(directory: &Path) -> Option<u64> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| Some((entry.as_ref().ok()?.file_name(), stamp(&entry.ok()?.path()))))
        .collect();
    files.sort();
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    Some(hasher.finish())
}

impl Server {
    /// Looks whether files took back what they granted.
    pub(super) fn watch_for_withdrawals(&mut self) {
        self.watch_users();
        if self.watch.lists_changed() {
            self.judge_certificates_again();
        }
        if let Some(directory) = self.watch.due_clients() {
            let decisions = self.admission.decisions.clone();
            tokio::task::spawn_blocking(move || {
                if let Some(fingerprint) = fingerprint(&directory) {
                    let _gone = decisions.blocking_send(Decision::ClientFiles(fingerprint));
                }
            });
        }
    }

    /// The files of clients were looked at.
    pub(super) fn client_files_seen(&mut self, fingerprint: u64) {
        let seen = self.watch.seen.replace(fingerprint);
        if seen.is_some_and(|seen| seen != fingerprint) {
            self.judge_clients_again();
        }
    }

    /// Judges every connected client's certificate by the lists as they are now, on a thread of its own.
    pub(super) fn judge_certificates_again(&self) {
        let connected = self.clients.iter().filter(|(_, client)| client.connected().is_some());
        let peers: Vec<_> = connected.map(|(&key, client)| (key, Arc::clone(&client.identity))).collect();
        let (tls, decisions) = (Arc::clone(&self.tls), self.admission.decisions.clone());
        tokio::task::spawn_blocking(move || {
            let mut told = false;
            for (key, identity) in peers {
                let standing = tls.judge_again(&identity);
                let is_unknown = matches!(standing, Standing::Unknown(_));
                // Others may have a list that can be read; once is enough to say so.
                if standing == Standing::Good || is_unknown && std::mem::replace(&mut told, true) {
                    continue;
                }
                if decisions.blocking_send(Decision::Standing(key, standing)).is_err() {
                    return;
                }
            }
        });
    }

    /// Collects every connected client's own configuration again.
    pub(super) fn judge_clients_again(&self) {
        for (&key, client) in &self.clients {
            if let Some(connected) = client.connected() {
                self.admission.judge_again(key, connected.common_name.clone(), connected.added.clone());
            }
        }
    }

    /// A connected client's certificate was judged again.
    pub(super) fn judged_again(&mut self, key: SessionKey, standing: Standing) {
        match standing {
            Standing::Good => {}
            Standing::Withdrawn(reason) => self.dismiss(key, &reason),
            Standing::Unknown(reason) => ovlog!(
                error 1,
                "{reason}; clients that are connected stay, nobody new is let in until --crl-verify can be read"
            ),
        }
    }

    /// A connected client's own configuration was collected again.
    pub(super) fn collected_again(&mut self, key: SessionKey, collected: Result<Box<Collected>, Refused>) {
        match collected {
            Ok(collected) => self.reconfigure(key, &collected.overrides),
            Err(Refused::Withdrawn(reason)) => self.dismiss(key, &reason),
            Err(Refused::Unreadable(reason)) => {
                if let Some(client) = self.clients.get(&key) {
                    let _in = client.span.enter();
                    ovlog!(error 1, "{reason}; this client stays as it is");
                }
            }
        }
    }

    /// Ends a session that is no longer wanted. The client is told to connect again, and hears then what is wrong.
    pub(super) fn dismiss(&mut self, key: SessionKey, reason: &str) {
        let Some(client) = self.clients.get(&key) else { return };
        if matches!(client.state, State::Handshaking) {
            return;
        }
        {
            let _in = client.span.enter();
            ovlog!(1, "MULTI: client is no longer admitted: {reason}");
        }
        client.handle.command(Command::SendMessage("RESTART".to_owned()));
        self.remove(key, "SIGTERM[soft,withdrawn] received, client-instance exiting");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_anew_removed_or_added_changes_the_fingerprint() {
        let directory = std::env::temp_dir().join(format!("culvert-watch-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let empty = fingerprint(&directory);
        fs::write(directory.join("alice"), "push \"a\"\n").unwrap();
        let one = fingerprint(&directory);
        fs::write(directory.join("alice"), "disable\n").unwrap();
        let other = fingerprint(&directory);
        fs::remove_file(directory.join("alice")).unwrap();
        assert!(empty.is_some() && empty != one && one != other && other != empty);
        assert_eq!(fingerprint(&directory), empty);
        fs::remove_dir(&directory).unwrap();
        assert_eq!(fingerprint(&directory), None);
    }
}
