//! Whether the server can be reached, and what is in the way: each stage names its own cause.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket},
    time::Duration,
};

use culvert_config::{
    Profile,
    profile::{ConnectionEntry, Remote},
    value::Family,
};
use culvert_daemon::probe::{Answer, Probe, padding, port_number, tcp_stream, udp_socket};
use culvert_host::{Host as _, NetlinkHost};
use culvert_sys::sockopt;
use culvert_wire::socks;

use super::{proxied, silence};
use crate::finding::{Finding, Level};

/// How often a datagram is sent, and how long each time is waited.
pub(super) const TRIES: u32 = 3;
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
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
            findings.extend(proxied::examine(profile, entry, proxy));
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

pub(super) fn addresses(remote: &Remote, family: Family) -> Result<Vec<SocketAddr>, Finding> {
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
    let what = format!("udp {address}");
    let socket = match udp_socket(profile, address) {
        Ok(socket) => socket,
        Err(failure) => return vec![unreachable(&what, &failure)],
    };
    let line = Line { socket: &socket, relayed_to: None };
    let answer = over_udp(&probe, line, &what, || silence::explain(profile, entry, address));
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
pub(super) fn unreachable(what: &str, failure: &io::Error) -> Finding {
    match failure.kind() {
        io::ErrorKind::ConnectionRefused => Finding::error(
            "nothing-listens",
            format!("{what}: the machine, or a firewall in its name, says that nothing listens on the port"),
            "start the server, or correct `port` and `proto`: udp and tcp are different ports",
        ),
        io::ErrorKind::PermissionDenied => Finding::error(
            "local-firewall",
            format!("{what}: this machine's packet filter does not let the packet out"),
            "accept it in the output chain: see `nft list ruleset`",
        ),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => silence::no_answer(what),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Finding::error(
            "host-unreachable",
            format!(
                "{what}: a router or firewall, or this machine, says that it cannot be reached: {failure}"
            ),
            "see whether the server's machine is up, and the networks between",
        ),
        _ => Finding::error("reachability", format!("{what}: {failure}"), "see what the system says"),
    }
}

/// Where datagrams go: to the server, or to a relay with its address in front.
#[derive(Clone, Copy)]
pub(super) struct Line<'s> {
    pub(super) socket: &'s UdpSocket,
    pub(super) relayed_to: Option<SocketAddr>,
}

impl Line<'_> {
    fn send(self, packet: &[u8]) -> io::Result<usize> {
        let Some(server) = self.relayed_to else { return self.socket.send(packet) };
        let mut datagram = Vec::with_capacity(socks::V6_HEADER_LEN + packet.len());
        socks::push_header(server, &mut datagram);
        datagram.extend_from_slice(packet);
        self.socket.send(&datagram)
    }

    /// What came, without a relay's header.
    fn receive(self, buffer: &mut [u8]) -> io::Result<&[u8]> {
        let len = self.socket.recv(buffer)?;
        let datagram = buffer.get(..len).unwrap_or_default();
        match self.relayed_to {
            None => Ok(datagram),
            Some(_) => Ok(socks::split_header(datagram).map_or(datagram, |(_, packet)| packet)),
        }
    }
}

/// `silent`: what is to be said when nothing comes back.
pub(super) fn over_udp(
    probe: &Probe,
    line: Line<'_>,
    what: &str,
    silent: impl FnOnce() -> Finding,
) -> Finding {
    let mut buffer = [0; 2048];
    let mut heard = false;
    for _ in 0..TRIES {
        let answer = line
            .socket
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| line.send(probe.packet()))
            .and_then(|_| line.receive(&mut buffer));
        match answer {
            Ok(packet) => match judged(probe.judge(packet, false), what) {
                Ok(finding) => return finding,
                Err(()) => heard = true,
            },
            Err(failure) if matches!(failure.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            }
            Err(failure) => return unreachable(what, &failure),
        }
    }
    if heard { foreign(what) } else { silent() }
}

fn over_tcp(profile: &Profile, probe: &Probe, entry: &ConnectionEntry, address: SocketAddr) -> Finding {
    let what = format!("tcp {address}");
    match tcp_stream(profile, address, PATIENCE * TRIES) {
        Ok(stream) => over_stream(probe, entry, stream, &what),
        Err(failure) => unreachable(&what, &failure),
    }
}

pub(super) fn over_stream(
    probe: &Probe,
    entry: &ConnectionEntry,
    mut stream: TcpStream,
    what: &str,
) -> Finding {
    let mut buffer = [0; 2048];
    let answer = stream
        .set_read_timeout(Some(PATIENCE * TRIES))
        .and_then(|()| stream.write_all(&probe.framed()))
        .and_then(|()| stream.read(&mut buffer));
    match answer {
        Ok(0) => closed(entry, what),
        Ok(len) => judged(probe.judge(buffer.get(..len).unwrap_or_default(), true), what)
            .unwrap_or_else(|()| foreign(what)),
        Err(failure) if failure.kind() == io::ErrorKind::ConnectionReset => closed(entry, what),
        Err(failure) => unreachable(what, &failure),
    }
}

pub(super) fn is_wrapped(entry: &ConnectionEntry) -> bool {
    entry.tls_auth.is_some() || entry.tls_crypt.is_some() || entry.tls_crypt_v2.is_some()
}

/// The server closed the connection at the first packet.
fn closed(entry: &ConnectionEntry, what: &str) -> Finding {
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
        format!("{what}: {text}"),
        "give both ends the same key (and direction, for tls-auth)",
    )
}

/// `Err`: nothing that an OpenVPN server sends.
fn judged(answer: Answer, what: &str) -> Result<Finding, ()> {
    match answer {
        Answer::Server => Ok(Finding::good(
            "reachability",
            format!("{what}: an OpenVPN server answers, with the right key"),
        )),
        Answer::OtherKey => Ok(Finding::error(
            "control-channel-key",
            format!("{what}: an OpenVPN server answers, but not with the key that this end has"),
            "give both ends the same tls-auth, tls-crypt or tls-crypt-v2 key, or none; tls-auth also the same `auth` and opposite directions",
        )),
        Answer::Foreign => Err(()),
    }
}

fn foreign(what: &str) -> Finding {
    Finding::error(
        "not-openvpn",
        format!("{what}: something answers that is no OpenVPN server"),
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
