//! Starting wireguard-go, which `wg` tells what to do.

use std::{path::Path, process::Command, time::Duration};

use super::{
    network::{End, Network},
    process::{Running, output},
    tunnel::{CLIENT, SERVER},
};
use crate::BenchError;

const PORT: &str = "51820";
/// Outer IPv4, UDP, and WireGuard's own 32 bytes, rounded as its tools do.
const MTU: &str = "1420";

/// An end's key files, and its public key.
struct Identity {
    private: String,
    public: String,
}

/// Starts both ends.
pub(super) fn start(program: &Path, network: &Network, folder: &Path) -> Result<Vec<Running>, BenchError> {
    let server = Identity::new(folder, "server")?;
    let client = Identity::new(folder, "client")?;
    let endpoint = format!("{}:{PORT}", Network::SERVER);
    let [to_server, to_client] = [SERVER, CLIENT].map(|address| format!("{address}/32"));
    let listen = ["listen-port", PORT, "peer", &client.public, "allowed-ips", &to_client];
    let call = ["peer", &server.public, "allowed-ips", &to_server, "endpoint", &endpoint];
    let mut ends = Vec::new();
    // Its control sockets lie in one folder for all namespaces, so names are unique on the machine.
    let [server_device, client_device] = [End::Server, End::Client].map(|end| network.device(end));
    for (end, name, device, identity, address, words) in [
        (End::Server, "server", server_device, &server, SERVER, &listen),
        (End::Client, "client", client_device, &client, CLIENT, &call),
    ] {
        let mut command = network.command(end, program);
        // By either it stays in the foreground, whatever its age.
        command.args(["-f", device]).env("WG_PROCESS_FOREGROUND", "1");
        let mut running = Running::start(&mut command, name, folder)?;
        running.wait_until(Duration::from_secs(10), "made no device", |_| {
            output(network.command(end, "wg").args(["show", device])).is_ok()
        })?;
        output(
            network.command(end, "wg").args(["set", device, "private-key", &identity.private]).args(words),
        )?;
        network.ip(end, &["address", "add", &format!("{address}/24"), "dev", device])?;
        network.ip(end, &["link", "set", device, "mtu", MTU, "up"])?;
        ends.push(running);
    }
    Ok(ends)
}

impl Identity {
    fn new(folder: &Path, name: &str) -> Result<Self, BenchError> {
        let private = folder.join(format!("{name}.wireguard"));
        super::write(&private, &output(Command::new("wg").arg("genkey"))?)?;
        let private = private.display().to_string();
        // `wg pubkey` reads its input, which `output` does not give.
        let public = output(Command::new("sh").args(["-c", "exec wg pubkey <\"$1\"", "sh", &private]))?;
        Ok(Self { private, public: public.trim().to_owned() })
    }
}
