//! What scripts are told about a client.

use std::net::IpAddr;

use culvert_proto::{PeerInfo, tls::PeerIdentity};

use super::client::Client;
use crate::scripts::ScriptEnv;

/// Adds the certificate chain: `X509_N_*`, `tls_id_N`, `tls_serial_N`, digests, `common_name`.
pub(crate) fn certificates(env: &mut ScriptEnv, identity: &PeerIdentity) {
    for certificate in &identity.certificates {
        let depth = certificate.depth;
        env.set_x509(&format!("tls_id_{depth}"), &certificate.subject);
        env.set(&format!("tls_serial_{depth}"), &certificate.serial);
        env.set(&format!("tls_serial_hex_{depth}"), &certificate.serial_hex);
        env.set(&format!("tls_digest_{depth}"), &certificate.sha1);
        env.set(&format!("tls_digest_sha256_{depth}"), &certificate.sha256);
        for (name, value) in &certificate.fields {
            env.set_x509(&format!("X509_{depth}_{name}"), value);
        }
    }
    env.set_name("common_name", &identity.common_name);
}

/// Adds an address as `PREFIX_ip` or `PREFIX_ip6`, and `PREFIX_port`.
pub(crate) fn address(env: &mut ScriptEnv, prefix: &str, address: std::net::SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => env.set(&format!("{prefix}_ip"), ip),
        IpAddr::V6(ip) => env.set(&format!("{prefix}_ip6"), ip),
    };
    env.set(&format!("{prefix}_port"), address.port());
}

/// Adds what the peer says of itself: `IV_*` and `UV_*` only, whatever else it sends.
pub(super) fn peer_info(env: &mut ScriptEnv, info: &PeerInfo) {
    for (name, value) in &info.lines {
        if name.starts_with("IV_") || name.starts_with("UV_") {
            env.set(name, value);
        }
    }
}

/// Adds what is known of a client that has logged in.
pub(super) fn client(env: &mut ScriptEnv, client: &Client, common_name: &str) {
    certificates(env, &client.identity);
    env.set_name("common_name", common_name);
    if !client.username.is_empty() {
        env.set_name("username", &client.username);
    }
    address(env, "trusted", client.remote);
    address(env, "untrusted", client.remote);
    if let Some(connected) = client.connected() {
        env.set_opt("ifconfig_pool_remote_ip", connected.vpn.v4);
        env.set_opt("ifconfig_pool_remote_ip6", connected.vpn.v6);
    }
}
