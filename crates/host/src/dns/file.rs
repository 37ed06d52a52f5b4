//! `/etc/resolv.conf` itself.
//!
//! It is written in place, not replaced: in containers it is a mount. The old text is kept beside it until it is back,
//! in a file whose name ends with the number of the inode: every network namespace may have a resolv.conf of its own
//! mounted there (ip-netns(8)), and they share the directory.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use super::{DnsSettings, DnsUndo};
use crate::HostError;

/// The first line of our text: without it, somebody else has written the file since.
const MARK: &str = "# Made by culvert for a tunnel; the former text is in the file beside it.\n";
const SUFFIX: &str = ".before-culvert";

pub(super) fn set(path: &Path, settings: &DnsSettings) -> Result<DnsUndo, HostError> {
    let failed = |error: io::Error| HostError::Dns(format!("{}: {error}", path.display()));
    let wanted = settings.resolv_conf()?;
    let before = fs::read_to_string(path).map_err(failed)?;
    let backup = backup_of(path).map_err(failed)?;
    if before.starts_with(MARK) {
        // Another tunnel, or one that ended without restoring: the first text is the one to keep.
        if !backup.exists() {
            return Err(HostError::Dns(format!("{} is ours, but the former text is lost", path.display())));
        }
    } else {
        fs::write(&backup, &before).map_err(failed)?;
    }
    // What the former text had besides servers and domains (options, sortlist) stays; so do its servers where none is
    // given, and its domains.
    let given = |kind: &str| wanted.lines().any(|line| line.starts_with(kind));
    let keeps = |line: &&str| match line.split_whitespace().next() {
        Some("nameserver") => !given("nameserver"),
        Some("search" | "domain") => !given("search"),
        _ => *line != MARK.trim_end(),
    };
    let kept: String = before.lines().filter(keeps).map(|line| format!("{line}\n")).collect();
    fs::write(path, format!("{MARK}{wanted}{kept}")).map_err(failed)?;
    Ok(DnsUndo::File { backup: backup.display().to_string() })
}

pub(super) fn restore(backup: &Path) -> Result<(), HostError> {
    let Some(path) =
        backup.to_str().and_then(|name| name.rsplit_once(SUFFIX)).map(|(path, _)| PathBuf::from(path))
    else {
        return Err(HostError::Dns(format!("{} is no copy of ours", backup.display())));
    };
    let failed = |error: io::Error| {
        HostError::Dns(format!("{}: {error}; its former text is in {}", path.display(), backup.display()))
    };
    let before = match fs::read(backup) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed)?,
    };
    if fs::read_to_string(&path).is_ok_and(|text| text.starts_with(MARK)) {
        if backup_of(&path).map_err(failed)? != backup {
            return Ok(()); // of another namespace, which will need its copy
        }
        fs::write(&path, before).map_err(failed)?;
    }
    fs::remove_file(backup).map_err(failed)
}

/// The file and its copy, opened while the process may: later it may have another user, or another root directory.
#[derive(Debug)]
pub(crate) struct KeptFile {
    file: File,
    copy: File,
    backup: PathBuf,
}

impl KeptFile {
    /// Opens what [`restore`] of this copy works on; `None` where that is not possible, and [`restore`] has to do.
    pub(super) fn open(backup: &Path) -> Option<Self> {
        let path = backup.to_str()?.rsplit_once(SUFFIX)?.0;
        let file = File::options().read(true).write(true).open(path).ok()?;
        Some(Self { file, copy: File::open(backup).ok()?, backup: backup.to_owned() })
    }

    pub(super) fn is_of(&self, backup: &Path) -> bool {
        self.backup == backup
    }

    /// Does what [`restore`] does. Where the copy cannot be removed it stays: the next tunnel overwrites it.
    pub(super) fn restore(self) -> Result<(), HostError> {
        let failed = |error: io::Error| {
            HostError::Dns(format!("resolv.conf: {error}; its former text is in {}", self.backup.display()))
        };
        if self.copy.metadata().map_err(failed)?.nlink() == 0 {
            return Ok(()); // another tunnel was the last, and has restored it
        }
        if content(&self.file).map_err(failed)?.starts_with(MARK.as_bytes()) {
            let before = content(&self.copy).map_err(failed)?;
            self.file.set_len(0).and_then(|()| self.file.write_all_at(&before, 0)).map_err(failed)?;
        }
        if let Err(failure) = fs::remove_file(&self.backup) {
            tracing::debug!("{} stays: {failure}", self.backup.display());
        }
        Ok(())
    }
}

/// The whole content of a file, from its beginning.
fn content(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or_default()];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The copy of the file that is mounted at `path` here.
fn backup_of(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("{SUFFIX}.{}", fs::metadata(path)?.ino()));
    Ok(name.into())
}
