use std::{path::PathBuf, time::Duration};

use crate::value::Command;

/// Where log lines go and how many.
#[derive(Clone, Debug)]
pub struct Log {
    /// `verb`, 0 to 11.
    pub verb: u8,
    /// `mute`: at most this many lines of one kind in a row; `None` is off.
    pub mute: Option<u32>,
    /// `suppress-timestamps`.
    pub suppress_timestamps: bool,
    /// `machine-readable-output`.
    pub machine_readable: bool,
    /// `log-json`.
    pub json: bool,
    /// `status-address 2.6`.
    pub plain_addresses: bool,
    /// `errors-to-stderr`.
    pub errors_to_stderr: bool,
    /// The destination that won: see [`crate::ParseEffects`].
    pub destination: crate::LogDestination,
    /// `status`.
    pub status: Option<StatusFile>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            verb: 1,
            mute: None,
            suppress_timestamps: false,
            machine_readable: false,
            json: false,
            plain_addresses: false,
            errors_to_stderr: false,
            destination: crate::LogDestination::Stdout,
            status: None,
        }
    }
}

/// `syslog [NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// The name in front of each line.
    pub name: String,
}

/// `status FILE [SECONDS]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusFile {
    /// The file.
    pub path: PathBuf,
    /// How often it is written; zero: the file is only read at start and written on demand.
    pub interval: Duration,
    /// `status-version`, 1 to 3.
    pub version: u8,
}

/// What the process does to itself.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// `cd`: all of them joined; the daemon changes into it before it opens anything.
    pub cd: Option<PathBuf>,
    /// `daemon [NAME]`.
    pub daemon: Option<String>,
    /// `user`.
    pub user: Option<String>,
    /// `group`.
    pub group: Option<String>,
    /// `chroot`.
    pub chroot: Option<PathBuf>,
    /// `setcon`.
    pub setcon: Option<String>,
    /// `nice`, -20 to 19.
    pub nice: Option<i32>,
    /// `mlock`.
    pub mlock: bool,
    /// `writepid`.
    pub writepid: Option<PathBuf>,
    /// `remap-usr1`.
    pub remap_usr1: Option<RemapUsr1>,
    /// `tmp-dir`; `None`: `$TMPDIR`, else `/tmp`.
    pub tmp_dir: Option<PathBuf>,
    /// `disable-dco`: no kernel or driver offload.
    pub disable_dco: bool,
    /// `offload`.
    pub offload: OffloadChoice,
    /// `offload-policy`.
    pub offload_policy: OffloadPolicy,
}

/// `offload`: who is to carry data packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffloadChoice {
    /// The kernel where it is there and accepts the profile, else the engine.
    #[default]
    Auto,
    /// The kernel; where that cannot be, the start fails.
    Kernel,
    /// The engine, also where the kernel could.
    Engine,
}

/// `offload-policy`: what to do about kernels with known defects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffloadPolicy {
    /// What is known to be defective is left to the engine.
    #[default]
    Safe,
    /// The kernel carries what it can, defective or not.
    Fast,
}

/// `remap-usr1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemapUsr1 {
    /// A soft restart becomes a full one.
    Hup,
    /// A soft restart becomes the end.
    Term,
}

/// External programs, by hook.
#[derive(Clone, Debug, Default)]
pub struct Scripts {
    /// `script-security`.
    pub security: ScriptSecurity,
    /// `up`.
    pub up: Option<Command>,
    /// `down`.
    pub down: Option<Command>,
    /// `down-pre`.
    pub down_pre: bool,
    /// `up-restart`.
    pub up_restart: bool,
    /// `up-delay`.
    pub up_delay: bool,
    /// `route-up`.
    pub route_up: Option<Command>,
    /// `route-pre-down`.
    pub route_pre_down: Option<Command>,
    /// `ipchange`.
    pub ipchange: Option<Command>,
    /// `tls-verify`.
    pub tls_verify: Option<Command>,
    /// `tls-export-cert`: directory for the peer's certificate.
    pub tls_export_cert: Option<PathBuf>,
    /// `x509-track`, in order; a leading `+` is kept.
    pub x509_track: Vec<String>,
    /// `client-connect`.
    pub client_connect: Option<Command>,
    /// `client-disconnect`.
    pub client_disconnect: Option<Command>,
    /// `learn-address`.
    pub learn_address: Option<Command>,
    /// `client-crresponse`.
    pub client_crresponse: Option<Command>,
    /// `plugin`, in order: the module as it was written, then its arguments.
    pub plugins: Vec<Command>,
}

/// `script-security`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScriptSecurity {
    /// 0: no external program at all.
    None,
    /// 1: only the system's own tools.
    #[default]
    BuiltIn,
    /// 2: user-defined programs.
    Scripts,
    /// 3: these may see passwords in their environment.
    PasswordsInEnvironment,
}
