//! Test support of culvert: what a test needs to try the whole program against the world.
//!
//! - [`Pki`] writes certificates, keys and revocation lists of every kind into a temporary folder, and
//!   [`static_key`] the shared secrets of the control channel.
//! - [`Peers`] finds the OpenVPN releases to test against; an [`Implementation`] is one of them or culvert.
//! - [`NetnsLab`] is a private network: namespaces joined by veth pairs, gone when it is dropped.
//! - [`Daemon`] is one running VPN process, its log and its end.
//! - [`Management`] is a scripted client of the management interface.
//! - [`traffic`] proves that a tunnel carries packets, and how many it lost.
//! - [`Relay`] is a wire that records, loses, and carries what a test injects.
//! - [`TunnelSpec`] says what a tunnel is made of (transport, wrapping, cipher, ...), writes the
//!   configuration files of both ends in the dialect of each implementation, and [`Tunnel`] runs it.
//! - [`matrix`] runs many cases and prints their table; [`pairwise`] picks few cases that cover every pair of values.
//! - [`inner`] makes, cuts and compares inner packets: the oracle of the data plane's fast paths.
//! - [`sim`] is a hostile network in virtual time, for protocol code without sockets.
//! - [`vectors`] are the known answers of the protocol.
//!
//! Everything here but [`inner`], [`pairwise`], [`sim`] and [`vectors`] needs root and Linux. Nothing here retries a failed test or
//! hides one: a helper that cannot do its work returns a [`Failure`] that says what is missing and how to get it.

#![forbid(unsafe_code)]

mod daemon;
mod failure;
pub mod inner;
mod lab;
mod management;
pub mod matrix;
pub mod pairwise;
mod patience;
mod peers;
mod pki;
mod plugin;
mod profile;
mod relay;
pub mod sim;
mod temp;
mod terminal;
pub mod traffic;
mod tunnel;
pub mod vectors;

pub use daemon::{Daemon, Signal, read_pid, signal_process};
pub use failure::{Failure, Result};
pub use lab::{Namespace, NetnsLab, TunnelDevices};
pub use management::Management;
pub use patience::{eventually, patient};
pub use peers::{Implementation, Peers, Release};
pub use pki::{Algorithm, Identity, Pki, static_key, tls_crypt_v2_client_key, tls_crypt_v2_server_key};
pub use plugin::{c_plugin, c_plugin_with_openssl};
pub use profile::{
    Cipher, Inner, Layer, Login, Offload, Role, TlsVersion, Topology, Transport, Trust, TunnelSpec, Wrapping,
};
pub use relay::Relay;
pub use temp::TempDir;
pub use terminal::Terminal;
pub use tunnel::{Certificates, Materials, Tunnel};
