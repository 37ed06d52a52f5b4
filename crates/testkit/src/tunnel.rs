//! A running tunnel: both ends in a lab of their own.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    Algorithm, Daemon, Failure, Identity, Implementation, Inner, Namespace, NetnsLab, Peers, Pki, Release,
    Result, Role, TempDir, Topology, Transport, TunnelSpec, static_key, tls_crypt_v2_client_key,
    tls_crypt_v2_server_key, traffic,
};

/// How long an end may take to say that the tunnel is up.
const UP_WITHIN: Duration = Duration::from_secs(25);

/// How long after that the first packet may take.
const CARRY_WITHIN: Duration = Duration::from_secs(8);

/// Bytes of the TCP transfer in [`Tunnel::prove_traffic`]: enough for several segmented super-packets.
const TRANSFER: usize = 400_000;

/// Keys and certificates that many tunnels share: making them costs more than a tunnel.
pub struct Materials {
    rsa: Certificates,
    ec: Certificates,
    ed25519: Certificates,
    folder: TempDir,
    /// A static key for `tls-auth` and `tls-crypt`.
    pub static_key: PathBuf,
    /// A `tls-crypt-v2` server key.
    pub v2_server_key: PathBuf,
    /// A client key of it.
    pub v2_client_key: PathBuf,
}

/// The certificates of one kind.
pub struct Certificates {
    /// An authority, a server and a client.
    pub pki: Pki,
    /// For `peer-fingerprint`.
    pub self_signed_server: Identity,
    /// For `peer-fingerprint`.
    pub self_signed_client: Identity,
}

impl Materials {
    /// Makes certificates of all kinds and the shared keys.
    pub fn new(peers: &Peers) -> Result<Arc<Self>> {
        let folder = TempDir::new()?;
        let openvpn = peers.get(Release::V2_6)?;
        let static_key = folder.write("static.key", &static_key()?)?;
        let v2_server_key = tls_crypt_v2_server_key(openvpn.program(), &folder)?;
        let v2_client_key = tls_crypt_v2_client_key(openvpn.program(), &v2_server_key, &folder)?;
        Ok(Arc::new(Self {
            rsa: Certificates::new(Algorithm::Rsa)?,
            ec: Certificates::new(Algorithm::Ec)?,
            ed25519: Certificates::new(Algorithm::Ed25519)?,
            folder,
            static_key,
            v2_server_key,
            v2_client_key,
        }))
    }

    /// Returns the certificates of one kind.
    pub fn certificates(&self, algorithm: Algorithm) -> &Certificates {
        match algorithm {
            Algorithm::Rsa => &self.rsa,
            Algorithm::Ec => &self.ec,
            Algorithm::Ed25519 => &self.ed25519,
        }
    }

    /// The folder of the shared keys.
    pub fn folder(&self) -> &TempDir {
        &self.folder
    }
}

impl Certificates {
    fn new(algorithm: Algorithm) -> Result<Self> {
        let pki = Pki::new(algorithm)?;
        let self_signed_server = pki.self_signed("server")?;
        let self_signed_client = pki.self_signed("client")?;
        Ok(Self { pki, self_signed_server, self_signed_client })
    }
}

/// Both ends of a tunnel, running.
pub struct Tunnel {
    /// The server's process; before the lab, so that it ends first.
    pub server: Daemon,
    /// The client's process.
    pub client: Daemon,
    /// The network.
    pub lab: NetnsLab,
    /// Configuration, scripts and status files.
    pub folder: TempDir,
    /// What it is made of.
    pub spec: TunnelSpec,
    ends: [Implementation; 2],
    /// The files that the configurations name: a restarted end reads them again.
    materials: Arc<Materials>,
}

impl Tunnel {
    /// Starts both ends; they may not be up yet.
    pub fn start(
        spec: &TunnelSpec,
        server: &Implementation,
        client: &Implementation,
        materials: &Arc<Materials>,
    ) -> Result<Self> {
        Self::start_in(NetnsLab::new()?, spec, server, client, materials)
    }

    /// Starts both ends in a network that the test prepared.
    pub fn start_in(
        lab: NetnsLab,
        spec: &TunnelSpec,
        server: &Implementation,
        client: &Implementation,
        materials: &Arc<Materials>,
    ) -> Result<Self> {
        let folder = TempDir::new()?;
        let start = |role: Role, implementation: &Implementation| {
            let text = spec.config(role, implementation, materials, &folder)?;
            let (name, namespace) = match role {
                Role::Server => ("server", &lab.server),
                Role::Client => ("client", &lab.client),
            };
            let config = folder.write(&format!("{name}.conf"), &text)?;
            Daemon::start(namespace, implementation, &format!("{name} ({implementation})"), &config)
        };
        let server_process = start(Role::Server, server)?;
        // The socket is open before this line in every release; a client that comes earlier would lose time
        // with its first retransmission.
        let ready = match (spec.topology, spec.transport) {
            (Topology::Subnet, _) => "Initialization Sequence Completed",
            (_, Transport::Tcp4 | Transport::Tcp6) => "Listening for incoming TCP connection",
            (_, _) => "link remote",
        };
        server_process.wait_for(ready, UP_WITHIN)?;
        let client_process = start(Role::Client, client)?;
        let ends = [server.clone(), client.clone()];
        Ok(Self {
            server: server_process,
            client: client_process,
            lab,
            folder,
            spec: spec.clone(),
            ends,
            materials: Arc::clone(materials),
        })
    }

    /// Starts both ends and waits until both say that the tunnel is up.
    pub fn start_up(
        spec: &TunnelSpec,
        server: &Implementation,
        client: &Implementation,
        materials: &Arc<Materials>,
    ) -> Result<Self> {
        let tunnel = Self::start(spec, server, client, materials)?;
        tunnel.wait_up()?;
        Ok(tunnel)
    }

    /// Starts one more client of the same server in a namespace of [`NetnsLab::add_client`].
    ///
    /// It differs from the first in `extra` lines, which come last; `number` tells it from the others.
    pub fn start_another_client(
        &self,
        number: u8,
        (namespace, server): (&Namespace, Ipv4Addr),
        extra: &str,
    ) -> Result<Daemon> {
        let [_, implementation] = &self.ends;
        let spec = TunnelSpec {
            remote: Some((server, NetnsLab::PORT).into()),
            client_extra: format!("{}\n{extra}", self.spec.client_extra),
            ..self.spec.clone()
        };
        let text = spec.config(Role::Client, implementation, &self.materials, &self.folder)?;
        let config = self.folder.write(&format!("client{number}.conf"), &text)?;
        Daemon::start(namespace, implementation, &format!("client {number} ({implementation})"), &config)
    }

    /// Changes the configuration file of an end; it is read when the end starts again.
    pub fn edit_config(&self, role: Role, edit: impl FnOnce(String) -> String) -> Result<()> {
        let name = if role == Role::Server { "server.conf" } else { "client.conf" };
        let text = fs::read_to_string(self.folder.path().join(name))?;
        self.folder.write(name, &edit(text)).map(drop)
    }

    /// Starts the server (or client) again, after it ended, with the same file.
    pub fn restart(&mut self, role: Role) -> Result<()> {
        let [server, client] = &self.ends;
        let (slot, name, namespace, implementation) = match role {
            Role::Server => (&mut self.server, "server", &self.lab.server, server),
            Role::Client => (&mut self.client, "client", &self.lab.client, client),
        };
        slot.kill();
        let config = self.folder.path().join(format!("{name}.conf"));
        *slot = Daemon::start(namespace, implementation, &format!("{name} ({implementation})"), &config)?;
        Ok(())
    }

    /// Waits until both ends say that the tunnel is up.
    pub fn wait_up(&self) -> Result<()> {
        let wait = || {
            self.client.wait_up(UP_WITHIN)?;
            self.server.wait_up(UP_WITHIN)
        };
        wait().map_err(|failure| self.with_logs(&failure))
    }

    /// Proves that datagrams of several sizes and a TCP transfer pass, both ways, in each inner protocol.
    pub fn prove_traffic(&self) -> Result<()> {
        self.carries(TunnelSpec::SERVER_V4, TunnelSpec::CLIENT_V4, CARRY_WITHIN)?;
        if self.spec.inner == Inner::V4AndV6 {
            self.carries(TunnelSpec::SERVER_V6, self.spec.client_v6(), CARRY_WITHIN)?;
        }
        Ok(())
    }

    /// Waits until the tunnel carries datagrams again, after something happened to it.
    pub fn wait_traffic(&self, timeout: Duration) -> Result<()> {
        let server = (&self.lab.server, TunnelSpec::SERVER_V4);
        let client = (&self.lab.client, TunnelSpec::CLIENT_V4);
        traffic::echo(client, server, timeout).map_err(|failure| self.with_logs(&failure))
    }

    fn carries(&self, server: std::net::IpAddr, client: std::net::IpAddr, timeout: Duration) -> Result<()> {
        let (server, client) = ((&self.lab.server, server), (&self.lab.client, client));
        let prove = || {
            traffic::echo(client, server, timeout)?;
            traffic::echo(server, client, timeout)?;
            traffic::tcp(client, server, TRANSFER, timeout)
        };
        prove().map_err(|failure| self.with_logs(&failure))
    }

    /// Proves by the logs of both ends that the cipher and the TLS version are those asked for.
    pub fn prove_negotiated(&self) -> Result<()> {
        let cipher = format!("ipher '{}'", self.spec.cipher);
        // An OpenVPN server in whose place the kernel encrypts only says what it pushed.
        let pushed = format!(",cipher {},", self.spec.cipher);
        let control = format!("Control Channel: {}", self.spec.tls);
        for (role, end) in [(Role::Server, &self.server), (Role::Client, &self.client)] {
            let says_pushed = self.spec.offload.is_at(role) && end.has_logged(&pushed);
            if !end.has_logged(&cipher) && !says_pushed {
                let failure = Failure::new(format!("{role:?} does not say `{cipher}`"));
                return Err(self.with_logs(&failure));
            }
            if !end.has_logged(&control) {
                let failure = Failure::new(format!("{role:?} does not say `{control}`"));
                return Err(self.with_logs(&failure));
            }
        }
        Ok(())
    }

    /// Proves by the devices of both ends that the kernel carries the data where it should, and only there.
    pub fn prove_offload(&self) -> Result<()> {
        for (role, namespace) in [(Role::Server, &self.lab.server), (Role::Client, &self.lab.client)] {
            let devices = namespace.tunnel_devices()?;
            let expected = if self.spec.offload.is_at(role) { (0, 1) } else { (1, 0) };
            if (devices.tun.len(), devices.ovpn.len()) != expected {
                let failure = Failure::new(format!("{role:?} has the wrong device: {devices:?}"));
                return Err(self.with_logs(&failure));
            }
        }
        Ok(())
    }

    /// Reads the status file of an end; empty when there is none yet.
    pub fn status(&self, role: Role) -> String {
        let name = if role == Role::Server { "server.status" } else { "client.status" };
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// Adds both logs to a failure.
    pub fn with_logs(&self, failure: &Failure) -> Failure {
        let (server, client) = (self.server.tail(), self.client.tail());
        let [server_name, client_name] = &self.ends;
        Failure::new(format!(
            "{failure}\n--- server ({server_name}):\n{server}\n--- client ({client_name}):\n{client}"
        ))
    }
}
