//! What scripts are told about a client that has logged in.

use std::time::SystemTime;

use culvert_config::{Profile, value::Topology};

use super::{
    client::{Client, Connected},
    push::ClientAddresses,
};
use crate::scripts::{PoolFacts, ScriptEnv, Trust};

/// Certificates, name, login, addresses on the network, what it says of itself.
pub(super) fn client(env: &mut ScriptEnv, client: &Client, common_name: &str) {
    env.set_identity(&client.identity)
        .set("common_name", common_name)
        .set_peer_address(Trust::Trusted, client.remote)
        .set_peer_address(Trust::Untrusted, client.remote)
        .set_peer_info(&client.peer_info);
    if !client.username.is_empty() {
        env.set("username", &client.username);
    }
    client.login.export(env);
}

/// The addresses that it gets.
pub(super) fn pool(env: &mut ScriptEnv, profile: &Profile, addresses: &ClientAddresses) {
    let subnet =
        profile.device.tap || profile.device.topology.unwrap_or(Topology::Subnet) == Topology::Subnet;
    let second = addresses.v4.map(|(_, second)| second);
    env.set_pool(&PoolFacts {
        remote4: addresses.v4.map(|(address, _)| address),
        netmask: second.filter(|_| subnet),
        local4: second.filter(|_| !subnet),
        remote6: addresses.v6.map(|(address, _, _)| address),
        netbits6: addresses.v6.map(|(_, bits, _)| bits),
        local6: addresses.v6.map(|(_, _, server)| server),
    });
}

/// What is known at its end: the addresses that it had, and since when.
pub(super) fn connected(env: &mut ScriptEnv, profile: &Profile, connected: &Connected) {
    pool(env, profile, &connected.addresses);
    since(env, connected.since);
}

/// When its session began.
pub(super) fn since(env: &mut ScriptEnv, since: SystemTime) {
    env.set_session_start(since, &jiff::tz::TimeZone::system());
}
