//! Who waits for an answer that comes through a file, and how it is noticed: a thousand logins that wait cost nothing until
//! somebody writes.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use culvert_sys::DirectoryWatch;
use tokio::{io::unix::AsyncFd, sync::Notify, task::AbortHandle, time::timeout};
use tracing::debug;

/// How often an answer is looked for in any case: not every file system tells of changes.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same where the kernel does not tell at all.
const LOOK_EVERY_BLIND: Duration = Duration::from_millis(250);

/// Notices answers in one directory (`tmp-dir`).
#[derive(Debug)]
pub struct Answers {
    directory: PathBuf,
    waiting: Arc<Waiting>,
    /// The task that hears of changes, from the first wait on; `None` where the kernel does not tell.
    hearing: OnceLock<Option<AbortHandle>>,
}

/// Who waits, by name of file.
#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<OsString, Arc<Notify>>>);

impl Answers {
    /// Answers in this directory. It is listened to from the first wait on: by then the process has its final root.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), waiting: Arc::default(), hearing: OnceLock::new() }
    }

    /// Listens to changes, or says why that is not possible.
    fn listen(&self) -> Option<AbortHandle> {
        #[expect(deprecated, reason = "its successor is unsafe; this descriptor is owned and stays the same")]
        let watch = DirectoryWatch::new(&self.directory).and_then(AsyncFd::new);
        match watch {
            Ok(watch) => Some(tokio::spawn(hear(watch, Arc::clone(&self.waiting))).abort_handle()),
            Err(failure) => {
                debug!("answers in {} are looked for, not heard: {failure}", self.directory.display());
                None
            }
        }
    }

    /// Asks until there is an answer, whenever a file may have changed.
    pub(super) async fn wait<T>(&self, file: &Path, mut ask: impl FnMut() -> Option<T>) -> T {
        let name = file.file_name().unwrap_or_default();
        let changed = Arc::clone(self.waiting.names().entry(name.to_owned()).or_default());
        let _listed = Listed { waiting: &self.waiting, name };
        let hearing = self.hearing.get_or_init(|| self.listen());
        let look_every = if hearing.is_some() { LOOK_EVERY } else { LOOK_EVERY_BLIND };
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            // Either way it is time to ask again.
            let _elapsed = timeout(look_every, changed.notified()).await;
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        if let Some(Some(hearing)) = self.hearing.get() {
            hearing.abort();
        }
    }
}

impl Waiting {
    fn names(&self) -> MutexGuard<'_, HashMap<OsString, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, name: Option<&OsStr>) {
        let names = self.names();
        match name {
            Some(name) => names.get(name).into_iter().for_each(|waiting| waiting.notify_one()),
            None => names.values().for_each(|waiting| waiting.notify_one()),
        }
    }
}

/// A place among those who wait, given back when dropped.
struct Listed<'a> {
    waiting: &'a Waiting,
    name: &'a OsStr,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.waiting.names().remove(self.name);
    }
}

async fn hear(watch: AsyncFd<DirectoryWatch>, waiting: Arc<Waiting>) {
    loop {
        let Ok(mut ready) = watch.readable().await else { return };
        match ready.try_io(|watch| watch.get_ref().read(|name| waiting.tell(name))) {
            // It reads on until nothing is left.
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(failure)) if failure.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(failure)) => return debug!("answers are not heard any more: {failure}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use culvert_testkit::TempDir;

    use super::*;

    /// Waits for a file to have a content, and counts how often it was looked at.
    async fn content(answers: &Answers, file: &Path) -> (String, u32) {
        let mut looks = 0;
        let ask = || {
            looks += 1;
            std::fs::read_to_string(file).ok().filter(|text| !text.is_empty())
        };
        let text = answers.wait(file, ask).await;
        (text, looks)
    }

    #[tokio::test]
    async fn an_answer_is_heard_without_looking_again_and_again() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("answer");
        let answers = Arc::new(Answers::of(folder.path()));
        let (waiting, path) = (Arc::clone(&answers), file.clone());
        let waited = tokio::spawn(async move { content(&waiting, &path).await });
        tokio::task::yield_now().await;
        std::fs::write(folder.path().join("another"), "x").unwrap();
        std::fs::write(&file, "1").unwrap();
        let (text, looks) = waited.await.unwrap();
        assert!(answers.hearing.get().is_some_and(Option::is_some));
        assert_eq!(text, "1");
        assert!(looks <= 3, "{looks} looks");
        assert!(answers.waiting.names().is_empty());
    }

    #[tokio::test]
    async fn where_the_kernel_does_not_tell_answers_are_looked_for() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("answer");
        let answers = Arc::new(Answers::of(Path::new("/nonexistent")));
        let (waiting, path) = (Arc::clone(&answers), file.clone());
        let waited = tokio::spawn(async move { content(&waiting, &path).await });
        tokio::task::yield_now().await;
        std::fs::write(&file, "1").unwrap();
        assert_eq!(waited.await.unwrap().0, "1");
        assert!(answers.hearing.get().is_some_and(Option::is_none));
    }
}
