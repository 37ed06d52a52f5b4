//! Changes to the files of a directory, as they happen.

use std::{
    ffi::OsStr,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// Notices files of one directory that were written or put there. Readable when there is something new (`inotify(7)`).
#[derive(Debug)]
pub struct DirectoryWatch(OwnedFd);

impl DirectoryWatch {
    /// Watches a directory, from now on.
    ///
    /// # Errors
    /// When it cannot be read, or the user's watches are used up (`fs.inotify.max_user_instances`).
    pub fn new(directory: &Path) -> io::Result<Self> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let what = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        inotify::add_watch(&watch, directory, what)?;
        Ok(Self(watch))
    }

    /// Hands over the names of files that changed, without waiting. `None`: more changed than the kernel could note, so
    /// any may have.
    ///
    /// # Errors
    /// `WouldBlock` once all were handed over; others as the system says.
    pub fn read(&self, mut changed: impl FnMut(Option<&OsStr>)) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        loop {
            let event = reader.next()?;
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                changed(None);
            } else if let Some(name) = event.file_name() {
                changed(Some(OsStr::from_bytes(name.to_bytes())));
            }
        }
    }
}

impl AsFd for DirectoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for DirectoryWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_that_are_written_or_moved_there_are_named() {
        let directory = std::env::temp_dir().join(format!("culvert-watched-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let watch = DirectoryWatch::new(&directory).unwrap();
        let read = || {
            let mut names = Vec::new();
            let end = watch.read(|name| names.push(name.unwrap().to_owned())).unwrap_err();
            assert_eq!(end.kind(), io::ErrorKind::WouldBlock);
            names.dedup();
            names
        };
        assert!(read().is_empty());
        fs::write(directory.join("one"), "1").unwrap();
        assert_eq!(read(), ["one"]);
        fs::rename(directory.join("one"), directory.join("other")).unwrap();
        assert_eq!(read(), ["other"]);
        fs::remove_dir_all(&directory).unwrap();
        assert!(DirectoryWatch::new(&directory).is_err());
    }
}
