//! The file of `auth-users`: what stands in it, and how `culvert passwd` changes it. Its form is told in [`super::users`].

use std::{
    collections::HashMap,
    fs,
    hash::{BuildHasher as _, RandomState},
    io::{self, Read as _, Write as _},
    path::Path,
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use argon2::{Argon2, PasswordHasher as _};
use zeroize::Zeroizing;

use super::totp::TotpSecret;
use crate::random;

/// How much of the file is read.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// Longest name that can stand in the file.
const MAX_NAME: usize = 256;
/// In front of a hash: nobody logs in with it (as in shadow(5)).
const DISABLED: char = '!';

/// One line of the file.
pub(super) struct User {
    pub(super) hash: Zeroizing<String>,
    pub(super) totp: Option<TotpSecret>,
}

/// The file as it was read.
pub(super) struct UserFile(Zeroizing<String>);

/// Tells one state of the file from another: when it was changed, by the file system's own clock, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) changed: SystemTime,
    size: u64,
}

impl Stamp {
    /// Looks at a file.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = fs::metadata(path)?;
        // Not the time of modification: copies and renamed files bring an old one along.
        let seconds = Duration::from_secs(u64::try_from(meta.ctime()).unwrap_or(0));
        let nanos = Duration::from_nanos(u64::try_from(meta.ctime_nsec()).unwrap_or(0));
        Ok(Self { changed: UNIX_EPOCH + seconds + nanos, size: meta.len() })
    }
}

/// What stands behind the name of each user who can log in.
pub(super) type Marks = HashMap<String, Mark>;

/// Tells one line of a user from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) value: u64,
    /// Whether it can be used; else nothing is known of its user.
    pub(super) is_understood: bool,
}

impl UserFile {
    /// Reads it.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        read(path).map(Self)
    }

    /// Finds a user's line; `Ok(None)`: there is none, or it is disabled.
    pub(super) fn find(&self, username: &str) -> Result<Option<User>, String> {
        let mut lines =
            self.0.lines().enumerate().filter_map(|(index, line)| Some((index + 1, entry(line)?)));
        match lines.find(|(_, (name, _))| *name == username) {
            Some((line, (name, rest))) => {
                understand(name, rest).map_err(|problem| format!("line {line}: {problem}"))
            }
            None => Ok(None),
        }
    }

    /// A hash to compare with for a name that is not there. It is another user's, and always the same one's for a name: how
    /// long it takes says nothing, whatever hashes the file has.
    pub(super) fn decoy(&self, hasher: &RandomState, username: &str) -> Zeroizing<String> {
        let hashes = || {
            let users = self.0.lines().filter_map(entry);
            users.filter_map(|(name, rest)| understand(name, rest).ok()?).map(|user| user.hash)
        };
        let count = u64::try_from(hashes().count()).unwrap_or(u64::MAX);
        let chosen = hasher.hash_one(username).checked_rem(count);
        let chosen = chosen.and_then(|chosen| usize::try_from(chosen).ok());
        chosen.and_then(|chosen| hashes().nth(chosen)).unwrap_or_else(|| DECOY.clone())
    }

    /// Returns a mark for each user who can log in.
    pub(super) fn marks(&self, hasher: &RandomState) -> Marks {
        let mut marks = HashMap::new();
        for (name, rest) in self.0.lines().filter_map(entry) {
            let understood = understand(name, rest);
            let mark = Mark { value: hasher.hash_one(rest), is_understood: understood.is_ok() };
            // The first of a name counts, also where it is one that disables.
            marks.entry(name.to_owned()).or_insert((!matches!(understood, Ok(None))).then_some(mark));
        }
        marks.into_iter().filter_map(|(name, mark)| Some((name, mark?))).collect()
    }
}

/// For files without any user.
static DECOY: LazyLock<Zeroizing<String>> =
    LazyLock::new(|| Zeroizing::new(hash_password("nobody's password").unwrap_or_default()));

/// Reads what stands behind a name; `Ok(None)`: its user is disabled.
fn understand(name: &str, rest: &str) -> Result<Option<User>, String> {
    if rest.starts_with(DISABLED) {
        return Ok(None);
    }
    let (hash, second) = match rest.split_once(':') {
        Some((hash, second)) => (hash, Some(second)),
        None => (rest, None),
    };
    if !hash.starts_with("$2") && !hash.starts_with("$argon2") {
        return Err(format!("what stands behind '{name}:' is no hash of Argon2 or bcrypt"));
    }
    let totp = match second {
        None => None,
        Some(second) => Some(
            second
                .strip_prefix("totp=")
                .and_then(TotpSecret::parse)
                .ok_or("behind the hash `totp=` and 26 or more characters of base32 are expected")?,
        ),
    };
    Ok(Some(User { hash: Zeroizing::new(hash.to_owned()), totp }))
}

/// The name and the rest of a line that is neither empty nor a comment.
fn entry(line: &str) -> Option<(&str, &str)> {
    line.trim_end().split_once(':').filter(|_| !line.starts_with('#'))
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    fs::File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

pub(super) fn hash_password(password: &str) -> Result<String, String> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|failure| format!("cannot hash the password: {failure}"))
}

/// A change to the file of users, for `culvert passwd`.
pub enum Change {
    /// The user is there with this password, and keeps a second factor.
    Password(Zeroizing<String>),
    /// The same, with a new second factor.
    PasswordAndTotp(Zeroizing<String>),
    /// The user is gone.
    Delete,
}

/// Changes one user in a file of users, which is made where there is none; everything else in it stays as it is. Returns
/// the secret of a new second factor, in base32.
///
/// # Errors
/// When the name cannot stand in the file, the user to delete is not there, or the file cannot be read or written; the
/// text says which.
pub fn change(path: &Path, username: &str, change: &Change) -> Result<Option<Zeroizing<String>>, String> {
    if username.is_empty()
        || username.len() > MAX_NAME
        || username.starts_with('#')
        || username.contains([':', '\n', '\r', '\0'])
    {
        return Err(format!(
            "'{username}' cannot be a user's name here: no colon, no line end, no # in front"
        ));
    }
    let named = |failure: io::Error| format!("{}: {failure}", path.display());
    let old = match read(path) {
        Ok(text) => text,
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => Zeroizing::new(String::new()),
        Err(failure) => return Err(named(failure)),
    };
    let (mut new, mut kept) = (Zeroizing::new(String::with_capacity(old.len() + 512)), None);
    for line in old.lines() {
        match entry(line) {
            Some((name, rest)) if name == username => {
                kept = Some(rest.split_once(':').map(|(_, second)| Zeroizing::new(second.to_owned())));
            }
            _ => {
                new.push_str(line);
                new.push('\n');
            }
        }
    }
    let mut made = None;
    match change {
        Change::Delete if kept.is_none() => {
            return Err(format!("{} has no user '{username}'", path.display()));
        }
        Change::Delete => {}
        Change::Password(password) | Change::PasswordAndTotp(password) => {
            if password.is_empty() {
                return Err("the password is empty".to_owned());
            }
            for piece in [username, ":", &hash_password(password)?] {
                new.push_str(piece);
            }
            if matches!(change, Change::PasswordAndTotp(_)) {
                let secret = TotpSecret::generate();
                new.push_str(":totp=");
                new.push_str(&secret);
                made = Some(secret);
            } else if let Some(Some(second)) = kept {
                new.push(':');
                new.push_str(&second);
            }
            new.push('\n');
        }
    }
    replace(path, &new).map_err(named)?;
    Ok(made)
}

/// Puts a new file in the place of the old one, all at once and with its owner and rights; a first one is for its owner
/// alone.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    // A name that nobody can foresee, lest it lead elsewhere: the folder may belong to somebody else.
    let mut fresh = [0; 8];
    random::fill(&mut fresh);
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}", u64::from_ne_bytes(fresh)));
    let beside = target.with_file_name(name);
    let mut file = culvert_sys::process::create_private(&beside)?;
    let written = (|| {
        file.write_all(text.as_bytes())?;
        if let Ok(old) = fs::metadata(&target) {
            // Without the right to give it away it is ours: whoever cannot read it says so.
            let _kept = fchown(&file, Some(old.uid()), Some(old.gid()));
            file.set_permissions(fs::Permissions::from_mode(old.permissions().mode() & 0o7777))?;
        }
        file.sync_all()?;
        fs::rename(&beside, &target)
    })();
    if written.is_err() {
        let _left_behind = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use culvert_testkit::TempDir;

    use super::*;

    fn folder() -> (TempDir, std::path::PathBuf) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("users");
        (folder, path)
    }

    fn password(text: &str) -> Change {
        Change::Password(Zeroizing::new(text.to_owned()))
    }

    fn file(text: &str) -> UserFile {
        UserFile(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn a_user_with_a_mark_of_exclamation_is_disabled() {
        let file = file("alice:!$2y$10$x\nbob:$2y$10$x\ncarol:x\n");
        assert!(file.find("alice").unwrap().is_none() && file.find("bob").unwrap().is_some());
        assert!(file.find("carol").is_err_and(|problem| problem.starts_with("line 3: ")));
        let marks = file.marks(&RandomState::new());
        assert!(!marks.contains_key("alice") && marks["bob"].is_understood && !marks["carol"].is_understood);
    }

    #[test]
    fn a_name_that_is_not_there_is_compared_with_another_user_s_hash_always_the_same() {
        let file_ = file("a:$2y$10$a\nb:$2y$10$b\nc:!$2y$10$c\nd:plain\n");
        let hasher = RandomState::new();
        let mut seen = std::collections::BTreeSet::new();
        for name in 0..100 {
            let decoy = file_.decoy(&hasher, &name.to_string());
            assert_eq!(decoy, file_.decoy(&hasher, &name.to_string()));
            seen.insert(decoy.to_string());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["$2y$10$a", "$2y$10$b"]);
        assert!(file("").decoy(&hasher, "x").starts_with("$argon2id$"));
    }

    #[test]
    fn changes_leave_other_lines_alone_and_keep_second_factors() {
        let (_folder, path) = folder();
        fs::write(&path, "# ours\nbob:$2y$10$x\n").unwrap();
        let secret = change(&path, "alice", &Change::PasswordAndTotp(Zeroizing::new("a".to_owned())));
        let secret = secret.unwrap().unwrap();
        change(&path, "alice", &password("b")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# ours\nbob:$2y$10$x\nalice:$argon2id$"), "{text}");
        assert!(text.ends_with(&format!(":totp={}\n", *secret)), "{text}");
        change(&path, "alice", &Change::Delete).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# ours\nbob:$2y$10$x\n");
        assert!(change(&path, "alice", &Change::Delete).is_err());
    }

    #[test]
    fn names_that_would_break_the_file_are_refused() {
        let (_folder, path) = folder();
        for name in ["", "a:b", "a\nb", "#a"] {
            assert!(change(&path, name, &password("x")).is_err(), "{name:?}");
        }
    }
}
