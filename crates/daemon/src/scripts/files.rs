//! Files through which programs get and give more than an exit status.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use culvert_sys::process::create_private;

use super::Answers;

/// How much of an answer is read.
const MAX_ANSWER: u64 = 16 * 1024;
/// How much of a client's configuration is read.
const MAX_CONFIG: u64 = 256 * 1024;

/// A file in `tmp-dir` that exists as long as this value: mode 0600, name `openvpn_KIND_HEX.tmp`.
#[derive(Debug)]
struct TempFile {
    path: PathBuf,
}

impl TempFile {
    fn create(directory: &Path, kind: &str) -> io::Result<(Self, File)> {
        let mut random = [0_u8; 16];
        culvert_crypto::random_bytes(&mut random).map_err(io::Error::other)?;
        let name = format!("openvpn_{kind}_{:032x}.tmp", u128::from_be_bytes(random));
        let path = directory.join(name);
        let file = create_private(&path)?;
        Ok((Self { path }, file))
    }

    fn empty(directory: &Path, kind: &str) -> io::Result<Self> {
        Self::create(directory, kind).map(|(file, _)| file)
    }

    /// Reads at most `limit` bytes; the program may have replaced the file.
    fn read(&self, limit: u64) -> io::Result<String> {
        let mut bytes = Vec::new();
        File::open(&self.path)?.take(limit).read_to_end(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// Returns the digit that the file begins with, if it is an answer.
    fn digit(&self) -> Option<u8> {
        let text = self.read(1).ok()?;
        text.bytes().next().filter(u8::is_ascii_digit)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
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

/// The three files of a login: control, reason, pending. They are removed when this is dropped: keep it until the login
/// is decided.
#[derive(Debug)]
pub struct DeferredAuth {
    control: TempFile,
    reason: TempFile,
    pending: TempFile,
}

impl DeferredAuth {
    /// Creates the files.
    ///
    /// # Errors
    /// When the directory does not take them.
    pub fn create(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            control: TempFile::empty(directory, "acf")?,
            reason: TempFile::empty(directory, "afr")?,
            pending: TempFile::empty(directory, "apf")?,
        })
    }

    /// Sets `auth_control_file`, `auth_failed_reason_file` and `auth_pending_file`.
    pub fn export(&self, env: &mut super::ScriptEnv) {
        env.set("auth_control_file", self.control.path.display())
            .set("auth_failed_reason_file", self.reason.path.display())
            .set("auth_pending_file", self.pending.path.display());
    }

    /// Returns the answer, if there is one yet.
    #[must_use]
    pub fn answer(&self) -> Option<AuthAnswer> {
        match self.control.digit()? {
            b'1' => Some(AuthAnswer::Accept),
            b'0' => Some(AuthAnswer::Reject(self.reason())),
            _ => None,
        }
    }

    /// Returns the text of the reason file, for a rejection by exit status. A line end at its end is left out.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let text = self.reason.read(MAX_ANSWER).ok()?;
        let text = text.trim_end_matches(['\r', '\n']);
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Returns the second factor that is asked for, if any. Read it once, after the program ended with 2.
    #[must_use]
    pub fn pending(&self) -> Option<Pending> {
        let text = self.pending.read(MAX_ANSWER).ok()?;
        let mut lines = text.lines();
        let timeout = lines.next()?.trim().parse().ok().map(Duration::from_secs)?;
        let method = lines.next()?.trim().to_owned();
        let extra = lines.next()?.trim_end().to_owned();
        Some(Pending { timeout, method, extra })
    }

    /// Waits for the answer, without end: the caller knows how long a login may take. Dropping the future ends the wait.
    pub async fn wait(&self, answers: &Answers) -> AuthAnswer {
        answers.wait(&self.control.path, || self.answer()).await
    }
}

/// What a program reads from a file that is removed when this is dropped: user name and password
/// (`auth-user-pass-verify … via-file`), or something else that a client sent.
#[derive(Debug)]
pub struct ExchangeFile {
    file: TempFile,
}

impl ExchangeFile {
    /// Writes the file: line 1 user name, line 2 password.
    ///
    /// # Errors
    /// When the directory does not take it; `InvalidInput` when one of them has a line end: the program would read
    /// something else than what was checked here.
    pub fn create(directory: &Path, username: &str, password: &str) -> io::Result<Self> {
        if username.contains(['\r', '\n', '\0']) || password.contains(['\r', '\n', '\0']) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let (file, mut out) = TempFile::create(directory, "up")?;
        // Piece by piece: no copy of the password that would have to be wiped.
        for piece in [username, "\n", password, "\n"] {
            out.write_all(piece.as_bytes())?;
        }
        Ok(Self { file })
    }

    /// Writes a file of another kind: the answer to a challenge (`cr`), the metadata of a client's key
    /// (`tls_crypt_v2_metadata`).
    ///
    /// # Errors
    /// When the directory does not take it.
    pub fn of_bytes(directory: &Path, kind: &str, content: &[u8]) -> io::Result<Self> {
        let (file, mut out) = TempFile::create(directory, kind)?;
        out.write_all(content)?;
        Ok(Self { file })
    }

    /// Writes a certificate as PEM (`tls-export-cert`).
    ///
    /// # Errors
    /// When the directory does not take it.
    pub fn of_certificate(directory: &Path, der: &[u8]) -> io::Result<Self> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        // RFC 7468, section 2: 64 characters a line, which are 48 bytes.
        for line in der.chunks(48) {
            STANDARD.encode_string(line, &mut pem);
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        Self::of_bytes(directory, "pef", pem.as_bytes())
    }

    /// Returns its path, for the program.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

/// The files of `client-connect`: configuration for the client, and the deferred answer.
#[derive(Debug)]
pub struct ConnectFiles {
    config: TempFile,
    deferred: TempFile,
}

impl ConnectFiles {
    /// Creates them.
    ///
    /// # Errors
    /// When the directory does not take them.
    pub fn create(directory: &Path) -> io::Result<Self> {
        Ok(Self { config: TempFile::empty(directory, "cc")?, deferred: TempFile::empty(directory, "ccr")? })
    }

    /// Sets `client_connect_config_file` and `client_connect_deferred_file`.
    pub fn export(&self, env: &mut super::ScriptEnv) {
        env.set("client_connect_config_file", self.config.path.display())
            .set("client_connect_deferred_file", self.deferred.path.display());
    }

    /// Returns the path of the configuration file: the last argument of the program.
    #[must_use]
    pub fn config_path(&self) -> &Path {
        &self.config.path
    }

    /// Reads what the program wrote: options as in a file of `client-config-dir`.
    ///
    /// # Errors
    /// When it cannot be read, or is no text.
    pub fn config(&self) -> io::Result<String> {
        self.config.read(MAX_CONFIG)
    }

    /// Whether the program wrote `2` into the deferred file: it answers later.
    #[must_use]
    pub fn is_deferred(&self) -> bool {
        self.deferred.digit() == Some(b'2')
    }

    /// Whether `0` is in the deferred file: the client is refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.deferred.digit() == Some(b'0')
    }

    /// Waits for the deferred answer, without end: whether the client is accepted.
    pub async fn wait(&self, answers: &Answers) -> bool {
        let answer = || match self.deferred.digit() {
            Some(b'1') => Some(true),
            Some(b'0') => Some(false),
            _ => None,
        };
        answers.wait(&self.deferred.path, answer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripts::ScriptEnv;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("culvert-files-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory for the test");
        path
    }

    fn exported(auth: &DeferredAuth, name: &str) -> PathBuf {
        let mut env = ScriptEnv::new();
        auth.export(&mut env);
        env.get(name).expect("the variable is set").into()
    }

    #[tokio::test]
    async fn a_login_is_open_until_the_program_writes_a_digit() {
        let directory = directory("login");
        let auth = DeferredAuth::create(&directory).expect("the files");
        assert_eq!(auth.answer(), None);
        fs::write(exported(&auth, "auth_failed_reason_file"), "TEMP[backoff 5]: later\n").expect("written");
        fs::write(exported(&auth, "auth_control_file"), "0").expect("written");
        assert_eq!(
            auth.wait(&Answers::of(&directory)).await,
            AuthAnswer::Reject(Some("TEMP[backoff 5]: later".to_owned()))
        );
        fs::write(exported(&auth, "auth_control_file"), "1\n").expect("written");
        assert_eq!(auth.answer(), Some(AuthAnswer::Accept));
        drop(auth);
        assert_eq!(fs::read_dir(&directory).expect("the directory").count(), 0, "nothing is left");
        fs::remove_dir(&directory).expect("the directory goes");
    }

    #[test]
    fn a_second_factor_is_three_lines() {
        let directory = directory("pending");
        let auth = DeferredAuth::create(&directory).expect("the files");
        assert_eq!(auth.pending(), None);
        fs::write(exported(&auth, "auth_pending_file"), "120\nwebauth\nWEB_AUTH::https://example.org/\n")
            .expect("written");
        let pending = auth.pending().expect("three lines");
        assert_eq!(pending.timeout, Duration::from_secs(120));
        assert_eq!(
            (pending.method.as_str(), pending.extra.as_str()),
            ("webauth", "WEB_AUTH::https://example.org/")
        );
        drop(auth);
        fs::remove_dir(&directory).expect("the directory goes");
    }

    #[test]
    fn credentials_are_two_lines_for_the_owner_alone() {
        let directory = directory("credentials");
        let file = ExchangeFile::create(&directory, "bob", "secret word").expect("the file");
        assert_eq!(fs::read_to_string(file.path()).expect("readable"), "bob\nsecret word\n");
        let name = file.path().file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(name.starts_with("openvpn_up_") && name.ends_with(".tmp"));
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(file.path()).expect("there").permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert!(
            ExchangeFile::create(&directory, "bob\nroot", "x").is_err(),
            "one more line would be another password"
        );
        drop(file);
        fs::remove_dir(&directory).expect("the directory goes, it is empty");
    }

    #[tokio::test]
    async fn a_deferred_client_connect_is_answered_by_the_same_file() {
        let directory = directory("connect");
        let files = ConnectFiles::create(&directory).expect("the files");
        let mut env = ScriptEnv::new();
        files.export(&mut env);
        assert!(!files.is_deferred());
        let answer = env.get("client_connect_deferred_file").expect("the variable is set").to_owned();
        fs::write(&answer, "2").expect("written");
        assert!(files.is_deferred());
        fs::write(files.config_path(), "push \"route 10.0.0.0 255.0.0.0\"\n").expect("written");
        fs::write(&answer, "1").expect("written");
        assert!(files.wait(&Answers::of(&directory)).await);
        assert!(files.config().expect("text").contains("10.0.0.0"));
        drop(files);
        fs::remove_dir(&directory).expect("the directory goes, it is empty");
    }
}
