//! A profile in the making: what options say, before helpers are expanded and connections are built.

use std::path::{Path, PathBuf};

use culvert_wire::VlanAccept;

use crate::{
    Question,
    diagnostic::Diagnostic,
    effect::{ParseEffect, ParseEffects},
    profile::{ConnectionEntry, HttpProxy, Profile, SocksProxy, TlsCryptV2},
    value::{Compression, Family, FileOrInline, KeyDirection, Net6, Port},
};

use std::net::Ipv4Addr;

/// What setters of configuration options write into.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// What needs no second look.
    pub(crate) profile: Profile,
    /// The connection being described: the defaults outside of `<connection>`, a copy of them inside.
    pub(crate) ce: ConnectionDraft,
    /// Whether a `<connection>` block is being read.
    pub(crate) in_connection: bool,
    /// Every `remote` outside of blocks.
    pub(crate) remotes: Vec<RemoteDraft>,
    /// Every `<connection>` block.
    pub(crate) connections: Vec<ConnectionDraft>,
    /// Control channel wrapping outside of blocks.
    pub(crate) wrap: Wrap,
    /// Options that expand to others.
    pub(crate) helpers: Helpers,
    /// `proto-force`.
    pub(crate) proto_force: Option<RawTransport>,
    /// `http-proxy-override`.
    pub(crate) http_proxy_override: Option<HttpProxy>,
    /// `dev-type`.
    pub(crate) dev_type: Option<String>,
    /// `cipher` or `data-ciphers-fallback`, whichever came last.
    pub(crate) cipher: Option<String>,
    /// Whether `data-ciphers-fallback` was written.
    pub(crate) fallback: bool,
    /// `data-ciphers`.
    pub(crate) data_ciphers: Option<String>,
    /// `auth`.
    pub(crate) auth: Option<String>,
    /// `allow-compression`, the word.
    pub(crate) allow_compression: Option<&'static str>,
    /// `secret`.
    pub(crate) secret: bool,
    /// The file of `secret`; no block.
    pub(crate) secret_file: Option<PathBuf>,
    /// The management interface, as far as other options depend on it.
    pub(crate) management: Management,
    /// Whether `plugin` was written.
    pub(crate) plugin: bool,
    /// `vlan-*`.
    pub(crate) vlan: Vlan,
    /// `tls-server`, `tls-client`.
    pub(crate) tls_roles: (bool, bool),
    /// `management` password file and others that only have to exist: option, path, how it is used.
    pub(crate) other_files: Vec<(&'static str, PathBuf, crate::files::Access)>,
    /// `status FILE [SECONDS]` and `status-version`.
    pub(crate) status: (Option<PathBuf>, Option<u32>, Option<u32>),
    /// `cd`, all of them joined.
    pub(crate) cwd: PathBuf,
    /// What has to happen at once.
    pub(crate) effects: ParseEffects,
    /// What is asked instead of running.
    pub(crate) question: Option<Question>,
    /// `ignore-unknown-option`.
    pub(crate) ignore_unknown: Vec<String>,
    /// `setenv FORWARD_COMPATIBLE 1`.
    pub(crate) forward_compatible: bool,
    /// What was taken and turned out to be wrong: errors of stage 3.
    pub(crate) late: Vec<Diagnostic>,
    /// Lines that the option just taken has for the log.
    pub(crate) warnings: Vec<String>,
    /// `config`: a file to read next.
    pub(crate) include: Option<String>,
    /// `<connection>`: the block to read next.
    pub(crate) block: bool,
    /// `cd`: the directory to change into, if it is one.
    pub(crate) change_directory: Option<PathBuf>,
}

/// One connection in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionDraft {
    /// What needs no second look.
    pub(crate) entry: ConnectionEntry,
    /// `proto`.
    pub(crate) proto: RawProto,
    /// `remote`, inside of a block.
    pub(crate) remote: Option<String>,
    /// `port`, `rport`.
    pub(crate) remote_port: Option<Port>,
    /// `port`, `lport`.
    pub(crate) local_port: Option<Port>,
    /// `lport` other than 0.
    pub(crate) local_port_defined: bool,
    /// `bind`.
    pub(crate) bind_defined: bool,
    /// `bind ipv6only`.
    pub(crate) ipv6_only: bool,
    /// `nobind`.
    pub(crate) nobind: bool,
    /// `local`.
    pub(crate) locals: Vec<LocalDraft>,
    /// `link-mtu`.
    pub(crate) link_mtu: bool,
    /// `http-proxy` and its options.
    pub(crate) http_proxy: Option<HttpProxyDraft>,
    /// `socks-proxy`.
    pub(crate) socks_proxy: Option<SocksProxy>,
}

/// `http-proxy` and what belongs to it, in any order.
#[derive(Clone, Debug, Default)]
pub(crate) struct HttpProxyDraft {
    /// `http-proxy`.
    pub(crate) server: Option<HttpProxy>,
    /// `http-proxy-user-pass`.
    pub(crate) login: Option<FileOrInline>,
    /// `http-proxy-option VERSION`.
    pub(crate) version: Option<String>,
    /// `http-proxy-option AGENT`.
    pub(crate) agent: Option<String>,
    /// `http-proxy-option CUSTOM-HEADER`.
    pub(crate) headers: Vec<(String, Option<String>)>,
}

impl HttpProxyDraft {
    /// Returns the proxy, if there is one.
    pub(crate) fn build(self) -> Option<HttpProxy> {
        let server = self.server?;
        Some(HttpProxy {
            login: self.login.or(server.login),
            version: self.version.unwrap_or(server.version),
            agent: self.agent,
            headers: self.headers,
            ..server
        })
    }
}

/// `local HOST [PORT] [PROTO]`.
#[derive(Clone, Debug)]
pub(crate) struct LocalDraft {
    pub(crate) host: Option<String>,
    pub(crate) port: Option<Port>,
    pub(crate) proto: Option<RawProto>,
}

/// `remote HOST [PORT] [PROTO]`.
#[derive(Clone, Debug)]
pub(crate) struct RemoteDraft {
    pub(crate) host: String,
    pub(crate) port: Option<Port>,
    pub(crate) proto: Option<RawProto>,
}

/// A transport as written: `tcp` is decided later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawProto {
    pub(crate) transport: RawTransport,
    pub(crate) family: Family,
}

/// The transports that `proto` names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RawTransport {
    #[default]
    Udp,
    Tcp,
    TcpServer,
    TcpClient,
}

/// Control channel wrapping outside of `<connection>`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wrap {
    pub(crate) tls_auth: Option<FileOrInline>,
    pub(crate) key_direction: Option<KeyDirection>,
    pub(crate) tls_crypt: Option<FileOrInline>,
    pub(crate) tls_crypt_v2: Option<TlsCryptV2>,
}

/// Options that expand to others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Helpers {
    /// `client`.
    pub(crate) client: bool,
    /// `server`.
    pub(crate) server: Option<ServerNet>,
    /// `server-ipv6`.
    pub(crate) server6: Option<Net6>,
    /// `server-bridge GW MASK START END`; `Some(None)` takes addresses from DHCP.
    pub(crate) bridge: Option<Option<[Ipv4Addr; 4]>>,
    /// `server-bridge nogw`.
    pub(crate) bridge_nogw: bool,
    /// `keepalive`.
    pub(crate) keepalive: Option<(u32, u32)>,
    /// `tcp-nodelay`.
    pub(crate) tcp_nodelay: bool,
}

/// `server NETWORK NETMASK [nopool]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerNet {
    pub(crate) network: Ipv4Addr,
    pub(crate) mask: Ipv4Addr,
    pub(crate) nopool: bool,
}

/// The management interface, as far as other options depend on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Management {
    pub(crate) defined: bool,
    pub(crate) unix: bool,
    pub(crate) password: bool,
    pub(crate) modified: bool,
    pub(crate) peer_limited: bool,
    pub(crate) client_auth: bool,
    pub(crate) external_key: bool,
    pub(crate) external_cert: bool,
}

/// `vlan-*`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Vlan {
    pub(crate) tagging: bool,
    pub(crate) accept: VlanAccept,
    /// Not the default.
    pub(crate) pvid: Option<u16>,
}

impl Draft {
    /// Records something that happens while options are read.
    pub(crate) fn effect(&mut self, effect: ParseEffect) {
        self.effects.effects.push(effect);
    }

    /// Has a line for the log.
    pub(crate) fn warn(&mut self, line: impl Into<String>) {
        self.warnings.push(line.into());
    }

    /// Returns the path as seen from where the process was started.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        self.cwd.join(path)
    }

    /// Asks something; the first question is answered, but `help` and `version` are before all others.
    pub(crate) fn ask(&mut self, question: Question) {
        if question.is_answered_at_once() {
            self.question = Some(question);
        } else {
            self.question.get_or_insert(question);
        }
    }

    /// Returns whether nothing after the present option counts.
    pub(crate) fn is_answered(&self) -> bool {
        self.question.as_ref().is_some_and(Question::is_answered_at_once)
    }

    /// Takes `comp-lzo` or `compress`.
    pub(crate) fn compress(&mut self, compression: Compression) {
        self.profile.data.compression = compression;
        if compression.expects_compressed() {
            self.warn(
                "WARNING: Compression for receiving enabled. Compression has been used in the past to break encryption. \
                 Compression support is deprecated and we recommend to disable it completely.",
            );
        }
    }
}

impl ConnectionDraft {
    /// Takes `remote` into a connection.
    pub(crate) fn take_remote(&mut self, remote: RemoteDraft) {
        self.remote = Some(remote.host);
        if remote.port.is_some() {
            self.remote_port = remote.port;
        }
        if let Some(proto) = remote.proto {
            self.proto.transport = proto.transport;
            if proto.family != Family::Any {
                self.proto.family = proto.family;
            }
        }
    }
}
