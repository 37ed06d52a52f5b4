//! Sockets of the transport: addresses to bind, options, TCP connections.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use culvert_config::{
    Profile,
    profile::{Bind, ConnectionEntry, MtuDiscovery, Multihome},
    value::{Family, Port},
};
use culvert_offload::UdpOptions;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 256;

/// How long to wait between two tries to resolve a name.
pub(crate) const RESOLVE_PAUSE: Duration = Duration::from_secs(5);

/// Finds the address to bind: a name's first address, or all addresses.
pub(crate) async fn local_address(
    host: Option<&str>,
    port: &Port,
    family: Family,
) -> Result<SocketAddr, String> {
    let port = port_number(port)?;
    let Some(host) = host else {
        return Ok((everywhere(family), port).into());
    };
    let found = resolve(host, port, family).await?;
    found.into_iter().next().ok_or_else(|| format!("--local {host}: no address of the wanted family"))
}

/// Resolves a name to addresses of a family, in the resolver's order.
pub(crate) async fn resolve(host: &str, port: u16, family: Family) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host((host, port)).await.map_err(|failure| {
        let text = failure.to_string();
        // The standard library's words come before the resolver's.
        let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
        format!("RESOLVE: Cannot resolve host address: {host}:{port} ({reason})")
    })?;
    let mut addresses: Vec<_> = found
        .filter(|address| match family {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        })
        .collect();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(format!(
            "RESOLVE: Cannot resolve host address: {host}:{port} (no address of the wanted family)"
        ));
    }
    Ok(addresses)
}

/// The number of a port; names are looked up in the services database.
///
/// # Errors
/// When there is no such name.
pub fn port_number(port: &Port) -> Result<u16, String> {
    match port {
        Port::Number(number) => Ok(*number),
        Port::Service(name) => {
            service_port(name).ok_or_else(|| format!("port '{name}' is not in /etc/services"))
        }
    }
}

fn service_port(name: &str) -> Option<u16> {
    let services = std::fs::read_to_string("/etc/services").ok()?;
    services.lines().find_map(|line| {
        let line = line.split('#').next()?;
        let mut words = line.split_whitespace();
        let (service, port) = (words.next()?, words.next()?);
        (service == name || words.any(|alias| alias == name)).then(|| port.split('/').next()?.parse().ok())?
    })
}

/// All addresses of a family. Those of `::` are IPv4's as well, unless the socket is told otherwise.
///
/// Where no family is wanted, OpenVPN takes the first answer of `getaddrinfo` for no name. That is 0.0.0.0, unless this
/// machine cannot send to itself over IPv4 (RFC 6724, rule 1, as glibc and musl sort).
pub(crate) fn everywhere(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        Family::Any if has_ipv6() && !has_ipv4() => Ipv6Addr::UNSPECIFIED.into(),
        Family::Any => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// Whether there is a way to this machine itself over IPv4. Nothing is sent: the port is `discard`.
fn has_ipv4() -> bool {
    std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect((Ipv4Addr::UNSPECIFIED, 9)))
        .is_ok()
}

/// Whether this machine has IPv6 at all: a socket can be made.
fn has_ipv6() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

/// The mark of the transport's packets: the kill switch knows them by one, the configured or its own.
pub(crate) fn mark(profile: &Profile) -> Option<u32> {
    profile.link.mark.or(profile.link.kill_switch.then_some(KILL_SWITCH_MARK))
}

/// "cv".
const KILL_SWITCH_MARK: u32 = 0x6376;

/// The options of UDP sockets of a profile.
pub(crate) fn udp_options(profile: &Profile, entry: &ConnectionEntry) -> UdpOptions {
    let link = &profile.link;
    UdpOptions {
        recv_buffer: link.rcvbuf,
        send_buffer: link.sndbuf,
        mark: mark(profile),
        bind_device: link.bind_dev.clone(),
        v6_only: is_v6_only(entry),
        multihome: link.multihome != Multihome::Off,
        // Unless somebody asks for it, routers may split what does not fit: where they drop it and tell nobody, the tunnel
        // would be stuck.
        mtu_discovery: match entry.mtu.discovery {
            None | Some(MtuDiscovery::No) => Some(false),
            Some(MtuDiscovery::Yes) => Some(true),
            Some(MtuDiscovery::Maybe) => None,
        },
        socks_relay: None,
    }
}

/// `bind ipv6only`.
fn is_v6_only(entry: &ConnectionEntry) -> bool {
    entry.bind == Bind::Bind { ipv6_only: true }
}

/// Opens a listening TCP socket. Accepted ones inherit its device and mark, which the tunnel's own have.
pub(crate) fn listen_tcp(tunnels: Option<&Profile>, local: SocketAddr) -> Result<TcpListener, String> {
    let listen = || {
        let socket = if local.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(device) = tunnels.and_then(|profile| profile.link.bind_dev.as_ref()) {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        if let Some(mark) = tunnels.and_then(|profile| profile.link.mark) {
            culvert_sys::sockopt::set_mark(&socket, mark)?;
        }
        if let Some(profile) = tunnels {
            size_buffers(profile, &socket);
            if local.is_ipv6() {
                let v6_only = profile.connections.first().is_some_and(is_v6_only);
                culvert_sys::sockopt::set_v6_only(&socket, v6_only)?;
            }
        }
        socket.set_reuseaddr(true)?;
        socket.bind(local)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|failure| format!("TCP/UDP: Socket bind failed on local address {local}: {failure}"))
}

/// A socket for a stream to a server, with the profile's device and mark.
pub(crate) fn tcp_socket(profile: &Profile, remote: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(device) = &profile.link.bind_dev {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if let Some(mark) = mark(profile) {
        culvert_sys::sockopt::set_mark(&socket, mark)?;
    }
    size_buffers(profile, &socket);
    Ok(socket)
}

/// `rcvbuf` and `sndbuf` of a stream, before it connects: they bound the window that it can ever have. Best effort, as in
/// OpenVPN.
fn size_buffers(profile: &Profile, socket: &TcpSocket) {
    let _ = culvert_sys::sockopt::size_buffers(socket, profile.link.rcvbuf, profile.link.sndbuf);
}

/// Connects a TCP stream, from a bound address if one is given.
pub(crate) async fn connect_tcp(
    profile: &Profile,
    remote: SocketAddr,
    local: Option<SocketAddr>,
    limit: Duration,
) -> Result<TcpStream, String> {
    let connect = async {
        let socket = tcp_socket(profile, remote)?;
        if let Some(local) = local {
            socket.set_reuseaddr(true)?;
            socket.bind(local)?;
        }
        socket.connect(remote).await
    };
    match tokio::time::timeout(limit, connect).await {
        Ok(Ok(stream)) => Ok(stream),
        // As OpenVPN words it, without the number.
        Ok(Err(failure)) => {
            let text = failure.to_string();
            Err(text.split(" (os error").next().unwrap_or_default().to_owned())
        }
        Err(_elapsed) => Err("Connection timed out".to_owned()),
    }
}

/// An error with its causes, as one line.
pub(crate) fn describe(failure: &dyn std::error::Error) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Returns the wildcard address of a family with a port.
pub(crate) fn unspecified_like(remote: SocketAddr, port: u16) -> SocketAddr {
    let ip: IpAddr =
        if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, port)
}
