//! `writepid`: a file with the process id, from start to end.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// The file; it is removed when this is dropped, or emptied where the directory does not permit that any more.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    file: File,
    /// A process that forked has a copy: only the one that wrote the file may take it away.
    owner: u32,
}

impl PidFile {
    /// Writes the file. After `daemon` forked, before the first connection.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        let owner = std::process::id();
        file.write_all(format!("{owner}\n").as_bytes())?;
        // Absolute: the directory may change before the end.
        let path = std::path::absolute(path)?;
        Ok(Self { path, file, owner })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if std::process::id() == self.owner && std::fs::remove_file(&self.path).is_err() {
            let _ = self.file.set_len(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_the_process_id_until_the_end() {
        let path = std::env::temp_dir().join(format!("culvert-pid-{}", std::process::id()));
        let file = PidFile::write(&path).expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(text, format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
    }
}
