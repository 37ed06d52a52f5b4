//! One end of a tunnel with keys written into this file: a ruler for the data path alone. Not a VPN.
//!
//! `static_keys SIDE DEVICE LOCAL REMOTE [no-vnet] [no-gso] [no-gro] [chacha] [epoch] [tcp]`, where SIDE is
//! `a` or `b`. On TCP, `a` listens and `b` connects. Addresses on the device are the caller's business; see
//! `throughput.sh` beside this file.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::mpsc,
    time::Duration,
};

use culvert_crypto::{DataKey, DirectionKey};
use culvert_engine::{EngineBackend, EngineConfig};
use culvert_offload::{
    Backend, DeviceMode, DeviceSpec, PeerSpec, Port, Shape, TransportSpec, UdpOptions, VpnAddresses,
};
use culvert_wire::{CipherName, KeyId, PeerId, Slot};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [side, device, local, remote, flags @ ..] = args.as_slice() else {
        return Err("usage: static_keys SIDE DEVICE LOCAL REMOTE [FLAG...]".into());
    };
    let flag = |name: &str| flags.iter().any(|flag| flag == name);
    let (local, remote): (SocketAddr, SocketAddr) = (local.parse()?, remote.parse()?);
    let backend = EngineBackend::with_config(EngineConfig {
        vnet_header: !flag("no-vnet"),
        udp_segmentation: !flag("no-gso"),
        udp_gro: !flag("no-gro"),
        workers: None,
    });
    let offload = backend.open(DeviceSpec {
        name: Some(device.clone()),
        kind: culvert_offload::DeviceKind::Tun,
        node: None,
        mtu: 1500,
        tx_queue_len: None,
        mode: DeviceMode::PointToPoint,
        max_peers: 1,
        client_to_client: false,
        replay_window: (64, 15),
        threads: None,
        ethernet: None,
    })?;
    let transport = match (flag("tcp"), side.as_str()) {
        (false, _) => TransportSpec::BindUdp { local, remote: Some(remote), options: UdpOptions::default() },
        (true, "a") => tcp(TcpListener::bind(local)?.accept()?.0)?,
        (true, _) => tcp(TcpStream::connect(remote)?)?,
    };
    let (transport, _receiver, _sender) = offload.open_transport(transport)?;
    let id = PeerId::new(1).ok_or("peer id")?;
    offload.peer_new(PeerSpec {
        id,
        tx_id: None,
        transport,
        remote,
        local: None,
        vpn: VpnAddresses::default(),
        iroutes: Vec::new(),
        keepalive: None,
        float: false,
        shape: Shape::PLAIN,
        cipher: CipherName::Aes256Gcm,
        mss: Some(1400),
        port: Port::default(),
        nat: Vec::new(),
    })?;
    let half = |byte: u8| DirectionKey { secret: [byte; 32], implicit_iv: [byte; 8] };
    let (send, recv) = if side == "a" { (half(1), half(2)) } else { (half(2), half(1)) };
    let cipher = if flag("chacha") { CipherName::ChaCha20Poly1305 } else { CipherName::Aes256Gcm };
    let key = if flag("epoch") {
        DataKey::Epoch { id: KeyId::FIRST, cipher, send, recv }
    } else {
        DataKey::Classic { id: KeyId::FIRST, cipher, send, recv }
    };
    offload.key_new(id, Slot::Primary, key)?;
    println!("ready");
    // Until the process is killed: counters, now and then.
    let (_keep, forever) = mpsc::channel::<()>();
    loop {
        let _ = forever.recv_timeout(Duration::from_secs(5));
        let mut stats = Vec::new();
        offload.stats(None, &mut stats)?;
        println!("{stats:?}");
    }
}

fn tcp(stream: TcpStream) -> std::io::Result<TransportSpec> {
    Ok(TransportSpec::AdoptTcp { remote: stream.peer_addr()?, stream: OwnedFd::from(stream) })
}
