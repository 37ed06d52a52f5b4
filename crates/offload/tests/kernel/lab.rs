//! Network namespaces to try the module in.

use std::{
    fs::File,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, OwnedFd},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use culvert_offload::{
    Backend as _, DeviceMode, DeviceSpec, LinuxBackend, Offload,
    conformance::{Lab, Tunnel},
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, sockopt::Timeout};

/// A network namespace with the calling thread inside.
pub(crate) struct KernelLab {
    namespace: String,
    device: Mutex<String>,
}

impl KernelLab {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("cvk{}n{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        run("ip", &["netns", "add", &namespace]);
        let file = File::open(format!("/run/netns/{namespace}")).unwrap();
        let network = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(file.as_fd(), network).expect("root enters a namespace");
        run("ip", &["link", "set", "lo", "up"]);
        Self { namespace, device: Mutex::default() }
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
    /// Takes whole packets.
    sender: OwnedFd,
    receiver: OwnedFd,
}

impl RawTunnel {
    fn open() -> Self {
        /// "Use for experimentation and testing" (RFC 3692).
        const PROTOCOL: u32 = 253;
        /// Packets come with their header.
        const RAW: u32 = 255;
        let open = |protocol: u32| {
            let protocol = rustix::net::Protocol::from_raw(protocol.try_into().unwrap());
            rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(protocol)).unwrap()
        };
        Self { sender: open(RAW), receiver: open(PROTOCOL) }
    }
}

impl Tunnel for RawTunnel {
    fn send(&self, packet: &[u8]) {
        let to: [u8; 4] = packet[16..20].try_into().unwrap();
        let to = SocketAddr::from((to, 0));
        rustix::net::sendto(&self.sender, packet, SendFlags::empty(), &to).unwrap();
    }

    fn recv(&self, timeout: Duration) -> Option<Vec<u8>> {
        rustix::net::sockopt::set_socket_timeout(&self.receiver, Timeout::Recv, Some(timeout)).unwrap();
        let mut buf = vec![0; 65_536];
        let (len, _) = rustix::net::recv(&self.receiver, &mut buf, RecvFlags::empty()).ok()?;
        buf.truncate(len);
        Some(buf)
    }
}

pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
}
