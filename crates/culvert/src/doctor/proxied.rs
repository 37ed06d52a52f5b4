//! The way to a server through a proxy: whether the proxy takes connections, lets this one through, and who answers behind it.

use std::net::SocketAddr;

use culvert_config::{
    Profile,
    profile::{ConnectionEntry, Proxy, Remote},
    value::Family,
};
use culvert_daemon::probe::{NoWay, Probe, Way, through_proxy, udp_socket};

use super::reach::{Line, PATIENCE, TRIES, addresses, over_stream, over_udp, unreachable};
use crate::finding::Finding;

const NAME: &str = "proxy";

/// Tries every address of the proxy.
pub(super) fn examine(profile: &Profile, entry: &ConnectionEntry, proxy: &Proxy) -> Vec<Finding> {
    let (host, port) = (proxy.host().to_owned(), proxy.port().clone());
    match addresses(&Remote { host, port }, Family::Any) {
        Ok(found) => found.into_iter().flat_map(|address| through(profile, entry, address)).collect(),
        Err(finding) => vec![finding],
    }
}

fn through(profile: &Profile, entry: &ConnectionEntry, address: SocketAddr) -> Vec<Finding> {
    let way = match through_proxy(profile, entry, address, PATIENCE * TRIES) {
        Ok(way) => way,
        Err(reason) => return vec![no_way(address, reason)],
    };
    let passed =
        Finding::good(NAME, format!("the proxy {address} takes connections, and lets this one through"));
    vec![passed, behind(profile, entry, address, way)]
}

/// What answers behind the proxy.
fn behind(profile: &Profile, entry: &ConnectionEntry, proxy: SocketAddr, way: Way) -> Finding {
    let probe = match Probe::new(profile, entry) {
        Ok(probe) => probe,
        Err(problem) => {
            let (text, remedy) = problem.split_once("\nhint: ").unwrap_or((&problem, "name the right file"));
            return Finding::error("control-channel-key", text, remedy);
        }
    };
    let host = entry.remote.as_ref().map_or("", |remote| remote.host.as_str());
    match way {
        Way::Stream(stream) => over_stream(&probe, entry, stream, &format!("tcp {host} through {proxy}")),
        Way::Relay { relay, kept: _kept } => {
            let what = format!("udp {host} through {proxy}");
            let found = entry.remote.as_ref().map(|remote| addresses(remote, entry.proto.family));
            let server = match found {
                Some(Ok(found)) => found.first().copied(),
                Some(Err(finding)) => return finding,
                None => None,
            };
            match udp_socket(profile, relay) {
                Ok(socket) => {
                    let line = Line { socket: &socket, relayed_to: server };
                    over_udp(&probe, line, &what, || silent(&what))
                }
                Err(failure) => unreachable(&what, &failure),
            }
        }
    }
}

fn silent(what: &str) -> Finding {
    Finding::error(
        "no-answer",
        format!(
            "{what}: nothing came back. Whether the relay, a firewall, a server that does not run, or one with another control channel \
             key is the reason cannot be told through a proxy"
        ),
        "look into the server's log while this runs, and try without the proxy",
    )
}

fn no_way(address: SocketAddr, reason: NoWay) -> Finding {
    match reason {
        NoWay::Unreachable(failure) if failure.kind() == std::io::ErrorKind::PermissionDenied => {
            unreachable(&format!("tcp {address}"), &failure)
        }
        NoWay::Unreachable(failure) => Finding::error(
            NAME,
            format!("the proxy {address} does not take connections: {failure}"),
            "start the proxy, or correct `http-proxy` or `socks-proxy`",
        ),
        NoWay::WantsLogin(offers) => Finding::note(
            NAME,
            format!(
                "the proxy {address} wants a login ({offers}), and none stands in a file: the way behind it is not tried"
            ),
            "name a file with the login to have it tried: `http-proxy-user-pass FILE`, or the third argument of `socks-proxy`",
        ),
        NoWay::Refused(text) => Finding::error(
            NAME,
            format!("the proxy {address} does not let this connection through: {text}"),
            "see the proxy's log: it may forbid the port, not reach the server, or want another login",
        ),
    }
}
