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
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

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
        let (server, client) = (&lab.server.name, &lab.client.name);
        ip(&["link", "add", WIRE, "netns", server, "type", "veth", "peer", "name", WIRE, "netns", client])?;
        for (end, v4, v6) in
            [(&lab.server, Self::SERVER_V4, Self::SERVER_V6), (&lab.client, Self::CLIENT_V4, Self::CLIENT_V6)]
        {
            end.add_address(v4.into())?;
            end.add_address(v6.into())?;
            // No link-local addresses: they appear when they like, and a test may compare before and after.
            end.ip(&["link", "set", WIRE, "addrgenmode", "none", "up"])?;
        }
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
        client.add_address(far.into())?;
        client.ip(&["link", "set", WIRE, "addrgenmode", "none", "up"])?;
        client.wait_for_carrier()?;
        Ok((client, server))
    }

    /// Cuts the wire, or joins it again.
    pub fn set_wire(&self, up: bool) -> Result<()> {
        self.client.ip(&["link", "set", WIRE, if up { "up" } else { "down" }]).map(drop)
    }
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
        namespace.ip(&["link", "set", "lo", "up"])?;
        // Duplicate address detection would keep a new IPv6 address unusable for a second.
        for interface in ["all", "default"] {
            namespace.run("sysctl", &["-qw", &format!("net.ipv6.conf.{interface}.accept_dad=0")])?;
        }
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

    /// Returns the names of the links of one kind: `tun`, or `ovpn` for those of the kernel's module.
    pub fn links_of_kind(&self, kind: &str) -> Result<Vec<String>> {
        let list = self.ip(&["-o", "-br", "link", "show", "type", kind])?;
        Ok(list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
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
        let with_prefix = match address {
            IpAddr::V4(v4) => format!("{v4}/24"),
            IpAddr::V6(v6) => format!("{v6}/64"),
        };
        self.ip(&["address", verb, &with_prefix, "dev", WIRE]).map(drop)
    }

    /// Waits until the kernel has noticed that both ends of the wire are up, and takes the IPv6 addresses on it for
    /// usable: both a moment later.
    fn wait_for_carrier(&self) -> Result<()> {
        let deadline = Instant::now() + patient(Duration::from_secs(5));
        while !self.ip(&["-br", "link", "show", WIRE])?.contains(" UP ")
            || self.ip(&["-o", "address", "show", "dev", WIRE])?.contains("tentative")
        {
            if Instant::now() > deadline {
                return Err(Failure::new(format!("no carrier on the wire of {}", self.name)));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
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
