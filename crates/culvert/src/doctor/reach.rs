//! Whether the server can be reached, and what is in the way: each stage names its own cause.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, ToSocketAddrs as _, UdpSocket},
    time::Duration,
};

use culvert_config::{
    Profile,
    profile::{ConnectionEntry, Proxy, Remote},
    value::Family,
};
use culvert_daemon::probe::{Answer, Probe, padding, port_number, tcp_stream, udp_socket};
use culvert_host::{Host as _, NetlinkHost};
use culvert_sys::sockopt;

use crate::finding::{Finding, Level};

/// How often a datagram is sent, and how long each time is waited.
const TRIES: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a router may take to say that a packet is too large.
const ROUTERS_PATIENCE: Duration = Duration::from_millis(500);
/// What culvert's packets need at most with `mssfix` as it is by default, headers included.
const USUAL_MTU: u32 = 1492;

/// Tries every connection of the profile. `resolves`: no kill switch keeps this process from looking names up.
pub(super) fn examine(profile: &Profile, resolves: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for entry in &profile.connections {
        let Some(remote) = &entry.remote else { continue };
        if let Some(proxy) = &entry.proxy {
            findings.extend(to_proxy(profile, proxy));
            continue;
        }
        match addresses(remote, entry.proto.family) {
            Ok(addresses) => {
                for address in addresses {
                    findings.extend(one(profile, entry, address));
                }
            }
            Err(finding) => findings.push(finding),
        }
    }
    if !resolves {
        findings.iter_mut().filter(|finding| finding.name == "name-resolution").for_each(behind_kill_switch);
    }
    findings
}

/// Names are looked up by the system, whose packets a kill switch drops; a start opens it for that moment.
fn behind_kill_switch(finding: &mut Finding) {
    finding.level = Level::Note;
    finding.text += " (the kill switch keeps this command from looking names up)";
    finding.remedy = "write an address in its place, or examine again without the kill switch".to_owned();
}

/// Whether the proxy takes connections. What is behind it is not tried: that may need a login, which nobody is asked for here.
fn to_proxy(profile: &Profile, proxy: &Proxy) -> Vec<Finding> {
    let (host, port) = (proxy.host().to_owned(), proxy.port().clone());
    let found = match addresses(&Remote { host, port }, Family::Any) {
        Ok(found) => found,
        Err(finding) => return vec![finding],
    };
    let try_one = |address: SocketAddr| match tcp_stream(profile, address, PATIENCE * TRIES) {
        Ok(_) => Finding::note(
            "proxy",
            format!("the proxy {address} takes connections; the way from there to the server is not tried"),
            "what the proxy says stands in the log of a start",
        ),
        Err(failure) if failure.kind() == io::ErrorKind::PermissionDenied => {
            unreachable("tcp", address, &failure)
        }
        Err(failure) => Finding::error(
            "proxy",
            format!("the proxy {address} does not take connections: {failure}"),
            "start the proxy, or correct `http-proxy` or `socks-proxy`",
        ),
    };
    found.into_iter().map(try_one).collect()
}

fn addresses(remote: &Remote, family: Family) -> Result<Vec<SocketAddr>, Finding> {
    let Remote { host, port } = remote;
    let number = port_number(port)
        .map_err(|problem| Finding::error("port-name", problem, "write the port as a number"))?;
    let found = (host.as_str(), number).to_socket_addrs().map_err(|failure| {
        Finding::error(
            "name-resolution",
            format!("{host} does not resolve: {failure}"),
            "correct the name, or this machine's resolver (/etc/resolv.conf); an address in its place shows which",
        )
    })?;
    let fits = |address: &SocketAddr| match family {
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
        Family::Any => true,
    };
    let mut addresses: Vec<SocketAddr> = found.filter(fits).collect();
    addresses.dedup();
    if addresses.is_empty() {
        let text = format!("{host} has no address of the family that `proto` asks for");
        return Err(Finding::error(
            "name-resolution",
            text,
            "write `proto udp` or `proto tcp` without a number",
        ));
    }
    Ok(addresses)
}

fn one(profile: &Profile, entry: &ConnectionEntry, address: SocketAddr) -> Vec<Finding> {
    // Routes of marked packets, and those of a device, are other ones.
    let usual_route = profile.link.mark.is_none() && profile.link.bind_dev.is_none();
    if let Some(finding) = usual_route.then(|| without_route(address)).flatten() {
        return vec![finding];
    }
    let probe = match Probe::new(profile, entry) {
        Ok(probe) => probe,
        Err(problem) => {
            let (text, remedy) = problem.split_once("\nhint: ").unwrap_or((&problem, "name the right file"));
            return vec![Finding::error("control-channel-key", text, remedy)];
        }
    };
    if entry.proto.transport.is_tcp() {
        return vec![over_tcp(profile, &probe, entry, address)];
    }
    let socket = match udp_socket(profile, address) {
        Ok(socket) => socket,
        Err(failure) => return vec![unreachable("udp", address, &failure)],
    };
    let answer = over_udp(&probe, entry, &socket, address);
    let reached = answer.level == Level::Good;
    let mtu = reached.then(|| path_mtu(&socket, address)).flatten();
    [answer].into_iter().chain(mtu).collect()
}

fn without_route(address: SocketAddr) -> Option<Finding> {
    let mut host = NetlinkHost::open().ok()?;
    let ip = address.ip();
    let own = ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok();
    let missing = !own && matches!(host.route_to(ip), Ok(None));
    missing.then(|| {
        Finding::error(
            "no-route",
            format!("this machine has no route to {ip}"),
            "bring up its network: see `ip route get`, and whether there is a default route",
        )
    })
}

/// What the system says when a packet cannot go out, or comes to nothing.
fn unreachable(transport: &str, address: SocketAddr, failure: &io::Error) -> Finding {
    let what = format!("{transport} {address}");
    match failure.kind() {
        io::ErrorKind::ConnectionRefused => Finding::error(
            "nothing-listens",
            format!("{what}: the machine is there, and says that nothing listens on the port"),
            "start the server, or correct `port` and `proto`: udp and tcp are different ports",
        ),
        io::ErrorKind::PermissionDenied => Finding::error(
            "local-firewall",
            format!("{what}: this machine's packet filter does not let the packet out"),
            "accept it in the output chain: see `nft list ruleset`",
        ),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => no_answer(transport, address, false),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Finding::error(
            "host-unreachable",
            format!("{what}: a router, or this machine, says that it cannot be reached: {failure}"),
            "see whether the server's machine is up, and the networks between",
        ),
        _ => Finding::error("reachability", format!("{what}: {failure}"), "see what the system says"),
    }
}

fn no_answer(transport: &str, address: SocketAddr, wrapped: bool) -> Finding {
    let key = match wrapped {
        true => {
            ", or the server has another tls-auth, tls-crypt or tls-crypt-v2 key and is silent for who has not the same"
        }
        false => "",
    };
    Finding::error(
        "no-answer",
        format!(
            "{transport} {address}: nothing came back. A firewall drops the packets, here, there or between, or nobody is there{key}"
        ),
        "look into the server's log while this runs: lines about authentication mean the key; none mean that nothing arrives",
    )
}

fn over_udp(probe: &Probe, entry: &ConnectionEntry, socket: &UdpSocket, address: SocketAddr) -> Finding {
    let mut buffer = [0; 2048];
    let mut silent = true;
    for _ in 0..TRIES {
        let answer = socket
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| socket.send(probe.packet()))
            .and_then(|_| socket.recv(&mut buffer));
        match answer {
            Ok(len) => {
                match judged(probe.judge(buffer.get(..len).unwrap_or_default(), false), "udp", address) {
                    Ok(finding) => return finding,
                    Err(()) => silent = false,
                }
            }
            Err(failure) if matches!(failure.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            }
            Err(failure) => return unreachable("udp", address, &failure),
        }
    }
    match silent {
        true => no_answer("udp", address, is_wrapped(entry)),
        false => foreign("udp", address),
    }
}

fn over_tcp(profile: &Profile, probe: &Probe, entry: &ConnectionEntry, address: SocketAddr) -> Finding {
    let mut stream = match tcp_stream(profile, address, PATIENCE * TRIES) {
        Ok(stream) => stream,
        Err(failure) => return unreachable("tcp", address, &failure),
    };
    let mut buffer = [0; 2048];
    let answer = stream
        .set_read_timeout(Some(PATIENCE * TRIES))
        .and_then(|()| stream.write_all(&probe.framed()))
        .and_then(|()| stream.read(&mut buffer));
    match answer {
        Ok(0) => closed(entry, address),
        Ok(len) => judged(probe.judge(buffer.get(..len).unwrap_or_default(), true), "tcp", address)
            .unwrap_or_else(|()| foreign("tcp", address)),
        Err(failure) if failure.kind() == io::ErrorKind::ConnectionReset => closed(entry, address),
        Err(failure) => match failure.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                no_answer("tcp", address, is_wrapped(entry))
            }
            _ => unreachable("tcp", address, &failure),
        },
    }
}

fn is_wrapped(entry: &ConnectionEntry) -> bool {
    entry.tls_auth.is_some() || entry.tls_crypt.is_some() || entry.tls_crypt_v2.is_some()
}

/// The server closed the connection at the first packet.
fn closed(entry: &ConnectionEntry, address: SocketAddr) -> Finding {
    let text = match is_wrapped(entry) {
        true => {
            "the server closed the connection at the first packet: its tls-auth, tls-crypt or tls-crypt-v2 key is another one, or it has none"
        }
        false => {
            "the server closed the connection at the first packet: it wants a tls-auth, tls-crypt or tls-crypt-v2 key, or is no OpenVPN server"
        }
    };
    Finding::error(
        "control-channel-key",
        format!("tcp {address}: {text}"),
        "give both ends the same key (and direction, for tls-auth)",
    )
}

/// `Err`: nothing that an OpenVPN server sends.
fn judged(answer: Answer, transport: &str, address: SocketAddr) -> Result<Finding, ()> {
    match answer {
        Answer::Server => Ok(Finding::good(
            "reachability",
            format!("{transport} {address}: an OpenVPN server answers, with the right key"),
        )),
        Answer::OtherKey => Ok(Finding::error(
            "control-channel-key",
            format!(
                "{transport} {address}: an OpenVPN server answers, but not with the key that this end has"
            ),
            "give both ends the same tls-auth, tls-crypt or tls-crypt-v2 key, or none; tls-auth also the same `auth` and opposite directions",
        )),
        Answer::Foreign => Err(()),
    }
}

fn foreign(transport: &str, address: SocketAddr) -> Finding {
    Finding::error(
        "not-openvpn",
        format!("{transport} {address}: something answers that is no OpenVPN server"),
        "correct `remote` and `port`: another service has this one",
    )
}

/// Sends as much as the way out carries, and waits for a router that says less.
fn path_mtu(socket: &UdpSocket, address: SocketAddr) -> Option<Finding> {
    sockopt::set_mtu_discovery(socket, true).ok()?;
    socket.set_read_timeout(Some(ROUTERS_PATIENCE)).ok()?;
    let headers = if address.is_ipv4() { 28 } else { 48 };
    let mut mtu = sockopt::path_mtu(socket).ok()?;
    let mut buffer = [0; 2048];
    for _ in 0..TRIES {
        let len = usize::try_from(mtu.min(65_000).saturating_sub(headers)).ok()?;
        let _too_large = socket.send(&padding(len));
        // A router's message ends the wait; the server says nothing.
        let _silence = socket.recv(&mut buffer);
        let now = sockopt::path_mtu(socket).ok()?;
        if now == mtu {
            break;
        }
        mtu = now;
    }
    let what = format!("the path to {} carries packets of {mtu} bytes, as far as routers tell", address.ip());
    Some(match mtu < USUAL_MTU {
        true => Finding::warning(
            "path-mtu",
            format!("{what}: less than culvert's largest, so that connections through the tunnel may hang"),
            format!(
                "write `mssfix {mtu} mtu` on both ends, and for other than TCP `tun-mtu {}`",
                mtu.saturating_sub(80)
            ),
        ),
        false => Finding::good("path-mtu", what),
    })
}
