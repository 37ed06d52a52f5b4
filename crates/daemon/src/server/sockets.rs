//! Which addresses a server, or an end that waits for its peer, listens on.
//!
//! As OpenVPN: without an address and a family the system's preference counts, which is IPv4; who wants IPv6 writes
//! `proto udp6` or `proto tcp6-server`, and gets both. An end that names its peer is where the peer can reach it.

use std::{net::SocketAddr, time::Duration};

use culvert_config::{
    Profile,
    profile::{Local, ResolvRetry},
    value::Family,
};
use tokio::time::Instant;

use crate::{
    exit::Ended,
    link, ovlog,
    signals::{Request, Signals},
};

/// How long to wait between two tries to resolve a name.
const RESOLVE_PAUSE: Duration = Duration::from_secs(5);

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
    loop {
        match unless_signalled(link::resolve(&remote.host, port, Family::Any), signals).await? {
            Ok(found) => return Ok(found.first().map_or(Family::Any, family_of)),
            Err(failure) if give_up.is_some_and(|limit| Instant::now() >= limit) => {
                return Err(Ended::Fatal(failure));
            }
            Err(failure) => ovlog!(error 1, "{failure}"),
        }
        unless_signalled(tokio::time::sleep(RESOLVE_PAUSE), signals).await?;
    }
}

async fn unless_signalled<T>(work: impl Future<Output = T>, signals: &mut Signals) -> Result<T, Ended> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            request = signals.next() => match request {
                Request::Statistics => {} // there is nothing to count yet
                request => return Err(Ended::by_signal(request)),
            },
        }
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
