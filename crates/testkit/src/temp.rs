//! A folder that lives as long as the test.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Failure, Result};

/// A private folder below the system's temporary folder, removed on drop.
///
/// With `CULVERT_TEST_KEEP=1` it stays, and its path is printed, so that a failed test can be looked into.
pub struct TempDir(PathBuf);

static NEXT: AtomicU32 = AtomicU32::new(0);

impl TempDir {
    /// Makes a new folder, readable by its owner only.
    pub fn new() -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("culvert-test-{}-{number}", process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::new(format!("making the folder {}: {error}", path.display())))?;
        Ok(Self(path))
    }

    /// Returns the folder's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes `text` to the file `name` (mode 0600) and returns its path.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        self.write_with_mode(name, text, 0o600)
    }

    /// Writes an executable script.
    pub fn write_script(&self, name: &str, text: &str) -> Result<PathBuf> {
        self.write_with_mode(name, text, 0o755)
    }

    fn write_with_mode(&self, name: &str, text: &str, mode: u32) -> Result<PathBuf> {
        let path = self.0.join(name);
        let write = || {
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
        };
        write().map_err(|error| Failure::new(format!("writing {}: {error}", path.display())))?;
        Ok(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::env::var("CULVERT_TEST_KEEP").is_ok_and(|keep| keep == "1") {
            eprintln!("kept {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0); // nothing a test could do about it
        }
    }
}
