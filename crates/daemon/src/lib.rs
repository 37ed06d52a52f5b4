//! Runs culvert: listeners, sessions, server policy, scripts, status.
//!
//! [`run`] leads a process from an accepted configuration to its end. What happens in between is a tree of tasks: the
//! `server` task (or a `client`) owns what sessions share; each session is a task around a protocol value
//! (`session_task`); each transport of a server has a task at its door. Every box owns its state and is told things
//! over bounded channels; a session may wait for its owner, never the reverse.
//!
//! Building blocks without tasks of their own: [`log`], [`scripts`], [`status_file`], `pool`, [`credentials`],
//! `privileges`, `systemd`, `writepid`, [`signals`].

#![forbid(unsafe_code)]

mod address;
pub mod auth;
mod bridge;
mod client;
mod clock;
pub mod credentials;
mod device_rest;
mod exit;
mod file_writer;
mod firewall;
mod handshakes;
mod hooks;
mod life;
mod link;
pub mod log;
mod management;
mod metrics;
pub mod name_keeper;
pub mod network;
mod offload;
mod places;
mod pool;
mod privileges;
pub mod probe;
mod question;
mod random;
pub mod scripts;
mod server;
mod session_task;
mod settings;
pub mod signals;
mod sizes;
pub mod status_file;
mod systemd;
mod threads;
mod token;
mod tunnel;
mod usage;
mod writepid;

/// Returns where running processes of this network namespace have their control sockets, unless `control-socket` says
/// otherwise.
pub use culvert_host::run_directory as control_directory;
pub use exit::Exit;
pub use life::{Startup, run};
pub use settings::capath::{CaFiles, files as capath_files};
pub use settings::tls::examine as examine_tls;
pub use token::show_ids as show_pkcs11_ids;
