//! Runs culvert: listeners, sessions, server policy, scripts, status.
//!
//! Building blocks without tasks of their own: [`log`], [`scripts`], [`status_file`], [`pool`], [`credentials`],
//! [`privileges`], [`systemd`], [`writepid`], [`signals`].

#![forbid(unsafe_code)]

pub mod credentials;
pub mod log;
pub mod network;
pub mod pool;
pub mod privileges;
pub mod scripts;
pub mod signals;
pub mod status_file;
pub mod systemd;
pub mod writepid;
