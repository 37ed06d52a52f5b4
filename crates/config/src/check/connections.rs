//! The list of connections: from `remote`, from `<connection>`, or the one passive end.

use std::net::IpAddr;

use super::Findings;
use crate::{
    diagnostic::Severity,
    draft::{ConnectionDraft, Draft, HttpProxyDraft, LocalDraft, RawTransport},
    profile::{Bind, ConnectionEntry, Local, Mode, MssFix, Proxy, Remote},
    value::{Family, Port, Proto, Transport},
};

/// Builds `profile.connections`; `draft.connections` keeps the drafts beside them, index by index, for the rules.
pub(super) fn build(d: &mut Draft, f: &mut Findings) {
    if d.connections.is_empty() {
        for remote in std::mem::take(&mut d.remotes) {
            let mut connection = d.ce.clone();
            connection.take_remote(remote);
            d.connections.push(connection);
        }
    }
    if d.connections.is_empty() {
        d.connections.push(d.ce.clone());
    }
    let defaults = d.ce.clone();
    let mut connections = std::mem::take(&mut d.connections);
    let mut entries = Vec::new();
    for connection in &mut connections {
        // `local` outside of blocks holds for all connections.
        connection.locals.clone_from(&defaults.locals);
        decide_transport(d, connection);
        entries.push(entry(d, connection));
    }
    if let Some(proto) = d.proto_force
        && !keep_only(&mut connections, &mut entries, |c| c.proto.transport == proto)
    {
        let text = "No connection profile remains after --proto-force";
        f.error("proto-force", text, "remove `proto-force`, or add a remote of that protocol");
    }
    if let Some(proxy) = &d.http_proxy_override {
        let is_tcp =
            |c: &ConnectionDraft| matches!(c.proto.transport, RawTransport::Tcp | RawTransport::TcpClient);
        if keep_only(&mut connections, &mut entries, is_tcp) {
            entries.iter_mut().for_each(|entry| entry.proxy = Some(Proxy::Http(proxy.clone())));
        } else {
            f.note(
                Severity::Note,
                "http-proxy-override",
                "Note: option http-proxy-override ignored because no TCP-based connection profiles are defined",
                "add a `remote` with tcp",
            );
        }
    }
    for (entry, connection) in entries.iter().zip(&connections) {
        socks_prefers_ipv4(entry, connection, f);
    }
    if entries.iter().any(|entry| entry.proto.transport.is_tcp() && entry.explicit_exit_notify > 0) {
        f.note(
            Severity::Note,
            "explicit-exit-notify",
            "NOTICE: --explicit-exit-notify ignored for --proto tcp",
            "remove it: a closed TCP connection is noticed at once",
        );
    }
    for entry in entries.iter_mut().filter(|entry| entry.proto.transport.is_tcp()) {
        entry.explicit_exit_notify = 0;
    }
    d.connections = connections;
    d.profile.connections = entries;
}

/// Keeps the connections of one kind, if there are any; returns whether there are.
fn keep_only(
    connections: &mut Vec<ConnectionDraft>,
    entries: &mut Vec<ConnectionEntry>,
    wanted: impl Fn(&ConnectionDraft) -> bool,
) -> bool {
    let keep: Vec<bool> = connections.iter().map(wanted).collect();
    if keep.contains(&true) {
        let mut kept = keep.iter();
        connections.retain(|_| kept.next().copied().unwrap_or(true));
        let mut kept = keep.iter();
        entries.retain(|_| kept.next().copied().unwrap_or(true));
    }
    keep.contains(&true)
}

/// OpenVPN sends to IPv4 addresses alone through a SOCKS proxy; here they are the first choice.
fn socks_prefers_ipv4(entry: &ConnectionEntry, c: &ConnectionDraft, f: &mut Findings) {
    if c.socks_proxy.is_some() && !entry.proto.transport.is_tcp() && entry.proto.family == Family::V6 {
        f.note(
            Severity::Note,
            "socks-proxy",
            "Note: through --socks-proxy the server's IPv4 addresses come first, whatever --proto udp6 says, since OpenVPN uses no others",
            "write `proto udp`",
        );
    }
}

/// `tcp` waits on a server and calls elsewhere.
fn decide_transport(d: &Draft, connection: &mut ConnectionDraft) {
    let helper = d.helpers.server.is_some() || d.helpers.bridge.is_some();
    if connection.proto.transport == RawTransport::Tcp {
        if helper {
            connection.proto.transport = RawTransport::TcpServer;
        } else if d.profile.mode != Mode::Server {
            connection.proto.transport = RawTransport::TcpClient;
        }
    }
}

fn entry(d: &Draft, c: &ConnectionDraft) -> ConnectionEntry {
    let mut entry = c.entry.clone();
    let proto = proto(c.proto);
    let calls = proto.transport == Transport::TcpClient || c.socks_proxy.is_some() || d.profile.client.pull;
    let asked = c.local_port_defined || c.bind_defined || !c.locals.is_empty();
    let bound = !c.nobind && (asked || !calls);
    let port = c.local_port.clone().unwrap_or(Port::OPENVPN);
    entry.proto = proto;
    entry.proxy = match (c.http_proxy.clone().and_then(HttpProxyDraft::build), &c.socks_proxy) {
        (Some(http), _) => Some(Proxy::Http(http)),
        (None, socks) => socks.clone().map(Proxy::Socks),
    };
    entry.remote =
        c.remote.clone().map(|host| Remote { host, port: c.remote_port.clone().unwrap_or(Port::OPENVPN) });
    entry.bind = if bound { Bind::Bind { ipv6_only: c.ipv6_only } } else { Bind::NoBind };
    entry.local_port = bound.then(|| port.clone());
    entry.locals = c
        .locals
        .iter()
        .map(|local| Local {
            host: local.host.clone(),
            port: local.port.clone().unwrap_or_else(|| port.clone()),
            proto: local_proto(local, proto, d.profile.mode),
        })
        .collect();
    if entry.tls_auth.is_none() && entry.tls_crypt.is_none() && entry.tls_crypt_v2.is_none() {
        entry.tls_auth.clone_from(&d.wrap.tls_auth);
        entry.tls_crypt.clone_from(&d.wrap.tls_crypt);
        entry.tls_crypt_v2.clone_from(&d.wrap.tls_crypt_v2);
        entry.key_direction = d.wrap.key_direction;
    }
    if let (Some((size, _)), MssFix::Default) = (entry.mtu.fragment, entry.mtu.mssfix) {
        // With outer headers, as OpenVPN does, whether or not `fragment` counts them.
        entry.mtu.mssfix = MssFix::Mtu(size);
    }
    entry
}

/// The protocol of a `local`: its own, else that of `proto`. An address is of its own family, whatever either says.
fn local_proto(local: &LocalDraft, common: Proto, mode: Mode) -> Proto {
    let own = local.proto.filter(|_| mode == Mode::Server).map_or(common, |own| match own.transport {
        RawTransport::Tcp => Proto { transport: Transport::TcpServer, family: own.family },
        _ => self::proto(own),
    });
    let family = match local.host.as_deref().and_then(|host| host.parse().ok()) {
        Some(IpAddr::V4(_)) => Family::V4,
        Some(IpAddr::V6(_)) => Family::V6,
        None if own.family == Family::Any => common.family,
        None => own.family,
    };
    Proto { family, ..own }
}

fn proto(raw: crate::draft::RawProto) -> Proto {
    let transport = match raw.transport {
        RawTransport::Udp => Transport::Udp,
        RawTransport::Tcp | RawTransport::TcpServer => Transport::TcpServer,
        RawTransport::TcpClient => Transport::TcpClient,
    };
    Proto { transport, family: raw.family }
}
