//! `auth-users`: culvert's own file of users, so that neither passwords nor second factors need a program.
//!
//! ```text
//! # name : hash of the password [ : totp=BASE32 ]
//! alice:$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA:totp=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ
//! bob:$2y$10$...
//! ```
//!
//! Hashes are Argon2's in PHC form, or bcrypt's, as `htpasswd -B` writes them. The file is read at every login: a change
//! counts from then on. With `totp` a code is wanted as well: as the answer to a `static-challenge`, behind the password,
//! or, where neither is there, as the answer to a dynamic challenge (CRV1) that asks for it. A code is good once.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _, password_hash::phc::PasswordHash};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::{
    challenge::{DynamicChallenge, PasswordField},
    totp::{DIGITS, TotpSecret},
};
use crate::{clock, ovlog, random};

/// Passwords that are hashed at a time: each takes 20 MB and a core for a moment, and logins must not take all of either.
const HASHING: usize = 2;
/// How long a challenge waits for its answer.
const CHALLENGE_LIFE: Duration = Duration::from_secs(180);
/// Challenges that wait; more replace the oldest.
const CHALLENGES: usize = 4096;
/// How much of the file is read.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// Longest name that is looked for; what is longer is nobody's.
const MAX_NAME: usize = 256;

/// What became of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UserVerdict {
    /// Name, password and, where there is one, the second factor are right.
    Accept,
    /// Something is not; with the reason for the client.
    Reject(Option<String>),
}

/// The users of a server.
pub(crate) struct Users {
    path: PathBuf,
    hashing: Semaphore,
    memory: Mutex<Memory>,
}

/// What has to be remembered between logins.
#[derive(Default)]
struct Memory {
    /// The last step of each user whose code was taken.
    used: HashMap<String, u64>,
    challenges: HashMap<String, Asked>,
}

/// A challenge that waits for its answer: its user has given the right password.
struct Asked {
    username: String,
    until: Instant,
}

/// One line of the file.
struct User {
    hash: Zeroizing<String>,
    totp: Option<TotpSecret>,
}

/// What the password field proved.
enum Proven {
    /// Nothing.
    Nothing,
    /// The password.
    Password,
    /// The password, and this code came with it.
    PasswordAnd(Zeroizing<String>),
}

impl Users {
    /// Whether this is their file.
    pub(crate) fn are_in(&self, path: &Path) -> bool {
        self.path == path
    }

    /// The users of a file, which is read when somebody logs in.
    pub(crate) fn of_file(path: PathBuf) -> Self {
        Self { path, hashing: Semaphore::new(HASHING), memory: Mutex::default() }
    }

    /// Judges a login.
    pub(crate) async fn judge(self: &Arc<Self>, username: &str, field: &str) -> UserVerdict {
        let verdict = self.look(username, PasswordField::parse(field)).await;
        // A question is no failure: the password was right.
        if matches!(&verdict, UserVerdict::Reject(reason) if !reason.as_ref().is_some_and(|it| it.starts_with("CRV1:")))
        {
            ovlog!(1, "auth-users: wrong user name, password or code for '{username}'");
        }
        verdict
    }

    /// Whether a user is still in the file: a token is worth nothing without one.
    pub(crate) async fn know(self: &Arc<Self>, username: &str) -> bool {
        let (users, name) = (Arc::clone(self), username.to_owned());
        let looked = tokio::task::spawn_blocking(move || find(&users.path, &name)).await;
        match looked {
            Ok(Ok(user)) => user.is_some(),
            Ok(Err(failure)) => {
                ovlog!(error 1, "auth-users {}: {failure}; nobody can log in", self.path.display());
                false
            }
            Err(_panicked) => false,
        }
    }

    async fn look(self: &Arc<Self>, username: &str, field: PasswordField) -> UserVerdict {
        // The semaphore is never closed.
        let _turn = self.hashing.acquire().await.ok();
        let (users, name) = (Arc::clone(self), username.to_owned());
        let looked = tokio::task::spawn_blocking(move || users.look_now(&name, &field)).await;
        looked.unwrap_or(UserVerdict::Reject(None))
    }

    /// Reads the file and hashes: takes a tenth of a second.
    fn look_now(&self, username: &str, field: &PasswordField) -> UserVerdict {
        let user = match find(&self.path, username) {
            Ok(user) => user,
            Err(failure) => {
                ovlog!(error 1, "auth-users {}: {failure}; nobody can log in", self.path.display());
                return UserVerdict::Reject(None);
            }
        };
        let Some(User { hash, totp }) = user else {
            // As long as for a user that exists: how long it takes does not tell names.
            let _unused = hash_password("nobody's password");
            return UserVerdict::Reject(None);
        };
        let proven = match field {
            PasswordField::Dynamic(state, code) if self.memory().take_challenge(state, username) => {
                Proven::PasswordAnd(code.clone())
            }
            PasswordField::Dynamic(..) => Proven::Nothing,
            PasswordField::Static(password, code) if is_password(password, &hash) => {
                Proven::PasswordAnd(code.clone())
            }
            PasswordField::Static(..) => Proven::Nothing,
            PasswordField::Plain(field) => prove(field, &hash, totp.is_some()),
        };
        match (proven, totp) {
            (Proven::Nothing, _) => UserVerdict::Reject(None),
            // A code that nobody asked for proves nothing more, and does no harm.
            (Proven::Password | Proven::PasswordAnd(_), None) => UserVerdict::Accept,
            (Proven::Password, Some(_)) => UserVerdict::Reject(Some(self.memory().ask(username).reason())),
            (Proven::PasswordAnd(code), Some(secret)) => {
                let now = u64::from(clock::unix_seconds());
                if self.memory().take_code(username, &secret, &code, now) {
                    UserVerdict::Accept
                } else {
                    UserVerdict::Reject(None)
                }
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Takes a code, once.
    fn take_code(&mut self, username: &str, secret: &TotpSecret, code: &str, now: u64) -> bool {
        let last = self.used.get(username).copied();
        let Some(step) = secret.step_of(code.trim(), now, last) else { return false };
        self.used.insert(username.to_owned(), step);
        true
    }

    /// Makes a challenge for a user whose password was right.
    fn ask(&mut self, username: &str) -> DynamicChallenge {
        let now = Instant::now();
        self.challenges.retain(|_, asked| now < asked.until);
        if self.challenges.len() >= CHALLENGES
            && let Some(oldest) =
                self.challenges.iter().min_by_key(|(_, asked)| asked.until).map(|(state, _)| state.clone())
        {
            self.challenges.remove(&oldest);
        }
        let mut state = [0; 18];
        random::fill(&mut state);
        let state = URL_SAFE_NO_PAD.encode(state);
        let asked = Asked { username: username.to_owned(), until: now + CHALLENGE_LIFE };
        self.challenges.insert(state.clone(), asked);
        DynamicChallenge {
            echo: true,
            wants_response: true,
            state,
            username: username.to_owned(),
            text: "Enter the code of your authenticator".to_owned(),
        }
    }

    /// Whether this user was asked this, not long ago. A challenge is answered once, right or wrong.
    fn take_challenge(&mut self, state: &str, username: &str) -> bool {
        let asked = self.challenges.remove(state);
        asked.is_some_and(|asked| asked.username == username && Instant::now() < asked.until)
    }
}

/// What a plain password field proves. A code may stand behind the password (`static-challenge … concat`).
fn prove(field: &str, hash: &str, wants_code: bool) -> Proven {
    let split = field.len().checked_sub(DIGITS).and_then(|at| field.split_at_checked(at));
    if let Some((password, code)) = split.filter(|_| wants_code)
        && code.bytes().all(|digit| digit.is_ascii_digit())
        && is_password(password, hash)
    {
        return Proven::PasswordAnd(Zeroizing::new(code.to_owned()));
    }
    if is_password(field, hash) { Proven::Password } else { Proven::Nothing }
}

fn is_password(password: &str, hash: &str) -> bool {
    if password.is_empty() {
        return false;
    }
    if hash.starts_with("$2") {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    // Parameters are taken from the hash.
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// Finds a user's line; `Ok(None)`: there is none.
fn find(path: &Path, username: &str) -> Result<Option<User>, String> {
    let text = read(path).map_err(|failure| failure.to_string())?;
    for (index, line) in text.lines().enumerate() {
        let Some((name, rest)) = entry(line).filter(|(name, _)| *name == username) else { continue };
        let line = index + 1;
        let (hash, second) = match rest.split_once(':') {
            Some((hash, second)) => (hash, Some(second)),
            None => (rest, None),
        };
        if !hash.starts_with("$2") && !hash.starts_with("$argon2") {
            return Err(format!("line {line}: what stands behind '{name}:' is no hash of Argon2 or bcrypt"));
        }
        let totp = match second {
            None => None,
            Some(second) => Some(
                second
                    .strip_prefix("totp=")
                    .and_then(TotpSecret::parse)
                    .ok_or_else(|| format!("line {line}: behind the hash `totp=` and 26 or more characters of base32 are expected"))?,
            ),
        };
        return Ok(Some(User { hash: Zeroizing::new(hash.to_owned()), totp }));
    }
    Ok(None)
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

fn hash_password(password: &str) -> Result<String, String> {
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

    /// The secret of RFC 6238's vectors.
    const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    fn folder() -> (TempDir, PathBuf) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("users");
        (folder, path)
    }

    fn password(text: &str) -> Change {
        Change::Password(Zeroizing::new(text.to_owned()))
    }

    /// A file with a user with a second factor.
    fn with_totp() -> (TempDir, Arc<Users>) {
        let (folder, path) = folder();
        fs::write(&path, format!("alice:{}:totp={SECRET}\n", hash_password("secret").unwrap())).unwrap();
        (folder, Arc::new(Users::of_file(path)))
    }

    #[tokio::test]
    async fn the_right_password_of_a_user_is_accepted_and_nothing_else() {
        let (_folder, path) = folder();
        change(&path, "alice", &password("correct horse")).unwrap();
        let users = Arc::new(Users::of_file(path));
        assert_eq!(users.judge("alice", "correct horse").await, UserVerdict::Accept);
        for (name, wrong) in [("alice", "wrong"), ("alice", ""), ("bob", "correct horse"), ("", "")] {
            assert_eq!(users.judge(name, wrong).await, UserVerdict::Reject(None), "{name} {wrong}");
        }
    }

    #[tokio::test]
    async fn a_user_is_known_until_deleted() {
        let (_folder, path) = folder();
        change(&path, "alice", &password("correct horse")).unwrap();
        let users = Arc::new(Users::of_file(path.clone()));
        assert!(users.know("alice").await && !users.know("bob").await);
        change(&path, "alice", &Change::Delete).unwrap();
        assert!(!users.know("alice").await);
    }

    #[tokio::test]
    async fn hashes_of_htpasswd_are_understood() {
        let (_folder, path) = folder();
        let hash = bcrypt::hash("correct horse", 4).unwrap().replace("$2b$", "$2y$");
        fs::write(&path, format!("# a comment\n\nbob:{hash}\n")).unwrap();
        let users = Arc::new(Users::of_file(path));
        assert_eq!(users.judge("bob", "correct horse").await, UserVerdict::Accept);
        assert_eq!(users.judge("bob", "wrong").await, UserVerdict::Reject(None));
    }

    #[tokio::test]
    async fn a_file_that_is_missing_or_broken_lets_nobody_in() {
        let (_folder, path) = folder();
        let users = Arc::new(Users::of_file(path.clone()));
        assert_eq!(users.judge("alice", "x").await, UserVerdict::Reject(None));
        fs::write(&path, "alice:plain text\n").unwrap();
        assert_eq!(users.judge("alice", "plain text").await, UserVerdict::Reject(None));
    }

    #[test]
    fn a_password_without_a_code_is_answered_by_a_question_which_is_answered_once() {
        let (_folder, users) = with_totp();
        let field = PasswordField::Plain(Zeroizing::new("secret".to_owned()));
        let UserVerdict::Reject(Some(reason)) = users.look_now("alice", &field) else {
            panic!("no question")
        };
        let asked = DynamicChallenge::parse(&reason).unwrap();
        assert_eq!(asked.username, "alice");
        let mut memory = users.memory();
        assert!(!memory.take_challenge("another", "alice"));
        assert!(memory.take_challenge(&asked.state, "alice"));
        assert!(!memory.take_challenge(&asked.state, "alice"), "once");
        let of_alice = memory.ask("alice");
        assert!(!memory.take_challenge(&of_alice.state, "bob"), "by whom it was asked");
    }

    #[test]
    fn a_code_is_taken_once_and_only_in_time() {
        let (mut memory, secret) = (Memory::default(), TotpSecret::parse(SECRET).unwrap());
        assert!(!memory.take_code("alice", &secret, "287083", 59));
        assert!(memory.take_code("alice", &secret, "287082", 59));
        assert!(!memory.take_code("alice", &secret, "287082", 59), "once");
        assert!(memory.take_code("bob", &secret, "287082", 59), "another user's");
    }

    #[test]
    fn a_code_may_stand_behind_the_password() {
        let hash = hash_password("secret").unwrap();
        assert!(matches!(prove("secret123456", &hash, true), Proven::PasswordAnd(code) if *code == "123456"));
        assert!(matches!(prove("secret", &hash, true), Proven::Password));
        assert!(matches!(prove("secret123456", &hash, false), Proven::Nothing));
        assert!(matches!(prove("wrong123456", &hash, true), Proven::Nothing));
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
