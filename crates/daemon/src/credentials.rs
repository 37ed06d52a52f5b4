//! User names, passwords and passphrases: from files, inline blocks, or the person at the terminal.
//!
//! Everything here blocks: call it before the runtime starts, or on a thread that may wait. Buffers that held a secret
//! are wiped.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use culvert_config::{
    profile::{AuthUserPass, ManagementPassword, StaticChallenge},
    value::FileOrInline,
};
use culvert_proto::Credentials;
use culvert_sys::Terminal;
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
}

/// Who can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompter {
    /// `systemd-ask-password`, at this path.
    Systemd(PathBuf),
    /// The controlling terminal.
    Terminal,
    /// Nobody: tests, and after `daemon` forked.
    Nobody,
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
    /// Finds out who can be asked on this machine: systemd where it runs and its helper is installed, else the terminal.
    #[must_use]
    pub fn detect() -> Self {
        // sd_booted(3)
        if Path::new("/run/systemd/system").is_dir() {
            for directory in ["/bin", "/usr/bin"] {
                let helper = Path::new(directory).join("systemd-ask-password");
                if helper.is_file() {
                    return Self::Systemd(helper);
                }
            }
        }
        if Terminal::open().is_ok() { Self::Terminal } else { Self::Nobody }
    }

    /// Asks, and waits for the answer: blocks the thread.
    ///
    /// # Errors
    /// When nobody is there or nothing is answered.
    pub fn ask(&self, prompt: &str, echo: Echo) -> Result<Zeroizing<String>, CredentialError> {
        let unanswered = |reason: String| CredentialError::NoAnswer { prompt: prompt.to_owned(), reason };
        let answer = match self {
            Self::Systemd(helper) => ask_systemd(helper, prompt, echo).map_err(unanswered)?,
            Self::Terminal => {
                let mut answer = Zeroizing::new(Vec::new());
                let mut terminal =
                    Terminal::open().map_err(|_| CredentialError::NobodyToAsk(prompt.to_owned()))?;
                let hidden = echo == Echo::Hidden;
                // The question's own blank: OpenVPN prints one behind the colon.
                terminal
                    .ask(&format!("{prompt} "), hidden, &mut answer)
                    .map_err(|error| unanswered(error.to_string()))?;
                answer
            }
            Self::Nobody => return Err(CredentialError::NobodyToAsk(prompt.to_owned())),
        };
        text(answer).map_err(|_| unanswered("it is not UTF-8".to_owned()))
    }
}

/// Runs systemd's helper and reads what it prints.
fn ask_systemd(helper: &Path, prompt: &str, echo: Echo) -> Result<Zeroizing<Vec<u8>>, String> {
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
    if let Some(out) = child.stdout.take() {
        out.take(MAX_LEN as u64).read_to_end(&mut answer).map_err(|error| error.to_string())?;
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(answer) } else { Err(format!("systemd-ask-password ended with {status}")) }
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
                login(&AuthUserPass::Stored(inline(text)), &Prompter::Nobody).expect("complete");
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
        let error = login(&source, &Prompter::Nobody).expect_err("nobody knows the password");
        assert!(
            matches!(&error, CredentialError::NobodyToAsk(prompt) if prompt == "Enter Auth Password:"),
            "{error}"
        );

        // echo(1) in the place of systemd-ask-password: the answer is what it was called with.
        let credentials = login(&source, &Prompter::Systemd("/bin/echo".into())).expect("answered");
        assert_eq!(credentials.password.as_str(), "--icon network-vpn --timeout=0 Enter Auth Password:");
        std::fs::remove_file(&path).expect("the file goes");
    }

    #[test]
    fn a_login_needs_a_name() {
        let path = std::env::temp_dir().join(format!("culvert-nobody-{}", std::process::id()));
        std::fs::write(&path, "\nsecret\n").expect("written");
        let stored = AuthUserPass::Stored(FileOrInline::File(path.clone()));
        let error = login(&stored, &Prompter::Nobody).expect_err("a name is missing");
        let expected = format!("ERROR: username from Auth authfile '{}' is empty", path.display());
        assert_eq!(error.to_string(), expected);
        std::fs::remove_file(&path).expect("the file goes");

        // true(1) answers with nothing.
        let error = login(&AuthUserPass::Ask, &Prompter::Systemd("/bin/true".into())).expect_err("no name");
        assert_eq!(error.to_string(), "ERROR: Auth username is empty");
    }

    #[test]
    fn a_missing_file_is_named() {
        let source = FileOrInline::File("/nonexistent/pass".into());
        let error = passphrase(Some(&source), &Prompter::Nobody).expect_err("it is not there");
        assert!(error.to_string().contains("/nonexistent/pass"));
    }

    #[test]
    fn the_first_line_of_askpass_is_the_passphrase() {
        let answer =
            passphrase(Some(&inline("open sesame\nanother\n")), &Prompter::Nobody).expect("it is there");
        assert_eq!(answer.as_str(), "open sesame");
    }

    #[test]
    fn an_answer_to_a_challenge_travels_with_the_password() {
        assert_eq!(join_response(false, "pass", "123456").as_str(), "SCRV1:cGFzcw==:MTIzNDU2");
        assert_eq!(join_response(true, "pass", "123456").as_str(), "pass123456");
    }
}
