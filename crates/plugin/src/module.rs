//! The shared object of a plugin and its functions.

use std::{
    ffi::{CStr, CString, c_int, c_void},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use crate::{PluginError, abi, openssl::OpenSsl};

/// The open function of the latest version that a module has.
#[derive(Clone, Copy)]
pub(crate) enum Open {
    V1(abi::OpenV1),
    V2(abi::OpenV2),
    V3(abi::OpenV3),
}

/// The same of the function for hooks.
#[derive(Clone, Copy)]
pub(crate) enum Func {
    V1(abi::FuncV1),
    V2(abi::FuncV2),
    V3(abi::FuncV3),
}

/// A module's functions. It stays loaded for the life of the process: threads and exit handlers of it may still run.
pub(crate) struct Module {
    pub(crate) open: Open,
    pub(crate) func: Func,
    pub(crate) close: abi::Close,
    pub(crate) client_new: Option<abi::ClientNew>,
    pub(crate) client_delete: Option<abi::ClientDelete>,
    /// For plugins of version 3.
    pub(crate) openssl: Option<OpenSsl>,
}

/// Reads a symbol as a function of a type; `None` where the module lacks it.
macro_rules! function {
    ($library:expr, $name:literal as $type:ty) => {
        $library.symbol($name).map(|address| {
            // SAFETY: the interface (or OpenSSL's) gives the function of this name this type; a pointer to code has the size
            // of one to data here, and was checked for null.
            unsafe { std::mem::transmute::<*mut c_void, $type>(address) }
        })
    };
}
pub(crate) use function;

impl Module {
    pub(crate) fn load(path: &Path) -> Result<Self, PluginError> {
        let library = Library::load(path)?;
        let missing = |symbol| PluginError::Symbol { path: path.to_owned(), symbol };
        if let Some(version) =
            function!(library, c"openvpn_plugin_min_version_required_v1" as abi::MinVersion)
        {
            // SAFETY: it takes nothing and returns a number.
            let needs = unsafe { version() };
            if needs > abi::INTERFACE_VERSION {
                return Err(PluginError::TooNew { path: path.to_owned(), needs });
            }
        }
        let open = function!(library, c"openvpn_plugin_open_v3" as abi::OpenV3)
            .map(Open::V3)
            .or_else(|| function!(library, c"openvpn_plugin_open_v2" as abi::OpenV2).map(Open::V2))
            .or_else(|| function!(library, c"openvpn_plugin_open_v1" as abi::OpenV1).map(Open::V1));
        let func = function!(library, c"openvpn_plugin_func_v3" as abi::FuncV3)
            .map(Func::V3)
            .or_else(|| function!(library, c"openvpn_plugin_func_v2" as abi::FuncV2).map(Func::V2))
            .or_else(|| function!(library, c"openvpn_plugin_func_v1" as abi::FuncV1).map(Func::V1));
        let openssl = matches!(open, Some(Open::V3(_))).then(|| OpenSsl::find(&library)).flatten();
        Ok(Self {
            open: open.ok_or_else(|| missing("openvpn_plugin_open_vX"))?,
            func: func.ok_or_else(|| missing("openvpn_plugin_func_vX"))?,
            close: function!(library, c"openvpn_plugin_close_v1" as abi::Close)
                .ok_or_else(|| missing("openvpn_plugin_close_v1"))?,
            client_new: function!(library, c"openvpn_plugin_client_constructor_v1" as abi::ClientNew),
            client_delete: function!(library, c"openvpn_plugin_client_destructor_v1" as abi::ClientDelete),
            openssl,
        })
    }
}

/// A loaded shared object.
pub(crate) struct Library(*mut c_void);

impl Library {
    fn load(path: &Path) -> Result<Self, PluginError> {
        let failed = |reason: String| PluginError::Load { path: path.to_owned(), reason };
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| failed("its name has a NUL in it".to_owned()))?;
        let first = match Self::open(&name, libc::RTLD_NOW) {
            Ok(library) => return Ok(library),
            Err(reason) => reason,
        };
        // A plugin may count on the OpenSSL that is in OpenVPN's own process without naming it.
        if !first.contains("undefined symbol") || !provide_openssl() {
            return Err(failed(first));
        }
        Self::open(&name, libc::RTLD_NOW).map_err(failed)
    }

    fn open(name: &CStr, flags: c_int) -> Result<Self, String> {
        // SAFETY: a C string. The module's initialisers run here: it is as trusted as culvert itself.
        let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
        if handle.is_null() { Err(last_error()) } else { Ok(Self(handle)) }
    }

    /// This machine's OpenSSL 3, for plugins that are not linked to it.
    pub(crate) fn machines_libcrypto() -> Option<Self> {
        Self::open(LIBCRYPTO, libc::RTLD_NOW).ok()
    }

    pub(crate) fn symbol(&self, name: &CStr) -> Option<*mut c_void> {
        // SAFETY: the handle of a module that stays loaded, and a C string.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    }
}

/// Loads this machine's OpenSSL for plugins that need it; culvert itself does not use it. `false`: there is none.
fn provide_openssl() -> bool {
    [LIBCRYPTO, c"libssl.so.3"]
        .into_iter()
        .all(|name| Library::open(name, libc::RTLD_NOW | libc::RTLD_GLOBAL).is_ok())
}

const LIBCRYPTO: &CStr = c"libcrypto.so.3";

/// What the dynamic linker says about the failure just now.
fn last_error() -> String {
    // SAFETY: takes nothing; the text belongs to this thread until its next call of the linker.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the dynamic linker gives no reason".to_owned();
    }
    // SAFETY: dlerror returns a C string; null is excluded.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
