//! Socket options of the transport sockets.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use rustix::net::sockopt as rx;

use crate::sockaddr;

const SOL_UDP: i32 = 17;
const UDP_SEGMENT: i32 = 103;
const UDP_GRO: i32 = 104;

/// Makes a descriptor blocking or non-blocking.
///
/// # Errors
/// None in practice.
pub fn set_nonblocking(fd: impl AsFd, on: bool) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    let mut wanted = flags;
    wanted.set(rustix::fs::OFlags::NONBLOCK, on);
    if wanted != flags {
        rustix::fs::fcntl_setfl(&fd, wanted)?;
    }
    Ok(())
}

/// The local address of a socket, IPv4 in plain form.
///
/// # Errors
/// When the descriptor is not an internet socket.
pub fn local_address(fd: impl AsFd) -> io::Result<SocketAddr> {
    let address = SocketAddr::try_from(rustix::net::getsockname(fd)?)?;
    Ok(sockaddr::plain(address))
}

/// The address a socket is connected to, IPv4 in plain form.
///
/// # Errors
/// When the socket is not connected.
pub fn remote_address(fd: impl AsFd) -> io::Result<SocketAddr> {
    let address = rustix::net::getpeername(fd)?.ok_or(io::ErrorKind::NotConnected)?;
    Ok(sockaddr::plain(SocketAddr::try_from(address)?))
}

/// Lets several sockets of this user share one port, packets spread by flow.
///
/// # Errors
/// None in practice.
pub fn set_reuse_port(fd: impl AsFd, on: bool) -> io::Result<()> {
    Ok(rx::set_socket_reuseport(fd, on)?)
}

/// Lets a socket bind to an address that a closed connection still holds.
///
/// # Errors
/// None in practice.
pub fn set_reuse_address(fd: impl AsFd, on: bool) -> io::Result<()> {
    Ok(rx::set_socket_reuseaddr(fd, on)?)
}

/// Sets the receive buffer, beyond the system's limit where the process may.
///
/// # Errors
/// None in practice: a size above the limit is cut down.
pub fn set_recv_buffer(fd: impl AsFd, bytes: u32) -> io::Result<()> {
    let bytes = bytes as usize;
    Ok(rx::set_socket_recv_buffer_size_force(&fd, bytes)
        .or_else(|_| rx::set_socket_recv_buffer_size(&fd, bytes))?)
}

/// Sets the send buffer, beyond the system's limit where the process may.
///
/// # Errors
/// None in practice: a size above the limit is cut down.
pub fn set_send_buffer(fd: impl AsFd, bytes: u32) -> io::Result<()> {
    let bytes = bytes as usize;
    Ok(rx::set_socket_send_buffer_size_force(&fd, bytes)
        .or_else(|_| rx::set_socket_send_buffer_size(&fd, bytes))?)
}

/// Sets the firewall mark of what the socket sends.
///
/// # Errors
/// Without the privilege for network administration.
pub fn set_mark(fd: impl AsFd, mark: u32) -> io::Result<()> {
    set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_MARK, &mark.to_ne_bytes())
}

/// Binds the socket to a network device.
///
/// # Errors
/// When there is no such device.
pub fn set_bind_device(fd: impl AsFd, name: &str) -> io::Result<()> {
    set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name.as_bytes())
}

/// Restricts an IPv6 socket to IPv6, or opens it to IPv4 too.
///
/// # Errors
/// On an IPv4 socket.
pub fn set_v6_only(fd: impl AsFd, on: bool) -> io::Result<()> {
    Ok(rx::set_ipv6_v6only(fd, on)?)
}

/// Switches path MTU discovery: `true` sets don't-fragment always, `false` never.
///
/// # Errors
/// When the descriptor is not an internet socket.
pub fn set_mtu_discovery(fd: impl AsFd, on: bool) -> io::Result<()> {
    let value = if on { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_DONT }.to_ne_bytes();
    if is_v6(&fd)? {
        set(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, &value)?;
    }
    set(fd.as_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &value)
}

/// Has the socket report the local address of each received datagram.
///
/// # Errors
/// When the descriptor is not an internet socket.
pub fn report_local_address(fd: impl AsFd, on: bool) -> io::Result<()> {
    let value = i32::from(on).to_ne_bytes();
    if is_v6(&fd)? {
        set(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &value)
    } else {
        set(fd.as_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO, &value)
    }
}

/// Has the kernel join datagrams of a flow into trains (Linux 5.0).
///
/// # Errors
/// On kernels without it.
pub fn set_udp_gro(fd: impl AsFd, on: bool) -> io::Result<()> {
    set(fd.as_fd(), SOL_UDP, UDP_GRO, &i32::from(on).to_ne_bytes())
}

/// Returns whether the kernel can split a train into datagrams on sending (Linux 4.18).
pub fn has_udp_segment(fd: impl AsFd) -> bool {
    // Setting "no segmentation by default" changes nothing and fails where the option is unknown.
    set(fd.as_fd(), SOL_UDP, UDP_SEGMENT, &0_i32.to_ne_bytes()).is_ok()
}

/// Switches off the delay with which TCP collects small writes.
///
/// # Errors
/// When the descriptor is not a TCP socket.
pub fn set_tcp_nodelay(fd: impl AsFd, on: bool) -> io::Result<()> {
    Ok(rx::set_tcp_nodelay(fd, on)?)
}

/// Sets how many bytes have to be there before a stream counts as readable (its end always does).
///
/// # Errors
/// None in practice.
pub fn set_low_water(fd: impl AsFd, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, &bytes.to_ne_bytes())
}

/// Returns whether this is an IPv6 socket.
///
/// # Errors
/// When the descriptor is not a socket.
pub fn is_v6(fd: impl AsFd) -> io::Result<bool> {
    Ok(rustix::net::getsockname(fd)?.address_family() == rustix::net::AddressFamily::INET6)
}

fn set(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let len = u32::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `value` is valid for `len` bytes during the call; the kernel copies it and checks its size itself.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
