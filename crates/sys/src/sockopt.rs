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

/// Sets both buffers; `None` leaves one as it is.
///
/// # Errors
/// None in practice, as above.
pub fn size_buffers(fd: impl AsFd, recv: Option<u32>, send: Option<u32>) -> io::Result<()> {
    recv.map_or(Ok(()), |bytes| set_recv_buffer(&fd, bytes))?;
    send.map_or(Ok(()), |bytes| set_send_buffer(&fd, bytes))
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

/// How a socket treats path MTUs, per family; `None` where it does not speak it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MtuDiscovery {
    v4: i32,
    v6: Option<i32>,
}

/// Has datagrams leave whole whatever is known of the path, with don't-fragment set; returns what was set before.
///
/// # Errors
/// When the descriptor is not an internet socket.
pub fn forbid_cutting(fd: impl AsFd) -> io::Result<MtuDiscovery> {
    let v6 = if is_v6(&fd)? {
        Some(get_int(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)?)
    } else {
        None
    };
    let before = MtuDiscovery { v4: get_int(fd.as_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)?, v6 };
    let probe = MtuDiscovery { v4: libc::IP_PMTUDISC_PROBE, v6: v6.map(|_| libc::IPV6_PMTUDISC_PROBE) };
    if let Err(refused) = restore_mtu_discovery(&fd, probe) {
        // One family may have taken it.
        let _ = restore_mtu_discovery(&fd, before);
        return Err(refused);
    }
    Ok(before)
}

/// Sets back what [`forbid_cutting`] returned.
///
/// # Errors
/// When the descriptor is not such a socket.
pub fn restore_mtu_discovery(fd: impl AsFd, to: MtuDiscovery) -> io::Result<()> {
    if let Some(v6) = to.v6 {
        set(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, &v6.to_ne_bytes())?;
    }
    set(fd.as_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &to.v4.to_ne_bytes())
}

/// Has the kernel cut IPv6 datagrams for a path of this MTU, or of a smaller one that it knows; 0: by what it knows.
///
/// # Errors
/// When the socket is not of IPv6, or the MTU is below 1280.
pub fn set_ipv6_mtu(fd: impl AsFd, mtu: u16) -> io::Result<()> {
    set(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MTU, &i32::from(mtu).to_ne_bytes())
}

/// Returns the MTU of the path to the address that the socket is connected to, as far as the kernel knows it.
///
/// # Errors
/// On a socket that is not connected.
pub fn path_mtu(fd: impl AsFd) -> io::Result<u32> {
    if is_v6(&fd)? { Ok(rx::ipv6_mtu(fd)?) } else { Ok(rx::ip_mtu(fd)?) }
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

/// Limits the bytes of a TCP stream that were taken from the writer and not yet sent.
///
/// # Errors
/// When the descriptor is not a TCP socket.
pub fn set_tcp_unsent_limit(fd: impl AsFd, bytes: u32) -> io::Result<()> {
    set(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, &bytes.to_ne_bytes())
}

/// Sets how many bytes have to be there before a stream counts as readable (its end always does).
///
/// # Errors
/// None in practice.
pub fn set_low_water(fd: impl AsFd, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, &bytes.to_ne_bytes())
}

/// Divides the packets of a port between two sockets that share it ([`set_reuse_port`]): the second bound one gets
/// `DATA_V1` and those `DATA_V2` whose peer id is `first_id` or above, the first bound one everything else.
///
/// A classic BPF program of the port's group of sockets, which looks at a datagram's first four bytes; it needs no
/// privilege. To be set on the first socket before the second is bound: no packet is then ever misdirected.
///
/// # Errors
/// When the socket does not share its port.
pub fn steer_by_peer_id(fd: impl AsFd, first_id: u32) -> io::Result<()> {
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const SHIFT_RIGHT: u16 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
    const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
    const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const DATA_V1: u32 = 6;
    const DATA_V2: u32 = 9;
    let step = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let jump = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    // A load beyond the datagram's end returns 0: the first socket.
    let mut program = [
        step(LOAD_BYTE, 0),
        step(SHIFT_RIGHT, 3),
        jump(IF_EQUAL, DATA_V1, 5, 0),
        jump(IF_EQUAL, DATA_V2, 0, 3),
        step(LOAD_WORD, 0),
        step(AND, 0x00FF_FFFF),
        jump(IF_AT_LEAST, first_id, 1, 0),
        step(RETURN, 0),
        step(RETURN, 1),
    ];
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_mut_ptr(),
    };
    let len = u32::try_from(size_of_val(&filter)).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `filter` is a `sock_fprog` of `len` bytes whose `filter` points to `filter.len` instructions; both live
    // until the call returns, which copies and verifies them.
    let result = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            len,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns whether this is an IPv6 socket.
///
/// # Errors
/// When the descriptor is not a socket.
pub fn is_v6(fd: impl AsFd) -> io::Result<bool> {
    Ok(rustix::net::getsockname(fd)?.address_family() == rustix::net::AddressFamily::INET6)
}

fn get_int(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let mut value = [0; size_of::<i32>()];
    let mut len = u32::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `value` is valid for writes of `len` bytes, and `len` for reads and writes, during the call.
    let result =
        unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut len) };
    if result == 0 { Ok(i32::from_ne_bytes(value)) } else { Err(io::Error::last_os_error()) }
}

pub(crate) fn set(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let len = u32::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `value` is valid for `len` bytes during the call; the kernel copies it and checks its size itself.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Outgoing, RecvBatch, UdpSocket};

    #[test]
    fn cutting_is_forbidden_for_as_long_as_wanted() {
        for local in ["127.0.0.1:0", "[::]:0"] {
            let socket = std::net::UdpSocket::bind(local).unwrap();
            set_mtu_discovery(&socket, false).unwrap();
            let before = forbid_cutting(&socket).unwrap();
            assert_eq!(before.v4, libc::IP_PMTUDISC_DONT, "{local}");
            assert_eq!(forbid_cutting(&socket).unwrap().v4, libc::IP_PMTUDISC_PROBE, "{local}");
            restore_mtu_discovery(&socket, before).unwrap();
            assert_eq!(forbid_cutting(&socket).unwrap(), before, "{local}");
            let takes_mtu = set_ipv6_mtu(&socket, 1280).is_ok() && set_ipv6_mtu(&socket, 0).is_ok();
            assert_eq!(takes_mtu, is_v6(&socket).unwrap(), "{local}");
        }
    }

    /// How many datagrams are there.
    fn arrived(socket: &UdpSocket) -> Vec<Vec<u8>> {
        let mut batch = RecvBatch::new();
        let mut all = Vec::new();
        while socket.recv_batch(&mut batch).is_ok() {
            all.extend(batch.messages().map(|message| message.bytes.to_vec()));
        }
        all
    }

    #[test]
    fn a_shared_port_is_divided_by_opcode_and_peer_id() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let first = UdpSocket::bind(local.parse().unwrap(), |fd| set_reuse_port(fd, true)).unwrap();
            steer_by_peer_id(&first, 0x80_0000).unwrap();
            let address = first.local_addr().unwrap();
            let second = UdpSocket::bind(address, |fd| set_reuse_port(fd, true)).unwrap();
            let to_first: [&[u8]; 6] = [
                &[7 << 3, 1, 2, 3, 4],           // hard reset
                &[9 << 3, 0, 0, 5, 1],           // DATA_V2 of peer 5
                &[9 << 3 | 7, 0x7F, 0xFF, 0xFF], // the last peer of the lower half
                &[9 << 3, 0xFF],                 // too short to have an id
                &[],
                &[0xFF; 20],
            ];
            let to_second: [&[u8]; 3] =
                [&[6 << 3 | 1, 0, 0, 0, 1], &[9 << 3, 0x80, 0, 0, 1], &[9 << 3 | 3, 0xFF, 0xFF, 0xFF]];
            // Whatever the flow is hashed to.
            for _ in 0..8 {
                let sender = UdpSocket::bind(local.parse().unwrap(), |_| Ok(())).unwrap();
                for bytes in to_first.iter().chain(&to_second) {
                    let datagram =
                        Outgoing { bytes, segment: None, to: Some(address), from: None, tos: None };
                    assert_eq!(sender.send_batch(&[datagram]).unwrap(), 1);
                }
                assert_eq!(arrived(&first), to_first);
                assert_eq!(arrived(&second), to_second);
            }
        }
    }
}
