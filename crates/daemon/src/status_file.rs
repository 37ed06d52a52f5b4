//! Status files, and the same text for the management interface and SIGUSR2.

use std::{io, net::IpAddr, path::PathBuf, time::SystemTime};

/// The forms of a server's status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusVersion {
    /// Headings and commas.
    #[default]
    V1,
    /// A keyword in front of each line, commas.
    V2,
    /// As 2, with tabs.
    V3,
}

impl StatusVersion {
    /// Returns the version of `status-version N`.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            _ => None,
        }
    }
}

/// One client of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRow {
    /// Common name; empty is printed `UNDEF`.
    pub common_name: String,
    /// With the transport word: `udp4:192.0.2.1:1194`.
    pub real_address: String,
    /// Its IPv4 address in the tunnel.
    pub virtual_v4: Option<IpAddr>,
    /// Its IPv6 address in the tunnel.
    pub virtual_v6: Option<IpAddr>,
    /// Bytes received from it on the transport.
    pub bytes_received: u64,
    /// Bytes sent to it.
    pub bytes_sent: u64,
    /// Since when.
    pub connected_since: SystemTime,
    /// User name; empty is printed `UNDEF`.
    pub username: String,
    /// The client id of the management interface.
    pub client_id: u64,
    /// The peer id.
    pub peer_id: u32,
    /// Cipher of the data channel.
    pub cipher: String,
}

/// One address or network behind a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRow {
    /// `10.8.0.2`, `192.168.55.0/24`; learned ones end with `C`.
    pub virtual_address: String,
    /// Its client.
    pub common_name: String,
    /// Its client's address.
    pub real_address: String,
    /// When it was used last.
    pub last_ref: SystemTime,
}

/// What a server's status shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// The title line.
    pub title: String,
    /// Now.
    pub now: SystemTime,
    /// Clients in order.
    pub clients: Vec<ClientRow>,
    /// Addresses in order.
    pub routes: Vec<RouteRow>,
    /// `Max bcast/mcast queue length`.
    pub max_broadcast_queue: u64,
    /// Whether a kernel or driver offload runs.
    pub dco_enabled: bool,
}

/// What a client's or a point-to-point end's status shows, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the lines")]
pub struct ClientStatistics {
    pub now: SystemTime,
    pub tun_read: u64,
    pub tun_write: u64,
    pub link_read: u64,
    pub link_write: u64,
    pub auth_read: u64,
}

impl ServerStatus {
    /// Returns the whole text, `END` included.
    #[must_use]
    pub fn render(&self, version: StatusVersion) -> String {
        let _ = version;
        String::new()
    }
}

impl ClientStatistics {
    /// Returns the whole text, `END` included.
    #[must_use]
    pub fn render(&self) -> String {
        String::new()
    }
}

/// A status file. It is opened once, before privileges are dropped, and rewritten in place.
#[derive(Debug)]
pub struct StatusFile {}

impl StatusFile {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let _ = path;
        Ok(Self {})
    }

    /// Replaces the content, elsewhere: the caller never waits. While an earlier text is still being written, this one
    /// is left out (the next comes soon). Must be called within the runtime.
    pub fn write(&self, text: String) {
        let _ = text;
    }

    /// Replaces the content now: for the end of the process.
    pub fn write_now(&self, text: &str) {
        let _ = text;
    }
}
