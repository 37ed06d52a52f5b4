use crate::value::{FileOrInline, Port};

/// What stands between a connection and its server.
#[derive(Clone, Debug)]
pub enum Proxy {
    /// `http-proxy`: TCP, by the method CONNECT.
    Http(HttpProxy),
    /// `socks-proxy`: TCP by CONNECT, UDP by UDP ASSOCIATE.
    Socks(SocksProxy),
}

impl Proxy {
    /// Returns the proxy's name or address.
    pub fn host(&self) -> &str {
        match self {
            Self::Http(http) => &http.host,
            Self::Socks(socks) => &socks.host,
        }
    }

    /// Returns the proxy's port.
    pub fn port(&self) -> &Port {
        match self {
            Self::Http(http) => &http.port,
            Self::Socks(socks) => &socks.port,
        }
    }
}

/// `http-proxy` with its options.
#[derive(Clone, Debug)]
pub struct HttpProxy {
    /// Name or address.
    pub host: String,
    /// The port.
    pub port: Port,
    /// How to log in.
    pub auth: HttpProxyAuth,
    /// Where the login stands: `http-proxy-user-pass`, else the file of `http-proxy`; `None` asks.
    pub login: Option<FileOrInline>,
    /// `http-proxy-option VERSION`.
    pub version: String,
    /// `http-proxy-option AGENT`.
    pub agent: Option<String>,
    /// `http-proxy-option CUSTOM-HEADER`: name and content, or a whole line.
    pub headers: Vec<(String, Option<String>)>,
}

impl HttpProxy {
    /// Returns a proxy with OpenVPN's defaults.
    pub fn new(host: String, port: Port, auth: HttpProxyAuth) -> Self {
        let version = "1.0".to_owned();
        Self { host, port, auth, login: None, version, agent: None, headers: Vec::new() }
    }
}

/// How to log in to an HTTP proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpProxyAuth {
    /// Not at all.
    None,
    /// RFC 7617.
    Basic,
    /// RFC 7616, once the proxy told its nonce.
    Digest,
    /// NTLM version 2.
    Ntlm2,
    /// `auto`: as the proxy wants it. `auto-nct`: but not in clear text.
    Auto {
        /// Whether the password may be sent in clear text.
        clear_text: bool,
    },
}

/// `socks-proxy`.
#[derive(Clone, Debug)]
pub struct SocksProxy {
    /// Name or address.
    pub host: String,
    /// The port.
    pub port: Port,
    /// The login; `None` logs in nowhere.
    pub login: Option<ProxyLogin>,
}

/// Where the login of a SOCKS proxy stands.
#[derive(Clone, Debug)]
pub enum ProxyLogin {
    /// `stdin`: ask the user.
    Ask,
    /// Two lines; missing ones are asked for.
    Stored(FileOrInline),
}

impl ProxyLogin {
    /// Returns the file, where it is one.
    pub fn stored(&self) -> Option<&FileOrInline> {
        match self {
            Self::Ask => None,
            Self::Stored(file) => Some(file),
        }
    }
}
