//! `auth-users`: culvert's own file of users, so that neither passwords nor second factors need a program.
//!
//! ```text
//! # name : hash of the password [ : totp=BASE32 ]
//! alice:$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA:totp=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ
//! bob:$2y$10$...
//! ```
//!
//! Hashes are Argon2's in PHC form, or bcrypt's, as `htpasswd -B` writes them; with a `!` in front nobody logs in. The file is
//! read at every login: a change counts from then on. It is also watched (`Users::refresh`): whose line is gone or another
//! has to leave, tokens notwithstanding. With `totp` a code is wanted as well: as the answer to a `static-challenge`, behind
//! the password, or, where neither is there, as the answer to a dynamic challenge (CRV1) that asks for it. A code is good
//! once.

use std::{
    collections::HashMap,
    hash::RandomState,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use argon2::{Argon2, PasswordVerifier as _, password_hash::phc::PasswordHash};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

pub use super::user_file::{Change, change};
use super::{
    challenge::{DynamicChallenge, PasswordField},
    totp::{self, DIGITS, TotpSecret},
    user_file::{Marks, Stamp, User, UserFile},
};
use crate::{clock, ovlog, random};

/// Passwords that are hashed at a time: each takes 20 MB and a core for a moment, and logins must not take all of either.
const HASHING: usize = 2;
/// How long a challenge waits for its answer.
const CHALLENGE_LIFE: Duration = Duration::from_secs(180);
/// What a client hears whose code is not taken soon after the start, whether it is wrong or too old.
const NEXT_CODE: &str = "this server has just started: log in with the next code";
/// Challenges that wait; more replace the oldest.
const CHALLENGES: usize = 4096;
/// A file is believed only when it has rested so long: who writes it in place makes it empty first.
const REST: Duration = Duration::from_secs(1);

/// What became of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UserVerdict {
    /// Name, password and, where there is one, the second factor are right.
    Accept,
    /// Something is not; with the reason for the client.
    Reject(Option<String>),
}

/// Whether a user who is in may stay in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UserStanding {
    /// The line is as it was.
    Known,
    /// There is no such user any more, or it is disabled.
    Gone,
    /// Password or second factor are others now.
    Changed,
    /// The file cannot be read, or not this line: why.
    CannotTell(String),
}

/// The users of a server.
pub(crate) struct Users {
    path: PathBuf,
    hashing: Semaphore,
    memory: Mutex<Memory>,
    hasher: RandomState,
    /// The watch looks at the file.
    is_looking: AtomicBool,
}

/// What has to be remembered between logins.
#[derive(Default)]
struct Memory {
    /// When it begins: what was used before is not known.
    began: u64,
    /// The last step of each user whose code was taken.
    used: HashMap<String, u64>,
    challenges: HashMap<String, Asked>,
    roll: Roll,
}

/// Who is in the file.
#[derive(Default)]
struct Roll {
    /// What the file looked like when it was read last; `None`: it never was.
    stamp: Option<Stamp>,
    /// Why it could not be read the last time.
    problem: Option<String>,
    marks: Marks,
    /// When lines were changed or removed that were there before.
    changed: HashMap<String, SystemTime>,
    /// Counts what was news: a reading of a file that had changed, or that it cannot be read.
    edition: u64,
}

/// A challenge that waits for its answer: its user has given the right password.
struct Asked {
    username: String,
    until: Instant,
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

    /// The users of a file, which is read when somebody logs in: by then the process has its final root.
    pub(crate) fn of_file(path: PathBuf) -> Self {
        Self {
            path,
            hashing: Semaphore::new(HASHING),
            memory: Mutex::new(Memory { began: u64::from(clock::unix_seconds()), ..Memory::default() }),
            hasher: RandomState::new(),
            is_looking: AtomicBool::new(false),
        }
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

    /// Whether a user who logged in at that time may stay, by the file as it is now: a token is worth nothing without its
    /// user, and one that was made before the password changed is worth nothing either.
    pub(crate) async fn know(self: &Arc<Self>, username: &str, since: SystemTime) -> UserStanding {
        // A file that is being written is read a moment later; one that never rests, as it is.
        for _ in 0..30 {
            if !self.elsewhere(Self::is_restless).await.unwrap_or(false) {
                break;
            }
            tokio::time::sleep(REST / 10).await;
        }
        match self.elsewhere(Self::refresh).await {
            Some(_) => self.standing(username, since),
            None => UserStanding::CannotTell("internal error: the look at the file failed".to_owned()),
        }
    }

    /// Looks at the file on a thread for what may block; `None`: the look panicked.
    async fn elsewhere<T: Send + 'static>(self: &Arc<Self>, look: fn(&Self) -> T) -> Option<T> {
        let users = Arc::clone(self);
        tokio::task::spawn_blocking(move || look(&users)).await.ok()
    }

    /// Which reading of the file is known: another number, and a standing may be another.
    pub(crate) fn edition(&self) -> u64 {
        self.memory().roll.edition
    }

    /// The same by the file as it was read last.
    pub(crate) fn standing(&self, username: &str, since: SystemTime) -> UserStanding {
        let memory = self.memory();
        let Roll { stamp, problem, marks, changed, .. } = &memory.roll;
        if let Some(problem) = problem {
            return UserStanding::CannotTell(problem.clone());
        }
        match marks.get(username) {
            _ if stamp.is_none() => {
                UserStanding::CannotTell("auth-users: the file was not read yet".to_owned())
            }
            None => UserStanding::Gone,
            Some(mark) if !mark.is_understood => {
                UserStanding::CannotTell(format!("auth-users: the line of '{username}' is not understood"))
            }
            Some(_) if changed.get(username).is_some_and(|&at| since < at) => UserStanding::Changed,
            Some(_) => UserStanding::Known,
        }
    }

    /// What the watch has to do now, elsewhere, since the file may lie on a disk that hangs: the file is looked at, and read
    /// again if that is due. There is no second look before the first one came back.
    pub(crate) fn due(self: &Arc<Self>) -> Option<impl FnOnce() -> Option<Result<(), String>> + use<>> {
        if self.is_looking.swap(true, Ordering::AcqRel) {
            return None;
        }
        let look = Look(Arc::clone(self));
        Some(move || if look.0.is_stale() { look.0.refresh() } else { None })
    }

    /// Whether the file should be read again: it changed, and has come to rest.
    pub(crate) fn is_stale(&self) -> bool {
        match (Stamp::of(&self.path), &self.memory().roll) {
            (Ok(now), roll) => (roll.stamp != Some(now) || roll.problem.is_some()) && !self.is_restless(),
            (Err(_), roll) => roll.problem.is_none(),
        }
    }

    fn is_restless(&self) -> bool {
        let age = |stamp: Stamp| clock::wall().duration_since(stamp.changed);
        // What was changed in the future was changed by another clock.
        Stamp::of(&self.path).is_ok_and(|stamp| age(stamp).is_ok_and(|age| age < REST))
    }

    /// Reads the file again if it changed, and notes whose lines are others. Takes a moment: not for the server's thread.
    /// `None`: there is nothing new.
    ///
    /// # Errors
    /// Why it cannot be read; what is known of it stays.
    pub(crate) fn refresh(&self) -> Option<Result<(), String>> {
        let read = || {
            // Before it is read: what is written meanwhile is noticed afterwards.
            let stamp = Stamp::of(&self.path)?;
            if self.memory().roll.stamp == Some(stamp) {
                return Ok((stamp, None));
            }
            Ok((stamp, Some(UserFile::read(&self.path)?.marks(&self.hasher))))
        };
        let read: std::io::Result<_> = read();
        let mut memory = self.memory();
        let roll = &mut memory.roll;
        match read {
            Ok((stamp, marks)) => {
                roll.edition += u64::from(roll.problem.take().is_some() || marks.is_some());
                roll.take(stamp, marks?);
                Some(Ok(()))
            }
            Err(failure) => {
                let problem = format!("auth-users {}: {failure}", self.path.display());
                let is_news = roll.problem.replace(problem.clone()).as_ref() != Some(&problem);
                roll.edition += u64::from(is_news);
                is_news.then_some(Err(problem))
            }
        }
    }

    async fn look(self: &Arc<Self>, username: &str, field: PasswordField) -> UserVerdict {
        // The semaphore is never closed.
        let _turn = self.hashing.acquire().await.ok();
        let (users, name) = (Arc::clone(self), username.to_owned());
        let looked = tokio::task::spawn_blocking(move || users.look_now(&name, &field)).await;
        looked.unwrap_or(UserVerdict::Reject(None))
    }

    /// Reads the file and hashes: takes a tenth of a second, the same for every name.
    fn look_now(&self, username: &str, field: &PasswordField) -> UserVerdict {
        let failed = |failure: &dyn std::fmt::Display| {
            ovlog!(error 1, "auth-users {}: {failure}; nobody can log in", self.path.display());
        };
        if self.memory().roll.stamp.is_none() {
            // Nobody is in whose line was not known before: what changes from here on is noticed.
            let _told_below = self.refresh();
        }
        let file = match UserFile::read(&self.path) {
            Ok(file) => file,
            Err(failure) => {
                failed(&failure);
                return UserVerdict::Reject(None);
            }
        };
        let user = file.find(username).unwrap_or_else(|problem| {
            ovlog!(error 1, "auth-users {}: {problem}; '{username}' cannot log in", self.path.display());
            None
        });
        let decoy = file.decoy(&self.hasher, username);
        let hash = user.as_ref().map_or(&decoy, |user| &user.hash);
        let wants_code = user.as_ref().is_some_and(|user| user.totp.is_some());
        let proven = match field {
            PasswordField::Dynamic(state, code) if self.memory().take_challenge(state, username) => {
                Proven::PasswordAnd(code.clone())
            }
            PasswordField::Dynamic(..) => Proven::Nothing,
            PasswordField::Static(password, code) if is_password(password, hash) => {
                Proven::PasswordAnd(code.clone())
            }
            PasswordField::Static(..) => Proven::Nothing,
            PasswordField::Plain(field) => prove(field, hash, wants_code),
        };
        let Some(User { totp, .. }) = user else { return UserVerdict::Reject(None) };
        match (proven, totp) {
            (Proven::Nothing, _) => UserVerdict::Reject(None),
            // A code that nobody asked for proves nothing more, and does no harm.
            (Proven::Password | Proven::PasswordAnd(_), None) => UserVerdict::Accept,
            (Proven::Password, Some(_)) => UserVerdict::Reject(Some(self.memory().ask(username).reason())),
            (Proven::PasswordAnd(code), Some(secret)) => {
                let now = u64::from(clock::unix_seconds());
                let mut memory = self.memory();
                if memory.take_code(username, &secret, &code, now) {
                    UserVerdict::Accept
                } else {
                    UserVerdict::Reject(memory.is_new(now).then(|| NEXT_CODE.to_owned()))
                }
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one look of the watch: over when it is dropped, also where it panicked or never began.
struct Look(Arc<Users>);

impl Drop for Look {
    fn drop(&mut self) {
        self.0.is_looking.store(false, Ordering::Release);
    }
}

impl Memory {
    /// Takes a code, once. One from before the beginning may have been used then.
    fn take_code(&mut self, username: &str, secret: &TotpSecret, code: &str, now: u64) -> bool {
        let last = self.used.get(username).copied().max(Some(totp::step(self.began)));
        let Some(step) = secret.step_of(code.trim(), now, last) else { return false };
        self.used.insert(username.to_owned(), step);
        true
    }

    /// Whether a code of the present may be one that is too old.
    fn is_new(&self, now: u64) -> bool {
        totp::is_current(totp::step(self.began), now)
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

impl Roll {
    /// Takes over what stands in the file now.
    fn take(&mut self, stamp: Stamp, mut marks: Marks) {
        for (name, before) in &self.marks {
            match marks.get_mut(name) {
                // What it was is remembered until the line is understood again.
                Some(now) if !now.is_understood => now.value = before.value,
                Some(now) if now.value == before.value => {}
                Some(_) | None => drop(self.changed.insert(name.clone(), stamp.changed)),
            }
        }
        self.stamp = Some(stamp);
        self.marks = marks;
    }
}

/// What a plain password field proves. A code may stand behind the password (`static-challenge … concat`).
///
/// What is hashed depends on the field alone, not on its user: how long it takes does not tell names.
fn prove(field: &str, hash: &str, wants_code: bool) -> Proven {
    let split = field.len().checked_sub(DIGITS).and_then(|at| field.split_at_checked(at));
    let split = split.filter(|(_, code)| code.bytes().all(|digit| digit.is_ascii_digit()));
    let is_whole = is_password(field, hash);
    match split.filter(|(password, _)| is_password(password, hash)) {
        Some((_, code)) if wants_code => Proven::PasswordAnd(Zeroizing::new(code.to_owned())),
        _ if is_whole => Proven::Password,
        _ => Proven::Nothing,
    }
}

fn is_password(password: &str, hash: &str) -> bool {
    if password.is_empty() {
        return false;
    }
    #[cfg(test)]
    tests::COMPARED.with(|compared| compared.set(compared.get() + 1));
    if hash.starts_with("$2") {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    // Parameters are taken from the hash.
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs};

    use culvert_testkit::TempDir;

    use super::{super::user_file::hash_password, *};

    thread_local! {
        /// Passwords that were compared on this thread.
        pub(super) static COMPARED: Cell<u32> = const { Cell::new(0) };
    }

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
        let since = clock::wall();
        assert_eq!(users.know("alice", since).await, UserStanding::Known);
        assert_eq!(users.know("bob", since).await, UserStanding::Gone);
        change(&path, "alice", &Change::Delete).unwrap();
        assert_eq!(users.know("alice", since).await, UserStanding::Gone);
    }

    #[tokio::test]
    async fn who_has_another_password_is_known_from_then_on() {
        let (_folder, path) = folder();
        change(&path, "alice", &password("correct horse")).unwrap();
        let users = Arc::new(Users::of_file(path.clone()));
        let before = clock::wall();
        assert_eq!(users.know("alice", before).await, UserStanding::Known);
        assert!(!users.is_stale());
        change(&path, "alice", &password("another")).unwrap();
        assert!(!users.is_stale(), "it is left to rest first");
        assert_eq!(users.standing("alice", before), UserStanding::Known, "as it was read last");
        assert_eq!(users.know("alice", before).await, UserStanding::Changed);
        assert_eq!(users.know("alice", clock::wall()).await, UserStanding::Known);
    }

    #[test]
    fn the_watch_does_not_look_again_before_it_has_seen_something() {
        let (_folder, path) = folder();
        fs::write(&path, "").unwrap();
        let users = Arc::new(Users::of_file(path));
        let hangs = users.due().unwrap();
        assert!(users.due().is_none());
        hangs();
        let fails = users.due().unwrap();
        drop(fails);
        assert!(users.due().is_some(), "also after a look that came to nothing");
    }

    #[tokio::test]
    async fn nobody_is_gone_while_the_file_cannot_be_read() {
        let (_folder, path) = folder();
        let line = format!("alice:{}\n", bcrypt::hash("x", 4).unwrap());
        fs::write(&path, &line).unwrap();
        let users = Arc::new(Users::of_file(path.clone()));
        let since = clock::wall();
        assert_eq!(users.know("alice", since).await, UserStanding::Known);
        fs::remove_file(&path).unwrap();
        assert!(users.is_stale());
        let gone = users.know("alice", since).await;
        assert!(matches!(&gone, UserStanding::CannotTell(why) if why.contains("No such file")), "{gone:?}");
        assert_eq!(users.refresh(), None, "it is told once");
        fs::write(&path, format!("alice:x\nbob{line}")).unwrap();
        let torn = users.know("alice", since).await;
        assert!(matches!(&torn, UserStanding::CannotTell(why) if why.contains("'alice'")), "{torn:?}");
        fs::write(&path, &line).unwrap();
        assert_eq!(users.know("alice", since).await, UserStanding::Known, "the same as before");
        fs::write(&path, line.replace(':', ":!")).unwrap();
        assert_eq!(users.know("alice", since).await, UserStanding::Gone);
        fs::write(&path, &line).unwrap();
        assert_eq!(users.know("alice", since).await, UserStanding::Changed, "it was disabled meanwhile");
    }

    #[test]
    fn as_much_is_compared_for_names_that_are_there_as_for_others() {
        let (_folder, path) = folder();
        let hash = bcrypt::hash("x", 4).unwrap();
        fs::write(&path, format!("a:{hash}\nb:{hash}:totp={SECRET}\nc:!{hash}\nd:{hash}:torn\n")).unwrap();
        let users = Users::of_file(path);
        for field in ["x", "x123456", "", "SCRV1:eA==:MTIzNDU2", "CRV1::state::123456"] {
            let compared = |name: &str| {
                let before = COMPARED.get();
                let _verdict = users.look_now(name, &PasswordField::parse(field));
                COMPARED.get() - before
            };
            let counts = ["a", "b", "c", "d", "nobody"].map(compared);
            assert_eq!(counts, [counts[0]; 5], "{field}");
        }
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

    /// The process before this one may have taken it.
    #[test]
    fn a_code_from_before_the_start_is_not_taken() {
        let secret = TotpSecret::parse(SECRET).unwrap();
        let mut memory = Memory { began: 58, ..Memory::default() };
        assert!(!memory.take_code("alice", &secret, "287082", 59));
        assert!(memory.is_new(89) && !memory.is_new(90));
        let mut memory = Memory { began: 29, ..Memory::default() };
        assert!(memory.take_code("alice", &secret, "287082", 59));
    }

    #[test]
    fn a_code_may_stand_behind_the_password() {
        let hash = hash_password("secret").unwrap();
        assert!(matches!(prove("secret123456", &hash, true), Proven::PasswordAnd(code) if *code == "123456"));
        assert!(matches!(prove("secret", &hash, true), Proven::Password));
        assert!(matches!(prove("secret123456", &hash, false), Proven::Nothing));
        assert!(matches!(prove("wrong123456", &hash, true), Proven::Nothing));
    }
}
