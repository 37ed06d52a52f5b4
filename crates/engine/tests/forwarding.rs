//! The kernel as judge: it cuts what the engine joined, and joins what the engine cuts, while it forwards.
//!
//! ```text
//!   delivered:  the test --memory-- engine B ==loopback UDP== engine A --engine0-- kernel --plain0-- the test
//!   sent:       the test --memory-- engine B ==loopback UDP== engine A --engine0-- kernel --host0--- the test
//! ```
//!
//! `plain0` takes single packets with complete checksums only, so that the kernel has to cut before it; into `host0` the
//! test writes super-packets, which the kernel passes on whole if `engine0` takes them. This also proves that the
//! oracle of `culvert_testkit::inner` cuts as this kernel does. Each test runs this program again under
//! `unshare --net`. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod support;

#[test]
fn what_the_engine_joined_is_cut_by_the_kernel_into_what_was_sent() {
    support::in_namespace("delivered", &[]);
}

#[test]
fn what_the_kernel_hands_out_is_cut_as_the_kernel_would_have() {
    support::in_namespace("sent", &[]);
}

mod inside {
    use std::{
        fs, io,
        path::Path,
        sync::Arc,
        time::{Duration, Instant},
    };

    use culvert_engine::{EngineBackend, EngineConfig, MemoryDevice};
    use culvert_offload::{Backend, DeviceMode, DeviceSpec, Offload};
    use culvert_sys::{Epoll, Interest, Tun, TunConfig, TunLayer};
    use culvert_testkit::{
        inner::{
            Choices, Delivered, Mix, VnetHeader, compare, cut, one_hop_further, super_frame, with_one_zero,
        },
        sim::SimRandom,
    };
    use culvert_wire::{PeerId, Slot};

    use super::support::{PATIENCE, Side, device, ip, key, loopback, peer};

    /// Packets under way at once: queues of devices are short.
    const WINDOW: usize = 48;

    fn forward() {
        for (path, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv6/conf/all/forwarding", "1"),
        ] {
            fs::write(Path::new("/proc/sys/net").join(path), value).unwrap();
        }
        ip("link set lo up");
    }

    /// Everything to the networks of the mixture goes through this device.
    fn route_to(name: &str) {
        ip(&format!("route replace 10.97.0.0/16 dev {name}"));
        ip(&format!("-6 route replace fd97::/16 dev {name}"));
    }

    fn open_tun(name: &str, vnet_header: bool) -> Tun {
        let config = TunConfig {
            node: Path::new("/dev/net/tun"),
            name: Some(name),
            queues: 1,
            layer: TunLayer::Ip,
            vnet_header,
        };
        let tun = Tun::open(&config).unwrap();
        tun.set_mtu(u16::MAX).unwrap();
        ip(&format!("link set {name} up"));
        tun
    }

    /// Engine A on `engine0`, engine B in memory.
    struct Tunnel {
        host: MemoryDevice,
        _engines: [Arc<dyn Offload>; 2],
    }

    fn tunnel(config: EngineConfig, mtu: u16) -> Tunnel {
        let point = device(DeviceMode::PointToPoint);
        let spec = DeviceSpec { name: Some("engine0".to_owned()), mtu, ..point.clone() };
        let a = EngineBackend::with_config(config).open(spec).unwrap();
        ip("link set engine0 up");
        let (b, host) = EngineBackend::with_config(config).open_in_memory(&point).unwrap();
        let (a_transport, b_transport) =
            (a.open_transport(loopback()).unwrap().0, b.open_transport(loopback()).unwrap().0);
        let (a_address, b_address) =
            (a.local_address(a_transport).unwrap(), b.local_address(b_transport).unwrap());
        a.peer_new(peer(7, a_transport, b_address)).unwrap();
        b.peer_new(peer(7, b_transport, a_address)).unwrap();
        let id = PeerId::new(7).unwrap();
        a.key_new(id, Slot::Primary, key(Side::A)).unwrap();
        b.key_new(id, Slot::Primary, key(Side::B)).unwrap();
        Tunnel { host, _engines: [a, b] }
    }

    fn configs() -> impl Iterator<Item = EngineConfig> {
        let workers = |workers| EngineConfig { workers: Some(workers), ..EngineConfig::default() };
        [workers(1), workers(2), EngineConfig { vnet_header: false, ..workers(1) }].into_iter()
    }

    fn random(seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; 600];
        SimRandom::new(seed).fill(&mut bytes);
        bytes
    }

    /// The packet goes to a network of the mixture: it is not the kernel's own chatter.
    fn is_ours(packet: &[u8]) -> bool {
        packet.get(16..18) == Some(&[10, 97]) || packet.get(24..26) == Some(&[0xFD, 0x97])
    }

    /// Reads `count` packets.
    fn read(tun: &Tun, count: usize) -> Vec<Vec<u8>> {
        let epoll = Epoll::new().unwrap();
        epoll.add(&tun.queues[0], 0, Interest::Read).unwrap();
        let (mut packets, mut ready) = (Vec::new(), Vec::new());
        let mut buf = vec![0; 1 << 16];
        let deadline = Instant::now() + PATIENCE;
        while packets.len() < count && Instant::now() < deadline {
            match tun.queues[0].read(&mut buf) {
                Ok(len) if is_ours(&buf[..len]) => packets.push(buf[..len].to_vec()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    epoll.wait(&mut ready, Some(Duration::from_millis(100))).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        packets
    }

    #[test]
    #[ignore = "runs in a namespace that another test makes"]
    fn delivered() {
        forward();
        let plain = open_tun("plain0", false);
        route_to("plain0");
        for (seed, config) in (0..).zip(configs()) {
            let tunnel = tunnel(config, 1500);
            for mtu in [576, 1500, 9000] {
                let packets: Vec<_> = Mix::forwardable(&random(seed + mtu as u64), mtu).collect();
                let mut out = Vec::new();
                for window in packets.chunks(WINDOW) {
                    window.iter().for_each(|packet| tunnel.host.send(packet));
                    out.extend(read(&plain, window.len()));
                }
                let delivered: Vec<_> =
                    out.into_iter().map(|packet| Delivered { packet, joined: config.vnet_header }).collect();
                let expected: Vec<_> = packets.into_iter().map(one_hop_further).collect();
                assert_eq!(compare(&expected, &delivered), Ok(()), "{config:?}, MTU {mtu}");
            }
        }
    }

    #[test]
    #[ignore = "runs in a namespace that another test makes"]
    fn sent() {
        forward();
        let host = open_tun("host0", true);
        for (seed, config) in (0..).zip(configs()) {
            for mtu in [576_u16, 1280, 1500, 9000] {
                let tunnel = tunnel(config, mtu);
                ip("route replace 10.97.0.0/16 dev engine0");
                if mtu >= 1280 {
                    ip("-6 route replace fd97::/16 dev engine0");
                }
                let bytes = random(seed + u64::from(mtu));
                let mut choices = Choices::new(&bytes);
                let (mut expected, mut delivered) = (Vec::new(), Vec::new());
                while !choices.is_over() {
                    let frame = super_frame(&mut choices, mtu.into());
                    // IPv6 has no links narrower than 1280.
                    if frame[VnetHeader::LEN] >> 4 == 6 && mtu < 1280 {
                        continue;
                    }
                    host.queues[0].write(&frame).unwrap();
                    for packet in cut(&frame).unwrap() {
                        expected.push(with_one_zero(&one_hop_further(packet)));
                        let mut packets = std::iter::from_fn(|| tunnel.host.recv_timeout(PATIENCE));
                        let packet =
                            packets.find(|packet| is_ours(packet)).expect("a packet out of the tunnel");
                        delivered.push(Delivered { packet: with_one_zero(&packet), joined: false });
                    }
                }
                assert_eq!(compare(&expected, &delivered), Ok(()), "{config:?}, MTU {mtu}");
            }
        }
    }
}
