//! Devices that the system does not know: none at all (`dev null`), and a program (`dev-node unix:PROGRAM`).

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    process::{Child, Command},
    sync::Arc,
};

use culvert_offload::{Device, DeviceSpec, OffloadError};
use culvert_sys::{
    Eventfd,
    process::{KillSignal, kill},
};

use super::{OpenDevice, Queue};
use crate::packet::{Joins, VNET_HEADER_LEN};

/// The socket's buffers, as OpenVPN makes them.
const BUFFER: u32 = 65_536;

/// Nothing comes out, and everything goes in.
struct Null(Eventfd);

impl Queue for Null {
    fn read(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write(&self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens no device at all.
pub(crate) fn open_null() -> Result<OpenDevice, OffloadError> {
    let never = Eventfd::new().map_err(|source| OffloadError::system("open the device null", source))?;
    Ok(OpenDevice {
        device: Device { name: "null".to_owned(), ifindex: 0 },
        queues: vec![Arc::new(Null(never))],
        joins: Joins { tcp: false, udp: false },
        queue_length: None,
    })
}

/// A program at the other end of a socket: each datagram is a packet.
struct Program {
    socket: UnixDatagram,
    process: u32,
}

impl Queue for Program {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let (header, packet) =
            buf.split_at_mut_checked(VNET_HEADER_LEN).ok_or(io::ErrorKind::InvalidInput)?;
        header.fill(0);
        match self.socket.recv(packet)? {
            // Its end, and ours: see `watch`.
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            len => Ok(len + VNET_HEADER_LEN),
        }
    }

    fn write(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame.get(VNET_HEADER_LEN..).unwrap_or_default()).map(|_| ())
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It is told to end as OpenVPN tells it; it may be gone already.
        let _ = kill(self.process, KillSignal::Interrupt);
    }
}

/// Starts a program as the device. Its standard input is the socket, whose number stands in `TUNTAP_SOCKET_FD`.
pub(crate) fn open_program(spec: &DeviceSpec, program: &str) -> Result<OpenDevice, OffloadError> {
    let failed = |source| OffloadError::system(format!("start {program} as the device"), source);
    let (socket, theirs) = UnixDatagram::pair().map_err(failed)?;
    for end in [&socket, &theirs] {
        // Small buffers only cost speed.
        let _ = culvert_sys::sockopt::set_recv_buffer(end, BUFFER);
        let _ = culvert_sys::sockopt::set_send_buffer(end, BUFFER);
    }
    socket.set_nonblocking(true).map_err(failed)?;
    let child = Command::new(program)
        .env("TUNTAP_SOCKET_FD", "0")
        .env("TUNTAP_DEV_TYPE", "tun")
        .env("TUNTAP_MTU", spec.mtu.to_string())
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .map_err(failed)?;
    let process = child.id();
    watch(child, socket.try_clone().map_err(failed)?).map_err(failed)?;
    Ok(OpenDevice {
        device: Device { name: "internal:af_unix".to_owned(), ifindex: 0 },
        queues: vec![Arc::new(Program { socket, process })],
        joins: Joins { tcp: false, udp: false },
        queue_length: None,
    })
}

/// Waits for the program's end, which a socket of datagrams does not tell, and ends the device with it.
fn watch(mut child: Child, socket: UnixDatagram) -> io::Result<()> {
    let wait = move || {
        match child.wait() {
            Ok(status) => tracing::debug!(%status, "the program that is the device ended"),
            Err(error) => tracing::debug!(%error, "the program that is the device cannot be waited for"),
        }
        // The reader finds an end. It may have closed the socket before.
        let _ = socket.shutdown(std::net::Shutdown::Both);
    };
    std::thread::Builder::new().name("culvert-device".to_owned()).spawn(wait).map(drop)
}
