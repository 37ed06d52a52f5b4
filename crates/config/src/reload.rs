//! Reading a configuration again while a server runs on it: what changed, what can come into force now, and the profile
//! that results.
//!
//! The profile is not patched field by field: it is what the same reader makes of the lines that need a restart, from
//! the files as they *were*, and the lines that a running server takes, from the files as they *are* ([`OptionRow`]
//! says which is which). So helpers expand and contradictions are found as at a start.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use zeroize::Zeroizing;

use crate::{
    Checked, Parsed, Profile, Setting,
    diagnostic::{Diagnostic, Severity},
    files::{Access, Files},
    parsed_of,
    profile::Tls,
    reader::{Part, Reader},
    table::{OptionRow, Reload, find},
};

/// A configuration that can be read again, on any thread: files may lie on a disk that hangs.
pub struct Configuration {
    arguments: Vec<String>,
    files: Arc<dyn Files + Send + Sync>,
    /// The files as they were at the last start.
    standing: Mutex<Texts>,
    /// What is in force.
    in_force: Mutex<Vec<Setting>>,
}

/// A configuration that was read again and found good; nothing is in force yet.
#[derive(Debug)]
pub struct Reread {
    /// What a running server can have now.
    pub profile: Profile,
    /// What differs.
    pub changes: Changes,
    /// What was found besides: notes and warnings for the log.
    pub notes: Vec<Diagnostic>,
}

impl Reread {
    /// Leaves everything that TLS is made from as it is in the running profile, for who cannot make it anew: its options
    /// then wait for a restart.
    pub fn keep_tls(&mut self, running: &Profile) {
        let is_tls = |row: &OptionRow| row.reload == Reload::Tls;
        let (waiting, live) = std::mem::take(&mut self.changes.live)
            .into_iter()
            .partition(|changed| find(changed.option).is_some_and(is_tls));
        self.changes.live = live;
        let waiting: Vec<Changed> = waiting;
        self.changes.restart.extend(waiting);
        let profile = &mut self.profile;
        // The one live option among them that TLS does not know of: it is asked before TLS starts.
        let tls_crypt_v2_verify = profile.tls.tls_crypt_v2_verify.take();
        profile.tls = Tls { tls_crypt_v2_verify, ..running.tls.clone() };
        profile.server.client_cert = running.server.client_cert;
        profile.settings.retain(|setting| !is_tls(setting.row));
        profile.settings.extend(running.settings.iter().filter(|setting| is_tls(setting.row)).cloned());
    }
}

/// Options with other values than those in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Taken by a running server.
    pub live: Vec<Changed>,
    /// Left as they were: only a restart brings them into force.
    pub restart: Vec<Changed>,
}

/// An option that has another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its name.
    pub option: &'static str,
    /// Where it stands now, as file and line; `None` when it was removed.
    pub place: Option<String>,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "`{}` ({place})", self.option),
            None => write!(f, "`{}` (removed)", self.option),
        }
    }
}

impl Configuration {
    /// Takes a command line (without the program's name) and the files that it may name.
    pub fn new(arguments: Vec<String>, files: Arc<dyn Files + Send + Sync>) -> Self {
        Self { arguments, files, standing: Mutex::default(), in_force: Mutex::default() }
    }

    /// Reads it for a start, and remembers it as what is in force.
    pub fn parse(&self) -> Parsed {
        let recorder = Recorder { files: &*self.files, texts: RefCell::default() };
        let parsed = crate::parse(&self.arguments, &recorder);
        *lock(&self.standing) = recorder.texts.into_inner();
        lock(&self.in_force).clone_from(&parsed.draft.profile.settings);
        parsed
    }

    /// Reads it again. Nothing changes by that; [`Self::adopt`] follows when the result came into force.
    ///
    /// # Errors
    /// What is wrong with it, as at a start.
    pub fn reread(&self) -> Result<Reread, Vec<Diagnostic>> {
        let files = Lowered(&*self.files);
        // Each file once: what changes meanwhile is the next reload's.
        let recorder = Recorder { files: &files, texts: RefCell::default() };
        let mut parsed = crate::parse(&self.arguments, &recorder);
        let texts = recorder.texts.into_inner();
        let mut notes = std::mem::take(&mut parsed.warnings);
        if !parsed.errors.is_empty() {
            return Err(parsed.errors);
        }
        let Checked { profile: wanted, errors, notes: found } = parsed.check(&files);
        if !errors.is_empty() {
            return Err(errors);
        }
        notes.extend(found.into_iter().filter(|note| note.severity != Severity::Note));
        let changes = changes(&lock(&self.in_force), &wanted.settings);
        let Checked { profile, errors, .. } =
            self.merged(&Remembered { texts: &texts, files: &*self.files }).check(&files);
        if !errors.is_empty() {
            return Err(errors.into_iter().map(only_together).collect());
        }
        Ok(Reread { profile, changes, notes })
    }

    /// Remembers what came into force.
    pub fn adopt(&self, reread: &Reread) {
        lock(&self.in_force).clone_from(&reread.profile.settings);
    }

    /// Reads old lines of options that need a restart, and new lines of the others. Both readings were found good as a
    /// whole, so what the reader complains about here is only what it does not see of the other half.
    fn merged(&self, now: &dyn Files) -> Parsed {
        let standing = Remembered { texts: &lock(&self.standing), files: &*self.files };
        let mut reader = Reader::new(&*self.files);
        reader.part(Part::Standing, &standing);
        reader.command_line(&self.arguments);
        let directory = reader.draft.profile.process.cd.clone();
        let old = reader.draft.profile.settings.len();
        reader.part(Part::Live, now);
        reader.command_line(&self.arguments);
        reader.draft.profile.process.cd = directory;
        // Frames were read twice.
        let mut index = 0;
        reader.draft.profile.settings.retain(|setting| {
            index += 1;
            index <= old || setting.row.reload != Reload::Frame
        });
        reader.errors.clear();
        reader.warnings.clear();
        parsed_of(reader)
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A contradiction between what can change now and what cannot.
fn only_together(mut diagnostic: Diagnostic) -> Diagnostic {
    if diagnostic.explanation.is_empty() {
        "other changed options need a restart, and without them this one does not hold"
            .clone_into(&mut diagnostic.explanation);
    }
    "restart the server to bring all changes into force together".clone_into(&mut diagnostic.remedy);
    diagnostic
}

/// Compares option by option; the order among several lines of one option counts, that among options does not.
fn changes(old: &[Setting], new: &[Setting]) -> Changes {
    let mut changes = Changes::default();
    let mut seen: Vec<&'static str> = Vec::new();
    for Setting { row, .. } in new.iter().chain(old) {
        if seen.contains(&row.name) || row.reload == Reload::Frame {
            continue;
        }
        seen.push(row.name);
        if given(old, row).eq(given(new, row)) {
            continue;
        }
        let lines = || new.iter().filter(|setting| setting.row.name == row.name);
        // The first line that was not there before, else the last that remains.
        let place = lines()
            .find(|setting| !given(old, row).any(|given| given == setting.given))
            .or_else(|| lines().next_back())
            .map(|setting| format!("{}:{}", setting.origin.file, setting.origin.line));
        let changed = Changed { option: row.name, place };
        if row.is_live() { &mut changes.live } else { &mut changes.restart }.push(changed);
    }
    changes
}

fn given<'s>(settings: &'s [Setting], row: &'s OptionRow) -> impl Iterator<Item = u64> + 's {
    settings.iter().filter(|setting| setting.row.name == row.name).map(|setting| setting.given)
}

/// Configuration files by the name that they were read under. Keys may stand in them.
type Texts = BTreeMap<PathBuf, Zeroizing<Vec<u8>>>;

/// The name under which standard input is remembered: no file has it.
const STDIN: &str = "";

/// Remembers every configuration file that is read.
struct Recorder<'f> {
    files: &'f dyn Files,
    texts: RefCell<Texts>,
}

impl Recorder<'_> {
    fn record(&self, name: &Path, bytes: io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
        let bytes = bytes?;
        self.texts.borrow_mut().insert(name.to_owned(), Zeroizing::new(bytes.clone()));
        Ok(bytes)
    }
}

impl Files for Recorder<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.record(path, self.files.read(path))
    }

    fn read_stdin(&self) -> io::Result<Vec<u8>> {
        self.record(Path::new(STDIN), self.files.read_stdin())
    }

    fn probe(&self, path: &Path, access: Access) -> io::Result<()> {
        self.files.probe(path, access)
    }

    fn is_open_to_others(&self, path: &Path) -> bool {
        self.files.is_open_to_others(path)
    }
}

/// The files as a process sees them that gave up its privileges: what it may no longer look at is not missing. Who uses
/// such a file says what that means.
struct Lowered<'f>(&'f dyn Files);

impl Files for Lowered<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.read(path)
    }

    fn read_stdin(&self) -> io::Result<Vec<u8>> {
        self.0.read_stdin()
    }

    fn probe(&self, path: &Path, access: Access) -> io::Result<()> {
        match self.0.probe(path, access) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            result => result,
        }
    }

    fn is_open_to_others(&self, path: &Path) -> bool {
        self.0.is_open_to_others(path)
    }
}

/// Gives configuration files as they were.
struct Remembered<'t> {
    texts: &'t Texts,
    files: &'t dyn Files,
}

impl Files for Remembered<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let text = self.texts.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(text.to_vec())
    }

    fn read_stdin(&self) -> io::Result<Vec<u8>> {
        self.read(Path::new(STDIN))
    }

    fn probe(&self, path: &Path, access: Access) -> io::Result<()> {
        self.files.probe(path, access)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryFiles, value::Port};

    const SERVER: &str = "dev tun\nserver 10.8.0.0 255.255.255.0\nca ca\ncert c\nkey k\ndh none\n";

    /// Files that change under the reader: at once, or when the configuration was read the next time.
    struct Changing {
        files: Mutex<MemoryFiles>,
        next: Mutex<Option<String>>,
    }

    impl Changing {
        fn new(text: &str) -> Self {
            let files = MemoryFiles::default().with("ca", "x").with("c", "x").with("k", "x");
            Self { files: Mutex::new(files.with("s.conf", text)), next: Mutex::default() }
        }

        /// With a configuration of them.
        fn configuration(text: &str) -> (Arc<Self>, Configuration) {
            let files = Arc::new(Self::new(text));
            let shared: Arc<dyn Files + Send + Sync> = Arc::<Self>::clone(&files);
            (files, Configuration::new(vec!["s.conf".to_owned()], shared))
        }

        fn write(&self, text: &str) {
            lock(&self.files).files.insert("s.conf".into(), text.into());
        }
    }

    impl Files for Changing {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            let read = lock(&self.files).read(path);
            if let Some(text) = lock(&self.next).take_if(|_| path == Path::new("s.conf")) {
                self.write(&text);
            }
            read
        }
        fn read_stdin(&self) -> io::Result<Vec<u8>> {
            lock(&self.files).read_stdin()
        }
        fn probe(&self, path: &Path, access: Access) -> io::Result<()> {
            lock(&self.files).probe(path, access)
        }
    }

    /// Starts on `old`, and reads again when `new` stands in the file.
    fn reread(old: &str, new: &str) -> Result<Reread, Vec<Diagnostic>> {
        let (files, configuration) = Changing::configuration(old);
        let checked = configuration.parse().check(&*files);
        assert!(checked.errors.is_empty(), "{:?}", checked.errors);
        files.write(new);
        configuration.reread()
    }

    fn names(changes: &[Changed]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_changed_is_nothing_to_do() {
        let commented = format!("# other comment\n{}", SERVER.replace(' ', "   "));
        let reread = reread(SERVER, &commented).unwrap();
        assert_eq!(reread.changes, Changes::default());
    }

    #[test]
    fn what_changes_while_it_is_read_is_the_next_reloads() {
        let (files, configuration) = Changing::configuration(SERVER);
        configuration.parse();
        let pushing = format!("{SERVER}push \"block-ipv6\"\n");
        *lock(&files.next) = Some(pushing);
        for expected in [&[][..], &["`push` (s.conf:7)"]] {
            let reread = configuration.reread().unwrap();
            assert_eq!(names(&reread.changes.live), expected);
            let pushes = reread.profile.server.push.iter().any(|option| option == "block-ipv6");
            assert_eq!(pushes, !expected.is_empty());
            configuration.adopt(&reread);
        }
    }

    #[test]
    fn live_options_are_taken_and_the_others_stay_and_are_named_with_their_lines() {
        let old = format!("{SERVER}port 1194\npush \"route 10.1.0.0 255.255.0.0\"\nmax-clients 10\n");
        let new = format!("{SERVER}port 1195\npush \"route 10.2.0.0 255.255.0.0\"\nduplicate-cn\n");
        let Reread { profile, changes, .. } = reread(&old, &new).unwrap();
        let live = ["`push` (s.conf:8)", "`duplicate-cn` (s.conf:9)", "`max-clients` (removed)"];
        assert_eq!(names(&changes.live), live);
        assert_eq!(names(&changes.restart), ["`port` (s.conf:7)"]);
        assert_eq!(profile.connections[0].local_port, Some(Port::Number(1194)));
        assert!(profile.server.push.iter().any(|option| option == "route 10.2.0.0 255.255.0.0"));
        assert!(!profile.server.push.iter().any(|option| option == "route 10.1.0.0 255.255.0.0"));
        assert!(profile.server.duplicate_cn);
        assert_eq!(profile.server.max_clients, 1024);
    }

    #[test]
    fn a_helper_that_needs_a_restart_goes_on_expanding_to_what_it_was() {
        let new = SERVER.replace("10.8.0.0", "10.9.0.0") + "push \"block-ipv6\"\n";
        let Reread { profile, changes, .. } = reread(SERVER, &new).unwrap();
        assert_eq!(names(&changes.restart), ["`server` (s.conf:2)"]);
        assert!(profile.server.push.iter().any(|option| option == "route-gateway 10.8.0.1"));
        assert!(profile.server.push.iter().any(|option| option == "block-ipv6"));
        assert!(!profile.server.push.iter().any(|option| option.contains("10.9.")));
    }

    #[test]
    fn a_broken_configuration_is_refused_with_its_line() {
        let errors = reread(SERVER, &format!("{SERVER}max-clients x\n")).unwrap_err();
        assert_eq!(errors[0].origin.as_ref().map(|origin| origin.line), Some(7));
    }

    /// Another value of every option that TLS is made from.
    const OTHER_TLS: &str = "verify-client-cert optional\nextra-certs x\ntls-version-min 1.3\ntls-version-max 1.3\n\
        tls-cipher A\ntls-ciphersuites B\ntls-groups X25519\necdh-curve secp384r1\ntls-cert-profile preferred\n\
        crl-verify x\nverify-x509-name alice name\nx509-username-field UID\nremote-cert-tls client\n\
        remote-cert-eku 1.2.3\nremote-cert-ku 80\nns-cert-type client\n";

    #[test]
    fn where_tls_stays_its_options_wait_and_every_other_live_option_is_taken() {
        let hash = |byte: &str, len: usize| vec![byte; len].join(":");
        // One excludes the other.
        let old = format!("{SERVER}verb 3\npeer-fingerprint {}\n", hash("AB", 32));
        let pin = format!("verify-hash {}\n", hash("CD", 20));
        let (files, configuration) = Changing::configuration(&old);
        for name in ["x", "ca2", "c2", "k2", "/bin/true"] {
            lock(&files.files).files.insert(name.into(), "x".into());
        }
        let running = configuration.parse().check(&*files).profile;
        let materials = SERVER.replace("ca ca\ncert c\nkey k\n", "ca ca2\ncert c2\nkey k2\n");
        let others = "hand-window 20\ntls-timeout 3\ntls-crypt-v2-verify /bin/true\n";
        files.write(&format!("{materials}{OTHER_TLS}{pin}verb 3\nauth-user-pass-verify /bin/true via-file\nscript-security 2\n{others}"));
        let mut reread = configuration.reread().unwrap();
        let all: Vec<_> =
            crate::table().filter(|row| row.reload == Reload::Tls).map(|row| row.name).collect();
        let told: Vec<_> = reread.changes.live.iter().map(|changed| changed.option).collect();
        for name in &all {
            assert!(told.contains(name), "this test gives {name} no other value");
        }
        reread.keep_tls(&running);
        let names: Vec<_> = reread.changes.restart.iter().map(|changed| changed.option).collect();
        assert!(all.iter().all(|name| names.contains(name)) && names.len() == all.len(), "{names:?}");
        let live: Vec<_> = reread.changes.live.iter().map(|changed| changed.option).collect();
        let taken =
            ["auth-user-pass-verify", "script-security", "hand-window", "tls-timeout", "tls-crypt-v2-verify"];
        assert_eq!(live, taken);
        // In the profile as in the words about it.
        assert_eq!(reread.profile.session.hand_window.as_secs(), 20);
        assert!(reread.profile.tls.tls_crypt_v2_verify.is_some());
        assert_eq!(reread.profile.server.client_cert, running.server.client_cert);
        let but_verify = Tls { tls_crypt_v2_verify: None, ..reread.profile.tls.clone() };
        assert_eq!(format!("{but_verify:?}"), format!("{:?}", running.tls));
        // Nor is it forgotten that they wait.
        configuration.adopt(&reread);
        let again = configuration.reread().unwrap();
        assert_eq!(again.changes.live.len(), all.len(), "{:?}", again.changes);
    }

    #[test]
    fn what_holds_only_together_with_a_restart_is_refused() {
        let old = format!("{SERVER}proto tcp-server\n");
        let errors = reread(&old, &format!("{SERVER}proto udp\nconnect-freq 1 1\n")).unwrap_err();
        assert!(errors[0].openvpn_line.contains("connect-freq"), "{errors:?}");
        assert!(errors[0].remedy.contains("restart the server"), "{errors:?}");
    }

    #[test]
    fn an_inline_block_with_other_text_has_changed() {
        let block = |text: &str| format!("{}<ca>\n{text}\n</ca>\n", SERVER.replace("ca ca\n", ""));
        let reread = reread(&block("one"), &block("two")).unwrap();
        assert_eq!(names(&reread.changes.live), ["`ca` (s.conf:6)"]);
    }
}
