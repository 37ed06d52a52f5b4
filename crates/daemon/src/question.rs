//! Questions to a person, who may never answer.
//!
//! Each has a thread of its own while it is open, for those of the runtime are few and not for waiting. It is withdrawn when
//! nobody waits for the answer any more: the terminal is then as it was before, and no helper of systemd's is left.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use culvert_sys::Eventfd;
use tokio::sync::oneshot;

use crate::credentials::{CredentialError, Prompter};

/// Enough for reading a file of credentials.
const STACK: usize = 256 * 1024;

/// How long withdrawing may take: a file that hangs is left behind.
const LONGEST: Duration = Duration::from_secs(1);

/// Has somebody asked, or a file read, by whoever is there to be asked. Dropping the future withdraws the question.
///
/// # Errors
/// As `ask` says, or when there is no thread for it.
pub(crate) async fn ask<T: Send + 'static>(
    ask: impl FnOnce(&Prompter) -> Result<T, CredentialError> + Send + 'static,
) -> Result<T, CredentialError> {
    let withdrawn = Arc::new(Eventfd::new().map_err(CredentialError::NoThread)?);
    let (tell, told) = oneshot::channel();
    let (end, ended) = mpsc::channel::<()>();
    let stop = Arc::clone(&withdrawn);
    let asking = move || {
        let _nobody_waits = tell.send(ask(&Prompter::detect().until(stop)));
        drop(end);
    };
    thread::Builder::new()
        .name("culvert-ask".to_owned())
        .stack_size(STACK)
        .spawn(asking)
        .map_err(CredentialError::NoThread)?;
    let _open = Open { withdrawn, ended };
    told.await.unwrap_or_else(|_| {
        Err(CredentialError::NoThread(std::io::Error::other("it ended before the question was answered")))
    })
}

/// A question that is open.
struct Open {
    withdrawn: Arc<Eventfd>,
    /// Closed when its thread is done.
    ended: mpsc::Receiver<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.withdrawn.raise();
        // The process may be about to end; it must not leave a terminal without echo.
        let _closed = self.ended.recv_timeout(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::credentials::Echo;

    const FOREVER: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn a_question_ends_with_who_asks_it() {
        let over = Arc::new(AtomicBool::new(false));
        let (begin, begun) = oneshot::channel();
        let seen = Arc::clone(&over);
        let asking = ask(move |prompter| {
            let _waits = begin.send(());
            let never = Eventfd::new().unwrap();
            let woken = culvert_sys::wait_readable(&never, prompter.withdrawn.as_deref(), FOREVER);
            seen.store(true, Ordering::SeqCst);
            Ok(woken.unwrap())
        });
        tokio::select! {
            _ = asking => panic!("nobody answered"),
            _ = begun => {}
        }
        assert!(over.load(Ordering::SeqCst), "its thread still waits");
    }

    #[tokio::test]
    async fn an_answer_is_handed_on() {
        let asked = ask(|_| Ok(7)).await;
        assert_eq!(asked.unwrap(), 7);
        let asked = ask(|_| Prompter::NOBODY.ask("Who?", Echo::Shown)).await;
        assert!(matches!(asked, Err(CredentialError::NobodyToAsk(_))));
    }
}
