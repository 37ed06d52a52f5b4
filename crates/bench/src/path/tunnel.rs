//! A contender at work: both of its ends started, the path through it known to carry packets.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{
    contender::{Contender, Kind},
    iperf::Route,
    network::{End, Network},
    pki::Pki,
    process::{Running, check_interrupt, output, step},
    settings::{Proto, Settings},
    wireguard,
};
use crate::BenchError;

/// The server's address inside the tunnel.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 178, 0, 1);
/// The client's, where it is not given one.
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 178, 0, 2);
/// What a handshake may take on a busy machine.
const START: Duration = Duration::from_secs(30);

/// Both ends, ended when dropped.
pub(super) struct Tunnel<'a> {
    network: &'a Network,
    folder: PathBuf,
    ends: Vec<Running>,
    server: Ipv4Addr,
}

impl<'a> Tunnel<'a> {
    /// Starts both ends and waits until they are ready.
    pub(super) fn start(
        contender: &Contender,
        settings: &Settings,
        network: &'a Network,
        pki: &Pki,
        folder: &Path,
    ) -> Result<Self, BenchError> {
        let folder = folder.join(&contender.name);
        fs::create_dir_all(&folder).map_err(|source| BenchError::File { path: folder.clone(), source })?;
        let server = if contender.kind == Kind::None { Network::SERVER } else { SERVER };
        let ends = match (contender.kind, contender.program()) {
            (Kind::None, _) => Vec::new(),
            (_, None) => return Err(step(&contender.name, "its program is gone")),
            (Kind::WireGuardGo, Some(program)) => wireguard::start(&program, network, &folder)?,
            (kind, Some(program)) => openvpn(kind, &program, settings, network, pki, &folder)?,
        };
        let tunnel = Self { network, folder, ends, server };
        tunnel.wait_for_path().map_err(|error| match error {
            BenchError::Interrupted => error,
            _ => step(&contender.name, "no ping through the tunnel"),
        })?;
        Ok(tunnel)
    }

    /// The path through the tunnel.
    pub(super) fn route(&self) -> Route<'_> {
        Route { network: self.network, folder: &self.folder, server: self.server }
    }

    /// CPU seconds that both ends used so far.
    pub(super) fn cpu(&self) -> f64 {
        self.ends.iter().map(Running::cpu).sum()
    }

    fn wait_for_path(&self) -> Result<(), BenchError> {
        let mut last = Ok(String::new());
        for _ in 0..20 {
            check_interrupt()?;
            let mut ping: Command = self.network.command(End::Client, "ping");
            last = output(ping.args(["-n", "-c", "1", "-W", "1", &self.server.to_string()]));
            if last.is_ok() {
                break;
            }
        }
        last.map(drop)
    }
}

/// Starts what takes OpenVPN's options.
fn openvpn(
    kind: Kind,
    program: &Path,
    settings: &Settings,
    network: &Network,
    pki: &Pki,
    folder: &Path,
) -> Result<Vec<Running>, BenchError> {
    let offload = if kind == Kind::CulvertKernel { "offload kernel" } else { "disable-dco" };
    let proto = |end: &str| match settings.proto {
        Proto::Udp => "udp".to_owned(),
        Proto::Tcp => format!("tcp-{end}"),
    };
    let common = |end: &str| {
        let (proto, cipher) = (proto(end), &settings.cipher);
        format!(
            "proto {proto}\ndev tunnel\ndev-type tun\ndata-ciphers {cipher}\nverb 3\n{offload}\n{}",
            pki.lines(end)
        )
    };
    let address = Network::SERVER;
    let server = format!(
        "{}local {address}\nport 1194\ntopology subnet\nserver 10.178.0.0 255.255.255.0\ndh none\nkeepalive 10 60\n",
        common("server")
    );
    let client =
        format!("{}client\nremote {address} 1194\nnobind\nremote-cert-tls server\n", common("client"));
    let mut ends = Vec::new();
    for (end, name, text) in [(End::Server, "server", server), (End::Client, "client", client)] {
        let file = folder.join(format!("{name}.conf"));
        super::write(&file, &text)?;
        let mut command = network.command(end, program);
        let mut running = Running::start(command.arg("--config").arg(&file), name, folder)?;
        running.wait_for("Initialization Sequence Completed", START)?;
        ends.push(running);
    }
    Ok(ends)
}
