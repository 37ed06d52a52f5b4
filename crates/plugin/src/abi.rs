//! The C interface of plugins: layouts, numbers, signatures. Source: OpenVPN's `openvpn-plugin.h`, versions 2.0 to 2.7.

use std::ffi::{c_char, c_int, c_uint, c_void};

/// Version of the interface that a plugin may require (`openvpn_plugin_min_version_required_v1`).
pub(crate) const INTERFACE_VERSION: c_int = 3;
/// Version of the structures that version 3 passes.
pub(crate) const STRUCT_VERSION: c_int = 5;

pub(crate) const SUCCESS: c_int = 0;
pub(crate) const DEFERRED: c_int = 2;

/// Number of hooks that have a bit in the mask.
pub(crate) const HOOKS: u32 = 16;

/// `SSLAPI_NONE`: certificates are not handed over as objects of a TLS library.
pub(crate) const SSL_API_NONE: c_int = 0;
/// `SSLAPI_OPENSSL`: they are objects of OpenSSL.
pub(crate) const SSL_API_OPENSSL: c_int = 1;

pub(crate) const LOG_ERROR: c_uint = 1 << 0;
pub(crate) const LOG_WARNING: c_uint = 1 << 1;
pub(crate) const LOG_NOTE: c_uint = 1 << 2;

/// Whatever the plugin's open function returned.
pub(crate) type Handle = *mut c_void;
/// An array of C strings that ends with a null pointer.
pub(crate) type Strings = *const *const c_char;

/// `openvpn_plugin_string_list`: names and values that a plugin returns; all of it comes from `malloc`.
#[repr(C)]
pub(crate) struct StringList {
    pub(crate) next: *mut Self,
    pub(crate) name: *mut c_char,
    pub(crate) value: *mut c_char,
}

/// `openvpn_plugin_callbacks`.
#[repr(C)]
pub(crate) struct Callbacks {
    pub(crate) log: unsafe extern "C" fn(c_uint, *const c_char, *const c_char, ...),
    /// The last argument is a `va_list`, which nothing in Rust looks at.
    pub(crate) vlog: unsafe extern "C" fn(c_uint, *const c_char, *const c_char, *mut c_void),
    pub(crate) secure_memzero: unsafe extern "C" fn(*mut c_void, usize),
    pub(crate) base64_encode: unsafe extern "C" fn(*const c_void, c_int, *mut *mut c_char) -> c_int,
    pub(crate) base64_decode: unsafe extern "C" fn(*const c_char, *mut c_void, c_int) -> c_int,
}

/// `openvpn_plugin_args_open_in`.
#[repr(C)]
pub(crate) struct OpenIn {
    pub(crate) type_mask: c_int,
    pub(crate) argv: Strings,
    pub(crate) envp: Strings,
    pub(crate) callbacks: *const Callbacks,
    pub(crate) ssl_api: c_int,
    pub(crate) version: *const c_char,
    pub(crate) version_major: c_uint,
    pub(crate) version_minor: c_uint,
    pub(crate) version_patch: *const c_char,
}

/// `openvpn_plugin_args_open_return`.
#[repr(C)]
pub(crate) struct OpenReturn {
    pub(crate) type_mask: c_int,
    pub(crate) handle: Handle,
    pub(crate) return_list: *mut *mut StringList,
}

/// `openvpn_plugin_args_func_in`.
#[repr(C)]
pub(crate) struct FuncIn {
    pub(crate) hook: c_int,
    pub(crate) argv: Strings,
    pub(crate) envp: Strings,
    pub(crate) handle: Handle,
    pub(crate) client: *mut c_void,
    /// -1: no certificate.
    pub(crate) certificate_depth: c_int,
    pub(crate) certificate: *mut c_void,
}

/// `openvpn_plugin_args_func_return`.
#[repr(C)]
pub(crate) struct FuncReturn {
    pub(crate) return_list: *mut *mut StringList,
}

pub(crate) type OpenV1 = unsafe extern "C" fn(*mut c_uint, Strings, Strings) -> Handle;
pub(crate) type OpenV2 = unsafe extern "C" fn(*mut c_uint, Strings, Strings, *mut *mut StringList) -> Handle;
pub(crate) type OpenV3 = unsafe extern "C" fn(c_int, *const OpenIn, *mut OpenReturn) -> c_int;
pub(crate) type FuncV1 = unsafe extern "C" fn(Handle, c_int, Strings, Strings) -> c_int;
pub(crate) type FuncV2 =
    unsafe extern "C" fn(Handle, c_int, Strings, Strings, *mut c_void, *mut *mut StringList) -> c_int;
pub(crate) type FuncV3 = unsafe extern "C" fn(c_int, *const FuncIn, *mut FuncReturn) -> c_int;
pub(crate) type Close = unsafe extern "C" fn(Handle);
pub(crate) type ClientNew = unsafe extern "C" fn(Handle) -> *mut c_void;
pub(crate) type ClientDelete = unsafe extern "C" fn(Handle, *mut c_void);
pub(crate) type MinVersion = unsafe extern "C" fn() -> c_int;
