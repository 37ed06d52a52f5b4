//! Which addresses a server, or an end that waits for its peer, listens on.
//!
//! As OpenVPN: without an address and a family the system's preference counts, which is IPv4; who wants IPv6 writes
//! `proto udp6` or `proto tcp6-server`, and gets both. An end that names its peer is where the peer can reach it.

use std::net::SocketAddr;

use culvert_config::{
    Profile,
    profile::{Local, ResolvRetry},
    value::Family,
};
use tokio::time::Instant;

use crate::{exit::Ended, link, ovlog, signals::Signals};

/// The family of the peer that `remote` names; [`Family::Any`] without one, and where `proto` or `local` decides.
pub(super) async fn peer_family(profile: &Profile, signals: &mut Signals) -> Result<Family, Ended> {
    let entry = profile.connections.first();
    let decides = |local: &Local| local.host.is_none() && local.proto.family == Family::Any;
    let Some(remote) =
        entry.filter(|entry| entry.listeners().iter().any(decides)).and_then(|entry| entry.remote.as_ref())
    else {
        return Ok(Family::Any);
    };
    let port = link::port_number(&remote.port).map_err(Ended::Fatal)?;
    let give_up = match profile.link.resolv_retry {
        ResolvRetry::Infinite => None,
        ResolvRetry::For(limit) => Some(Instant::now() + limit),
    };
    let nothing_to_count = || {};
    loop {
        let resolving = link::resolve(&remote.host, port, Family::Any);
        match signals.unless_any(resolving, nothing_to_count).await.map_err(Ended::by_signal)? {
            Ok(found) => return Ok(found.first().map_or(Family::Any, family_of)),
            Err(failure) if give_up.is_some_and(|limit| Instant::now() >= limit) => {
                return Err(Ended::Fatal(failure));
            }
            Err(failure) => ovlog!(error 1, "{failure}"),
        }
        let pausing = tokio::time::sleep(link::RESOLVE_PAUSE);
        signals.unless_any(pausing, nothing_to_count).await.map_err(Ended::by_signal)?;
    }
}

/// The address of one socket. Says so where nobody said which family.
pub(super) async fn address(local: &Local, peer: Family) -> Result<SocketAddr, String> {
    let asked = match local.proto.family {
        Family::Any if local.host.is_none() => peer,
        family => family,
    };
    let address = link::local_address(local.host.as_deref(), &local.port, asked).await?;
    if asked == Family::Any && local.host.is_none() {
        let name = if address.is_ipv4() { "AF_INET" } else { "AF_INET6" };
        ovlog!(warn 1, "Could not determine IPv4/IPv6 protocol. Using {name}");
    }
    Ok(address)
}

fn family_of(address: &SocketAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}
