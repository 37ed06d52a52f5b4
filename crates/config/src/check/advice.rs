//! What starts and is probably not meant: OpenVPN's warnings about a configuration as a whole, in its order and words
//! (`do_option_warnings` of its init.c), and a few of culvert's own.
//!
//! Left out is what is not true of culvert: that `user` or `chroot` without `persist-tun` may keep it from restarting.

use super::Findings;
use crate::{
    diagnostic::Severity,
    draft::Draft,
    profile::{Bind, DnsUpdown, Mode, MssFix, ScriptSecurity, TlsRole},
    table::{Group, WINDOWS_ALONE},
    value::RouteHost,
};

/// Adds them all.
pub(super) fn give(d: &Draft, f: &mut Findings) {
    fragments(d, f);
    pings(d, f);
    process(d, f);
    if d.profile.client.pull && d.profile.device.ifconfig.is_some() {
        let line = "WARNING: using --pull/--client and --ifconfig together is probably not what you want";
        f.note(Severity::Warning, "ifconfig", line, "remove it: the server says which addresses hold");
    }
    if d.profile.mode == Mode::Server {
        server(d, f);
    }
    peer(d, f);
    scripts(d, f);
    connections(d, f);
    bypasses(d, f);
}

fn fragments(d: &Draft, f: &mut Findings) {
    let mixed = d.profile.connections.iter().any(|entry| match (entry.mtu.fragment, entry.mtu.mssfix) {
        (Some((_, whole)), MssFix::Payload(_)) => whole,
        (Some((_, whole)), MssFix::Mtu(_)) => !whole,
        _ => false,
    });
    if mixed {
        let line = "WARNING: if you use --mssfix and --fragment, you should use the \"mtu\" flag for both or none of of them.";
        f.note(Severity::Warning, "mssfix", line, "write `mtu` behind both sizes, or behind none");
    }
}

fn pings(d: &Draft, f: &mut Findings) {
    if d.profile.keepalive.ping.is_some() && d.profile.keepalive.timeout.is_none() {
        let line = "WARNING: --ping should normally be used with --ping-restart or --ping-exit";
        f.note(Severity::Warning, "ping", line, "add `ping-restart 60`, or write `keepalive 10 60` for both");
    }
}

fn process(d: &Draft, f: &mut Findings) {
    let process = &d.profile.process;
    if process.chroot.is_some() && (process.user.is_none() || process.group.is_none()) {
        let line = "WARNING: you are using chroot without specifying user and group -- this may cause the chroot jail to be \
                    insecure";
        f.note(Severity::Warning, "chroot", line, "add `user nobody` and `group nogroup`");
    }
}

fn server(d: &Draft, f: &mut Findings) {
    let server = &d.profile.server;
    if server.duplicate_cn && server.client_config_dir.is_some() {
        let line =
            "WARNING: using --duplicate-cn and --client-config-dir together is probably not what you want";
        f.note(Severity::Warning, "duplicate-cn", line, "give each client its own certificate");
    }
    if server.duplicate_cn && server.pool_persist.is_some() {
        let line = "WARNING: --ifconfig-pool-persist will not work with --duplicate-cn";
        f.note(Severity::Warning, "ifconfig-pool-persist", line, "remove one of them");
    }
    if d.helpers.keepalive.is_none() {
        let line = "WARNING: --keepalive option is missing from server config";
        f.note(Severity::Warning, "", line, "add `keepalive 10 60`");
    }
}

fn peer(d: &Draft, f: &mut Findings) {
    let tls = &d.profile.tls;
    let verify = d.profile.scripts.tls_verify.is_some();
    if tls.role == Some(TlsRole::Client) && !tls.tells_servers_from_clients(verify) {
        let line = "WARNING: No server certificate verification method has been enabled.  See \
                    http://openvpn.net/howto.html#mitm for more info.";
        f.note(Severity::Warning, "", line, "write `remote-cert-tls server`");
    }
    if tls.ns_cert_type.is_some() {
        let line = "WARNING: --ns-cert-type is DEPRECATED.  Use --remote-cert-tls instead.";
        f.note(Severity::Warning, "ns-cert-type", line, "write `remote-cert-tls` in its place");
    }
}

/// Programs that may run, or will not because `script-security` forbids it.
fn scripts(d: &Draft, f: &mut Findings) {
    // `disable` and `force` are no programs.
    let asks_program = matches!(d.profile.routes.dns_updown, DnsUpdown::Command(_));
    let takes_program = |setting: &&crate::Setting| {
        let row = setting.row;
        row.group == Group::Script && row.arity.1 > 1 && (row.name != "dns-updown" || asks_program)
    };
    let Some(name) = f.settings.iter().find(takes_program).map(|setting| setting.row.name) else { return };
    if d.profile.scripts.security >= ScriptSecurity::Scripts {
        let line = "NOTE: the current --script-security setting may allow this configuration to call user-defined scripts";
        f.note(Severity::Note, "script-security", line, "");
    } else {
        let line = "NOTE: starting with OpenVPN 2.1, '--script-security 2' or higher is required to call user-defined scripts \
                    or executables";
        f.note(Severity::Warning, name, line, "write `script-security 2`");
    }
}

/// Culvert's own.
fn connections(d: &Draft, f: &mut Findings) {
    let named = d.profile.routes.routes.iter().any(|route| matches!(route.network, RouteHost::Name(_)));
    if named {
        let line = "Note: a --route names a host: it is looked up when the tunnel is up";
        f.note(Severity::Note, "route", line, "write its address");
    }
    let bound = d.profile.connections.iter().any(|entry| entry.bind != Bind::NoBind);
    if d.profile.client.pull
        && bound
        && d.profile.connections.iter().any(|entry| entry.remote.is_some())
        && f.has("bind")
    {
        let line = "Note: with --bind only one client per machine can use this port";
        f.note(Severity::Note, "bind", line, "write `nobind`");
    }
}

/// Flags of `redirect-gateway` and `redirect-private` that do nothing.
fn bypasses(d: &Draft, f: &mut Findings) {
    let Some(redirect) = d.profile.routes.redirect else { return };
    let option = if redirect.gateway { "redirect-gateway" } else { "redirect-private" };
    for (flag, is_set) in [("bypass-dhcp", redirect.bypass_dhcp), ("bypass-dns", redirect.bypass_dns)] {
        if is_set {
            let line = format!("Note: {flag} of --{option} has no effect: {WINDOWS_ALONE}");
            f.note(Severity::Note, option, line, "remove the word");
        }
    }
}
