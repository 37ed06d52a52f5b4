//! Network namespaces to try the module in.

use std::{
    fs::File,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, OwnedFd},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use culvert_offload::{
    Backend as _, DeviceMode, DeviceSpec, LinuxBackend, Offload,
    conformance::{Lab, Tunnel},
};
use rustix::{
    event::{PollFd, PollFlags},
    net::{AddressFamily, RecvFlags, SendFlags, SocketType},
};

/// A network namespace with the calling thread inside.
pub(crate) struct KernelLab {
    namespace: String,
    device: Mutex<String>,
    _use: Use,
}

/// Whether others may use the module meanwhile.
enum Use {
    Shared(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>),
}

/// Unloading the module takes it from everybody.
static MODULE: RwLock<()> = RwLock::new(());

impl KernelLab {
    pub(crate) fn new() -> Self {
        Self::with(Use::Shared(MODULE.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// A namespace for a test that no other may run beside.
    pub(crate) fn alone() -> Self {
        Self::with(Use::Alone(MODULE.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn with(module: Use) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("cvk{}n{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        run("ip", &["netns", "add", &namespace]);
        let file = File::open(format!("/run/netns/{namespace}")).unwrap();
        let network = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(file.as_fd(), network).expect("root enters a namespace");
        run("ip", &["link", "set", "lo", "up"]);
        // The suite's second address: the module sends only from addresses that are configured.
        run("ip", &["address", "add", "127.0.0.2/8", "dev", "lo"]);
        Self { namespace, device: Mutex::default(), _use: module }
    }
}

impl Drop for KernelLab {
    fn drop(&mut self) {
        run("ip", &["netns", "del", &self.namespace]);
    }
}

impl Lab for KernelLab {
    fn open(&self, device: DeviceSpec) -> Arc<dyn Offload> {
        let mode = device.mode;
        let offload = LinuxBackend::default().open(device).unwrap();
        let name = offload.device().name;
        run("ip", &["link", "set", &name, "addrgenmode", "none", "up"]);
        if mode == DeviceMode::MultiPeer {
            run("ip", &["address", "add", "10.8.0.1/24", "dev", &name]);
        } else {
            run("ip", &["address", "add", "10.8.0.1", "peer", "10.8.0.2", "dev", &name]);
        }
        run("ip", &["address", "add", "fd00:8::1/64", "dev", &name, "nodad"]);
        *self.device.lock().unwrap() = name;
        offload
    }

    fn tunnel(&self) -> Box<dyn Tunnel> {
        Box::new(RawTunnel::open())
    }

    fn route(&self, (network, prefix): (IpAddr, u8), via: IpAddr) {
        let device = self.device.lock().unwrap().clone();
        let network = format!("{network}/{prefix}");
        let mut arguments = vec!["route", "add", &network];
        let via = via.to_string();
        if prefix < 32 {
            arguments.extend(["via", &via]);
        }
        arguments.extend(["dev", &device]);
        run("ip", &arguments);
    }
}

/// Packets of the suite's protocol, as this machine sends and gets them.
struct RawTunnel {
    /// Take whole packets.
    sender: OwnedFd,
    sender6: OwnedFd,
    receiver: OwnedFd,
    /// Gets all of IPv6: a raw socket would keep the header.
    receiver6: OwnedFd,
    /// With nobody to take the protocol, the machine would answer that it does not know it.
    _taker6: OwnedFd,
}

/// "Use for experimentation and testing" (RFC 3692).
const PROTOCOL: u8 = 253;

impl RawTunnel {
    fn open() -> Self {
        /// Packets come with their header.
        const RAW: u32 = 255;
        /// linux/if_ether.h
        const ETH_P_IPV6: u16 = 0x86DD;
        let open = |family, kind, protocol: u32| {
            let protocol = rustix::net::Protocol::from_raw(protocol.try_into().unwrap());
            rustix::net::socket(family, kind, Some(protocol)).unwrap()
        };
        Self {
            sender: open(AddressFamily::INET, SocketType::RAW, RAW),
            sender6: open(AddressFamily::INET6, SocketType::RAW, RAW),
            receiver: open(AddressFamily::INET, SocketType::RAW, PROTOCOL.into()),
            receiver6: open(AddressFamily::PACKET, SocketType::DGRAM, ETH_P_IPV6.to_be().into()),
            _taker6: open(AddressFamily::INET6, SocketType::RAW, PROTOCOL.into()),
        }
    }
}

impl Tunnel for RawTunnel {
    fn send(&self, packet: &[u8]) {
        let (socket, to): (_, IpAddr) = match packet[0] >> 4 {
            4 => (&self.sender, <[u8; 4]>::try_from(&packet[16..20]).unwrap().into()),
            _ => (&self.sender6, <[u8; 16]>::try_from(&packet[24..40]).unwrap().into()),
        };
        rustix::net::sendto(socket, packet, SendFlags::empty(), &SocketAddr::new(to, 0)).unwrap();
    }

    fn recv(&self, timeout: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + timeout;
        let mut buf = vec![0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).try_into().unwrap();
            let mut sockets = [&self.receiver, &self.receiver6].map(|fd| PollFd::new(fd, PollFlags::IN));
            if rustix::event::poll(&mut sockets, Some(&left)).unwrap() == 0 {
                return None;
            }
            let six = sockets[0].revents().is_empty();
            let socket = if six { &self.receiver6 } else { &self.receiver };
            let (len, _) = rustix::net::recv(socket, &mut buf, RecvFlags::DONTWAIT).ok()?;
            // Neighbours and routers have their own packets.
            if !six || buf[6] == PROTOCOL {
                buf.truncate(len);
                return Some(buf);
            }
        }
    }
}

/// Runs a program, which has to succeed; returns what it wrote.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The index of a network device of this namespace, if it is there.
pub(crate) fn index_of(device: &str) -> Option<u32> {
    let links = run("ip", &["-o", "link"]);
    links.lines().find_map(|line| {
        let (index, rest) = line.split_once(": ")?;
        let (name, _) = rest.split_once([':', '@'])?;
        (name == device).then(|| index.parse().unwrap())
    })
}
