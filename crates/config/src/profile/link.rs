use std::time::Duration;

use crate::value::{Family, FileOrInline, KeyDirection, Port, Proto};

/// What all connections share.
#[derive(Clone, Debug)]
pub struct Link {
    /// `remote-random`: shuffle the connections once at start.
    pub remote_random: bool,
    /// `remote-random-hostname`: random bytes in front of the host name.
    pub remote_random_hostname: bool,
    /// `resolv-retry`.
    pub resolv_retry: ResolvRetry,
    /// `connect-retry-max`.
    pub connect_retry_max: ConnectRetryMax,
    /// `multihome`.
    pub multihome: Multihome,
    /// `rcvbuf` in bytes.
    pub rcvbuf: Option<u32>,
    /// `sndbuf` in bytes.
    pub sndbuf: Option<u32>,
    /// `passtos`.
    pub pass_tos: bool,
    /// `mtu-test`.
    pub mtu_test: bool,
    /// `mark` of the firewall.
    pub mark: Option<u32>,
    /// `bind-dev`: device or VRF of the socket.
    pub bind_dev: Option<String>,
    /// `persist-remote-ip`.
    pub persist_remote_ip: bool,
    /// `allow-recursive-routing`.
    pub allow_recursive_routing: bool,
    /// `kill-switch`: nothing leaves this machine outside of the tunnel while it is meant to be up.
    pub kill_switch: bool,
    /// `shaper`: bytes per second into the tunnel, 100 to 100 000 000.
    pub shaper: Option<u32>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            remote_random: false,
            remote_random_hostname: false,
            resolv_retry: ResolvRetry::Infinite,
            connect_retry_max: ConnectRetryMax::Endless,
            multihome: Multihome::Off,
            rcvbuf: None,
            sndbuf: None,
            pass_tos: false,
            mtu_test: false,
            mark: None,
            bind_dev: None,
            persist_remote_ip: false,
            allow_recursive_routing: false,
            kill_switch: false,
            shaper: None,
        }
    }
}

/// One connection to try, or, on a server, where to listen.
#[derive(Clone, Debug)]
pub struct ConnectionEntry {
    /// `proto`, or the third word of `remote`.
    pub proto: Proto,
    /// `remote HOST [PORT]`.
    pub remote: Option<Remote>,
    /// Where to bind; several only on a server. Empty: all addresses, `local_port`.
    pub locals: Vec<Local>,
    /// `lport`/`port`; `None`: an ephemeral one (`nobind`).
    pub local_port: Option<Port>,
    /// `bind`/`nobind`.
    pub bind: Bind,
    /// `float`: accept an authenticated peer from a new address.
    pub float: bool,
    /// `connect-retry SECONDS`: the first pause between attempts.
    pub connect_retry: Duration,
    /// `connect-retry SECONDS MAX`: the longest pause.
    pub connect_retry_max: Duration,
    /// `connect-timeout`: give up waiting for the first answer.
    pub connect_timeout: Duration,
    /// Sizes.
    pub mtu: Mtu,
    /// `explicit-exit-notify N`; 0 is off. Always 0 over TCP.
    pub explicit_exit_notify: u32,
    /// `tls-auth`.
    pub tls_auth: Option<FileOrInline>,
    /// `key-direction`, or the second word of `tls-auth`; `None` is bidirectional.
    pub key_direction: Option<KeyDirection>,
    /// `tls-crypt`.
    pub tls_crypt: Option<FileOrInline>,
    /// `tls-crypt-v2`.
    pub tls_crypt_v2: Option<TlsCryptV2>,
    /// `http-proxy`, `socks-proxy`, `http-proxy-override`.
    pub proxy: Option<super::Proxy>,
}

impl ConnectionEntry {
    /// Where a server listens: every `local`, or `local_port` of all addresses.
    #[must_use]
    pub fn listeners(&self) -> Vec<Local> {
        if self.locals.is_empty() {
            let port = self.local_port.clone().unwrap_or(Port::OPENVPN);
            return vec![Local { host: None, port, proto: self.proto }];
        }
        self.locals.clone()
    }
}

impl Default for ConnectionEntry {
    fn default() -> Self {
        Self {
            proto: Proto::default(),
            remote: None,
            locals: Vec::new(),
            local_port: Some(Port::OPENVPN),
            bind: Bind::Bind { ipv6_only: false },
            float: false,
            connect_retry: Duration::from_secs(1),
            connect_retry_max: Duration::from_secs(300),
            connect_timeout: Duration::from_secs(120),
            mtu: Mtu::default(),
            explicit_exit_notify: 0,
            tls_auth: None,
            key_direction: None,
            tls_crypt: None,
            tls_crypt_v2: None,
            proxy: None,
        }
    }
}

/// `tls-crypt-v2 FILE [force-cookie|allow-noncookie]`.
#[derive(Clone, Debug)]
pub struct TlsCryptV2 {
    /// The client's key, or the server's.
    pub key: FileOrInline,
    /// `force-cookie`: a server refuses clients that cannot send their wrapped key again.
    pub force_cookie: bool,
}

/// The peer to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Name or address.
    pub host: String,
    /// The port.
    pub port: Port,
}

/// One `local HOST [PORT] [PROTO]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Name or address; `None` (written `*`) is all addresses.
    pub host: Option<String>,
    /// The port.
    pub port: Port,
    /// The transport, with the family of an address, else that of `proto` where its own is not written.
    pub proto: Proto,
}

/// Whether the local port is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// `bind`.
    Bind {
        /// `bind ipv6only`: an IPv6 listener takes no IPv4.
        ipv6_only: bool,
    },
    /// `nobind`.
    NoBind,
}

/// Sizes of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtu {
    /// `tun-mtu`: MTU of the device.
    pub tun_mtu: u32,
    /// Whether `tun-mtu` was written.
    pub tun_mtu_defined: bool,
    /// `tun-mtu N OCC`: the value told to old peers.
    pub occ_mtu: Option<u32>,
    /// `tun-mtu-extra`: bytes of a packet beside `tun-mtu`.
    pub tun_mtu_extra: Option<u32>,
    /// `tun-mtu-max`: the largest that a server may push.
    pub tun_mtu_max: u32,
    /// `max-packet-size`: the largest control packet.
    pub max_packet_size: u32,
    /// `mssfix`.
    pub mssfix: super::MssFix,
    /// `fragment N [mtu]`.
    pub fragment: Option<(u32, bool)>,
    /// `mtu-disc`.
    pub discovery: Option<MtuDiscovery>,
}

impl Mtu {
    /// Bytes of a packet beside `tun-mtu`: on a TAP device 32, which is more than its headers, as OpenVPN counts.
    pub fn extra(&self, tap: bool) -> u32 {
        self.tun_mtu_extra.unwrap_or(if tap { 32 } else { 0 })
    }
}

impl Default for Mtu {
    fn default() -> Self {
        Self {
            tun_mtu: 1500,
            tun_mtu_defined: false,
            occ_mtu: None,
            tun_mtu_extra: None,
            tun_mtu_max: 1600,
            max_packet_size: 1250,
            mssfix: super::MssFix::default(),
            fragment: None,
            discovery: None,
        }
    }
}

/// `mtu-disc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtuDiscovery {
    /// Never send don't-fragment frames.
    No,
    /// Per-route hints.
    Maybe,
    /// Always don't fragment.
    Yes,
}

/// `resolv-retry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolvRetry {
    /// One try for each attempt, and attempts without end.
    Infinite,
    /// Tries within an attempt for this long; zero: the first failure ends the process.
    For(Duration),
}

/// `connect-retry-max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectRetryMax {
    /// Never give up.
    Endless,
    /// Exit after this many rounds over the list.
    Rounds(u32),
}

/// `multihome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Multihome {
    /// Let the system choose the source address.
    Off,
    /// Answer from the address the packet came to.
    On,
    /// And through the interface it came by.
    SameInterface,
}

impl ConnectionEntry {
    /// Returns the address family to resolve for.
    pub fn family(&self) -> Family {
        self.proto.family
    }
}
