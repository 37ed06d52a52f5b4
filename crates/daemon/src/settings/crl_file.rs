//! A revocation list that is read again when its file changes, as OpenVPN does for each connection.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use culvert_proto::tls::CrlSource;

use super::SettingsError;

/// `crl-verify FILE`.
pub(super) struct CrlFile {
    path: PathBuf,
    last: Mutex<Read>,
}

struct Read {
    /// What told that the file is the same: modification time and size.
    stamp: (Option<SystemTime>, u64),
    bytes: Arc<[u8]>,
}

impl CrlFile {
    /// Reads the file; one that is missing at the start is a mistake in the configuration.
    pub(super) fn open(path: &Path) -> Result<Self, SettingsError> {
        let read = Self::read(path).map_err(|source| SettingsError::File {
            option: "crl-verify",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { path: path.to_owned(), last: Mutex::new(read) })
    }

    fn read(path: &Path) -> std::io::Result<Read> {
        let meta = fs::metadata(path)?;
        Ok(Read { stamp: (meta.modified().ok(), meta.len()), bytes: fs::read(path)?.into() })
    }
}

impl CrlSource for CrlFile {
    fn current(&self) -> Result<Arc<[u8]>, String> {
        let failed = |failure| {
            format!(
                "CRL: cannot read: {}: {failure}; nobody is let in until it can be read",
                self.path.display()
            )
        };
        let meta = fs::metadata(&self.path).map_err(failed)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.stamp != (meta.modified().ok(), meta.len()) {
            *last = Self::read(&self.path).map_err(failed)?;
        }
        Ok(Arc::clone(&last.bytes))
    }
}
