use std::path::PathBuf;

use crate::value::Port;

/// The management interface, and culvert's own control socket.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent options")]
pub struct Management {
    /// `management`: where.
    pub at: Option<ManagementAddress>,
    /// `management … FILE`: the password that its clients have to give.
    pub password: Option<ManagementPassword>,
    /// `management-insecure`: a port that others can reach may be without password.
    pub insecure: bool,
    /// `management-client`: connects to that address instead of listening there.
    pub connects: bool,
    /// `management-client-user`.
    pub client_user: Option<String>,
    /// `management-client-group`.
    pub client_group: Option<String>,
    /// `management-query-passwords`.
    pub query_passwords: bool,
    /// `management-query-remote`.
    pub query_remote: bool,
    /// `management-query-proxy`.
    pub query_proxy: bool,
    /// `management-hold`.
    pub hold: bool,
    /// `management-signal`.
    pub signal: bool,
    /// `management-forget-disconnect`.
    pub forget_disconnect: bool,
    /// `management-up-down`.
    pub up_down: bool,
    /// `management-client-auth`.
    pub client_auth: bool,
    /// `management-external-key`.
    pub external_key: Option<ExternalKey>,
    /// `management-external-cert`: the hint to which certificate is wanted.
    pub external_cert: Option<String>,
    /// `management-log-cache`; `None`: 250.
    pub log_cache: Option<usize>,
    /// `echo` and `parameter`, in order.
    pub echo: Vec<String>,
    /// `control-socket`.
    pub control: ControlSocket,
    /// `metrics`: where OpenMetrics are served; never `tunnel`.
    pub metrics: Option<ManagementAddress>,
}

/// Where the management interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagementAddress {
    /// A TCP port.
    Tcp {
        /// The address, a name of it, or `tunnel`.
        host: String,
        /// The port.
        port: Port,
    },
    /// A unix stream socket.
    Unix(PathBuf),
}

impl ManagementAddress {
    /// The word that means the address inside the tunnel.
    pub const TUNNEL: &'static str = "tunnel";
}

/// Where the password of the management interface comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagementPassword {
    /// The first line of a file.
    File(PathBuf),
    /// `stdin`: it is asked for at start.
    Ask,
}

/// `management-external-key`: what the client that holds the key can do. Without words it can do PKCS #1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent words")]
pub struct ExternalKey {
    /// It applies RSA to what is padded already.
    pub nopadding: bool,
    /// It pads by PKCS #1.
    pub pkcs1: bool,
    /// It pads by PSS.
    pub pss: bool,
    /// It hashes the message itself.
    pub digest: bool,
}

/// `control-socket`: where `culvert status` and its relatives find this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ControlSocket {
    /// In `/run/culvert`, by the configuration file's name.
    #[default]
    Default,
    /// `none`.
    Off,
    /// Here.
    At(PathBuf),
}
