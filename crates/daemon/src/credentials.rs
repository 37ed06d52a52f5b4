//! User names, passwords and passphrases: from files, inline blocks, or the person at the terminal.
//!
//! Everything here blocks: call it before the runtime starts, or on a thread that may wait. Buffers that held a secret
//! are wiped.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use culvert_config::{
    profile::{AuthUserPass, ManagementPassword, StaticChallenge},
    value::FileOrInline,
};
use culvert_proto::Credentials;
use culvert_sys::{Eventfd, Terminal, Woken, process, wait_readable};
use zeroize::{Zeroize as _, Zeroizing};

/// Largest file of credentials, and largest answer.
const MAX_LEN: usize = 64 * 1024;

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The file.
    #[error("cannot read credentials from '{}': {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file begins with an empty line.
    #[error("ERROR: username from {kind} authfile '{}' is empty", path.display())]
    UnnamedFile {
        /// Of what.
        kind: String,
        /// Which.
        path: PathBuf,
    },
    /// The question for a user name was answered with nothing.
    #[error("ERROR: {0} username is empty")]
    Unnamed(String),
    /// Nobody can be asked: no terminal and no systemd.
    #[error(
        "neither stdin nor stderr are a tty device and you have neither a controlling tty nor systemd - can't ask for \
         '{0}'.  If you used --daemon, you need to use --askpass to make passphrase-protected keys work, and you can \
         not use --auth-nocache."
    )]
    NobodyToAsk(String),
    /// The question was not answered.
    #[error("could not read the answer to '{prompt}': {reason}")]
    NoAnswer {
        /// The question.
        prompt: String,
        /// Why.
        reason: String,
    },
    /// The question could not be asked without keeping everything else waiting.
    #[error("cannot start a thread for a question: {0}")]
    NoThread(io::Error),
}

/// Who can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    /// `systemd-ask-password`, at this path.
    Systemd(PathBuf),
    /// The controlling terminal.
    Terminal,
    /// Nobody.
    Nobody,
}

/// Asks questions.
#[derive(Clone, Debug)]
pub struct Prompter {
    who: Who,
    /// Raised when nobody waits for an answer any more.
    pub(crate) withdrawn: Option<Arc<Eventfd>>,
}

/// Whether what is typed is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// Yes: user names.
    Shown,
    /// No: passwords.
    Hidden,
}

impl Prompter {
    /// Asks at the controlling terminal.
    pub const TERMINAL: Self = Self::of(Who::Terminal);
    /// Has nobody to ask.
    pub const NOBODY: Self = Self::of(Who::Nobody);

    /// Finds out who can be asked on this machine: systemd where it runs and its helper is installed, else the terminal.
    #[must_use]
    pub fn detect() -> Self {
        // sd_booted(3)
        if Path::new("/run/systemd/system").is_dir() {
            for directory in ["/bin", "/usr/bin"] {
                let helper = Path::new(directory).join("systemd-ask-password");
                if helper.is_file() {
                    return Self::of(Who::Systemd(helper));
                }
            }
        }
        if Terminal::open().is_ok() { Self::TERMINAL } else { Self::NOBODY }
    }

    const fn of(who: Who) -> Self {
        Self { who, withdrawn: None }
    }

    /// The same, whose questions are taken back once this is raised.
    pub(crate) fn until(self, withdrawn: Arc<Eventfd>) -> Self {
        Self { withdrawn: Some(withdrawn), ..self }
    }

    /// Asks, and waits for the answer: blocks the thread.
    ///
    /// # Errors
    /// When nobody is there, nothing is answered, or nobody waits for the answer any more.
    pub fn ask(&self, prompt: &str, echo: Echo) -> Result<Zeroizing<String>, CredentialError> {
        let unanswered = |reason: String| CredentialError::NoAnswer { prompt: prompt.to_owned(), reason };
        let withdrawn = self.withdrawn.as_deref();
        let answer = match &self.who {
            Who::Systemd(helper) => ask_systemd(helper, prompt, echo, withdrawn).map_err(unanswered)?,
            Who::Terminal => {
                let mut answer = Zeroizing::new(Vec::new());
                let mut terminal =
                    Terminal::open().map_err(|_| CredentialError::NobodyToAsk(prompt.to_owned()))?;
                let hidden = echo == Echo::Hidden;
                // The question's own blank: OpenVPN prints one behind the colon.
                terminal
                    .ask(&format!("{prompt} "), hidden, withdrawn, &mut answer)
                    .map_err(|error| unanswered(error.to_string()))?;
                answer
            }
            Who::Nobody => return Err(CredentialError::NobodyToAsk(prompt.to_owned())),
        };
        text(answer).map_err(|_| unanswered("it is not UTF-8".to_owned()))
    }
}

/// How long the helper has to put its question away.
const PATIENCE: Duration = Duration::from_millis(500);

/// Runs systemd's helper and reads what it prints.
fn ask_systemd(
    helper: &Path,
    prompt: &str,
    echo: Echo,
    withdrawn: Option<&Eventfd>,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut command = Command::new(helper);
    if echo == Echo::Shown {
        command.arg("--echo");
    }
    command
        .args(["--icon", "network-vpn", "--timeout=0", prompt])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let mut answer = Zeroizing::new(Vec::with_capacity(MAX_LEN));
    if let Some(out) = child.stdout.take()
        && let Err(error) = read_printed(out, withdrawn, &mut answer)
    {
        end(&mut child);
        return Err(error.to_string());
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(answer) } else { Err(format!("systemd-ask-password ended with {status}")) }
}

/// Reads to the end, at most [`MAX_LEN`] bytes, unless the question is withdrawn.
fn read_printed(
    mut out: impl io::Read + std::os::fd::AsFd,
    withdrawn: Option<&Eventfd>,
    answer: &mut Vec<u8>,
) -> io::Result<()> {
    let mut chunk = Zeroizing::new([0; 512]);
    loop {
        match wait_readable(&out, withdrawn, Duration::from_secs(60))? {
            Woken::Readable => {}
            Woken::Neither => continue,
            Woken::Stopped => return Err(io::ErrorKind::Interrupted.into()),
        }
        let room = chunk.len().min(MAX_LEN - answer.len());
        let len = out.read(&mut chunk[..room])?;
        if len == 0 {
            return Ok(());
        }
        answer.extend_from_slice(&chunk[..len]);
    }
}

/// Ends the helper, which takes its question away from the screens where it stands.
fn end(child: &mut Child) {
    let _gone = process::kill(child.id(), process::KillSignal::Term);
    let step = Duration::from_millis(10);
    let mut left = PATIENCE;
    while !left.is_zero() && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(step);
        left = left.saturating_sub(step);
    }
    let _gone = child.kill();
    let _gone = child.wait();
}

/// Cuts the line end off, and turns the bytes into text without leaving a copy.
fn text(mut bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, ()> {
    while bytes.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        bytes.pop();
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            Err(())
        }
    }
}

/// Returns the login of `auth-user-pass`: from the file or block as far as it goes, the rest from the prompter.
///
/// With `username-only` the password is empty.
///
/// # Errors
/// When the file cannot be read, or nobody answers.
pub fn login(source: &AuthUserPass, prompter: &Prompter) -> Result<Credentials, CredentialError> {
    let found = match source {
        AuthUserPass::Ask => (None, None),
        AuthUserPass::UsernameOnly => (None, Some(Zeroizing::new(String::new()))),
        AuthUserPass::Stored(stored) => two_lines("Auth", stored)?,
    };
    complete("Auth", found, prompter)
}

/// Returns the login of a proxy: from its file or block as far as it goes, the rest from the prompter. `kind` is what the
/// questions call it.
///
/// # Errors
/// When the file cannot be read, or nobody answers.
pub fn proxy_login(
    kind: &str,
    stored: Option<&FileOrInline>,
    prompter: &Prompter,
) -> Result<Credentials, CredentialError> {
    let found = stored.map(|stored| two_lines(kind, stored)).transpose()?.unwrap_or_default();
    complete(kind, found, prompter)
}

/// User name and password, as far as they are known.
type Found = (Option<String>, Option<Zeroizing<String>>);

fn two_lines(kind: &str, stored: &FileOrInline) -> Result<Found, CredentialError> {
    let content = read(stored)?;
    let mut lines = content.lines();
    let username = lines.next().filter(|line| !line.is_empty()).map(str::to_owned);
    if let (None, FileOrInline::File(path)) = (&username, stored) {
        return Err(CredentialError::UnnamedFile { kind: kind.to_owned(), path: path.clone() });
    }
    let password = lines.next().filter(|line| !line.is_empty()).map(|line| Zeroizing::new(line.to_owned()));
    Ok((username, password))
}

fn complete(
    kind: &str,
    (username, password): Found,
    prompter: &Prompter,
) -> Result<Credentials, CredentialError> {
    let username = match username {
        Some(username) => username,
        None => prompter.ask(&format!("Enter {kind} Username:"), Echo::Shown)?.to_string(),
    };
    if username.is_empty() {
        return Err(CredentialError::Unnamed(kind.to_owned()));
    }
    let password = match password {
        Some(password) => password,
        None => prompter.ask(&format!("Enter {kind} Password:"), Echo::Hidden)?,
    };
    Ok(Credentials { username, password })
}

/// The same with the answer to `static-challenge` in it, where that is configured.
///
/// # Errors
/// As [`login`], or when the challenge is not answered.
pub fn login_with_challenge(
    source: &AuthUserPass,
    challenge: Option<&StaticChallenge>,
    prompter: &Prompter,
) -> Result<Credentials, CredentialError> {
    let mut login = login(source, prompter)?;
    if let Some(challenge) = challenge {
        login.password = static_challenge(challenge, &login.password, prompter)?;
    }
    Ok(login)
}

/// Returns the passphrase of the private key: from the file of `askpass` (its first line), or from the prompter.
///
/// # Errors
/// When the file cannot be read, or nobody answers.
pub fn passphrase(
    source: Option<&FileOrInline>,
    prompter: &Prompter,
) -> Result<Zeroizing<String>, CredentialError> {
    match source {
        Some(source) => {
            let content = read(source)?;
            Ok(Zeroizing::new(content.lines().next().unwrap_or_default().to_owned()))
        }
        None => prompter.ask("Enter Private Key Password:", Echo::Hidden),
    }
}

/// Returns the password of the management interface: the first line of its file, or asked for.
///
/// # Errors
/// When the file cannot be read or is empty, or nobody answers.
pub fn management_password(
    source: &ManagementPassword,
    prompter: &Prompter,
) -> Result<Zeroizing<String>, CredentialError> {
    let path = match source {
        ManagementPassword::Ask => return prompter.ask("Enter Management Password:", Echo::Hidden),
        ManagementPassword::File(path) => path,
    };
    let content = read(&FileOrInline::File(path.clone()))?;
    match content.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(Zeroizing::new(line.to_owned())),
        None => Err(CredentialError::File {
            path: path.clone(),
            source: io::Error::new(io::ErrorKind::InvalidData, "its first line, the password, is empty"),
        }),
    }
}

/// Asks the question of `static-challenge` and joins its answer with the password, in the form that goes to the server:
/// `SCRV1:BASE64(password):BASE64(response)`, or with `concat` one behind the other.
///
/// # Errors
/// When nobody answers.
pub fn static_challenge(
    challenge: &StaticChallenge,
    password: &str,
    prompter: &Prompter,
) -> Result<Zeroizing<String>, CredentialError> {
    let echo = if challenge.echo { Echo::Shown } else { Echo::Hidden };
    let response = prompter.ask(&format!("CHALLENGE: {}", challenge.text), echo)?;
    Ok(join_response(challenge.concat, password, &response))
}

fn join_response(concat: bool, password: &str, response: &str) -> Zeroizing<String> {
    if concat {
        return Zeroizing::new([password, response].concat());
    }
    let encode = |text: &str| Zeroizing::new(base64::Engine::encode(&base64::prelude::BASE64_STANDARD, text));
    Zeroizing::new(["SCRV1:", &encode(password), ":", &encode(response)].concat())
}

/// Reads a file or block whole.
fn read(source: &FileOrInline) -> Result<Zeroizing<String>, CredentialError> {
    let path = match source {
        FileOrInline::Inline(text) => return Ok(Zeroizing::new(text.expose().to_owned())),
        FileOrInline::File(path) => path,
    };
    let failed = |source| CredentialError::File { path: path.clone(), source };
    // The capacity first: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN));
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_LEN as u64).read_to_end(&mut bytes).map_err(failed)?;
    text(bytes).map_err(|()| failed(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use culvert_config::value::SecretText;

    use super::*;

    fn inline(text: &str) -> FileOrInline {
        FileOrInline::Inline(SecretText::new(text.to_owned()))
    }

    #[test]
    fn a_block_of_two_lines_is_a_login() {
        for text in ["bob\nsecret word\n", "bob\r\nsecret word\r\n", "bob\nsecret word"] {
            let credentials =
                login(&AuthUserPass::Stored(inline(text)), &Prompter::NOBODY).expect("complete");
            assert_eq!(
                (credentials.username.as_str(), credentials.password.as_str()),
                ("bob", "secret word")
            );
        }
    }

    #[test]
    fn what_a_file_lacks_is_asked_for() {
        let path = std::env::temp_dir().join(format!("culvert-login-{}", std::process::id()));
        std::fs::write(&path, "bob\n").expect("written");
        let source = AuthUserPass::Stored(FileOrInline::File(path.clone()));
        let error = login(&source, &Prompter::NOBODY).expect_err("nobody knows the password");
        assert!(
            matches!(&error, CredentialError::NobodyToAsk(prompt) if prompt == "Enter Auth Password:"),
            "{error}"
        );

        // echo(1) in the place of systemd-ask-password: the answer is what it was called with.
        let credentials = login(&source, &Prompter::of(Who::Systemd("/bin/echo".into()))).expect("answered");
        assert_eq!(credentials.password.as_str(), "--icon network-vpn --timeout=0 Enter Auth Password:");
        std::fs::remove_file(&path).expect("the file goes");
    }

    #[test]
    fn a_helper_whose_question_is_withdrawn_ends() {
        let folder = culvert_testkit::TempDir::new().expect("made");
        let begun = folder.path().join("begun");
        let script =
            format!("#!/bin/sh\necho $$ >{0}.new; mv {0}.new {0}\nexec sleep 600\n", begun.display());
        let helper = folder.write_script("helper", &script).expect("written");
        let withdrawn = Arc::new(Eventfd::new().expect("a descriptor"));
        let prompter = Prompter::of(Who::Systemd(helper)).until(Arc::clone(&withdrawn));
        let asking = std::thread::spawn(move || prompter.ask("Password:", Echo::Hidden));
        while !begun.exists() {
            assert!(!asking.is_finished(), "the helper did not begin");
            std::thread::yield_now();
        }
        withdrawn.raise();
        asking.join().expect("no panic").expect_err("nobody answered");
        let id = std::fs::read_to_string(&begun).expect("told").trim().parse().expect("a number");
        assert!(!process::exists(id), "the helper lives on");
    }

    #[test]
    fn a_login_needs_a_name() {
        let path = std::env::temp_dir().join(format!("culvert-nobody-{}", std::process::id()));
        std::fs::write(&path, "\nsecret\n").expect("written");
        let stored = AuthUserPass::Stored(FileOrInline::File(path.clone()));
        let error = login(&stored, &Prompter::NOBODY).expect_err("a name is missing");
        let expected = format!("ERROR: username from Auth authfile '{}' is empty", path.display());
        assert_eq!(error.to_string(), expected);
        std::fs::remove_file(&path).expect("the file goes");

        // true(1) answers with nothing.
        let error =
            login(&AuthUserPass::Ask, &Prompter::of(Who::Systemd("/bin/true".into()))).expect_err("no name");
        assert_eq!(error.to_string(), "ERROR: Auth username is empty");
    }

    #[test]
    fn a_missing_file_is_named() {
        let source = FileOrInline::File("/nonexistent/pass".into());
        let error = passphrase(Some(&source), &Prompter::NOBODY).expect_err("it is not there");
        assert!(error.to_string().contains("/nonexistent/pass"));
    }

    #[test]
    fn the_first_line_of_askpass_is_the_passphrase() {
        let answer =
            passphrase(Some(&inline("open sesame\nanother\n")), &Prompter::NOBODY).expect("it is there");
        assert_eq!(answer.as_str(), "open sesame");
    }

    #[test]
    fn an_answer_to_a_challenge_travels_with_the_password() {
        assert_eq!(join_response(false, "pass", "123456").as_str(), "SCRV1:cGFzcw==:MTIzNDU2");
        assert_eq!(join_response(true, "pass", "123456").as_str(), "pass123456");
    }
}
