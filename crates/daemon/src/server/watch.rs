//! Notices that files change which let clients in: revocation lists and the files of clients.
//!
//! They are looked at on one of the threads for what may block, since they may lie on a disk that hangs; then there is no
//! second look before the first one came back, so that it keeps one of those threads.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use culvert_config::{Profile, profile::CrlSource, value::FileOrInline};
use tokio::time::Instant;

use super::{Server, admission::Decision};

/// How often the files of clients are looked at: one look per file.
const CLIENT_FILES: Duration = Duration::from_secs(3);

/// How often clients are judged again that could not be judged: the reason may lie outside of the file (an issuer's
/// clock, a directory's rights).
const UNKNOWN: Duration = Duration::from_secs(10);

/// What is watched, and what it looked like.
pub(super) struct Watch {
    /// `crl-verify`: file or directory.
    lists: Watched,
    /// `client-config-dir`.
    clients: Watched,
    clients_due: Instant,
    /// A look is under way.
    is_looking: bool,
    /// Why clients could not be judged the last time, and when they are judged again.
    unknown: Option<(String, Instant)>,
}

#[derive(Default)]
struct Watched {
    path: Option<PathBuf>,
    /// `None`: nobody has looked yet. A number that changes with the file; `Some(None)`: it was not there.
    seen: Option<Option<u64>>,
}

impl Watched {
    /// Remembers a look; returns whether it shows something else than the one before, or is the first.
    fn differs(&mut self, now: Option<u64>) -> bool {
        self.seen.replace(now) != Some(now)
    }
}

/// What a look has seen.
#[derive(Debug)]
pub(super) struct Look {
    lists: Option<u64>,
    /// `None`: not looked at, or not readable.
    clients: Option<u64>,
}

impl Watch {
    /// Watches what a profile names.
    pub(super) fn of(profile: &Profile) -> Self {
        let lists = match &profile.tls.crl {
            Some(CrlSource::Directory(path) | CrlSource::Pem(FileOrInline::File(path))) => Some(path.clone()),
            Some(CrlSource::Pem(FileOrInline::Inline(_))) | None => None,
        };
        let clients = profile.server.client_config_dir.clone();
        Self {
            lists: Watched { path: lists, seen: None },
            clients: Watched { path: clients, seen: None },
            clients_due: Instant::now(),
            is_looking: false,
            unknown: None,
        }
    }

    /// What was seen of the same files before still counts: nothing that changes meanwhile is missed.
    pub(super) fn following(mut self, former: &Self) -> Self {
        if self.lists.path == former.lists.path {
            self.lists.seen = former.lists.seen;
        }
        if self.clients.path == former.clients.path {
            self.clients.seen = former.clients.seen;
        }
        self.is_looking = former.is_looking;
        self.unknown.clone_from(&former.unknown);
        self
    }

    /// Takes the result of a round of judgements: `Some` is why not everybody could be judged. Returns what is new about
    /// that: the same trouble is told once.
    pub(super) fn judged(&mut self, unknown: Option<String>) -> Option<String> {
        let before = self.unknown.take().map(|(reason, _)| reason);
        let unknown = unknown?;
        self.unknown = Some((unknown.clone(), Instant::now() + UNKNOWN));
        (before.as_ref() != Some(&unknown)).then_some(unknown)
    }

    /// Whether it is time to try once more what could not be judged.
    fn is_unknown_due(&mut self) -> bool {
        let now = Instant::now();
        match &mut self.unknown {
            Some((_, due)) if now >= *due => {
                *due = now + UNKNOWN;
                true
            }
            _ => false,
        }
    }

    /// What to look at now.
    fn due(&mut self) -> Option<impl FnOnce() -> Look + Send + 'static> {
        let now = Instant::now();
        let clients = self.clients.path.clone().filter(|_| now >= self.clients_due);
        let lists = self.lists.path.clone();
        if self.is_looking || lists.is_none() && clients.is_none() {
            return None;
        }
        if clients.is_some() {
            self.clients_due = now + CLIENT_FILES;
        }
        self.is_looking = true;
        Some(move || Look {
            lists: lists.as_deref().and_then(stamp).map(|stamp| hash(&stamp)),
            clients: clients.as_deref().and_then(fingerprint),
        })
    }
}

impl Server {
    /// Looks whether files took back what they granted.
    pub(super) fn watch_for_withdrawals(&mut self) {
        self.watch_users();
        if self.watch.is_unknown_due() {
            self.judge_certificates_again();
        }
        if let Some(look) = self.watch.due() {
            let decisions = self.admission.decisions.clone();
            tokio::task::spawn_blocking(move || {
                let _gone = decisions.blocking_send(Decision::Looked(look()));
            });
        }
    }

    /// Files were looked at.
    pub(super) fn looked(&mut self, look: &Look) {
        self.watch.is_looking = false;
        if self.watch.lists.path.is_some() && self.watch.lists.differs(look.lists) {
            self.judge_certificates_again();
        }
        if look.clients.is_some() && self.watch.clients.differs(look.clients) {
            self.judge_clients_again();
        }
    }
}

/// Tells one state of a file from another: also one that another file took the place of, and other rights.
fn stamp(path: &Path) -> Option<impl Hash + Ord + use<>> {
    let meta = fs::metadata(path).ok()?;
    Some((
        meta.dev(),
        meta.ino(),
        meta.len(),
        (meta.mtime(), meta.mtime_nsec()),
        (meta.ctime(), meta.ctime_nsec()),
    ))
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// A number that changes with the names and states of a directory's files. `None` when it cannot be read.
fn fingerprint(directory: &Path) -> Option<u64> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| Some((entry.as_ref().ok()?.file_name(), stamp(&entry.ok()?.path()))))
        .collect();
    files.sort();
    Some(hash(&files))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("culvert-watch-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _gone = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_that_is_written_anew_removed_or_added_changes_the_fingerprint() {
        let directory = Directory::new("files");
        let empty = fingerprint(&directory.0);
        fs::write(directory.0.join("alice"), "push \"a\"\n").unwrap();
        let one = fingerprint(&directory.0);
        fs::write(directory.0.join("alice"), "disable\n").unwrap();
        let other = fingerprint(&directory.0);
        fs::remove_file(directory.0.join("alice")).unwrap();
        assert!(empty.is_some() && empty != one && one != other && other != empty);
        assert_eq!(fingerprint(&directory.0), empty);
        assert_eq!(fingerprint(&directory.0.join("nowhere")), None);
    }

    #[test]
    fn a_list_with_other_rights_or_in_another_s_place_has_changed() {
        let directory = Directory::new("list");
        let list = directory.0.join("crl.pem");
        fs::write(&list, "one").unwrap();
        let of = || stamp(&list).map(|stamp| hash(&stamp));
        let before = of();
        fs::set_permissions(&list, fs::Permissions::from_mode(0o400)).unwrap();
        let rights = of();
        // Of the same size and age.
        let other = directory.0.join("other");
        fs::write(&other, "two").unwrap();
        let age = fs::metadata(&list).unwrap().modified().unwrap();
        fs::File::open(&other).unwrap().set_modified(age).unwrap();
        fs::rename(&other, &list).unwrap();
        assert!(before.is_some() && before != rights && rights != of());
    }

    #[tokio::test(start_paused = true)]
    async fn who_could_not_be_judged_is_judged_again_until_it_works_and_the_log_hears_it_once() {
        let mut watch = Watch::of(&Profile::default());
        assert!(!watch.is_unknown_due());
        assert_eq!(watch.judged(Some("garbage".to_owned())), Some("garbage".to_owned()));
        assert!(!watch.is_unknown_due());
        tokio::time::advance(UNKNOWN).await;
        assert!(watch.is_unknown_due() && !watch.is_unknown_due());
        assert_eq!(watch.judged(Some("garbage".to_owned())), None);
        assert_eq!(watch.judged(Some("expired".to_owned())), Some("expired".to_owned()));
        assert_eq!(watch.judged(None), None);
        tokio::time::advance(UNKNOWN).await;
        assert!(!watch.is_unknown_due());
    }
}
