//! The network that a contender is measured in: two namespaces joined by a wire.

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    process::{self, Command},
};

use culvert_sys::process::{KillSignal, exists, kill};

use super::{process::output, settings::Underlay};
use crate::BenchError;

/// Names of namespaces: this, the process id, and a letter.
const PREFIX: &str = "cvb";
const WIRE: &str = "wan";
const MTU: &str = "1500";

/// An end of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Server,
    Client,
}

/// Two namespaces, gone when dropped.
pub(super) struct Network {
    server: String,
    client: String,
}

impl Network {
    /// The server's address on the wire.
    pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 177, 0, 1);
    /// The client's address on the wire.
    pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 177, 0, 2);

    /// Builds the network.
    pub(super) fn new(underlay: Underlay) -> Result<Self, BenchError> {
        let name = |letter: char| format!("{PREFIX}{}{letter}", process::id());
        // Exists from here on, so that whatever was made is removed.
        let network = Self { server: name('s'), client: name('c') };
        for name in [&network.server, &network.client] {
            ip(&["netns", "add", name])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        let (server, client) = (&network.server, &network.client);
        ip(&["link", "add", WIRE, "netns", server, "type", "veth", "peer", "name", WIRE, "netns", client])?;
        for (end, address) in [(End::Server, Self::SERVER), (End::Client, Self::CLIENT)] {
            let name = network.name(end);
            // A queue that never overflows: the tunnel is to be measured, not the wire.
            ip(&["-n", name, "link", "set", WIRE, "mtu", MTU, "txqueuelen", "10000"])?;
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", WIRE])?;
            ip(&["-n", name, "link", "set", WIRE, "up"])?;
            if underlay == Underlay::Mtu {
                network.cut_to_mtu(end)?;
            }
        }
        Ok(network)
    }

    /// Returns a command that runs `program` at an end.
    pub(super) fn command(&self, end: End, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name(end)]).arg(program);
        command
    }

    /// A device name for the tunnel's end that is unique on the machine: the namespace's own.
    pub(super) fn device(&self, end: End) -> &str {
        self.name(end)
    }

    /// Runs `ip ARGUMENTS` at an end.
    pub(super) fn ip(&self, end: End, arguments: &[&str]) -> Result<String, BenchError> {
        ip(&[&["-n", self.name(end)], arguments].concat())
    }

    /// Whether the kernel has OpenVPN's module.
    pub(super) fn has_ovpn_module(&self) -> bool {
        let device = ["link", "add", "probe", "type", "ovpn"];
        self.ip(End::Server, &device).is_ok() && self.ip(End::Server, &["link", "del", "probe"]).is_ok()
    }

    /// Has the kernel cut super-packets before the wire, and join packets behind it, as it does with a network card that
    /// can do neither.
    fn cut_to_mtu(&self, end: End) -> Result<(), BenchError> {
        let mut command = self.command(end, "ethtool");
        command.args(["-K", WIRE, "gro", "on"]);
        for feature in
            ["tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation"]
        {
            command.args([feature, "off"]);
        }
        output(&mut command).map(drop)
    }

    fn name(&self, end: End) -> &str {
        match end {
            End::Server => &self.server,
            End::Client => &self.client,
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in [&self.server, &self.client] {
            remove(name);
        }
    }
}

/// Removes what a killed measurement could not: namespaces whose process is gone, with all that runs in them.
pub(super) fn sweep() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(['s', 'c']));
        if owner.and_then(|id| id.parse().ok()).is_some_and(|id: u32| !exists(id)) {
            remove(&name);
        }
    }
}

fn remove(name: &str) {
    if !Path::new("/run/netns").join(name).exists() {
        return;
    }
    let left = ip(&["netns", "pids", name]).unwrap_or_default();
    for id in left.lines().filter_map(|line| line.trim().parse().ok()) {
        let _ = kill(id, KillSignal::Kill); // it may have ended meanwhile
    }
    if let Err(error) = ip(&["netns", "del", name]) {
        eprintln!("leaving the namespace {name} behind: {error}");
    }
}

fn ip(arguments: &[&str]) -> Result<String, BenchError> {
    output(Command::new("ip").args(arguments))
}
