//! What plugins may call: the log, and small helpers.

use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    io::Write as _,
    process,
    sync::OnceLock,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::{Zeroize as _, Zeroizing};

use crate::abi::{Callbacks, LOG_ERROR, LOG_NOTE, LOG_WARNING};

/// How much a line of a plugin matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is wrong.
    Warning,
    /// Worth knowing.
    Note,
    /// For whoever looks for a defect.
    Debug,
}

/// Takes lines: how much it matters, the name that the plugin gave itself, the text.
pub type Log = fn(Level, &str, &str);

/// Where lines go, and the process whose log it is.
static LOG: OnceLock<(Log, u32)> = OnceLock::new();

/// Plugins have no way to say which of them speaks: there is one log for all.
pub(crate) fn set_log(log: Log) {
    LOG.get_or_init(|| (log, process::id()));
}

unsafe extern "C" {
    /// In `log.c`.
    fn culvert_plugin_log(flags: c_uint, plugin: *const c_char, format: *const c_char, ...);
    /// In `log.c`.
    fn culvert_plugin_vlog(
        flags: c_uint,
        plugin: *const c_char,
        format: *const c_char,
        arguments: *mut c_void,
    );
}

/// The table that version 3 of the interface passes.
pub(crate) static CALLBACKS: Callbacks = Callbacks {
    log: culvert_plugin_log,
    vlog: culvert_plugin_vlog,
    secure_memzero,
    base64_encode,
    base64_decode,
};

/// Called by `log.c` with a formatted line.
#[unsafe(no_mangle)]
extern "C" fn culvert_plugin_text(flags: c_uint, plugin: *const c_char, text: *const c_char) {
    if plugin.is_null() || text.is_null() {
        return;
    }
    // SAFETY: the plugin's name for itself is a C string by the interface's contract, and was checked for null.
    let plugin = unsafe { CStr::from_ptr(plugin) }.to_string_lossy();
    // SAFETY: `log.c` passes its own buffer, which vsnprintf ended with NUL.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let level = match flags {
        flags if flags & LOG_ERROR != 0 => Level::Error,
        flags if flags & LOG_WARNING != 0 => Level::Warning,
        flags if flags & LOG_NOTE != 0 => Level::Note,
        _ => Level::Debug,
    };
    match LOG.get() {
        Some((log, owner)) if *owner == process::id() => log(level, &plugin, &text),
        // A process that the plugin forked: the threads of the log are not there, and their locks may be taken for ever.
        // Not `eprintln`, which panics where nobody reads any more.
        _ if level != Level::Debug => drop(writeln!(std::io::stderr(), "PLUGIN {plugin}: {text}")),
        _ => {}
    }
}

unsafe extern "C" fn secure_memzero(data: *mut c_void, len: usize) {
    if data.is_null() || isize::try_from(len).is_err() {
        return;
    }
    // SAFETY: the caller says that `len` bytes from `data` on are its own to write; null and absurd lengths are excluded.
    unsafe { std::slice::from_raw_parts_mut(data.cast::<u8>(), len) }.zeroize();
}

/// Writes `*text`, from `malloc`, and returns its length; -1 on failure.
unsafe extern "C" fn base64_encode(data: *const c_void, size: c_int, text: *mut *mut c_char) -> c_int {
    let Ok(len) = usize::try_from(size) else { return -1 };
    if data.is_null() || text.is_null() {
        return -1;
    }
    // SAFETY: the caller says that `size` bytes can be read there; null is excluded.
    let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) };
    let encoded = Zeroizing::new(STANDARD.encode(bytes));
    let Ok(written) = c_int::try_from(encoded.len()) else { return -1 };
    // SAFETY: malloc takes any size; the result is checked below.
    let copy = unsafe { libc::malloc(encoded.len() + 1) }.cast::<u8>();
    if copy.is_null() {
        return -1;
    }
    // SAFETY: `copy` has one byte more than is copied, and is new, hence apart from the source.
    unsafe { std::ptr::copy_nonoverlapping(encoded.as_ptr(), copy, encoded.len()) };
    // SAFETY: the byte after the copied ones is the last that was allocated.
    unsafe { copy.add(encoded.len()).write(0) };
    // SAFETY: the caller gave a place for one pointer; null is excluded.
    unsafe { text.write(copy.cast()) };
    written
}

/// Writes at most `size` bytes and returns how many; -1 when the text is no base64, or does not fit.
unsafe extern "C" fn base64_decode(text: *const c_char, data: *mut c_void, size: c_int) -> c_int {
    let Ok(room) = usize::try_from(size) else { return -1 };
    if text.is_null() || data.is_null() {
        return -1;
    }
    // SAFETY: the caller passes a C string; null is excluded.
    let text = unsafe { CStr::from_ptr(text) };
    let Ok(bytes) = STANDARD.decode(text.to_bytes()).map(Zeroizing::new) else { return -1 };
    if bytes.len() > room {
        return -1;
    }
    // SAFETY: the caller gives `size` writable bytes, and at most as many are written; the source is our own.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), data.cast::<u8>(), bytes.len()) };
    c_int::try_from(bytes.len()).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_goes_there_and_back_within_the_room_given() {
        let mut text = std::ptr::null_mut();
        // SAFETY: three readable bytes and a place for a pointer.
        assert_eq!(unsafe { base64_encode(c"abc".as_ptr().cast(), 3, &raw mut text) }, 4);
        let mut bytes = [0_u8; 3];
        // SAFETY: `text` is the string made above, and the buffer is as long as it says.
        assert_eq!(unsafe { base64_decode(text, bytes.as_mut_ptr().cast(), 3) }, 3);
        assert_eq!(&bytes, b"abc");
        // SAFETY: the same, with less room.
        assert_eq!(unsafe { base64_decode(text, bytes.as_mut_ptr().cast(), 2) }, -1);
        // SAFETY: `text` came from malloc and is not used again.
        unsafe { libc::free(text.cast()) };
        // SAFETY: a C string and a buffer with its length.
        assert_eq!(unsafe { base64_decode(c"no base64".as_ptr(), bytes.as_mut_ptr().cast(), 3) }, -1);
    }

    #[test]
    fn memory_is_wiped() {
        let mut secret = *b"secret";
        // SAFETY: the buffer and its length.
        unsafe { secure_memzero(secret.as_mut_ptr().cast(), secret.len()) };
        assert_eq!(secret, [0; 6]);
    }
}
