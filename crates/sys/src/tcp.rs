use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{RecvFlags, SendFlags};

use crate::sockopt;

/// A connected, non-blocking TCP stream.
#[derive(Debug)]
pub struct TcpSocket {
    fd: OwnedFd,
}

impl TcpSocket {
    /// Takes over a connected stream, makes it non-blocking and switches off its delay for small writes.
    ///
    /// # Errors
    /// When the descriptor is not a stream socket.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        sockopt::set_nonblocking(&fd, true)?;
        // Not for UNIX streams, which tests use.
        let _ = sockopt::set_tcp_nodelay(&fd, true);
        Ok(Self { fd })
    }

    /// Reads what is there. Zero bytes: the peer closed its side.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; what broke the stream otherwise.
    pub fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(&self.fd, buf, RecvFlags::DONTWAIT)?.0)
    }

    /// Reads what is there and leaves it there. Zero bytes: the peer closed its side.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(&self.fd, buf, RecvFlags::DONTWAIT | RecvFlags::PEEK)?.0)
    }

    /// Sets how many bytes have to be there before the stream counts as readable.
    ///
    /// # Errors
    /// None in practice.
    pub fn set_low_water(&self, bytes: usize) -> io::Result<()> {
        sockopt::set_low_water(&self.fd, bytes)
    }

    /// Limits how many bytes the system takes without having sent them; a stream is writable below half of that.
    ///
    /// # Errors
    /// When this is not a TCP stream.
    pub fn set_unsent_limit(&self, bytes: u32) -> io::Result<()> {
        sockopt::set_tcp_unsent_limit(&self.fd, bytes)
    }

    /// Sets the TOS byte of the packets that are sent from now on; the two bits of ECN stay the system's.
    ///
    /// # Errors
    /// When this is not a TCP stream.
    pub fn set_tos(&self, tos: u8) -> io::Result<()> {
        Ok(rustix::net::sockopt::set_ip_tos(&self.fd, tos)?)
    }

    /// Writes as much as fits. Never raises a signal.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits; what broke the stream otherwise.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
    }

    /// The local address.
    ///
    /// # Errors
    /// None in practice.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        sockopt::local_address(&self.fd)
    }

    /// Ends the stream in both directions; who reads it sees its end.
    pub fn shutdown(&self) {
        // Fails only when the stream is gone already.
        let _ = rustix::net::shutdown(&self.fd, rustix::net::Shutdown::Both);
    }

    /// Makes another handle to the same stream.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }
}

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
