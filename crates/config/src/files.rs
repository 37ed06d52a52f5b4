//! The one door to files: configuration is read, and other files are looked at, through [`Files`] only.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// What may be done with files while a configuration is read and checked.
pub trait Files {
    /// Reads a whole configuration file.
    ///
    /// # Errors
    /// As the system says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Reads standard input to its end (`config stdin`).
    ///
    /// # Errors
    /// As the system says.
    fn read_stdin(&self) -> io::Result<Vec<u8>>;

    /// Tells whether the file could be used so, without changing it.
    ///
    /// # Errors
    /// What using it would say.
    fn probe(&self, path: &Path, access: Access) -> io::Result<()>;

    /// Tells whether others than the file's owner may read it; `false` where nobody can say.
    fn is_open_to_others(&self, path: &Path) -> bool {
        let _ = path;
        false
    }
}

/// How a file is going to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read.
    Read,
    /// It is a directory whose files are read.
    Directory,
    /// It is written, and created where it does not exist.
    Write,
    /// It is a program.
    Execute,
}

/// The machine's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_stdin(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn probe(&self, path: &Path, access: Access) -> io::Result<()> {
        match access {
            // A directory can be opened for reading; that it cannot be read shows when it is used, as in OpenVPN.
            Access::Read => fs::File::open(path).map(drop),
            Access::Directory => match fs::metadata(path)?.is_dir() {
                true => fs::read_dir(path).map(drop),
                false => Err(io::Error::from_raw_os_error(ENOTDIR)),
            },
            Access::Write => match fs::metadata(path) {
                Ok(_) => OpenOptions::new().append(true).open(path).map(drop),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                    fs::metadata(parent.unwrap_or(Path::new("."))).map(drop)
                }
                Err(error) => Err(error),
            },
            Access::Execute => executable(path),
        }
    }

    fn is_open_to_others(&self, path: &Path) -> bool {
        open_to_others(path)
    }
}

/// Files that exist only in memory: for tests and fuzzing.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles {
    /// Path and content. [`Access::Directory`] holds for every path that another one lies below.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Standard input.
    pub stdin: Vec<u8>,
}

impl MemoryFiles {
    /// Returns the same files and one more.
    #[must_use]
    pub fn with(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(PathBuf::from(path), content.into());
        self
    }
}

impl Files for MemoryFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::from_raw_os_error(ENOENT))
    }

    fn read_stdin(&self) -> io::Result<Vec<u8>> {
        Ok(self.stdin.clone())
    }

    fn probe(&self, path: &Path, access: Access) -> io::Result<()> {
        let there = match access {
            Access::Write => true,
            Access::Read | Access::Execute => self.files.contains_key(path),
            Access::Directory => self.files.keys().any(|file| file != path && file.starts_with(path)),
        };
        if there { Ok(()) } else { Err(io::Error::from_raw_os_error(ENOENT)) }
    }
}

/// The numbers are the same on every system that OpenVPN's messages are compared on.
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const ENOTDIR: i32 = 20;

#[cfg(unix)]
fn executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o111 == 0 { Err(io::Error::from_raw_os_error(EACCES)) } else { Ok(()) }
}

#[cfg(unix)]
fn open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn open_to_others(_path: &Path) -> bool {
    false
}

#[cfg(not(unix))]
fn executable(path: &Path) -> io::Result<()> {
    fs::metadata(path).map(drop)
}
