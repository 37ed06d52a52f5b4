//! Contradictions of a server.

use culvert_wire::VlanAccept;

use super::Findings;
use crate::{
    Setting,
    diagnostic::Severity,
    draft::{Draft, RawTransport},
    profile::{AuthGenToken, CertPolicy},
    table::Rule,
    value::Topology,
};

/// Checks what `mode server` demands and forbids.
pub(super) fn check(d: &Draft, f: &mut Findings) {
    // `dev null` counts as a tun device, as in OpenVPN 2.7.
    if !super::has_kind(d) {
        f.error("dev", "--mode server only works with --dev tun or --dev tap", "write `dev tun`");
    }
    if !d.profile.client.pull_filters.is_empty() {
        f.note(Severity::Warning, "pull-filter", "--pull-filter ignored for --mode server", "remove it");
    }
    if d.connections.iter().any(|c| c.proto.transport == RawTransport::TcpClient) {
        let text = "--mode server currently only supports --proto values of udp, tcp-server, tcp4-server, or tcp6-server";
        f.error("proto", text, "write `proto tcp-server`");
    }
    if !d.tls_roles.0 {
        f.error("mode", "--mode server requires --tls-server", "add `tls-server`, or use `server`");
    }
    forbidden(f);
    if d.connections.len() > 1 || f.has("connection") {
        f.error("connection", "<connection> cannot be used with --mode server", "remove the blocks");
    }
    if f.has("ipchange") {
        let text = "--ipchange cannot be used with --mode server (use --client-connect instead)";
        f.error("ipchange", text, "use `client-connect`");
    }
    let udp = d.connections.iter().any(|c| c.proto.transport == RawTransport::Udp);
    if !udp && d.profile.server.connect_freq.is_some() {
        let text = "--connect-freq only works with --mode server --proto udp.  Try --max-clients instead.";
        f.error("connect-freq", text, "use `max-clients`");
    }
    let is_tcp = |transport: RawTransport| matches!(transport, RawTransport::Tcp | RawTransport::TcpServer);
    let has_tcp = d.connections.iter().any(|c| {
        is_tcp(c.proto.transport)
            || c.locals.iter().filter_map(|local| local.proto).any(|proto| is_tcp(proto.transport))
    });
    if !has_tcp && d.profile.server.port_share.is_some() {
        let text = "--port-share only works in TCP server mode (--proto values of tcp-server, tcp4-server, or tcp6-server)";
        f.error("port-share", text, "write `proto tcp-server`, or add `local * 443 tcp-server`");
    }
    pools(d, f);
    if d.profile.routes.redirect.is_some_and(|redirect| redirect.gateway) {
        let text = "--redirect-gateway cannot be used with --mode server (however --push \"redirect-gateway\" is fine)";
        f.error("redirect-gateway", text, "write `push \"redirect-gateway def1\"`");
    }
    if d.profile.client.auth_user_pass.is_some() {
        let text =
            "--auth-user-pass cannot be used with --mode server (it should be used on the client side only)";
        f.error("auth-user-pass", text, "use `auth-user-pass-verify`");
    }
    if d.profile.server.ccd_exclusive && d.profile.server.client_config_dir.is_none() {
        f.error(
            "ccd-exclusive",
            "--ccd-exclusive must be used with --client-config-dir",
            "add `client-config-dir`",
        );
    }
    logins(d, f);
    vlans(d, f);
    learning(d, f);
    if d.helpers.tcp_nodelay {
        let line = "NOTE: TCP_NODELAY is always enabled locally; --tcp-nodelay is now only useful to push the flag to clients \
                    older than 2.7.6.";
        f.note(Severity::Note, "tcp-nodelay", line, "");
    }
}

/// Options that contradict `mode server`.
fn forbidden(f: &mut Findings) {
    let mut seen: Vec<&str> = Vec::new();
    for Setting { row, .. } in f.settings.clone() {
        if row.rules.contains(&Rule::NotOnServer) && !seen.contains(&row.name) {
            seen.push(row.name);
            f.error(row.name, format!("--{} cannot be used with --mode server.", row.name), "remove it");
        }
    }
}

fn pools(d: &Draft, f: &mut Findings) {
    let server = &d.profile.server;
    let device = &d.profile.device;
    let subnet = device.tap || device.topology == Some(Topology::Subnet);
    if !subnet && server.pool.is_some_and(|pool| pool.netmask.is_some()) {
        let text = "The third parameter to --ifconfig-pool (netmask) is only valid in --dev tap mode";
        f.error("ifconfig-pool", text, "remove the netmask, or write `topology subnet`");
    }
    if server.pool.is_none() && server.pool6.is_none() && server.pool_persist.is_some() {
        let text = "--ifconfig-pool-persist must be used with --ifconfig-pool or --ifconfig-ipv6-pool";
        f.error("ifconfig-pool-persist", text, "add a pool");
    }
    if server.pool6.is_some() && device.ifconfig_ipv6.is_none() {
        f.error("ifconfig-ipv6-pool", "--ifconfig-ipv6-pool needs --ifconfig-ipv6", "add `ifconfig-ipv6`");
    }
}

fn logins(d: &Draft, f: &mut Findings) {
    let hand_window = d.profile.session.hand_window.as_secs();
    let server = &d.profile.server;
    if server.auth_gen_token.is_some() && d.profile.session.reneg.is_none() {
        let text = "--auth-gen-token needs a non-infinite --renegotiate_seconds setting";
        f.error("auth-gen-token", text, "remove `reneg-sec 0`");
    }
    let written = |tokens: AuthGenToken| tokens.renewal.filter(|renewal| !renewal.is_zero());
    let renewal = |tokens: AuthGenToken| written(tokens).or(d.profile.session.reneg);
    if let Some(renewal) = server.auth_gen_token.and_then(renewal)
        && renewal.as_secs() < 2 * hand_window
    {
        let text = format!(
            "--auth-gen-token renewal time needs to be at least  two times --hand-window ({hand_window})."
        );
        f.error(
            "auth-gen-token",
            text,
            "raise the renewal time, which is `reneg-sec` where it is not written",
        );
    }
    if server.auth_users.is_some() && server.auth_gen_token.is_none() {
        let text = "auth-users without auth-gen-token: passwords are checked again at every renegotiation, and one-time codes \
                    are asked for again";
        f.note(Severity::Warning, "auth-users", text, "add `auth-gen-token`");
    }
    if server.auth_user_pass_verify.is_some()
        || server.auth_users.is_some()
        || d.plugin
        || (d.management.defined && d.management.client_auth)
    {
        return;
    }
    if server.auth_gen_token.is_some() {
        let text = "Note: option auth-gen-token has no effect: nobody judges logins";
        f.note(Severity::Note, "auth-gen-token", text, "remove it, or add `auth-users FILE`");
    }
    let needs = [
        ("verify-client-cert", "verify-client-cert none|optional", server.client_cert != CertPolicy::Require),
        ("username-as-common-name", "username-as-common-name", server.username_as_common_name),
        ("auth-user-pass-optional", "auth-user-pass-optional", server.auth_user_pass_optional),
    ];
    for (culprit, name, set) in needs {
        if set {
            let text = format!(
                "--{name} must be used with --management-client-auth, an --auth-user-pass-verify script, or plugin"
            );
            f.error(culprit, text, "add `auth-user-pass-verify PROGRAM via-file`, or `auth-users FILE`");
        }
    }
}

/// Addresses are learned from Ethernet frames only: those of IP are the server's own gift, and never stale.
fn learning(d: &Draft, f: &mut Findings) {
    const NAME: &str = "stale-routes-check";
    if f.has(NAME) && !d.profile.device.tap {
        let line = format!(
            "Note: option {NAME} has no effect: addresses are learned from traffic with dev tap only"
        );
        f.note(Severity::Note, NAME, line, "remove it");
    }
}

fn vlans(d: &Draft, f: &mut Findings) {
    if d.vlan.tagging && !d.profile.device.tap {
        f.error("vlan-tagging", "--vlan-tagging must be used with --dev tap", "remove it");
    }
    for (name, set) in
        [("vlan-accept", d.vlan.accept != VlanAccept::All), ("vlan-pvid", d.vlan.pvid.is_some())]
    {
        if set && !d.vlan.tagging {
            f.error(name, format!("--{name} requires --vlan-tagging"), "add `vlan-tagging`");
        }
    }
}
