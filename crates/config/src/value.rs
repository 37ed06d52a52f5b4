//! Values that options hold: what a word of a configuration file means once it is understood.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::Arc,
};

use zeroize::Zeroizing;

/// Text that may be a secret: wiped when the last holder is gone, never printed.
///
/// Sharing is by reference count, so that a profile with many `<connection>` blocks holds one copy of a key.
#[derive(Clone)]
pub struct SecretText(Arc<Zeroizing<String>>);

impl SecretText {
    /// Takes `text` over.
    pub fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// Returns the text. Whoever copies it must wipe the copy.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

/// Where key material comes from: a path as written (relative ones mean the directory of `cd`), or an inline block.
#[derive(Clone, Debug)]
pub enum FileOrInline {
    /// A file's name, or a URI where the option permits one.
    File(PathBuf),
    /// The text between `<name>` and `</name>`, line ends included.
    Inline(SecretText),
}

impl FileOrInline {
    /// Returns the path, if it is one.
    pub fn path(&self) -> Option<&std::path::Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Inline(_) => None,
        }
    }
}

/// A port as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// A number; 0 lets the system choose.
    Number(u16),
    /// A name of the services database.
    Service(String),
}

impl Port {
    /// OpenVPN's registered port.
    pub const OPENVPN: Self = Self::Number(1194);
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Service(name) => name.fmt(f),
        }
    }
}

/// The transport, and on TCP who calls whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP.
    #[default]
    Udp,
    /// TCP, waiting for the peer.
    TcpServer,
    /// TCP, calling the peer.
    TcpClient,
}

impl Transport {
    /// Returns whether this is one of the TCP kinds.
    pub fn is_tcp(self) -> bool {
        self != Self::Udp
    }
}

/// The address family of a transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// Whatever the name resolves to; a listener takes the family that the system prefers.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// The value of `proto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Proto {
    /// UDP or a TCP role.
    pub transport: Transport,
    /// The family its name asks for.
    pub family: Family,
}

/// `udp`, `tcp4-server`, `udp6`: as in the option.
impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, role) = match self.transport {
            Transport::Udp => ("udp", ""),
            Transport::TcpServer => ("tcp", "-server"),
            Transport::TcpClient => ("tcp", "-client"),
        };
        let family = match self.family {
            Family::Any => "",
            Family::V4 => "4",
            Family::V6 => "6",
        };
        write!(f, "{name}{family}{role}")
    }
}

/// The half of a static key that each side uses (`key-direction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyDirection {
    /// `0`: send with the first key set.
    Normal,
    /// `1`: send with the second key set.
    Inverse,
}

/// An external program with its arguments, split as OpenVPN splits it; never given to a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Program and fixed arguments; never empty.
    pub argv: Vec<String>,
}

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Net4 {
    /// The network's address.
    pub address: Ipv4Addr,
    /// The prefix length, 0 to 32.
    pub bits: u8,
}

impl Net4 {
    /// Returns the netmask.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX.checked_shl(32u32.saturating_sub(u32::from(self.bits))).unwrap_or(0))
    }
}

/// An IPv6 network, or an address within its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Net6 {
    /// The address.
    pub address: Ipv6Addr,
    /// The prefix length, 0 to 128.
    pub bits: u8,
}

/// What a route points at, and what it goes through: an address, or a name that is looked up when the route is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteHost {
    /// An IPv4 address.
    Address(Ipv4Addr),
    /// `vpn_gateway`: the other end of the tunnel, or `route-gateway`. Also `default`.
    VpnGateway,
    /// `net_gateway`: the default gateway of before the tunnel.
    NetGateway,
    /// `remote_host`: the address of the peer outside the tunnel.
    RemoteHost,
    /// A host name. Never from a server, unless `allow-pull-fqdn` is set.
    Name(String),
}

/// One `client-nat`: addresses of one network stand for those of another of the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientNat {
    /// Whose address is rewritten in packets that leave through the tunnel: with `dnat` the destination's, else the
    /// source's. In packets that arrive it is the other one.
    pub destination: bool,
    /// The network on this side.
    pub network: Ipv4Addr,
    /// Which bits it has.
    pub netmask: Ipv4Addr,
    /// The network inside the tunnel.
    pub alias: Ipv4Addr,
}

/// One `route`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination.
    pub network: RouteHost,
    /// Prefix length of the destination; 32 when not written.
    pub bits: u8,
    /// The gateway; `None` means `route-gateway`, then the tunnel's other end.
    pub gateway: Option<RouteHost>,
    /// The metric; `None` means `route-metric`, then the system's default.
    pub metric: Option<u32>,
    /// The table (`route-table` before this line); 0 is the main one.
    pub table: u32,
}

/// One `route-ipv6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route6 {
    /// The destination.
    pub network: Net6,
    /// The gateway; `None` means `route-ipv6-gateway`, then the tunnel device itself.
    pub gateway: Option<Ipv6Addr>,
    /// The metric; `None` means `route-metric`, then the system's default.
    pub metric: Option<u32>,
    /// The table; 0 is the main one.
    pub table: u32,
}

/// Flags of `redirect-gateway` and `redirect-private`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent words of one option")]
pub struct Redirect {
    /// Whether the default route moves into the tunnel (`redirect-gateway`); else the other flags only
    /// (`redirect-private`).
    pub gateway: bool,
    /// `!ipv4` turns this off: IPv4 stays as it is.
    pub ipv4: bool,
    /// `ipv6`: IPv6 as well.
    pub ipv6: bool,
    /// `local`: the server is on the local network, no host route to it.
    pub local: bool,
    /// `autolocal`: find out whether `local` holds.
    pub autolocal: bool,
    /// `def1`: two half routes over the default route instead of replacing it.
    pub def1: bool,
    /// `bypass-dhcp`: without effect. OpenVPN keeps the way to the DHCP server on Windows alone.
    pub bypass_dhcp: bool,
    /// `bypass-dns`: without effect. OpenVPN keeps the way to the system's name servers on Windows alone.
    pub bypass_dns: bool,
    /// `block-local`: no access to the local network, the gateway apart.
    pub block_local: bool,
}

/// How addresses are laid out inside the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topology {
    /// A /30 for each client.
    Net30,
    /// Point-to-point addresses.
    P2p,
    /// One subnet for all.
    Subnet,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Net30 => "net30",
            Self::P2p => "p2p",
            Self::Subnet => "subnet",
        })
    }
}

/// `ifconfig LOCAL SECOND`: whether the second address is a netmask or the other end is told by the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ifconfig {
    /// This end's address.
    pub local: Ipv4Addr,
    /// Netmask with `topology subnet` (and TAP), else the other end's address.
    pub second: Ipv4Addr,
}

/// `ifconfig-ipv6 ADDR/BITS REMOTE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ifconfig6 {
    /// This end's address with the prefix length.
    pub local: Net6,
    /// The other end's address.
    pub remote: Ipv6Addr,
}

/// Compression framing, by the option that asks for it. culvert never compresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// No framing.
    #[default]
    Off,
    /// `comp-lzo no`: framing of LZO without any compression.
    LzoStub,
    /// `comp-lzo yes`, `comp-lzo adaptive`, `compress lzo`: the peer may send compressed data.
    Lzo,
    /// `compress`, `compress stub`: swap framing without compression.
    Stub,
    /// `compress stub-v2`: framing only for payloads that look like framing.
    StubV2,
    /// `compress lz4`: swap framing, the peer may send compressed data.
    Lz4,
    /// `compress lz4-v2`: v2 framing, the peer may send compressed data.
    Lz4V2,
    /// `compress migrate`: a server without framing that moves its clients off it.
    Migrate,
}

impl Compression {
    /// Returns whether the peer may send data that is really compressed.
    pub fn expects_compressed(self) -> bool {
        matches!(self, Self::Lzo | Self::Lz4 | Self::Lz4V2)
    }
}

/// Names of servers and domains to resolve with (`dns`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// `dns search-domains`.
    pub search_domains: Vec<String>,
    /// `dns server N …`, by ascending priority.
    pub servers: Vec<DnsServer>,
}

/// One `dns server N`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsServer {
    /// N: lower is tried first; negative only in local files.
    pub priority: i8,
    /// At most 8 addresses, with a port where one is written.
    pub addresses: Vec<(IpAddr, Option<u16>)>,
    /// Names to resolve here; empty means all.
    pub resolve_domains: Vec<String>,
    /// `dnssec`.
    pub dnssec: Option<Dnssec>,
    /// `transport`.
    pub transport: Option<DnsTransport>,
    /// `sni`: the name to expect in the server's certificate.
    pub sni: Option<String>,
}

/// `dns server N dnssec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dnssec {
    /// `yes`.
    Yes,
    /// `optional`.
    Optional,
    /// `no`.
    No,
}

/// `dns server N transport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsTransport {
    /// `plain`.
    Plain,
    /// `DoT`.
    Tls,
    /// `DoH`.
    Https,
}

/// One `dhcp-option`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpOption {
    /// What it means to this machine.
    pub value: DhcpValue,
    /// The words after `dhcp-option`, as written: what scripts see as `foreign_option_N`.
    pub words: Vec<String>,
}

impl DhcpOption {
    /// Returns the value of `foreign_option_N`: the kind and its first word, which is all that OpenVPN hands on.
    pub fn foreign_option(&self) -> String {
        let words: Vec<&str> = self.words.iter().take(2).map(String::as_str).collect();
        format!("dhcp-option {}", words.join(" "))
    }

    /// Whether it is about name servers: `dns` takes its place.
    pub fn is_about_names(&self) -> bool {
        self.words.first().is_some_and(|kind| {
            matches!(kind.as_str(), "ADAPTER-DOMAIN-SUFFIX" | "DOMAIN-SEARCH" | "DOMAIN" | "DNS6" | "DNS")
        })
    }
}

/// What a `dhcp-option` means to this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DhcpValue {
    /// `DNS` (an IPv6 address is taken here as well) and `DNS6`.
    Dns(IpAddr),
    /// `DOMAIN` and `ADAPTER_DOMAIN_SUFFIX`.
    Domain(String),
    /// `DOMAIN-SEARCH`.
    DomainSearch(String),
    /// Everything else (NTP, WINS, NBDD, NBT, NBS, DISABLE-NBT, PROXY_HTTP …): for scripts only.
    Other,
}

/// What keepalive does when nothing was received for the time of `ping-exit` or `ping-restart`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingAction {
    /// `ping-exit`.
    Exit,
    /// `ping-restart`.
    Restart,
}
