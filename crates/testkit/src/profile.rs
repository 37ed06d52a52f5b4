//! What a tunnel is made of, and the configuration files that say so.

use std::fmt::{self, Write};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::{Algorithm, Failure, Implementation, NetnsLab, Result, TempDir, tunnel::Materials};

/// Declares an enum whose variants have the names that a table shows; the first is the default.
macro_rules! dimension {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All values, the default first.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$variant => $text,)+ })
            }
        }
    };
}

dimension!(
    /// What carries the packets.
    Transport {
        /// UDP over IPv4.
        Udp4 = "udp4",
        /// UDP over IPv6.
        Udp6 = "udp6",
        /// TCP over IPv4.
        Tcp4 = "tcp4",
        /// TCP over IPv6.
        Tcp6 = "tcp6",
    }
);

dimension!(
    /// How control packets are protected.
    Wrapping {
        /// Not at all.
        None = "none",
        /// `tls-auth FILE 0` and `1`.
        TlsAuthDirection = "tls-auth+dir",
        /// `tls-auth FILE`.
        TlsAuth = "tls-auth",
        /// `tls-crypt FILE`.
        TlsCrypt = "tls-crypt",
        /// `tls-crypt-v2 FILE`, a key for each client.
        TlsCryptV2 = "tls-crypt-v2",
    }
);

dimension!(
    /// The cipher of data packets.
    Cipher {
        /// AES-256-GCM.
        Aes256Gcm = "AES-256-GCM",
        /// AES-192-GCM.
        Aes192Gcm = "AES-192-GCM",
        /// AES-128-GCM.
        Aes128Gcm = "AES-128-GCM",
        /// CHACHA20-POLY1305.
        ChaCha20Poly1305 = "CHACHA20-POLY1305",
        /// AES-128-CBC.
        Aes128Cbc = "AES-128-CBC",
        /// AES-192-CBC.
        Aes192Cbc = "AES-192-CBC",
        /// AES-256-CBC.
        Aes256Cbc = "AES-256-CBC",
        /// AES-256-CFB.
        Aes256Cfb = "AES-256-CFB",
        /// AES-128-OFB.
        Aes128Ofb = "AES-128-OFB",
        /// CAMELLIA-256-CBC.
        Camellia256Cbc = "CAMELLIA-256-CBC",
        /// DES-EDE3-CBC.
        DesEde3Cbc = "DES-EDE3-CBC",
        /// BF-CBC.
        BfCbc = "BF-CBC",
        /// CAST5-CBC.
        Cast5Cbc = "CAST5-CBC",
        /// No encryption.
        Plain = "none",
    }
);

impl Cipher {
    /// Those with a tag, the default first: what peers negotiate unless told otherwise.
    pub const WITH_TAG: &[Self] =
        &[Self::Aes256Gcm, Self::Aes192Gcm, Self::Aes128Gcm, Self::ChaCha20Poly1305];

    /// Those without, protected by an HMAC.
    pub const WITHOUT_TAG: &[Self] = &[
        Self::Aes128Cbc,
        Self::Aes192Cbc,
        Self::Aes256Cbc,
        Self::Aes256Cfb,
        Self::Aes128Ofb,
        Self::Camellia256Cbc,
        Self::DesEde3Cbc,
        Self::BfCbc,
        Self::Cast5Cbc,
        Self::Plain,
    ];

    /// OpenSSL 3 has it in its legacy provider only.
    const fn is_legacy(self) -> bool {
        matches!(self, Self::BfCbc | Self::Cast5Cbc)
    }
}

dimension!(
    /// The version of TLS, enforced by both ends.
    TlsVersion {
        /// TLS 1.3.
        V1_3 = "TLSv1.3",
        /// TLS 1.2.
        V1_2 = "TLSv1.2",
    }
);

dimension!(
    /// Why the ends believe each other's certificate.
    Trust {
        /// A common authority.
        Ca = "ca",
        /// `peer-fingerprint` of self-signed certificates.
        Fingerprint = "fingerprint",
    }
);

dimension!(
    /// How the client says who it is.
    Login {
        /// By its certificate.
        Certificate = "cert",
        /// By user name and password, without a certificate.
        Password = "password",
        /// By both.
        Both = "cert+password",
    }
);

dimension!(
    /// What is at the ends.
    Topology {
        /// A server with a subnet, and a client that pulls its settings.
        Subnet = "subnet",
        /// Two equal ends with `ifconfig`, one of them TLS server.
        PointToPoint = "p2p",
    }
);

dimension!(
    /// Which addresses the tunnel has.
    Inner {
        /// IPv4 only.
        V4 = "v4",
        /// IPv4 and IPv6.
        V4AndV6 = "v4+v6",
    }
);

dimension!(
    /// Which ends leave their data packets to the kernel's `ovpn` module.
    ///
    /// The other ends are told `disable-dco`, so that they do the same on every machine.
    Offload {
        /// None.
        Neither = "neither",
        /// The server.
        Server = "server",
        /// The client.
        Client = "client",
        /// Both.
        Both = "both",
    }
);

impl Offload {
    /// Tells whether an end is one of them.
    pub fn is_at(self, role: Role) -> bool {
        self == Self::Both || self == if role == Role::Server { Self::Server } else { Self::Client }
    }
}

/// Which end of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The server, or the TLS server of a point-to-point tunnel.
    Server,
    /// The client.
    Client,
}

/// What a tunnel is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelSpec {
    /// What carries the packets.
    pub transport: Transport,
    /// How control packets are protected.
    pub wrapping: Wrapping,
    /// The cipher of data packets.
    pub cipher: Cipher,
    /// The version of TLS.
    pub tls: TlsVersion,
    /// The kind of all certificates.
    pub algorithm: Algorithm,
    /// Why the ends believe each other's certificate.
    pub trust: Trust,
    /// How the client says who it is.
    pub login: Login,
    /// What is at the ends.
    pub topology: Topology,
    /// Which addresses the tunnel has.
    pub inner: Inner,
    /// Which ends leave their data packets to the kernel.
    pub offload: Offload,
    /// Where the client sends to instead of the server's own address: a [`crate::Relay`].
    pub remote: Option<SocketAddr>,
    /// A line left out of both files.
    pub without: Option<&'static str>,
    /// Lines added to the server's file.
    pub server_extra: String,
    /// Lines added to the client's file.
    pub client_extra: String,
}

impl Default for TunnelSpec {
    fn default() -> Self {
        Self {
            transport: Transport::Udp4,
            wrapping: Wrapping::None,
            cipher: Cipher::Aes256Gcm,
            tls: TlsVersion::V1_3,
            algorithm: Algorithm::Ec,
            trust: Trust::Ca,
            login: Login::Certificate,
            topology: Topology::Subnet,
            inner: Inner::V4,
            offload: Offload::Neither,
            remote: None,
            without: None,
            server_extra: String::new(),
            client_extra: String::new(),
        }
    }
}

impl TunnelSpec {
    /// The server's address inside the tunnel.
    pub const SERVER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 8, 0, 1));
    /// The client's address inside the tunnel; the first that a server gives.
    pub const CLIENT_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 8, 0, 2));
    /// The server's IPv6 address inside the tunnel.
    pub const SERVER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, 0, 1));
    /// The client's IPv6 address in a point-to-point tunnel.
    pub const PEER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, 0, 2));
    /// The client's IPv6 address; the first that a server gives.
    pub const CLIENT_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, 0, 0x1000));

    /// The user name and password that the server accepts.
    pub const USER: (&str, &str) = ("alice", "correct horse");

    /// Returns the client's address in IPv6.
    pub fn client_v6(&self) -> IpAddr {
        match self.topology {
            Topology::Subnet => Self::CLIENT_V6,
            Topology::PointToPoint => Self::PEER_V6,
        }
    }

    /// Returns why `implementation` cannot take part in such a tunnel, if OpenVPN never offered it there.
    pub fn not_a_feature_of(&self, implementation: &Implementation) -> Option<&'static str> {
        if implementation.is_2_5() && self.trust == Trust::Fingerprint {
            return Some("peer-fingerprint came with 2.6");
        }
        None
    }

    /// Returns whether the values make sense together at all.
    pub fn is_possible(&self) -> bool {
        // OpenVPN accepts auth-user-pass-verify in server mode only.
        self.topology == Topology::Subnet || self.login == Login::Certificate
    }

    /// Writes the configuration file of one end, in the dialect of its implementation.
    ///
    /// The status file of either end is `ROLE.status` in `folder`, rewritten every second.
    pub fn config(
        &self,
        role: Role,
        implementation: &Implementation,
        materials: &Materials,
        folder: &TempDir,
    ) -> Result<String> {
        let mut lines = Lines::default();
        lines.add("dev tun");
        lines.add("verb 4");
        self.add_addresses(role, &mut lines);
        self.add_transport(role, &mut lines);
        self.add_cipher(implementation, &mut lines);
        match self.tls {
            TlsVersion::V1_3 => lines.add("tls-version-min 1.3"),
            TlsVersion::V1_2 => lines.add("tls-version-max 1.2"),
        }
        self.add_trust(role, materials, &mut lines)?;
        self.add_wrapping(role, materials, &mut lines)?;
        self.add_login(role, folder, &mut lines)?;
        // 2.5 has neither the option nor the offload.
        lines.add_if(!self.offload.is_at(role) && !implementation.is_2_5(), "disable-dco");
        let (name, extra) = match role {
            Role::Server => ("server", &self.server_extra),
            Role::Client => ("client", &self.client_extra),
        };
        lines.add(&format!("status {} 1", folder.path().join(format!("{name}.status")).display()));
        lines.add(extra);
        if let Some(without) = self.without {
            lines.0 = lines.0.replace(&format!("{without}\n"), "");
        }
        Ok(lines.0)
    }

    fn add_addresses(&self, role: Role, lines: &mut Lines) {
        let v6 = self.inner == Inner::V4AndV6;
        match (self.topology, role) {
            (Topology::Subnet, Role::Server) => {
                lines.add("topology subnet");
                lines.add("server 10.8.0.0 255.255.255.0");
                lines.add_if(v6, "server-ipv6 fd00:8::/64");
                lines.add("keepalive 10 60");
            }
            (Topology::Subnet, Role::Client) => {
                lines.add("client");
                lines.add("connect-retry 1 5");
            }
            (Topology::PointToPoint, Role::Server) => {
                lines.add("tls-server");
                lines.add("ifconfig 10.8.0.1 10.8.0.2");
                lines.add_if(v6, "ifconfig-ipv6 fd00:8::1/64 fd00:8::2");
                lines.add("keepalive 10 60");
            }
            (Topology::PointToPoint, Role::Client) => {
                lines.add("tls-client");
                lines.add("ifconfig 10.8.0.2 10.8.0.1");
                lines.add_if(v6, "ifconfig-ipv6 fd00:8::2/64 fd00:8::1");
                lines.add("keepalive 10 60");
                lines.add("connect-retry 1 5");
            }
        }
    }

    fn add_transport(&self, role: Role, lines: &mut Lines) {
        let (server, client, address) = match self.transport {
            Transport::Udp4 => ("udp4", "udp4", IpAddr::V4(NetnsLab::SERVER_V4)),
            Transport::Udp6 => ("udp6", "udp6", IpAddr::V6(NetnsLab::SERVER_V6)),
            Transport::Tcp4 => ("tcp4-server", "tcp4-client", IpAddr::V4(NetnsLab::SERVER_V4)),
            Transport::Tcp6 => ("tcp6-server", "tcp6-client", IpAddr::V6(NetnsLab::SERVER_V6)),
        };
        match role {
            Role::Server => {
                lines.add(&format!("proto {server}"));
                lines.add(&format!("port {}", NetnsLab::PORT));
            }
            Role::Client => {
                lines.add(&format!("proto {client}"));
                let remote = self.remote.unwrap_or(SocketAddr::new(address, NetnsLab::PORT));
                lines.add(&format!("remote {} {}", remote.ip(), remote.port()));
                lines.add("nobind");
            }
        }
    }

    fn add_cipher(&self, implementation: &Implementation, lines: &mut Lines) {
        let cipher = self.cipher;
        // 2.5 is built with OpenSSL 1.1.1, which knows no providers.
        lines.add_if(cipher.is_legacy() && !implementation.is_2_5(), "providers legacy default");
        lines.add(&format!("data-ciphers {cipher}"));
        if self.topology == Topology::PointToPoint {
            // 2.5 does not negotiate without a server's push: both ends must name the cipher.
            let option = if implementation.is_2_5() { "cipher" } else { "data-ciphers-fallback" };
            lines.add(&format!("{option} {cipher}"));
        }
    }

    fn add_trust(&self, role: Role, materials: &Materials, lines: &mut Lines) -> Result<()> {
        let certificates = materials.certificates(self.algorithm);
        let has_certificate = role == Role::Server || self.login != Login::Password;
        match self.trust {
            Trust::Ca => {
                let (own, remote) = match role {
                    Role::Server => (&certificates.pki.server, "client"),
                    Role::Client => (&certificates.pki.client, "server"),
                };
                lines.add_inline("ca", &certificates.pki.ca)?;
                lines.add_if(self.login != Login::Password || role == Role::Client, &{
                    format!("remote-cert-tls {remote}")
                });
                if has_certificate {
                    lines.add(&format!("cert {}", own.cert.display()));
                    lines.add(&format!("key {}", own.key.display()));
                }
            }
            Trust::Fingerprint => {
                let (own, other) = match role {
                    Role::Server => (&certificates.self_signed_server, &certificates.self_signed_client),
                    Role::Client => (&certificates.self_signed_client, &certificates.self_signed_server),
                };
                lines.add(&format!("<peer-fingerprint>\n{}\n</peer-fingerprint>", other.fingerprint));
                if has_certificate {
                    lines.add_inline("cert", &own.cert)?;
                    lines.add_inline("key", &own.key)?;
                }
            }
        }
        lines.add_if(role == Role::Server, "dh none");
        Ok(())
    }

    fn add_wrapping(&self, role: Role, materials: &Materials, lines: &mut Lines) -> Result<()> {
        let static_key = materials.static_key.display();
        match (self.wrapping, role) {
            (Wrapping::None, _) => {}
            (Wrapping::TlsAuthDirection, Role::Server) => lines.add(&format!("tls-auth {static_key} 0")),
            (Wrapping::TlsAuthDirection, Role::Client) => {
                lines.add("key-direction 1");
                lines.add_inline("tls-auth", &materials.static_key)?;
            }
            (Wrapping::TlsAuth, _) => lines.add(&format!("tls-auth {static_key}")),
            (Wrapping::TlsCrypt, _) => lines.add_inline("tls-crypt", &materials.static_key)?,
            (Wrapping::TlsCryptV2, Role::Server) => {
                lines.add(&format!("tls-crypt-v2 {}", materials.v2_server_key.display()));
            }
            (Wrapping::TlsCryptV2, Role::Client) => {
                lines.add_inline("tls-crypt-v2", &materials.v2_client_key)?;
            }
        }
        Ok(())
    }

    fn add_login(&self, role: Role, folder: &TempDir, lines: &mut Lines) -> Result<()> {
        if self.login == Login::Certificate {
            return Ok(());
        }
        let (user, password) = Self::USER;
        match role {
            Role::Server => {
                let script = folder.write_script(
                    "check-login",
                    &format!(
                        "#!/bin/sh\n{{ read -r user; read -r password; }} <\"$1\"\n\
                         [ \"$user\" = '{user}' ] && [ \"$password\" = '{password}' ]\n"
                    ),
                )?;
                lines.add("script-security 2");
                lines.add(&format!("auth-user-pass-verify {} via-file", script.display()));
                if self.login == Login::Password {
                    lines.add("verify-client-cert none");
                    lines.add("username-as-common-name");
                }
            }
            Role::Client => {
                let file = folder.write("login", &format!("{user}\n{password}\n"))?;
                lines.add(&format!("auth-user-pass {}", file.display()));
            }
        }
        Ok(())
    }
}

impl fmt::Display for TunnelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, wrapping, cipher, tls, algorithm, trust, login, topology, inner, .. } = self;
        write!(f, "{transport:<4} {wrapping:<12} {cipher:<17} {tls} {:<7} ", format!("{algorithm:?}"))?;
        write!(f, "{trust:<11} {login:<13} {topology:<6} {inner:<5}")
    }
}

/// A configuration file being written.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, line: &str) {
        if !line.is_empty() {
            let _ = writeln!(self.0, "{line}"); // writing to a String does not fail
        }
    }

    fn add_if(&mut self, condition: bool, line: &str) {
        if condition {
            self.add(line);
        }
    }

    /// Adds a file as an inline block.
    fn add_inline(&mut self, name: &str, path: &Path) -> Result<()> {
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("reading {}: {error}", path.display())))?;
        self.add(&format!("<{name}>\n{}\n</{name}>", text.trim_end()));
        Ok(())
    }
}
