//! Certificates as objects of OpenSSL: what plugins of version 3 get with `PLUGIN_TLS_VERIFY`.
//!
//! culvert has no OpenSSL of its own. The functions are those of the library that the plugin itself is linked to, else
//! of this machine's: an object must come from the library that reads it.

use std::{
    ffi::{c_long, c_void},
    ptr,
};

use crate::module::{Library, function};

/// `d2i_X509`.
type Decode = unsafe extern "C" fn(*mut *mut c_void, *mut *const u8, c_long) -> *mut c_void;
/// `X509_free`.
type Free = unsafe extern "C" fn(*mut c_void);

/// The two functions that hand a certificate over.
#[derive(Clone, Copy)]
pub(crate) struct OpenSsl {
    decode: Decode,
    free: Free,
}

impl OpenSsl {
    /// Finds them for a module; `None`: there is no OpenSSL 3 here, and the plugin needs none.
    pub(crate) fn find(module: &Library) -> Option<Self> {
        Self::of(module).or_else(|| Self::of(&Library::machines_libcrypto()?))
    }

    fn of(library: &Library) -> Option<Self> {
        Some(Self {
            decode: function!(library, c"d2i_X509" as Decode)?,
            free: function!(library, c"X509_free" as Free)?,
        })
    }

    /// Makes an object of a certificate in DER; `None`: OpenSSL does not understand it.
    pub(crate) fn certificate(self, der: &[u8]) -> Option<Certificate> {
        let len = c_long::try_from(der.len()).ok()?;
        let mut at = der.as_ptr();
        // SAFETY: the function is OpenSSL's; it reads `len` bytes from `at` at most, moves the local `at`, and makes a new
        // object where the first argument is null.
        let object = unsafe { (self.decode)(ptr::null_mut(), &raw mut at, len) };
        (!object.is_null()).then_some(Certificate { object, free: self.free })
    }
}

/// An `X509`, freed when dropped.
pub(crate) struct Certificate {
    object: *mut c_void,
    free: Free,
}

impl Certificate {
    /// For the duration of a call; a plugin that keeps it takes a reference of its own.
    pub(crate) const fn as_ptr(&self) -> *mut c_void {
        self.object
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // SAFETY: the object came from the same library and is used no more.
        unsafe { (self.free)(self.object) };
    }
}
