//! OpenVPN plugins: shared objects that judge logins and watch clients.
//!
//! [`Plugin::open`] loads a module and initialises it; [`Plugin::call`] runs one of its hooks to the end, which may take
//! as long as the plugin likes: whoever calls must not be waited for by others. A plugin is called from one thread at a
//! time, as in OpenVPN, and is never unloaded: what it started may outlive it.
//!
//! This crate is, beside `culvert-sys`, the only one with `unsafe`: a plugin is foreign code with all rights of the
//! process, so its module's file must be as trusted as culvert's own.
//!
//! Not here: which hooks run when, and in which environment.

mod abi;
mod callbacks;
mod module;
mod openssl;

use std::{
    collections::HashMap,
    ffi::{CStr, CString, c_int, c_void},
    path::{Path, PathBuf},
    ptr,
};

use zeroize::Zeroize as _;

pub use callbacks::{Level, Log};
use module::{Func, Module, Open};

/// A hook, by its number in the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs, reason = "the interface's own names")]
pub enum PluginHook {
    Up = 0,
    Down = 1,
    RouteUp = 2,
    IpChange = 3,
    TlsVerify = 4,
    AuthUserPassVerify = 5,
    ClientConnect = 6,
    ClientDisconnect = 7,
    LearnAddress = 8,
    ClientConnectV2 = 9,
    TlsFinal = 10,
    RoutePreDown = 12,
    ClientConnectDefer = 13,
    ClientConnectDeferV2 = 14,
    ClientCrResponse = 15,
}

impl PluginHook {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Up,
        Self::Down,
        Self::RouteUp,
        Self::IpChange,
        Self::TlsVerify,
        Self::AuthUserPassVerify,
        Self::ClientConnect,
        Self::ClientDisconnect,
        Self::LearnAddress,
        Self::ClientConnectV2,
        Self::TlsFinal,
        Self::RoutePreDown,
        Self::ClientConnectDefer,
        Self::ClientConnectDeferV2,
        Self::ClientCrResponse,
    ];

    /// Returns the name that OpenVPN's log has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "PLUGIN_UP",
            Self::Down => "PLUGIN_DOWN",
            Self::RouteUp => "PLUGIN_ROUTE_UP",
            Self::IpChange => "PLUGIN_IPCHANGE",
            Self::TlsVerify => "PLUGIN_TLS_VERIFY",
            Self::AuthUserPassVerify => "PLUGIN_AUTH_USER_PASS_VERIFY",
            Self::ClientConnect => "PLUGIN_CLIENT_CONNECT",
            Self::ClientDisconnect => "PLUGIN_CLIENT_DISCONNECT",
            Self::LearnAddress => "PLUGIN_LEARN_ADDRESS",
            Self::ClientConnectV2 => "PLUGIN_CLIENT_CONNECT_V2",
            Self::TlsFinal => "PLUGIN_TLS_FINAL",
            Self::RoutePreDown => "PLUGIN_ROUTE_PREDOWN",
            Self::ClientConnectDefer => "PLUGIN_CLIENT_CONNECT_DEFER",
            Self::ClientConnectDeferV2 => "PLUGIN_CLIENT_CONNECT_DEFER_V2",
            Self::ClientCrResponse => "PLUGIN_CRRESPONSE",
        }
    }
}

/// The hooks that a plugin wants to be called for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookMask(u32);

impl HookMask {
    /// Whether a hook is among them.
    #[must_use]
    pub const fn has(self, hook: PluginHook) -> bool {
        self.0 & (1 << hook as u32) != 0
    }
}

impl std::fmt::Display for HookMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> =
            PluginHook::ALL.into_iter().filter(|hook| self.has(*hook)).map(PluginHook::name).collect();
        f.write_str(&names.join("|"))
    }
}

/// Why a plugin cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// The module cannot be loaded.
    #[error("PLUGIN_INIT: could not load plugin shared object {}: {reason}", path.display())]
    Load {
        /// Its file.
        path: PathBuf,
        /// What the dynamic linker said.
        reason: String,
    },
    /// A function is missing.
    #[error("PLUGIN: could not find required symbol '{symbol}' in plugin shared object {}", path.display())]
    Symbol {
        /// Its file.
        path: PathBuf,
        /// Which.
        symbol: &'static str,
    },
    /// It was made for a later interface.
    #[error("PLUGIN_INIT: plugin needs interface version {needs}, but version 3 is the latest here: {}", path.display())]
    TooNew {
        /// Its file.
        path: PathBuf,
        /// What it needs.
        needs: i32,
    },
    /// It wants hooks that do not exist.
    #[error("PLUGIN_INIT: plugin {} expressed interest in unsupported plugin types: [want=0x{mask:08x}]", path.display())]
    UnknownHooks {
        /// Its file.
        path: PathBuf,
        /// The mask.
        mask: u32,
    },
    /// Its own initialisation failed; it usually says why in the log.
    #[error("PLUGIN_INIT: plugin initialization function failed: {}", path.display())]
    Refused {
        /// Its file.
        path: PathBuf,
    },
    /// An argument has a NUL in it.
    #[error("PLUGIN_INIT: an argument of plugin {} has a NUL in it", path.display())]
    Argument {
        /// Its file.
        path: PathBuf,
    },
}

/// How a hook ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It agrees; with the names and values that it returned.
    Success(Vec<(String, String)>),
    /// It does not.
    Error,
    /// It answers later, through the file named in the environment.
    Deferred,
}

/// What a hook is called with.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Which hook.
    pub hook: PluginHook,
    /// Arguments after the module's name.
    pub arguments: &'a [String],
    /// Names and values. What has a NUL in it is left out.
    pub env: &'a [(String, String)],
    /// The client that it is about; the plugin's own memory of it is kept until [`Plugin::forget`]. `None`: the process, of
    /// which a plugin has such memory, too.
    pub client: Option<u64>,
    /// The certificate that it is about, with its depth.
    pub certificate: Option<(u8, &'a [u8])>,
}

/// A plugin that is loaded and initialised.
pub struct Plugin {
    path: PathBuf,
    module: Module,
    handle: abi::Handle,
    mask: HookMask,
    /// As it was opened with: a plugin may keep pointers to its arguments.
    argv: StringArray,
    clients: HashMap<Option<u64>, *mut c_void>,
}

// SAFETY: a plugin is called by whoever owns this value, from one thread at a time (`&mut self`). The interface demands
// no certain thread: OpenVPN opens plugins before it goes into the background by fork, and calls them after it.
unsafe impl Send for Plugin {}

impl Plugin {
    /// Loads a module and initialises it. `version` is the version of OpenVPN that it is to believe in, `log` takes the
    /// lines of all plugins (the first one given stays).
    ///
    /// # Errors
    /// When it cannot be loaded, is no plugin, or refuses.
    pub fn open(
        path: &Path,
        arguments: &[String],
        env: &[(String, String)],
        version: (u32, u32, u32),
        log: Log,
    ) -> Result<Self, PluginError> {
        callbacks::set_log(log);
        let module = Module::load(path)?;
        let argv = StringArray::new(arguments.iter().map(String::as_str))
            .ok_or_else(|| PluginError::Argument { path: path.to_owned() })?;
        let envp = StringArray::of_env(env);
        let (handle, mask) = initialise(&module, &argv, &envp, version);
        flush();
        if handle.is_null() {
            return Err(PluginError::Refused { path: path.to_owned() });
        }
        let plugin = Self {
            path: path.to_owned(),
            module,
            handle,
            mask: HookMask(mask),
            argv,
            clients: HashMap::new(),
        };
        if mask >> abi::HOOKS != 0 {
            return Err(PluginError::UnknownHooks { path: path.to_owned(), mask });
        }
        Ok(plugin)
    }

    /// The module's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The hooks that it wants to be called for.
    #[must_use]
    pub fn hooks(&self) -> HookMask {
        self.mask
    }

    /// Runs a hook to its end. One that the plugin does not want succeeds.
    pub fn call(&mut self, call: &Call<'_>) -> Answer {
        if !self.mask.has(call.hook) {
            return Answer::Success(Vec::new());
        }
        let name = self.argv.first();
        let words = name.iter().map(String::as_str).chain(call.arguments.iter().map(String::as_str));
        // An argument with a NUL would arrive as something else than what was checked.
        let Some(argv) = StringArray::new(words) else { return Answer::Error };
        let envp = StringArray::of_env(call.env);
        let client = self.client(call.client);
        let openssl = self.module.openssl.zip(call.certificate);
        let certificate =
            openssl.map(|(openssl, (depth, der))| openssl.certificate(der).map(|object| (depth, object)));
        // Without the certificate the plugin might skip its check, and agree.
        if matches!((self.module.func, &certificate), (Func::V3(_), Some(None))) {
            return Answer::Error;
        }
        let certificate = certificate.flatten();
        let mut list: *mut abi::StringList = ptr::null_mut();
        let hook = call.hook as c_int;
        let status = match self.module.func {
            Func::V3(func) => {
                let input = abi::FuncIn {
                    hook,
                    argv: argv.as_ptr(),
                    envp: envp.as_ptr(),
                    handle: self.handle,
                    client,
                    // As in OpenVPN (`plugin.c`): -1 whenever there is no certificate.
                    certificate_depth: certificate.as_ref().map_or(-1, |(depth, _)| c_int::from(*depth)),
                    certificate: certificate.as_ref().map_or(ptr::null_mut(), |(_, object)| object.as_ptr()),
                };
                let mut output = abi::FuncReturn { return_list: &raw mut list };
                // SAFETY: the function is the module's and has this signature; both structures have the layout of the
                // version that is passed, and everything they point to lives until after the call.
                unsafe { func(abi::STRUCT_VERSION, &raw const input, &raw mut output) }
            }
            // SAFETY: as above; the arrays end with null and live until after the call.
            Func::V2(func) => unsafe {
                func(self.handle, hook, argv.as_ptr(), envp.as_ptr(), client, &raw mut list)
            },
            // SAFETY: as above.
            Func::V1(func) => unsafe { func(self.handle, hook, argv.as_ptr(), envp.as_ptr()) },
        };
        let returned = take_list(list);
        flush();
        match status {
            abi::SUCCESS => Answer::Success(returned),
            abi::DEFERRED => Answer::Deferred,
            _ => Answer::Error,
        }
    }

    /// The plugin's memory of a client (or of the process), made at its first call.
    fn client(&mut self, client: Option<u64>) -> *mut c_void {
        let Some(new) = self.module.client_new else { return ptr::null_mut() };
        let handle = self.handle;
        // SAFETY: the function is the module's, and the handle is what its open function returned.
        *self.clients.entry(client).or_insert_with(|| unsafe { new(handle) })
    }

    /// A client is gone.
    pub fn forget(&mut self, client: u64) {
        self.forget_memory(Some(client));
    }

    fn forget_memory(&mut self, client: Option<u64>) {
        if let (Some(context), Some(delete)) = (self.clients.remove(&client), self.module.client_delete)
            && !context.is_null()
        {
            // SAFETY: the context came from this module's constructor and is used no more.
            unsafe { delete(self.handle, context) };
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        for client in self.clients.keys().copied().collect::<Vec<_>>() {
            self.forget_memory(client);
        }
        // SAFETY: the handle is not null and is used no more.
        unsafe { (self.module.close)(self.handle) };
        flush();
    }
}

/// Calls the open function of the latest version that the module has. A null handle is its refusal.
fn initialise(
    module: &Module,
    argv: &StringArray,
    envp: &StringArray,
    (major, minor, patch): (u32, u32, u32),
) -> (abi::Handle, u32) {
    let all = (1_u32 << abi::HOOKS) - 1;
    let mut mask = all;
    let mut list: *mut abi::StringList = ptr::null_mut();
    let version = CString::new(format!("{major}.{minor}.{patch}")).unwrap_or_default();
    let patch = CString::new(format!(".{patch}")).unwrap_or_default();
    let handle = match module.open {
        Open::V3(open) => {
            let input = abi::OpenIn {
                type_mask: all.cast_signed(),
                argv: argv.as_ptr(),
                envp: envp.as_ptr(),
                callbacks: &raw const callbacks::CALLBACKS,
                ssl_api: if module.openssl.is_some() { abi::SSL_API_OPENSSL } else { abi::SSL_API_NONE },
                version: version.as_ptr(),
                version_major: major,
                version_minor: minor,
                version_patch: patch.as_ptr(),
            };
            let mut output =
                abi::OpenReturn { type_mask: 0, handle: ptr::null_mut(), return_list: &raw mut list };
            // SAFETY: the function is the module's and has this signature; both structures have the layout of the version
            // that is passed, the callbacks live for ever, everything else until after the call.
            let status = unsafe { open(abi::STRUCT_VERSION, &raw const input, &raw mut output) };
            mask = output.type_mask.cast_unsigned();
            if status == abi::SUCCESS { output.handle } else { ptr::null_mut() }
        }
        // SAFETY: as above; the arrays end with null and live until after the call.
        Open::V2(open) => unsafe { open(&raw mut mask, argv.as_ptr(), envp.as_ptr(), &raw mut list) },
        // SAFETY: as above.
        Open::V1(open) => unsafe { open(&raw mut mask, argv.as_ptr(), envp.as_ptr()) },
    };
    drop(take_list(list));
    (handle, mask)
}

/// Writes out what a plugin printed, as OpenVPN's own output does with each line: in a file it would come much later, and in
/// the middle of other lines. Only the two streams for that: another one may be locked by a thread of the plugin that waits
/// for input.
fn flush() {
    for stream in [&raw const stdout, &raw const stderr] {
        // SAFETY: the C library's own variables, set before `main` and there for ever; a program has no reason to set them.
        let stream = unsafe { stream.read() };
        // SAFETY: a stream of the C library (null would be all of them, and harmless), which locks it itself.
        unsafe { libc::fflush(stream) };
    }
}

unsafe extern "C" {
    /// Standard output of C code.
    static mut stdout: *mut libc::FILE;
    /// The same for messages.
    static mut stderr: *mut libc::FILE;
}

/// Copies a returned list and frees it.
fn take_list(mut list: *mut abi::StringList) -> Vec<(String, String)> {
    let text = |text: *const std::ffi::c_char| {
        if text.is_null() {
            return String::new();
        }
        // SAFETY: names and values of the list are C strings; null is excluded.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    };
    let mut returned = Vec::new();
    while !list.is_null() {
        // SAFETY: a node that the plugin made and left to us.
        let node = unsafe { &*list };
        let (next, name, value) = (node.next, node.name, node.value);
        returned.push((text(name), text(value)));
        for part in [name.cast::<c_void>(), value.cast(), list.cast()] {
            // SAFETY: all three come from malloc by the interface's contract (null is harmless), and none is used again.
            unsafe { libc::free(part) };
        }
        list = next;
    }
    returned
}

/// An array of C strings that ends with null, with its content. Wiped when it is dropped: one may be a password.
struct StringArray {
    strings: Vec<CString>,
    pointers: Vec<*const std::ffi::c_char>,
}

impl StringArray {
    /// `None` when a word has a NUL in it.
    fn new<'a>(words: impl Iterator<Item = &'a str>) -> Option<Self> {
        words.map(|word| CString::new(word).ok()).collect::<Option<Vec<_>>>().map(Self::of)
    }

    /// `NAME=VALUE` for each; what has a NUL in it is left out.
    fn of_env(env: &[(String, String)]) -> Self {
        let lines = env.iter().filter_map(|(name, value)| {
            // With its final size: text that grows leaves copies behind.
            let mut line = Vec::with_capacity(name.len() + value.len() + 2);
            line.extend_from_slice(name.as_bytes());
            line.push(b'=');
            line.extend_from_slice(value.as_bytes());
            CString::new(line).ok()
        });
        Self::of(lines.collect())
    }

    fn of(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Self { strings, pointers }
    }

    fn as_ptr(&self) -> abi::Strings {
        self.pointers.as_ptr()
    }

    fn first(&self) -> Option<String> {
        self.strings.first().map(|string| string.to_string_lossy().into_owned())
    }
}

impl Drop for StringArray {
    fn drop(&mut self) {
        self.pointers.clear();
        for string in self.strings.drain(..) {
            string.into_bytes_with_nul().zeroize();
        }
    }
}
