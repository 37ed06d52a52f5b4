//! Noticing that this process is asked to end, for programs that have something to put away first.

use std::{
    io, mem, ptr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

/// What a terminal or another process ends this one with.
const ENDING: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    ASKED.store(true, Relaxed);
}

/// From now on `SIGINT`, `SIGTERM` and `SIGHUP` no longer end this process, but [`termination_asked`] tells of them.
/// Programs that it starts get the signals' usual meaning back.
///
/// # Errors
/// As the system says.
pub fn catch_termination() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: all-zero bytes are a valid `sigaction`: no flags, an empty mask, the default handler.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the handler only stores to an atomic, which is allowed at any moment; `action` lives through the call.
        if unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Keeps the signals that end a process from this thread until it is dropped; then they have their usual effect. Another
/// thread that takes them gets them at once.
pub(crate) struct Held {
    before: libc::sigset_t,
}

impl Held {
    pub(crate) fn start() -> io::Result<Self> {
        let mut held = no_signals();
        for signal in ENDING {
            // SAFETY: the set lives through the call, and was made by `sigemptyset`.
            unsafe { libc::sigaddset(&raw mut held, signal) };
        }
        let mut before = no_signals();
        // SAFETY: both sets live through the call; only the mask of this thread changes.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const held, &raw mut before) } {
            0 => Ok(Self { before }),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// Whether one of them waits.
    pub(crate) fn is_waiting(&self) -> bool {
        let mut waiting = no_signals();
        // SAFETY: the set lives through the call.
        let known = unsafe { libc::sigpending(&raw mut waiting) } == 0;
        // SAFETY: the set lives through the call, and the numbers are signals.
        known && ENDING.iter().any(|signal| unsafe { libc::sigismember(&raw const waiting, *signal) } == 1)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the set lives through the call, and is one that this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

fn no_signals() -> libc::sigset_t {
    // SAFETY: a set is plain integers; zero is a value of each, and the next call makes it the empty set.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: the set lives through the call.
    unsafe { libc::sigemptyset(&raw mut set) };
    set
}

/// Whether one of the signals came since [`catch_termination`].
#[must_use]
pub fn termination_asked() -> bool {
    ASKED.load(Relaxed)
}
