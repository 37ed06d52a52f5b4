//! `/etc/resolv.conf` itself.
//!
//! It is written in place, not replaced: in containers it is a mount. The old text is kept beside it until it is back.

use std::{
    fs, io,
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
    let backup = backup_of(path);
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
    let Some(path) = backup.to_str().and_then(|name| name.strip_suffix(SUFFIX)).map(PathBuf::from) else {
        return Err(HostError::Dns(format!("{} is no copy of ours", backup.display())));
    };
    let failed = |error: io::Error| {
        HostError::Dns(format!("{}: {error}; its former text is in {}", path.display(), backup.display()))
    };
    let before = match fs::read(backup) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed)?,
    };
    let ours = fs::read_to_string(&path).is_ok_and(|text| text.starts_with(MARK));
    if ours {
        fs::write(&path, before).map_err(failed)?;
    }
    fs::remove_file(backup).map_err(failed)
}

fn backup_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}
