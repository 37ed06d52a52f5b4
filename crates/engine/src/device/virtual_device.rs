//! Devices that the system does not know: none at all (`dev null`), and a program (`dev-node unix:PROGRAM`).

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use culvert_offload::{Device, OffloadError};
use culvert_sys::{
    Eventfd,
    process::{KillSignal, kill, pass_descriptor, terminating_signal, wait_for_end},
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
        program: None,
    })
}

/// A program at the other end of a socket: each datagram is a packet.
struct Program {
    /// The only one that keeps it open: the program's end refuses packets once the device is dropped.
    socket: Arc<UnixDatagram>,
    process: Arc<Mutex<Process>>,
}

/// The program, as long as nobody else can have its number.
#[derive(Default)]
struct Process {
    /// Its process id from its start until it was waited for.
    id: Option<u32>,
    /// It is to end, and its end is no news.
    dismissed: bool,
    /// It was started, and ended.
    ended: bool,
}

impl Queue for Program {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let (header, packet) =
            buf.split_at_mut_checked(VNET_HEADER_LEN).ok_or(io::ErrorKind::InvalidInput)?;
        header.fill(0);
        match self.socket.recv(packet) {
            Ok(len) => Ok(len + VNET_HEADER_LEN),
            // A socket of datagrams tells no end, not even its own: see `watch`.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && lock(&self.process).ended => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Err(error) => Err(error),
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
        let mut process = lock(&self.process);
        process.dismissed = true;
        // It is told to end as OpenVPN tells it; it may be gone already.
        if let Some(id) = process.id {
            let _ = kill(id, KillSignal::Interrupt);
        }
    }
}

fn lock(process: &Mutex<Process>) -> MutexGuard<'_, Process> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A device that waits for its program.
pub(crate) struct ProgramStart {
    path: PathBuf,
    process: Arc<Mutex<Process>>,
    /// This end and the program's; `None` once it was started.
    ends: Mutex<Option<(Weak<UnixDatagram>, OwnedFd)>>,
}

/// Opens a device whose packets a program exchanges, once it is started.
pub(crate) fn open_program(path: &Path) -> Result<OpenDevice, OffloadError> {
    let failed = |source| start_failed(path, source);
    // Without a slash it would be searched.
    if !path.is_absolute() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "the path is not absolute")));
    }
    let (socket, theirs) = UnixDatagram::pair().map_err(failed)?;
    for end in [&socket, &theirs] {
        // Small buffers only cost speed.
        let _ = culvert_sys::sockopt::set_recv_buffer(end, BUFFER);
        let _ = culvert_sys::sockopt::set_send_buffer(end, BUFFER);
    }
    socket.set_nonblocking(true).map_err(failed)?;
    let (socket, process) = (Arc::new(socket), Arc::default());
    let start = ProgramStart {
        path: path.to_owned(),
        process: Arc::clone(&process),
        ends: Mutex::new(Some((Arc::downgrade(&socket), OwnedFd::from(theirs)))),
    };
    Ok(OpenDevice {
        device: Device { name: "internal:af_unix".to_owned(), ifindex: 0 },
        queues: vec![Arc::new(Program { socket, process })],
        joins: Joins { tcp: false, udp: false },
        queue_length: None,
        program: Some(start),
    })
}

fn start_failed(path: &Path, source: io::Error) -> OffloadError {
    OffloadError::system(format!("start {} as the device", path.display()), source)
}

impl ProgramStart {
    /// Starts the program. `TUNTAP_SOCKET_FD` tells it which descriptor is the socket: 3 or more, for there are programs
    /// that take 0 for nothing (lwipovpn). Source: OpenVPN 2.7 `tun_afunix.c`.
    ///
    /// Once it was started, further calls do nothing.
    ///
    /// # Errors
    /// When it cannot be started; another call tries again.
    pub(crate) fn start(&self, env: &[(String, String)]) -> Result<(), OffloadError> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((socket, theirs)) = &*ends else { return Ok(()) };
        let failed = |source| start_failed(&self.path, source);
        let mut command = Command::new(&self.path);
        let number = pass_descriptor(&mut command, theirs.try_clone().map_err(failed)?);
        let child = command
            .env_clear()
            .envs(env.iter().map(|(name, value)| (name, value)))
            .env("TUNTAP_SOCKET_FD", number.to_string())
            .stdin(Stdio::null())
            .spawn()
            .map_err(failed)?;
        // Its end of the socket is its alone now.
        drop(command);
        lock(&self.process).id = Some(child.id());
        let watched = watch(child, Arc::clone(&self.process), Weak::clone(socket));
        *ends = None;
        watched.map_err(failed)
    }
}

/// Waits for the program's end, which a socket of datagrams does not tell, and ends the device with it.
fn watch(mut child: Child, process: Arc<Mutex<Process>>, socket: Weak<UnixDatagram>) -> io::Result<()> {
    let wait = move || {
        let ended = wait_for_end(child.id());
        // Under the lock: nobody signals a number that is given back meanwhile.
        let mut process = lock(&process);
        let ended = ended.and_then(|()| child.wait());
        process.id = None;
        process.ended = true;
        let dismissed = process.dismissed;
        drop(process);
        match ended {
            Ok(_) if dismissed => {}
            Ok(status) => tracing::error!("ERROR: the device's {}", how(status)),
            Err(error) => tracing::error!("ERROR: the device's program cannot be waited for: {error}"),
        }
        // The reader wakes up, and finds the end.
        if let Some(socket) = socket.upgrade() {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    };
    std::thread::Builder::new().name("culvert-device".to_owned()).spawn(wait).map(drop)
}

/// The end of a program in OpenVPN's words (`run_command.c`).
fn how(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("external program exited with error status: {code}"),
        None => {
            format!("external program received signal {}", terminating_signal(status).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use culvert_testkit::TempDir;

    use super::*;

    /// What comes out of a device next.
    fn next(device: &OpenDevice) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; VNET_HEADER_LEN + 65_536];
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            match device.queues[0].read(&mut buf) {
                Ok(len) => return Ok(buf[VNET_HEADER_LEN..len].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            assert!(Instant::now() < patience, "the program says nothing");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn start(device: &OpenDevice, env: &[(String, String)]) -> Result<(), OffloadError> {
        device.program.as_ref().unwrap().start(env)
    }

    #[test]
    fn a_program_gets_a_socket_that_it_takes_and_the_environment_that_is_its_own() {
        let folder = TempDir::new().unwrap();
        let path =
            folder.write_script("say", "#!/bin/bash\nexec /usr/bin/env >&$TUNTAP_SOCKET_FD\n").unwrap();
        let device = open_program(&path).unwrap();
        start(&device, &[("ifconfig_local".to_owned(), "10.8.0.2".to_owned())]).unwrap();
        let said = String::from_utf8(next(&device).unwrap()).unwrap();
        assert!(said.lines().any(|line| line == "ifconfig_local=10.8.0.2"), "{said}");
        let number = said.lines().find_map(|line| line.strip_prefix("TUNTAP_SOCKET_FD=")).unwrap();
        assert!(number.parse::<u32>().unwrap() >= 3, "{said}");
        assert!(!said.contains("CARGO"), "inherited: {said}");
        assert_eq!(
            next(&device).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof,
            "its end is the device's"
        );
    }

    #[test]
    fn packets_that_come_before_the_program_wait_for_it() {
        let folder = TempDir::new().unwrap();
        let back = "#!/usr/bin/env python3\nimport os, socket\n\
                    s = socket.socket(fileno=int(os.environ['TUNTAP_SOCKET_FD']))\ns.send(s.recv(100))\n";
        let device = open_program(&folder.write_script("back", back).unwrap()).unwrap();
        device.queues[0].write(&[&[0; VNET_HEADER_LEN][..], b"packet"].concat()).unwrap();
        let path = std::env::var("PATH").unwrap();
        start(&device, &[("PATH".to_owned(), path)]).unwrap();
        assert_eq!(next(&device).unwrap(), b"packet");
    }

    #[test]
    fn a_program_that_takes_no_order_to_end_notices_that_its_device_is_gone() {
        let folder = TempDir::new().unwrap();
        let noticed = folder.path().join("noticed");
        let send = "#!/usr/bin/env python3\nimport os, signal, socket, sys\n\
                    signal.signal(signal.SIGINT, signal.SIG_IGN)\n\
                    s = socket.socket(fileno=int(os.environ['TUNTAP_SOCKET_FD']))\ns.settimeout(20)\n\
                    try:\n  while True: s.send(b'packet')\n\
                    except ConnectionRefusedError: open(os.environ['noticed'], 'w')\n";
        let device = open_program(&folder.write_script("send", send).unwrap()).unwrap();
        let env = [
            ("PATH".to_owned(), std::env::var("PATH").unwrap()),
            ("noticed".to_owned(), noticed.display().to_string()),
        ];
        start(&device, &env).unwrap();
        assert_eq!(next(&device).unwrap(), b"packet");
        let OpenDevice { queues, program, .. } = device;
        drop(queues);
        let process = program.unwrap().process;
        let patience = Instant::now() + Duration::from_secs(60);
        while !lock(&process).ended && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(noticed.exists());
    }

    #[test]
    fn what_could_not_be_started_is_not_taken_for_started() {
        let folder = TempDir::new().unwrap();
        let device = open_program(&folder.path().join("late")).unwrap();
        assert!(start(&device, &[]).is_err());
        assert!(start(&device, &[]).is_err(), "nothing runs");
        folder.write_script("late", "#!/bin/bash\nprintf packet >&$TUNTAP_SOCKET_FD\n").unwrap();
        start(&device, &[]).unwrap();
        assert_eq!(next(&device).unwrap(), b"packet");
    }

    #[test]
    fn a_program_is_not_searched() {
        assert!(open_program(Path::new("true")).is_err());
    }

    #[test]
    fn how_a_program_ended_is_said_in_openvpns_words() {
        let ended = |text: &str| how(Command::new("/bin/sh").args(["-c", text]).status().unwrap());
        assert_eq!(ended("exit 7"), "external program exited with error status: 7");
        assert_eq!(ended("kill -9 $$"), "external program received signal 9");
    }
}
