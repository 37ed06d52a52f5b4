use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use crate::{
    cmsg::{self, Control},
    sockaddr::{self, RawAddr},
    sockopt,
};

/// The largest datagram, hence the size of each receive buffer: a smaller one would truncate joined trains silently.
pub const MAX_DATAGRAM: usize = 65_535;
/// The most segments that one send may carry (`UDP_MAX_SEGMENTS` of the oldest kernel that has segmentation).
pub const MAX_SEGMENTS: usize = 64;
/// Receive buffers of a batch.
const BUFFERS: usize = 8;
const BUFFERS_U32: u32 = 8;
/// Messages per `sendmmsg`.
const MESSAGES: usize = 32;

/// A non-blocking UDP socket that receives and sends in batches.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    v6: bool,
    peer: Option<SocketAddr>,
}

/// One message to send: a datagram, or a train of datagrams of equal size (the last may be shorter).
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The bytes, segment after segment.
    pub bytes: &'a [u8],
    /// Size of each segment; `None` sends one datagram.
    pub segment: Option<u16>,
    /// The destination; `None` on a connected socket.
    pub to: Option<SocketAddr>,
    /// The local address to send from, where it matters, and the index of the interface to leave by; 0: by the routes.
    pub from: Option<(IpAddr, u32)>,
    /// The TOS byte, or traffic class, where it is not the socket's.
    pub tos: Option<u8>,
}

/// One received message: a datagram, or a train that the kernel joined.
#[derive(Debug)]
pub struct Received<'a> {
    /// Who sent it.
    pub from: SocketAddr,
    /// The local address and the index of the interface that it arrived on, where the socket reports them
    /// ([`sockopt::report_local_address`]).
    pub to: Option<(IpAddr, u32)>,
    /// Size of each segment (the last may be shorter); the whole length when the kernel joined nothing.
    pub segment: usize,
    /// The bytes.
    pub bytes: &'a mut [u8],
}

/// Buffers for one batch of received datagrams, to be kept and used again.
pub struct RecvBatch {
    slots: Vec<Slot>,
    filled: usize,
}

struct Slot {
    bytes: Box<[u8]>,
    name: RawAddr,
    control: Control,
    len: usize,
    told: cmsg::Told,
}

impl UdpSocket {
    /// Takes over a bound socket and makes it non-blocking.
    ///
    /// # Errors
    /// When the descriptor is not an internet socket.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        sockopt::set_nonblocking(&fd, true)?;
        let v6 = rustix::net::getsockname(&fd)?.address_family() == rustix::net::AddressFamily::INET6;
        let peer = sockopt::remote_address(&fd).ok();
        Ok(Self { fd, v6, peer })
    }

    /// Creates and binds a socket, after `configure` had its chance to set options on it.
    ///
    /// # Errors
    /// When the system refuses; `configure`'s errors.
    pub fn bind(
        local: SocketAddr,
        configure: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let family = if local.is_ipv6() {
            rustix::net::AddressFamily::INET6
        } else {
            rustix::net::AddressFamily::INET
        };
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(family, rustix::net::SocketType::DGRAM, flags, None)?;
        configure(fd.as_fd())?;
        rustix::net::bind(&fd, &local)?;
        Ok(Self { fd, v6: local.is_ipv6(), peer: None })
    }

    /// Binds the first of several sockets that are to share a port; [`UdpSocket::share`] makes the others.
    ///
    /// The system would let another program of the same user share it, too, and give each a part of the packets. So the
    /// port must be free at first, as with [`UdpSocket::bind`].
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    pub fn bind_shared(
        local: SocketAddr,
        configure: impl Fn(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<Self> {
        if local.port() != 0 {
            drop(Self::bind(local, &configure)?);
        }
        Self::bind_sharing(local, configure)
    }

    /// Binds one more socket to the port of this one, which was bound by [`UdpSocket::bind_shared`].
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    pub fn share(&self, configure: impl Fn(BorrowedFd<'_>) -> io::Result<()>) -> io::Result<Self> {
        Self::bind_sharing(self.local_addr()?, configure)
    }

    fn bind_sharing(
        local: SocketAddr,
        configure: impl Fn(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<Self> {
        Self::bind(local, |fd| {
            sockopt::set_reuse_port(fd, true)?;
            configure(fd)
        })
    }

    /// Connects the socket: from now on it receives from this address only, and needs no destination.
    ///
    /// # Errors
    /// When there is no route, or the families differ.
    pub fn connect(&mut self, remote: SocketAddr) -> io::Result<()> {
        rustix::net::connect(&self.fd, &sockaddr::for_family(remote, self.v6))?;
        self.peer = Some(remote);
        Ok(())
    }

    /// The local address.
    ///
    /// # Errors
    /// None in practice.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        sockopt::local_address(&self.fd)
    }

    /// The address that the socket is connected to.
    #[must_use]
    pub const fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Makes another handle to the same socket.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, v6: self.v6, peer: self.peer })
    }

    /// Receives what is there, up to the batch's size, without waiting. Returns the number of messages.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; asynchronous errors of a connected socket (`ConnectionRefused`).
    pub fn recv_batch(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        batch.recv(self.fd.as_fd())
    }

    /// Sends messages in order, without waiting. Returns how many went out: fewer than given when the socket filled
    /// up or a message was refused; the next call then reports why for the first of the rest.
    ///
    /// # Errors
    /// Why the first message was not sent.
    pub fn send_batch(&self, messages: &[Outgoing<'_>]) -> io::Result<usize> {
        let mut done = 0;
        for part in messages.chunks(MESSAGES) {
            match self.send_some(part) {
                Ok(n) if n < part.len() => return Ok(done + n),
                Ok(n) => done += n,
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
            }
        }
        Ok(done)
    }

    fn send_some(&self, messages: &[Outgoing<'_>]) -> io::Result<usize> {
        let mut names = [RawAddr::EMPTY; MESSAGES];
        let mut controls = [Control::EMPTY; MESSAGES];
        let mut iovecs = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MESSAGES];
        let mut headers = [EMPTY_HEADER; MESSAGES];
        for (i, message) in messages.iter().enumerate() {
            iovecs[i] = libc::iovec {
                iov_base: message.bytes.as_ptr().cast_mut().cast(), // sendmmsg only reads
                iov_len: message.bytes.len(),
            };
            let header = &mut headers[i].msg_hdr;
            header.msg_iov = &raw mut iovecs[i];
            header.msg_iovlen = 1;
            if let Some(to) = message.to {
                let (raw, len) = RawAddr::encode(to, self.v6);
                names[i] = raw;
                header.msg_name = (&raw mut names[i]).cast();
                header.msg_namelen = len;
            }
            let len = controls[i].write(message.segment, message.from, message.tos, self.v6);
            if len > 0 {
                header.msg_control = (&raw mut controls[i]).cast();
                header.msg_controllen = len as _;
            }
        }
        let count = u32::try_from(messages.len()).unwrap_or(0);
        // SAFETY: `headers` has `MESSAGES` initialised entries and `messages` is a chunk of at most that many; each
        // points to a name, control buffer, vector and payload that live until the call returns, which keeps none.
        let sent = unsafe {
            libc::sendmmsg(
                self.fd.as_raw_fd(),
                headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<UdpSocket> for OwnedFd {
    fn from(socket: UdpSocket) -> Self {
        socket.fd
    }
}

impl RecvBatch {
    /// Messages of a full batch. A receive that gave fewer emptied the socket.
    pub const CAPACITY: usize = BUFFERS;

    /// Makes the buffers: half a mebibyte, touched only as far as datagrams fill them.
    #[must_use]
    pub fn new() -> Self {
        let slot = || Slot {
            bytes: vec![0; MAX_DATAGRAM].into_boxed_slice(),
            name: RawAddr::EMPTY,
            control: Control::EMPTY,
            len: 0,
            told: cmsg::Told::default(),
        };
        Self { slots: std::iter::repeat_with(slot).take(BUFFERS).collect(), filled: 0 }
    }

    /// The messages of the last receive, oldest first.
    pub fn messages(&mut self) -> impl Iterator<Item = Received<'_>> {
        self.slots.iter_mut().take(self.filled).filter_map(|slot| {
            let len = slot.len;
            Some(Received {
                from: slot.name.decode()?,
                to: slot.told.to,
                segment: slot.told.segment.unwrap_or(len).min(len),
                bytes: slot.bytes.get_mut(..len)?,
            })
        })
    }

    fn recv(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        self.filled = 0;
        let mut iovecs = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BUFFERS];
        let mut headers = [EMPTY_HEADER; BUFFERS];
        for (i, slot) in self.slots.iter_mut().enumerate() {
            iovecs[i] = libc::iovec { iov_base: slot.bytes.as_mut_ptr().cast(), iov_len: slot.bytes.len() };
            let header = &mut headers[i].msg_hdr;
            header.msg_iov = &raw mut iovecs[i];
            header.msg_iovlen = 1;
            header.msg_name = (&raw mut slot.name).cast();
            header.msg_namelen = sockaddr::SIZE;
            header.msg_control = (&raw mut slot.control).cast();
            header.msg_controllen = cmsg::CAPACITY as _;
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_WAITFORONE;
        // SAFETY: `BUFFERS` headers are initialised; each points to a name, control and payload buffer of the stated
        // size, exclusively borrowed through `self`, and the kernel keeps no pointer after it returned.
        let n = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr(),
                BUFFERS_U32,
                flags as _,
                std::ptr::null_mut(),
            )
        };
        let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
        for (slot, header) in self.slots.iter_mut().zip(&headers).take(n) {
            // A truncated message is worthless: none of its trailing segments would authenticate.
            let whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            slot.len = if whole { header.msg_len as usize } else { 0 };
            slot.told = slot.control.read(header.msg_hdr.msg_controllen);
        }
        self.filled = n;
        Ok(n)
    }
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self::new()
    }
}

/// A message header that names nothing.
// SAFETY: `mmsghdr` is plain data: integers, and pointers for which null means "none".
const EMPTY_HEADER: libc::mmsghdr = unsafe { std::mem::zeroed() };

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(local: &str) -> UdpSocket {
        UdpSocket::bind(local.parse().unwrap(), |_| Ok(())).unwrap()
    }

    fn receive(socket: &UdpSocket) -> (SocketAddr, Option<(IpAddr, u32)>, Vec<Vec<u8>>) {
        let mut batch = RecvBatch::new();
        let (mut from, mut to, mut datagrams) = (None, None, Vec::new());
        while socket.recv_batch(&mut batch).is_ok() {
            for message in batch.messages() {
                (from, to) = (Some(message.from), message.to);
                datagrams.extend(message.bytes.chunks(message.segment).map(<[u8]>::to_vec));
            }
        }
        (from.unwrap(), to, datagrams)
    }

    #[test]
    fn a_train_arrives_as_the_datagrams_it_was_made_of() {
        let (a, b) = (bound("127.0.0.1:0"), bound("127.0.0.1:0"));
        sockopt::set_udp_gro(&b, true).unwrap();
        let bytes: Vec<u8> = (0..2500_u32).map(|i| (i % 251).to_le_bytes()[0]).collect();
        let to = Some(b.local_addr().unwrap());
        let train = Outgoing { bytes: &bytes, segment: Some(1000), to, from: None, tos: None };
        assert_eq!(a.send_batch(&[train]).unwrap(), 1);
        let (from, _, datagrams) = receive(&b);
        assert_eq!(from, a.local_addr().unwrap());
        assert_eq!(datagrams, bytes.chunks(1000).map(<[u8]>::to_vec).collect::<Vec<_>>());
    }

    #[test]
    fn more_messages_than_one_call_carries_all_arrive_in_order() {
        let (a, b) = (bound("127.0.0.1:0"), bound("127.0.0.1:0"));
        let to = Some(b.local_addr().unwrap());
        let payloads: Vec<[u8; 2]> = (0..100_u16).map(u16::to_be_bytes).collect();
        let messages: Vec<_> = payloads
            .iter()
            .map(|bytes| Outgoing { bytes, segment: None, to, from: None, tos: None })
            .collect();
        assert_eq!(a.send_batch(&messages).unwrap(), 100);
        assert_eq!(receive(&b).2, payloads.map_to_vecs());
    }

    #[test]
    fn a_port_is_shared_by_sockets_of_one_owner_and_by_nobody_else() {
        for local in ["127.0.0.1:0", "[::]:0"] {
            let first = UdpSocket::bind_shared(local.parse().unwrap(), |_| Ok(())).unwrap();
            let second = first.share(|_| Ok(())).unwrap();
            let address = first.local_addr().unwrap();
            assert_eq!(second.local_addr().unwrap(), address);
            let taken = UdpSocket::bind_shared(address, |_| Ok(())).unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
            drop((first, second));
            UdpSocket::bind_shared(address, |_| Ok(())).unwrap();
        }
    }

    trait MapToVecs {
        fn map_to_vecs(&self) -> Vec<Vec<u8>>;
    }
    impl MapToVecs for Vec<[u8; 2]> {
        fn map_to_vecs(&self) -> Vec<Vec<u8>> {
            self.iter().map(|p| p.to_vec()).collect()
        }
    }

    #[test]
    fn a_dual_stack_socket_reports_and_sets_plain_ipv4_addresses() {
        let b = UdpSocket::bind("[::]:0".parse().unwrap(), |fd| {
            sockopt::set_v6_only(fd, false)?;
            sockopt::report_local_address(fd, true)
        })
        .unwrap();
        let a = bound("127.0.0.1:0");
        let to = SocketAddr::new("127.0.0.2".parse().unwrap(), b.local_addr().unwrap().port());
        a.send_batch(&[Outgoing { bytes: b"ping", segment: None, to: Some(to), from: None, tos: None }])
            .unwrap();
        let (from, local, _) = receive(&b);
        assert_eq!(from, a.local_addr().unwrap());
        assert_eq!(local.map(|(ip, _)| ip), Some(to.ip()));

        b.send_batch(&[Outgoing { bytes: b"pong", segment: None, to: Some(from), from: local, tos: None }])
            .unwrap();
        assert_eq!(receive(&a).0, to);
    }

    #[test]
    fn an_empty_datagram_is_a_message_of_no_bytes() {
        let (a, b) = (bound("127.0.0.1:0"), bound("127.0.0.1:0"));
        let to = Some(b.local_addr().unwrap());
        a.send_batch(&[Outgoing { bytes: b"", segment: None, to, from: None, tos: None }]).unwrap();
        let mut batch = RecvBatch::new();
        assert_eq!(b.recv_batch(&mut batch).unwrap(), 1);
        assert_eq!(batch.messages().next().unwrap().bytes.len(), 0);
    }
}
