//! Noticing that this process is asked to end, for programs that have something to put away first.

use std::{
    io, mem, ptr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

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

/// Whether one of the signals came since [`catch_termination`].
#[must_use]
pub fn termination_asked() -> bool {
    ASKED.load(Relaxed)
}
