//! A private network for one test.
//!
//! ```text
//!   namespace "server"                      namespace "client"
//!   wire: 10.99.0.1/24, fd99::1/64  <veth>  wire: 10.99.0.2/24, fd99::2/64
//! ```
//!
//! Labs do not see each other, so all use the same addresses. Names are unique to the process
//! (`cvt<pid>n<number>s`); a lab removes its namespaces and whatever still runs in them when it is dropped,
//! also by a panic, and the first lab of a process removes those that killed processes left behind.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::{Failure, Result, patient};

/// Two namespaces joined by a wire.
pub struct NetnsLab {
    /// Where the server (or the first end of a point-to-point tunnel) runs.
    pub server: Namespace,
    /// Where the client runs.
    pub client: Namespace,
}

static NEXT: AtomicU32 = AtomicU32::new(0);
static SWEEP: Once = Once::new();
const PREFIX: &str = "cvt";
const WIRE: &str = "wire";

impl NetnsLab {
    /// The server's address on the wire.
    pub const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
    /// The server's IPv6 address on the wire.
    pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);
    /// The client's address on the wire.
    pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
    /// The client's IPv6 address on the wire.
    pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 2);

    /// The server's port.
    pub const PORT: u16 = 1194;

    /// Builds the network.
    ///
    /// # Errors
    ///
    /// Not root, no `ip` command, or a kernel without namespaces or veth.
    pub fn new() -> Result<Self> {
        SWEEP.call_once(remove_leftovers);
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::new("network namespaces need root: run this test through ./test as root"));
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |end: char| format!("{PREFIX}{}n{number}{end}", process::id());
        let lab = Self { server: Namespace::new(name('s'))?, client: Namespace::new(name('c'))? };
        let client = &lab.client.name;
        let veth = format!("link add {WIRE} type veth peer name {WIRE} netns {client}");
        lab.server.ip_batch(&[veth, wire_commands(&[Self::SERVER_V4.into(), Self::SERVER_V6.into()])])?;
        lab.client.ip_batch(&[wire_commands(&[Self::CLIENT_V4.into(), Self::CLIENT_V6.into()])])?;
        for end in [&lab.server, &lab.client] {
            end.wait_for_carrier()?;
        }
        Ok(lab)
    }

    /// Adds client `number` (1..=200) on a wire of its own, and returns it with the server's address there.
    ///
    /// ```text
    ///   namespace "server"              new namespace
    ///   wireN: 10.99.N.1/24  <veth>     wire: 10.99.N.2/24
    /// ```
    pub fn add_client(&self, number: u8) -> Result<(Namespace, Ipv4Addr)> {
        let client = Namespace::new(format!("{}{number}", self.client.name))?;
        let (near, far) = (format!("{WIRE}{number}"), Ipv4Addr::new(10, 99, number, 2));
        let server = Ipv4Addr::new(10, 99, number, 1);
        let link = ["link", "add", &near, "netns", &self.server.name, "type", "veth"];
        ip(&[&link[..], &["peer", "name", WIRE, "netns", &client.name]].concat())?;
        self.server.ip(&["address", "add", &format!("{server}/24"), "dev", &near])?;
        self.server.ip(&["link", "set", &near, "addrgenmode", "none", "up"])?;
        client.ip_batch(&[wire_commands(&[far.into()])])?;
        client.wait_for_carrier()?;
        Ok((client, server))
    }

    /// Cuts the wire, or joins it again.
    pub fn set_wire(&self, up: bool) -> Result<()> {
        self.client.ip(&["link", "set", WIRE, if up { "up" } else { "down" }]).map(drop)
    }
}

/// Commands that give one end of the wire its addresses, and set it up.
fn wire_commands(addresses: &[IpAddr]) -> String {
    let mut commands = String::from("link set lo up\n");
    for address in addresses {
        commands += &format!("address add {} dev {WIRE}\n", with_prefix(*address));
    }
    // No link-local addresses: they appear when they like, and a test may compare before and after.
    commands + &format!("link set {WIRE} addrgenmode none up")
}

fn with_prefix(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{v4}/24"),
        IpAddr::V6(v6) => format!("{v6}/64"),
    }
}

/// The tunnel devices of a namespace, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelDevices {
    /// Those of a process.
    pub tun: Vec<String>,
    /// Those of the kernel's `ovpn` module.
    pub ovpn: Vec<String>,
}

/// A network namespace, gone when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    fn new(name: String) -> Result<Self> {
        ip(&["netns", "add", &name])?;
        let namespace = Self { name };
        // `ip netns exec` shows this in place of the machine's file, which no test may change.
        fs::create_dir_all(namespace.etc())?;
        fs::write(namespace.etc().join("resolv.conf"), "# test\n")?;
        // Duplicate address detection would keep a new IPv6 address unusable for a second.
        namespace.enter(|| {
            ["all", "default"]
                .iter()
                .try_for_each(|links| fs::write(format!("/proc/sys/net/ipv6/conf/{links}/accept_dad"), "0"))
        })??;
        Ok(namespace)
    }

    /// The name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a command that runs `program` inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a program inside to its end and returns what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        output(self.command(program).args(arguments))
    }

    /// Runs `ip ARGUMENTS` inside.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        output(Command::new("ip").args(["-n", &self.name]).args(arguments))
    }

    /// Runs many `ip` commands, a line each, in one process: starting one takes long on an emulated machine.
    fn ip_batch(&self, commands: &[String]) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::new(format!("starting ip: {error}")))?;
        if let Some(mut input) = child.stdin.take() {
            let _ = input.write_all(commands.join("\n").as_bytes()); // the status tells
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(Failure::new(format!("ip -n {} of\n{}\n{stderr}", self.name, commands.join("\n"))))
    }

    /// Returns the names of the tunnel devices: of the kinds `tun`, and `ovpn`, which is the kernel's module.
    pub fn tunnel_devices(&self) -> Result<TunnelDevices> {
        let list = self.ip(&["-d", "-j", "link", "show"])?;
        let list: Value = serde_json::from_str(&list)
            .map_err(|error| Failure::new(format!("ip -j link prints {list:?}: {error}")))?;
        let of_kind = |kind: &str| {
            let links = list.as_array().into_iter().flatten();
            let matching = links.filter(|link| link["linkinfo"]["info_kind"] == kind);
            matching.filter_map(|link| link["ifname"].as_str()).map(str::to_owned).collect()
        };
        Ok(TunnelDevices { tun: of_kind("tun"), ovpn: of_kind("ovpn") })
    }

    /// Deletes the tunnel devices: what killed processes left behind, or what running ones still use.
    pub fn remove_tunnel_devices(&self) -> Result<()> {
        let TunnelDevices { tun, ovpn } = self.tunnel_devices()?;
        tun.iter().chain(&ovpn).try_for_each(|device| self.ip(&["link", "del", device]).map(drop))
    }

    /// Calls `work` on a thread whose sockets belong to this namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = Path::new("/run/netns").join(&self.name);
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let namespace = fs::File::open(&path)?;
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), network)?;
                Ok::<_, io::Error>(work())
            });
            match thread.join() {
                Ok(result) => result.map_err(|error| {
                    Failure::from(error).while_doing(&format!("entering the namespace {}", self.name))
                }),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Gives the wire's end one more address.
    pub fn add_address(&self, address: IpAddr) -> Result<()> {
        self.change_address("add", address)
    }

    /// Takes an address from the wire's end.
    pub fn remove_address(&self, address: IpAddr) -> Result<()> {
        self.change_address("del", address)
    }

    fn change_address(&self, verb: &str, address: IpAddr) -> Result<()> {
        self.ip(&["address", verb, &with_prefix(address), "dev", WIRE]).map(drop)
    }

    /// Waits until the kernel has noticed that both ends of the wire are up, and takes the IPv6 addresses on it for
    /// usable: both a moment later.
    fn wait_for_carrier(&self) -> Result<()> {
        let deadline = Instant::now() + patient(Duration::from_secs(5));
        loop {
            let state = self.ip(&["address", "show", "dev", WIRE])?;
            if state.contains(" state UP ") && !state.contains(" tentative ") {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::new(format!("no carrier on the wire of {}", self.name)));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills everything that runs inside.
    fn kill_all(&self) {
        let pids = output(Command::new("ip").args(["netns", "pids", &self.name])).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| line.trim().parse().ok()).filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL); // it may have ended meanwhile
        }
    }

    fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.kill_all();
        if let Err(failure) = ip(&["netns", "del", &self.name]) {
            eprintln!("leaving the namespace {} behind: {failure}", self.name);
        }
        // A client that gave up its rights cannot remove its copy of the namespace's file from the machine's directory.
        if let Ok(resolv) = fs::metadata(self.etc().join("resolv.conf")) {
            let _ = fs::remove_file(format!("/etc/resolv.conf.before-culvert.{}", resolv.ino()));
        }
        let _ = fs::remove_dir_all(self.etc());
    }
}

/// Removes the namespaces of processes that were killed before they could.
fn remove_leftovers() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('n')).map(|(pid, _)| pid);
        if let Some(owner) = owner
            && owner.parse::<u32>().is_ok()
            && !Path::new("/proc").join(owner).exists()
        {
            drop(Namespace { name });
        }
    }
}

fn ip(arguments: &[&str]) -> Result<String> {
    output(Command::new("ip").args(arguments))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| Failure::new(format!("starting {command:?}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{command:?} ended with {}: {}", output.status, stderr.trim())))
}
