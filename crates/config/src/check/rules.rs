//! Contradictions between options, in the order in which OpenVPN looks for them.

use std::net::IpAddr;

use culvert_wire::VlanAccept;

use super::{Findings, server_rules};
use crate::{
    Setting,
    diagnostic::Severity,
    draft::{ConnectionDraft, Draft, RawTransport},
    profile::{AuthUserPass, Bind, CertPolicy, ConnectionEntry, Dh, Mode, RemapUsr1, TlsRole},
    table::Rule,
    value::RouteHost,
};

/// Checks everything.
pub(super) fn check(d: &Draft, f: &mut Findings) {
    if d.profile.config_file.as_deref().is_some_and(|file| file.as_os_str() == "stdin")
        && d.profile.process.remap_usr1 == Some(RemapUsr1::Hup)
    {
        let text = "Options 'config stdin' and 'remap-usr1 SIGHUP' are incompatible with each other.";
        f.error("remap-usr1", text, "read the configuration from a file");
    }
    if matches!(d.profile.client.auth_user_pass, Some(AuthUserPass::UsernameOnly))
        && d.profile.client.static_challenge.is_some()
    {
        let text = "'auth-user-pass username-only' cannot be used with static challenge";
        f.error("static-challenge", text, "remove one of them");
    }
    dh_without_server(d, f);
    kill_switch(d, f);
    device(d, f);
    let mut seen = f.errors.len();
    for (connection, entry) in d.connections.iter().zip(&d.profile.connections) {
        connection_rules(d, f, connection, entry);
        // What is wrong in the same way with every connection is said once.
        let known = f.errors.get(..seen).map(<[_]>::to_vec).unwrap_or_default();
        let fresh: Vec<_> =
            f.errors.split_off(seen).into_iter().filter(|error| !known.contains(error)).collect();
        f.errors.extend(fresh);
        seen = f.errors.len();
    }
    management(d, f);
    match d.profile.mode {
        Mode::Server => server_rules::check(d, f),
        Mode::P2p => not_server(d, f),
    }
    tls(d, f);
    dns(d, f);
}

fn dh_without_server(d: &Draft, f: &mut Findings) {
    if d.profile.tls.dh.is_some() && d.profile.tls.role != Some(TlsRole::Server) {
        let line = "WARNING: Ignoring option 'dh' in tls-client mode, please only include this in your server configuration";
        f.note(Severity::Warning, "dh", line, "remove it");
    } else if matches!(d.profile.tls.dh, Some(Dh::Parameters(_))) {
        let line = "Note: option dh has no effect: every peer since 2.4 agrees on keys by elliptic curves";
        f.note(Severity::Note, "dh", line, "write `dh none`");
    }
}

fn device(d: &Draft, f: &mut Findings) {
    if !super::has_kind(d) {
        // OpenVPN opens such a device and fails later; the name alone does not say what to open.
        let text = format!("I don't recognize device {} as a tun or tap device", d.profile.device.dev);
        f.error("dev", text, "add `dev-type tun`");
    }
    if d.profile.device.lladdr.is_some() && !d.profile.device.tap {
        f.error("lladdr", "--lladdr can only be used in --dev tap mode", "remove it");
    }
    if let Some(ifconfig) = d.profile.device.ifconfig
        && ifconfig.local == ifconfig.second
    {
        let text = "local and remote/netmask --ifconfig addresses must be different";
        f.error("ifconfig", text, "give each end its own address");
    }
}

fn is_address(host: &str, address: Option<std::net::Ipv4Addr>) -> bool {
    address.is_some_and(|address| host.parse() == Ok(IpAddr::V4(address)))
}

fn connection_rules(d: &Draft, f: &mut Findings, c: &ConnectionDraft, entry: &ConnectionEntry) {
    if c.proto.transport == RawTransport::Tcp {
        let text = "--proto tcp is ambiguous in this context. Please specify --proto tcp-server or --proto tcp-client";
        f.error("proto", text, "write `proto tcp-server`");
    }
    if d.profile.mode != Mode::Server && c.locals.len() > 1 {
        f.error("local", "multiple --local statements only allowed in --server mode", "keep one `local`");
    }
    if entry.mtu.tun_mtu_defined && c.link_mtu {
        f.error("link-mtu", "only one of --tun-mtu or --link-mtu may be defined", "remove `link-mtu`");
    }
    let ifconfig = d.profile.device.ifconfig;
    let own = [ifconfig.map(|ifconfig| ifconfig.local), ifconfig.map(|ifconfig| ifconfig.second)];
    if let Some(remote) = &c.remote
        && own.iter().any(|address| is_address(remote, *address))
    {
        let text = "--local and --remote addresses must be distinct from --ifconfig addresses";
        f.error("remote", text, "the address inside the tunnel is another one than that of the machine");
    }
    binding(f, c, entry);
    for local in &entry.locals {
        let same = entry
            .remote
            .as_ref()
            .is_some_and(|remote| Some(&remote.host) == local.host.as_ref() && remote.port == local.port);
        if same {
            f.error("local", "--remote and one of the --local addresses are the same", "change one of them");
        }
        if local.host.as_ref().is_some_and(|host| own.iter().any(|address| is_address(host, *address))) {
            f.error(
                "local",
                "--local addresses must be distinct from --ifconfig addresses",
                "change one of them",
            );
        }
        if local.host.is_some() && c.nobind {
            let text = "--local and --nobind don't make sense when used together";
            f.error("nobind", text, "remove one of them");
        }
    }
    transport(d, f, c);
    wrapping(d, f, entry);
}

fn binding(f: &mut Findings, c: &ConnectionDraft, entry: &ConnectionEntry) {
    if c.bind_defined && c.nobind {
        f.error("nobind", "--bind and --nobind can't be used together", "remove one of them");
    }
    if c.local_port_defined && c.nobind {
        f.error("nobind", "--lport and --nobind don't make sense when used together", "remove one of them");
    }
    if c.remote.is_none() && entry.bind == Bind::NoBind {
        let remedy = if c.nobind { "remove `nobind`, or add `remote`" } else { "add `remote HOST`" };
        f.error("nobind", "--nobind doesn't make sense unless used with --remote", remedy);
    }
}

fn transport(d: &Draft, f: &mut Findings, c: &ConnectionDraft) {
    let udp = c.proto.transport == RawTransport::Udp;
    if !udp && f.has("mtu-test") {
        f.error("mtu-test", "--mtu-test only makes sense with --proto udp", "remove it");
    }
    if !udp && c.entry.mtu.fragment.is_some() {
        f.error(
            "fragment",
            "--fragment can only be used with --proto udp",
            "remove it: TCP splits by itself",
        );
    }
    if c.remote.is_none() && c.proto.transport == RawTransport::TcpClient {
        f.error(
            "proto",
            "--remote MUST be used in TCP Client mode",
            "add `remote`, or write `proto tcp-server`",
        );
    }
    if c.http_proxy.is_some() && c.proto.transport != RawTransport::TcpClient {
        let text = "--http-proxy MUST be used in TCP Client mode (i.e. --proto tcp-client)";
        f.error("http-proxy", text, "write `proto tcp-client`");
    }
    if c.http_proxy.as_ref().is_some_and(|proxy| proxy.server.is_none()) {
        let text = "--http-proxy not specified but other http proxy options present";
        f.error("http-proxy-option", text, "add `http-proxy HOST PORT`");
    }
    if c.http_proxy.is_some() && c.socks_proxy.is_some() {
        f.error(
            "socks-proxy",
            "--http-proxy can not be used together with --socks-proxy",
            "remove one of them",
        );
    }
    if c.socks_proxy.is_some() && c.proto.transport == RawTransport::TcpServer {
        f.error("socks-proxy", "--socks-proxy can not be used in TCP Server mode", "remove it");
    }
    if c.proto.transport == RawTransport::TcpServer && d.connections.len() > 1 {
        f.error("remote", "TCP server mode allows at most one --remote address", "keep one `remote`");
    }
}

fn wrapping(d: &Draft, f: &mut Findings, entry: &ConnectionEntry) {
    if entry.tls_auth.is_some() && entry.tls_crypt.is_some() {
        f.error(
            "tls-crypt",
            "--tls-auth and --tls-crypt are mutually exclusive",
            "keep the one that the peer has",
        );
    }
    let other = entry.tls_auth.is_some() || entry.tls_crypt.is_some();
    if d.profile.tls.role == Some(TlsRole::Client) && entry.tls_crypt_v2.is_some() && other {
        let text = "--tls-crypt-v2, --tls-auth and --tls-crypt are mutually exclusive in client mode";
        f.error("tls-crypt-v2", text, "keep the one that the server has");
    }
}

fn management(d: &Draft, f: &mut Findings) {
    let management = &d.management;
    let culprit = f
        .settings
        .iter()
        .find(|setting| setting.row.group == crate::table::Group::Management)
        .map_or("", |setting| setting.row.name);
    if !management.defined && management.modified {
        let text = "--management is not specified, however one or more options which modify the behavior of --management were \
                    specified";
        f.error(culprit, text, "add `management`, or remove the option");
    }
    if management.peer_limited && !management.unix {
        let text = "--management-client-(user|group) can only be used on unix domain sockets";
        f.error(culprit, text, "write `management PATH unix`");
    }
    if management.defined && !management.unix && !management.password {
        let line = "WARNING: Using --management on a TCP port WITHOUT passwords is STRONGLY discouraged and considered \
                    insecure";
        f.note(Severity::Warning, "management", line, "use a unix socket, or name a password file");
    }
    let tls = &d.profile.tls;
    for (name, file, taken) in [
        ("key", tls.key.is_some(), management.external_key),
        ("cert", tls.cert.is_some(), management.external_cert),
    ] {
        if file && taken {
            let text = format!("--{name} and --management-external-{name} are mutually exclusive");
            f.error(name, text, "keep the one that has it");
        }
    }
    if management.external_cert && !management.external_key {
        let text = "--management-external-cert must be used with --management-external-key";
        f.error("management-external-cert", text, "add `management-external-key`");
    }
}

/// Options that only a server may have.
fn not_server(d: &Draft, f: &mut Findings) {
    let text = |name: &str| format!("--{name} requires --mode server");
    let remedy = "remove it, or write `server`";
    for Setting { row, .. } in f.settings.clone() {
        if row.rules.contains(&Rule::ServerOnly) {
            let line = text(row.name);
            if !f.errors.iter().any(|error| error.openvpn_line.ends_with(&line)) {
                f.error(row.name, line, remedy);
            }
        }
    }
    let server = &d.profile.server;
    let values = [
        ("verify-client-cert", server.client_cert != CertPolicy::Require),
        ("username-as-common-name", server.username_as_common_name),
        ("auth-user-pass-optional", server.auth_user_pass_optional),
        ("vlan-tagging", d.vlan.tagging),
        ("vlan-accept", d.vlan.accept != VlanAccept::All),
        ("vlan-pvid", d.vlan.pvid.is_some()),
    ];
    for (name, set) in values {
        if set {
            f.error(name, text(name), remedy);
        }
    }
    if d.helpers.tcp_nodelay {
        let line = "DEPRECATED OPTION: --tcp-nodelay is always enabled on clients";
        f.note(Severity::Warning, "tcp-nodelay", line, "remove it");
    }
    if !server.push.is_empty() {
        let line = "Note: Using --push without --mode server is an unsupported configuration. Negotiation of OpenVPN features \
                    is expected to fail.";
        f.note(Severity::Warning, "push", line, "remove it");
    }
}

fn tls(d: &Draft, f: &mut Findings) {
    let roles = usize::from(d.tls_roles.0) + usize::from(d.tls_roles.1) + usize::from(d.secret);
    if roles > 1 {
        let text = "specify only one of --tls-server, --tls-client, or --secret";
        f.error(if d.secret { "secret" } else { "tls-client" }, text, "keep one of them");
    }
    if d.profile.tls.role.is_none() {
        return without_tls(f);
    }
    if d.secret {
        return;
    }
    if d.profile.server.client_cert != CertPolicy::Require && d.profile.mode == Mode::Server {
        let line = "WARNING: POTENTIALLY DANGEROUS OPTION --verify-client-cert none|optional may accept clients which do not \
                    present a certificate";
        f.note(Severity::Warning, "verify-client-cert", line, "");
    }
    let tls = &d.profile.tls;
    if let (Some(min), Some(max)) = (tls.version_min, tls.version_max)
        && max < min
    {
        f.error("tls-version-max", "--tls-version-min bigger than --tls-version-max", "raise the maximum");
    }
    let anchored = tls.ca.is_some() || tls.capath.is_some() || tls.pkcs12.is_some();
    if !anchored && tls.peer_fingerprints.is_empty() {
        let text = "You must define CA file (--ca) or CA path (--capath) and/or peer fingerprint verification \
                    (--peer-fingerprint)";
        f.error("", text, "add `ca FILE`, or `peer-fingerprint` for a pair without a certificate authority");
    }
    if !anchored && !tls.peer_fingerprints.is_empty() {
        let line = "Using certificate fingerprint to verify peer (no CA option set). ";
        f.note(Severity::Note, "peer-fingerprint", line, "");
    }
    own_certificate(d, f);
    if d.profile.client.auth_user_pass.is_some() && !d.profile.client.pull && d.profile.mode != Mode::Server {
        f.error("auth-user-pass", "--auth-user-pass requires --pull", "write `client`");
    }
}

fn without_tls(f: &mut Findings) {
    let text = "DEPRECATION: No tls-client or tls-server option in configuration detected. OpenVPN 2.8 will remove the \
                functionality to run a VPN without TLS. See the examples section in the manual page for examples of a similar \
                quick setup with peer-fingerprint. OpenVPN 2.7 allows using this configuration when using \
                --allow-deprecated-insecure-static-crypto but you should move to a proper configuration using TLS as soon as \
                possible.";
    let remedy = "make a self-signed certificate on each end, write `tls-server` on one and `tls-client` on the other, `cert`, \
                  `key`, and the other end's SHA-256 fingerprint in `peer-fingerprint`";
    f.error("secret", text, remedy);
    if f.has("secret") {
        f.explain("culvert has no static-key mode (`secret`)");
    }
}

/// Who waits has nothing that would be up again; and only the way to the server is looked up past it.
fn kill_switch(d: &Draft, f: &mut Findings) {
    if !d.profile.link.kill_switch {
        return;
    }
    if d.profile.tls.role == Some(TlsRole::Server) {
        f.error("kill-switch", "--kill-switch is for the end that calls", "remove it, or write `tls-client`");
    }
    let is_name = |host: &RouteHost| matches!(host, RouteHost::Name(_));
    let mut routes = d.profile.routes.routes.iter();
    if routes.any(|route| is_name(&route.network) || route.gateway.as_ref().is_some_and(is_name)) {
        let line = "WARNING: with --kill-switch a name in --route is not looked up outside of the tunnel";
        f.note(Severity::Warning, "route", line, "write an address in its place");
    }
}

/// A certificate on a token takes the place of files.
fn on_token(d: &Draft, f: &mut Findings) {
    let tls = &d.profile.tls;
    match (&tls.pkcs11.id, tls.pkcs11.id_management) {
        (Some(_), true) => {
            let text = "Parameter --pkcs11-id cannot be used when --pkcs11-id-management is also specified.";
            f.error("pkcs11-id", text, "remove one of them");
        }
        (None, false) => {
            let uri = tls.cert.as_ref().or(tls.key.as_ref()).is_some();
            if uri {
                return; // the modules of `cert pkcs11:…`
            }
            let text = "Parameter --pkcs11-id or --pkcs11-id-management should be specified.";
            f.error("pkcs11-providers", text, "add `pkcs11-id`: see --show-pkcs11-ids");
        }
        (Some(_), false) | (None, true) => {}
    }
    let taken = [
        ("cert", tls.cert.is_some()),
        ("key", tls.key.is_some()),
        ("pkcs12", tls.pkcs12.is_some()),
        ("management-external-key", d.management.external_key),
        ("management-external-cert", d.management.external_cert),
    ];
    for (name, _) in taken.iter().filter(|(_, set)| *set) {
        let text = format!("Parameter --{name} cannot be used when --pkcs11-provider is also specified.");
        f.error(name, text, "remove it: the token holds it");
    }
}

fn own_certificate(d: &Draft, f: &mut Findings) {
    let tls = &d.profile.tls;
    if tls.pkcs11.is_used() {
        on_token(d, f);
        return;
    }
    if tls.pkcs12.is_some() {
        let taken = [
            ("capath", tls.capath.is_some()),
            ("cert", tls.cert.is_some()),
            ("key", tls.key.is_some()),
            ("management-external-key", d.management.external_key),
            ("management-external-cert", d.management.external_cert),
        ];
        for (name, _) in taken.iter().filter(|(_, set)| *set) {
            let text = format!("Parameter --{name} cannot be used when --pkcs12 is also specified.");
            f.error(name, text, "remove it: the file holds it");
        }
        return;
    }
    let cert = tls.cert.is_some() || d.management.external_cert;
    let key = tls.key.is_some() || d.management.external_key;
    match (cert, key) {
        (true, true) => {}
        (false, false) if d.profile.client.pull => {
            if d.profile.client.auth_user_pass.is_none() {
                let text = "No client-side authentication method is specified.  You must use either --cert/--key, --pkcs12, \
                            or --auth-user-pass";
                f.error("", text, "add `cert` and `key`, or `auth-user-pass`");
            }
        }
        _ if d.profile.client.pull => {
            let text = "If you use one of --cert or --key, you must use them both";
            f.error(if cert { "cert" } else { "key" }, text, "add the other one");
        }
        (cert, key) => {
            if !cert {
                let text = "You must define certificate file (--cert) or PKCS#12 file (--pkcs12)";
                f.error("", text, "add `cert FILE`");
            }
            if !key {
                let text = "You must define private key file (--key) or PKCS#12 file (--pkcs12)";
                f.error("", text, "add `key FILE`");
            }
        }
    }
}

fn dns(d: &Draft, f: &mut Findings) {
    for server in d.profile.routes.dns.servers.iter().filter(|server| server.addresses.is_empty()) {
        let n = server.priority;
        f.error(
            "dns",
            format!("ERROR: dns server {n} does not have an address assigned"),
            &format!("add `dns server {n} address ADDRESS`"),
        );
    }
}
