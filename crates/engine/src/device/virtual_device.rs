//! Devices that the system does not know: none at all (`dev null`), and a program (`dev-node unix:PROGRAM`).

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use culvert_offload::{Device, DeviceProgram, DeviceSpec, OffloadError};
use culvert_sys::{
    Eventfd,
    process::{KillSignal, kill, pass_descriptor, wait_for_end},
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
    /// Its process id as long as nobody else can have it: until it was waited for.
    process: Arc<Mutex<Option<u32>>>,
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
        if let Some(process) = *self.process.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = kill(process, KillSignal::Interrupt);
        }
    }
}

/// Starts a program as the device. `TUNTAP_SOCKET_FD` tells it which descriptor is the socket: 3 or more, for there are
/// programs that take 0 for nothing (lwipovpn). Source of the variables: OpenVPN 2.7 `tun_afunix.c`.
pub(crate) fn open_program(spec: &DeviceSpec, program: &DeviceProgram) -> Result<OpenDevice, OffloadError> {
    let failed =
        |source| OffloadError::system(format!("start {} as the device", program.path.display()), source);
    // Without a slash it would be searched.
    if !program.path.is_absolute() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "the path is not absolute")));
    }
    let (socket, theirs) = UnixDatagram::pair().map_err(failed)?;
    for end in [&socket, &theirs] {
        // Small buffers only cost speed.
        let _ = culvert_sys::sockopt::set_recv_buffer(end, BUFFER);
        let _ = culvert_sys::sockopt::set_send_buffer(end, BUFFER);
    }
    socket.set_nonblocking(true).map_err(failed)?;
    let mut command = Command::new(&program.path);
    let number = pass_descriptor(&mut command, OwnedFd::from(theirs));
    let child = command
        .env_clear()
        .envs(program.env.iter().map(|(name, value)| (name, value)))
        .env("TUNTAP_SOCKET_FD", number.to_string())
        .env("TUNTAP_DEV_TYPE", if spec.ethernet.is_some() { "tap" } else { "tun" })
        .env("TUNTAP_MTU", spec.mtu.to_string())
        .stdin(Stdio::null())
        .spawn()
        .map_err(failed)?;
    // Its end of the socket is its alone now.
    drop(command);
    let process = Arc::new(Mutex::new(Some(child.id())));
    let shared = socket.try_clone().map_err(failed)?;
    watch(child, Arc::clone(&process), shared).map_err(failed)?;
    Ok(OpenDevice {
        device: Device { name: "internal:af_unix".to_owned(), ifindex: 0 },
        queues: vec![Arc::new(Program { socket, process })],
        joins: Joins { tcp: false, udp: false },
        queue_length: None,
    })
}

/// Waits for the program's end, which a socket of datagrams does not tell, and ends the device with it.
fn watch(mut child: Child, process: Arc<Mutex<Option<u32>>>, socket: UnixDatagram) -> io::Result<()> {
    let wait = move || {
        let ended = wait_for_end(child.id());
        // Under the lock: nobody signals a number that is given back meanwhile.
        let mut process = process.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = ended.and_then(|()| child.wait());
        *process = None;
        drop(process);
        match ended {
            Ok(status) => tracing::debug!(%status, "the program that is the device ended"),
            Err(error) => tracing::debug!(%error, "the program that is the device cannot be waited for"),
        }
        // The reader finds an end. It may have closed the socket before.
        let _ = socket.shutdown(std::net::Shutdown::Both);
    };
    std::thread::Builder::new().name("culvert-device".to_owned()).spawn(wait).map(drop)
}

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        time::{Duration, Instant},
    };

    use culvert_offload::{DeviceKind, DeviceMode, Ethernet};
    use culvert_testkit::TempDir;

    use super::*;

    fn spec(ethernet: Option<Ethernet>) -> DeviceSpec {
        DeviceSpec {
            name: None,
            kind: DeviceKind::Tun,
            node: None,
            mtu: 1400,
            tx_queue_len: None,
            mode: DeviceMode::PointToPoint,
            max_peers: 2,
            client_to_client: false,
            replay_window: (64, 15),
            threads: None,
            ethernet,
        }
    }

    /// The first packet that comes out of a device.
    fn first_packet(device: &OpenDevice) -> Vec<u8> {
        let mut buf = vec![0; VNET_HEADER_LEN + 65_536];
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            match device.queues[0].read(&mut buf) {
                Ok(len) => return buf[VNET_HEADER_LEN..len].to_vec(),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            assert!(Instant::now() < patience, "the program says nothing");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_program_gets_a_socket_that_it_takes_and_the_environment_that_is_its_own() {
        let folder = TempDir::new().unwrap();
        let path =
            folder.write_script("say", "#!/bin/bash\nexec /usr/bin/env >&$TUNTAP_SOCKET_FD\n").unwrap();
        let program = DeviceProgram { path, env: vec![("ifconfig_local".to_owned(), "10.8.0.2".to_owned())] };
        for (ethernet, kind) in [(None, "tun"), (Some(Ethernet::default()), "tap")] {
            let said = first_packet(&open_program(&spec(ethernet), &program).unwrap());
            let said = String::from_utf8(said).unwrap();
            let has = |line: &str| said.lines().any(|said| said == line);
            assert!(has(&format!("TUNTAP_DEV_TYPE={kind}")) && has("TUNTAP_MTU=1400"), "{said}");
            assert!(has("ifconfig_local=10.8.0.2"), "{said}");
            let number = said.lines().find_map(|line| line.strip_prefix("TUNTAP_SOCKET_FD=")).unwrap();
            assert!(number.parse::<u32>().unwrap() >= 3, "{said}");
            assert!(!said.contains("CARGO"), "inherited: {said}");
        }
    }

    #[test]
    fn a_program_is_not_searched() {
        let program = DeviceProgram { path: PathBuf::from("true"), env: Vec::new() };
        assert!(open_program(&spec(None), &program).is_err());
    }
}
