//! User names, passwords and passphrases: from files, inline blocks, or the person at the terminal.

use std::{io, path::PathBuf};

use culvert_config::{profile::AuthUserPass, value::FileOrInline};
use culvert_proto::Credentials;
use zeroize::Zeroizing;

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
    /// Nobody can be asked: no terminal and no systemd.
    #[error(
        "neither stdin nor stderr are a tty device and you have neither a controlling tty nor systemd - can't ask for '{0}'"
    )]
    NobodyToAsk(String),
    /// The question was not answered.
    #[error("could not read {0}")]
    NoAnswer(String),
}

/// Who can be asked.
#[derive(Clone, Debug)]
pub enum Prompter {
    /// `systemd-ask-password`.
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
    /// Finds out who can be asked on this machine.
    #[must_use]
    pub fn detect() -> Self {
        Self::Nobody
    }

    /// Asks, and waits for the answer: blocks the thread.
    ///
    /// # Errors
    /// When nobody is there or nothing is answered.
    pub fn ask(&self, prompt: &str, echo: Echo) -> Result<Zeroizing<String>, CredentialError> {
        let _ = echo;
        Err(CredentialError::NobodyToAsk(prompt.to_owned()))
    }
}

/// Returns the login of `auth-user-pass`: from the file or block as far as it goes, the rest from the prompter.
///
/// # Errors
/// When the file cannot be read, or nobody answers.
pub fn login(source: &AuthUserPass, prompter: &Prompter) -> Result<Credentials, CredentialError> {
    let _ = source;
    prompter.ask("Enter Auth Username:", Echo::Shown).map(|username| Credentials {
        username: username.to_string(),
        password: Zeroizing::new(String::new()),
    })
}

/// Returns the passphrase of the private key: from the file of `askpass`, or from the prompter.
///
/// # Errors
/// When the file cannot be read, or nobody answers.
pub fn passphrase(
    source: Option<&FileOrInline>,
    prompter: &Prompter,
) -> Result<Zeroizing<String>, CredentialError> {
    let _ = source;
    prompter.ask("Enter Private Key Password:", Echo::Hidden)
}
