//! The engine on a real TUN device: the kernel makes super-packets and takes them.
//!
//! ```text
//!   kernel 10.99.0.1 --tun-- engine A ==loopback UDP== engine B --memory-- the test, as 10.99.0.2
//! ```
//!
//! Each test runs this program again under `unshare --net`, so that device and addresses go with it. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod support;

macro_rules! namespaced {
    ($($name:ident)*) => { $(
        #[test]
        fn $name() {
            support::in_namespace(stringify!($name), &[]);
        }
    )* };
}

namespaced! {
    a_train_from_the_kernel_arrives_as_single_packets_with_right_checksums
    packets_of_a_flow_are_taken_by_the_kernel_whether_joined_or_not
    the_device_has_its_name_and_mtu_and_goes_with_the_engine
    a_device_that_vanishes_is_reported
    several_queues_serve_one_device
}

mod inside {
    use std::{
        net::{SocketAddr, UdpSocket},
        process::Command,
        sync::Arc,
    };

    use culvert_engine::{EngineBackend, EngineConfig, MemoryDevice};
    use culvert_offload::{Backend, DeviceMode, DeviceSpec, Offload, OffloadEvent};
    use culvert_sys::Outgoing;

    use super::support::{PATIENCE, Side, device, ip, key, loopback, peer, wait};
    use culvert_wire::{PeerId, Slot};

    const KERNEL: &str = "10.99.0.1:5000";
    const OTHER: [u8; 4] = [10, 99, 0, 2];

    fn tun_spec() -> DeviceSpec {
        DeviceSpec { name: Some("engine0".to_owned()), mtu: 1400, ..device(DeviceMode::PointToPoint) }
    }

    /// Engine A on a TUN device, engine B in memory.
    fn pair(config: EngineConfig) -> (Arc<dyn Offload>, Arc<dyn Offload>, MemoryDevice) {
        ip("link set lo up");
        let a = EngineBackend::with_config(config).open(tun_spec()).unwrap();
        ip("address add 10.99.0.1/24 dev engine0");
        ip("link set engine0 up");
        let (b, host) = EngineBackend::new().open_in_memory(&device(DeviceMode::PointToPoint)).unwrap();
        let a_transport = a.open_transport(loopback()).unwrap().0;
        let b_transport = b.open_transport(loopback()).unwrap().0;
        let address = |offload: &Arc<dyn Offload>, id| offload.local_address(id).unwrap();
        let id = PeerId::new(7).unwrap();
        let (a_remote, b_remote) = (address(&b, b_transport), address(&a, a_transport));
        a.peer_new(peer(7, a_transport, a_remote)).unwrap();
        b.peer_new(peer(7, b_transport, b_remote)).unwrap();
        a.key_new(id, Slot::Primary, key(Side::A)).unwrap();
        b.key_new(id, Slot::Primary, key(Side::B)).unwrap();
        (a, b, host)
    }

    fn sum(bytes: &[u8], start: u32) -> u32 {
        let mut sum = start;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
        while sum > 0xFFFF {
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        sum
    }

    fn pseudo_header(packet: &[u8]) -> u32 {
        sum(&packet[12..20], 17 + u32::try_from(packet.len() - 20).unwrap())
    }

    /// A UDP packet from 10.99.0.2:6000 to the kernel's socket.
    fn udp(payload: &[u8]) -> Vec<u8> {
        let total = u16::try_from(28 + payload.len()).unwrap().to_be_bytes();
        let len = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x45, 0, total[0], total[1], 0, 1, 0x40, 0, 64, 17, 0, 0];
        packet.extend_from_slice(&OTHER);
        packet.extend_from_slice(&[10, 99, 0, 1]);
        let header = !u16::try_from(sum(&packet, 0)).unwrap();
        packet[10..12].copy_from_slice(&header.to_be_bytes());
        packet.extend_from_slice(&[0x17, 0x70, 0x13, 0x88, len[0], len[1], 0, 0]);
        packet.extend_from_slice(payload);
        let checksum = !u16::try_from(sum(&packet[20..], pseudo_header(&packet))).unwrap();
        packet[26..28].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    /// The UDP payload of the next packet out of the memory device; skips the kernel's own chatter.
    fn payload(host: &MemoryDevice) -> Vec<u8> {
        loop {
            let packet = host.recv_timeout(PATIENCE).expect("a packet out of the tunnel");
            if packet[0] != 0x45 || packet[9] != 17 || packet[20..22] != 5000_u16.to_be_bytes() {
                continue;
            }
            assert_eq!(sum(&packet[..20], 0), 0xFFFF, "IP header checksum");
            assert_eq!(sum(&packet[20..], pseudo_header(&packet)), 0xFFFF, "UDP checksum");
            return packet[28..].to_vec();
        }
    }

    fn combinations() -> impl Iterator<Item = EngineConfig> {
        (0..2).map(|bits| EngineConfig { vnet_header: bits & 1 == 0, ..EngineConfig::default() })
    }

    #[test]
    #[ignore = "runs in a namespace that the test of the same name makes"]
    fn a_train_from_the_kernel_arrives_as_single_packets_with_right_checksums() {
        for config in combinations() {
            let (_a, _b, host) = pair(config);
            let socket = culvert_sys::UdpSocket::bind(KERNEL.parse().unwrap(), |_| Ok(())).unwrap();
            let bytes: Vec<u8> = (0..13_500_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let to = Some(SocketAddr::from((OTHER, 6000)));
            let train = Outgoing { bytes: &bytes, segment: Some(1000), to, from: None, tos: None };
            assert_eq!(socket.send_batch(&[train]).unwrap(), 1);
            for expected in bytes.chunks(1000) {
                assert_eq!(payload(&host), expected);
            }
        }
    }

    #[test]
    #[ignore = "runs in a namespace that the test of the same name makes"]
    fn packets_of_a_flow_are_taken_by_the_kernel_whether_joined_or_not() {
        for config in combinations() {
            let (_a, _b, host) = pair(config);
            let socket = UdpSocket::bind(KERNEL).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            for round in 0..20_u8 {
                // Equal ones, then a shorter one: a run that ends.
                for number in 0..8_u8 {
                    host.send(&udp(&[round * 8 + number; 1000]));
                }
                host.send(&udp(&[0xFF; 10]));
                let mut buf = [0; 2000];
                for number in 0..8_u8 {
                    let len = socket.recv(&mut buf).unwrap();
                    assert_eq!(buf[..len], [round * 8 + number; 1000]);
                }
                assert_eq!(socket.recv(&mut buf).unwrap(), 10);
            }
        }
    }

    #[test]
    #[ignore = "runs in a namespace that the test of the same name makes"]
    fn the_device_has_its_name_and_mtu_and_goes_with_the_engine() {
        let a = EngineBackend::new().open(tun_spec()).unwrap();
        assert_eq!(a.device().name, "engine0");
        let show = |what: &str| {
            let output = Command::new("ip").args(["-o", "link", "show", "dev", "engine0"]).output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stdout).contains(what))
        };
        assert_eq!(show("mtu 1400"), (true, true));
        assert_eq!(show(&format!("{}: engine0", a.device().ifindex)), (true, true));
        drop(a);
        assert!(!show("").0);
    }

    #[test]
    #[ignore = "runs in a namespace that the test of the same name makes"]
    fn a_device_that_vanishes_is_reported() {
        let a = EngineBackend::new().open(tun_spec()).unwrap();
        ip("link delete engine0");
        let event = wait(|cx| a.poll_event(cx));
        assert_eq!(event, Some(OffloadEvent::DeviceGone));
    }

    #[test]
    #[ignore = "runs in a namespace that the test of the same name makes"]
    fn several_queues_serve_one_device() {
        let (_a, _b, host) = pair(EngineConfig { workers: Some(3), ..EngineConfig::default() });
        let socket = UdpSocket::bind(KERNEL).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        for number in 0..50_u8 {
            socket.send_to(&[number; 100], SocketAddr::from((OTHER, 6000))).unwrap();
            assert_eq!(payload(&host), [number; 100]);
            host.send(&udp(&[number; 200]));
            let mut buf = [0; 2000];
            let len = socket.recv(&mut buf).unwrap();
            assert_eq!(buf[..len], [number; 200]);
        }
    }
}
