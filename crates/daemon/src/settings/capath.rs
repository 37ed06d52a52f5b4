//! `capath`: a directory of certificates and revocation lists, named as `openssl rehash` names them.
//!
//! OpenSSL looks a file up when it meets its issuer. Here the directory is read when TLS is set up: at the start and at a
//! reload. A list that changes counts from the next connection on.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use culvert_proto::tls::{CrlSource, Pem};

use super::SettingsError;
use crate::ovlog;

/// What a directory holds.
pub(super) struct CaDirectory {
    /// All certificates.
    pub(super) authorities: Pem,
    /// The lists, if there are any.
    pub(super) lists: Option<HashedLists>,
}

/// The files of a directory that count, in the order in which they are read.
#[derive(Default)]
pub struct CaFiles {
    /// Certificates.
    pub certificates: Vec<PathBuf>,
    /// Revocation lists.
    pub lists: Vec<PathBuf>,
}

/// Looks a directory of `capath` through.
///
/// # Errors
/// When it cannot be read.
pub fn files(directory: &Path) -> io::Result<CaFiles> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut found = CaFiles::default();
    for path in paths {
        match kind(&path) {
            Some(Kind::Certificate) => found.certificates.push(path),
            Some(Kind::List) => found.lists.push(path),
            None => {}
        }
    }
    Ok(found)
}

/// Reads a directory.
///
/// # Errors
/// When it, or one of its files, cannot be read.
pub(super) fn read(directory: &Path) -> Result<CaDirectory, SettingsError> {
    let failed = |source| SettingsError::File { option: "capath", path: directory.to_owned(), source };
    ovlog!(warn 1, "WARNING: experimental option --capath {}", directory.display());
    let CaFiles { certificates, lists } = files(directory).map_err(failed)?;
    let mut text = Vec::new();
    for path in certificates {
        text.extend(fs::read(&path).map_err(failed)?);
        text.push(b'\n');
    }
    let lists = match lists.is_empty() {
        true => None,
        false => Some(HashedLists::open(lists).map_err(failed)?),
    };
    let origin = format!("--capath {}", directory.display());
    Ok(CaDirectory { authorities: Pem { origin, text }, lists })
}

enum Kind {
    Certificate,
    List,
}

/// `HASH.N` and `HASH.rN`, the hash in eight hexadecimal digits.
fn kind(path: &Path) -> Option<Kind> {
    let (hash, number) = path.file_name()?.to_str()?.split_once('.')?;
    let is_hash = hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (kind, number) = match number.strip_prefix('r') {
        Some(number) => (Kind::List, number),
        None => (Kind::Certificate, number),
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_hash && is_number).then_some(kind)
}

/// The lists of a directory, read again when one of them changes.
pub(super) struct HashedLists {
    paths: Vec<PathBuf>,
    last: Mutex<(Vec<Stamp>, Arc<[u8]>)>,
}

/// What tells that a file is the same: modification time and size.
type Stamp = (Option<SystemTime>, u64);

impl HashedLists {
    fn open(paths: Vec<PathBuf>) -> io::Result<Self> {
        let last = Mutex::new((stamps(&paths)?, text(&paths)?));
        Ok(Self { paths, last })
    }
}

fn stamps(paths: &[PathBuf]) -> io::Result<Vec<Stamp>> {
    let stamp = |path: &PathBuf| fs::metadata(path).map(|meta| (meta.modified().ok(), meta.len()));
    paths.iter().map(stamp).collect()
}

fn text(paths: &[PathBuf]) -> io::Result<Arc<[u8]>> {
    let mut all = Vec::new();
    for path in paths {
        all.extend(fs::read(path)?);
        all.push(b'\n');
    }
    Ok(all.into())
}

impl CrlSource for HashedLists {
    fn current(&self) -> Result<Arc<[u8]>, String> {
        let failed =
            |failure| format!("CRL: cannot read --capath: {failure}; nobody is let in until it can be read");
        let now = stamps(&self.paths).map_err(failed)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != now {
            *last = (now, text(&self.paths).map_err(failed)?);
        }
        Ok(Arc::clone(&last.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        let is = |name: &str| match kind(Path::new(name)) {
            Some(Kind::Certificate) => 'c',
            Some(Kind::List) => 'l',
            None => '-',
        };
        let names = [
            "/d/0a1b2c3d.0",
            "0a1b2c3d.r12",
            "0a1b2c3d.",
            "0a1b2c3d.r",
            "0a1b2c3.0",
            "ca.pem",
            "0a1b2c3d.0x",
        ];
        assert_eq!(names.map(is), ['c', 'l', '-', '-', '-', '-', '-']);
    }
}
