//! Isolation, MSS clamping and the refusal of IPv6, seen by packets.
//!
//! ```text
//!   tun0 10.8.0.1/24, fd00:8::1/64    clients of one server ...
//!   tun1 10.9.0.1/24, fd00:9::1/64    ... which has two devices
//!   lan0 192.0.2.1/24, 2001:db8::1/64 the network behind
//! ```
//!
//! All three are TUN devices whose far ends the test holds: what it writes into one is forwarded by the kernel and
//! comes out of another. Needs root.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod namespace;
mod packets;

use std::{
    io::{BufRead as _, BufReader, ErrorKind},
    net::{TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use culvert_host::{
    Firewall, FirewallRules, HostError, Ipv6Refusal, KillSwitch, KillSwitchRules, Lookups, MssClamp, Refused,
};
use culvert_sys::{Epoll, Interest, Tun, TunConfig, TunLayer, privilege};
use namespace::{ip, namespaced};
use netlink_bindings::nftables::{Nfgenmsg, Request};
use netlink_socket2::NetlinkSocket;
use packets::{Segment, Unreachable, segment, udp};

namespaced! {
    isolated_clients_do_not_reach_each_other
    a_syn_is_clamped_both_ways_and_in_both_families
    connections_that_end_here_are_clamped_too
    a_connection_over_ipv6_into_a_device_that_refuses_it_fails_and_ipv4_works
    forwarded_ipv6_is_answered_and_does_not_leave
    what_clients_send_over_ipv6_is_answered_too_where_both_ways_are_refused
    where_leaving_alone_is_refused_ipv6_may_come_in
    rules_are_replaced_and_go_with_their_owner
    the_table_goes_with_a_killed_process
    rules_change_after_privileges_were_dropped
    the_table_reads_as_nft_writes_it
    a_kill_switch_lets_lookups_through_to_the_named_servers_only
}

const WAIT: Duration = Duration::from_secs(10);

struct Router {
    devices: Vec<Tun>,
}

impl Router {
    fn new() -> Self {
        ip("link set lo up");
        let devices = [
            ("tun0", "10.8.0.1/24", "fd00:8::1/64"),
            ("tun1", "10.9.0.1/24", "fd00:9::1/64"),
            ("lan0", "192.0.2.1/24", "2001:db8::1/64"),
        ];
        let open = |(name, v4, v6): (&str, &str, &str)| {
            let node = Path::new("/dev/net/tun");
            let config =
                TunConfig { node, name: Some(name), queues: 1, layer: TunLayer::Ip, vnet_header: false };
            let device = Tun::open(&config).expect("a TUN device");
            ip(&format!("link set {name} up"));
            ip(&format!("address add {v4} dev {name}"));
            ip(&format!("address add {v6} dev {name} nodad"));
            device
        };
        let devices = devices.into_iter().map(open).collect();
        for file in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{file}"), "1").expect("forwarding is switched on");
        }
        Self { devices }
    }

    fn device(&self, name: &str) -> &Tun {
        self.devices.iter().find(|device| device.name == name).expect("one of the devices")
    }

    fn send(&self, device: &str, packet: &[u8]) {
        let written = self.device(device).queues[0].write(packet).expect("the kernel takes it");
        assert_eq!(written, packet.len());
    }

    /// Returns the first packet out of a device that `wanted` takes.
    fn receive<T>(&self, device: &str, mut wanted: impl FnMut(&[u8]) -> Option<T>) -> T {
        let queue = &self.device(device).queues[0];
        let epoll = Epoll::new().expect("epoll");
        epoll.add(queue, 0, Interest::Read).expect("watched");
        let deadline = Instant::now() + WAIT;
        let mut buffer = [0; 2048];
        loop {
            while let Ok(len) = queue.read(&mut buffer) {
                if let Some(found) = wanted(&buffer[..len]) {
                    return found;
                }
            }
            assert!(Instant::now() < deadline, "nothing came out of {device}");
            epoll.wait(&mut Vec::new(), Some(WAIT)).expect("waits");
        }
    }

    /// Whether a datagram from one device reaches the other: a second one that nobody forbids tells when it is over.
    fn passes(&self, from: &str, to: &str, source: &str, destination: &str) -> bool {
        let last_source = if destination.contains(':') { "2001:db8::7" } else { "192.0.2.7" };
        self.send(from, &udp(source, destination, b"question"));
        self.send("lan0", &udp(last_source, destination, b"last one"));
        let mut passed = false;
        self.receive(to, |packet| {
            // The kernel may also send redirects, which quote the packet.
            let text = packets::udp_text(packet)?;
            passed |= text == b"question";
            (text == b"last one").then_some(())
        });
        passed
    }

    /// Whether a datagram out of the network behind reaches a device over IPv6: one over IPv4 tells when it is over.
    fn passes_ipv6_of_lan(&self, to: &str, destination: &str) -> bool {
        let last = if to == "tun0" { "10.8.0.9" } else { "10.9.0.9" };
        self.send("lan0", &udp("2001:db8::2", destination, b"question"));
        self.send("lan0", &udp("192.0.2.7", last, b"last one"));
        let mut passed = false;
        self.receive(to, |packet| {
            let text = packets::udp_text(packet)?;
            passed |= text == b"question";
            (text == b"last one").then_some(())
        });
        passed
    }

    /// Sends a SYN that announces 1400 bytes and returns what it announces when it comes out.
    fn announced(&self, from: &str, to: &str, source: &str, destination: &str) -> u16 {
        self.send(from, &segment(source, destination, Segment { mss: 1400, ..Segment::syn(5000, 443) }));
        let came = self.receive(to, Segment::read);
        assert!(came.valid, "the checksum was repaired");
        came.mss
    }
}

fn isolation(devices: &[&str]) -> FirewallRules {
    FirewallRules { isolated: devices.iter().map(ToString::to_string).collect(), ..FirewallRules::default() }
}

fn clamp(device: &str, v4: u16, v6: u16) -> FirewallRules {
    FirewallRules { mss: vec![MssClamp { device: device.to_owned(), v4, v6 }], ..FirewallRules::default() }
}

fn refusal(device: &str, direction: Refused) -> FirewallRules {
    let device = device.to_owned();
    FirewallRules { refused_ipv6: vec![Ipv6Refusal { device, direction }], ..FirewallRules::default() }
}

/// "No route to destination" to `host`, about a packet to `about`.
fn no_route(host: &str, about: &str) -> Unreachable {
    let address = |text: &str| text.parse().expect("an address");
    Unreachable { code: 0, to: address(host), about: address(about) }
}

/// Whether the kernel has the table.
fn stands() -> bool {
    let header = Nfgenmsg { nfgen_family: 1, ..Nfgenmsg::new() };
    let mut request = Request::new().op_gettable_do(&header);
    request.encode().push_name(c"culvert-test");
    NetlinkSocket::new().request(&request).expect("nftables").recv_one().is_ok()
}

/// Checks what nft(8) prints, where it is installed.
fn check_listing(check: impl FnOnce(&str)) {
    match Command::new("nft").args(["list", "table", "inet", "culvert-test"]).output() {
        Ok(output) => check(&String::from_utf8_lossy(&output.stdout)),
        Err(_) => eprintln!("nft(8) is not installed: its view is not checked"),
    }
}

mod inside {
    use super::*;

    #[test]
    #[ignore = "runs in a namespace"]
    fn isolated_clients_do_not_reach_each_other() {
        let router = Router::new();
        let mut firewall = Firewall::open("test").expect("nftables");
        let between = [
            ("tun0", "tun0", "10.8.0.2", "10.8.0.3"),
            ("tun0", "tun1", "10.8.0.2", "10.9.0.3"),
            ("tun1", "tun0", "10.9.0.2", "10.8.0.3"),
            ("tun0", "tun1", "fd00:8::2", "fd00:9::3"),
            ("tun1", "tun1", "fd00:9::2", "fd00:9::3"),
        ];
        let outside = [
            ("tun0", "lan0", "10.8.0.2", "192.0.2.3"),
            ("lan0", "tun1", "192.0.2.2", "10.9.0.3"),
            ("tun1", "lan0", "fd00:9::2", "2001:db8::3"),
        ];
        for (from, to, source, destination) in between {
            assert!(router.passes(from, to, source, destination), "{from} {to} without rules");
        }
        firewall.set(&isolation(&["tun0", "tun1"])).expect("set");
        for (from, to, source, destination) in between {
            assert!(!router.passes(from, to, source, destination), "{from} {to}");
        }
        for (from, to, source, destination) in outside {
            assert!(router.passes(from, to, source, destination), "{from} {to}");
        }
        check_listing(|text| assert!(text.contains("counter packets 5 "), "{text}"));

        firewall.set(&isolation(&["tun0"])).expect("set again");
        assert!(!router.passes("tun0", "tun0", "10.8.0.2", "10.8.0.3"));
        assert!(router.passes("tun0", "tun1", "10.8.0.2", "10.9.0.3"));
        drop(firewall);
        assert!(router.passes("tun0", "tun0", "10.8.0.2", "10.8.0.3"), "the rules went with their owner");
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn a_syn_is_clamped_both_ways_and_in_both_families() {
        let router = Router::new();
        let mut firewall = Firewall::open("test").expect("nftables");
        firewall.set(&clamp("tun0", 1300, 1280)).expect("set");
        assert_eq!(router.announced("tun0", "lan0", "10.8.0.2", "192.0.2.3"), 1300);
        assert_eq!(router.announced("lan0", "tun0", "192.0.2.3", "10.8.0.2"), 1300);
        assert_eq!(router.announced("tun0", "lan0", "fd00:8::2", "2001:db8::3"), 1280);
        assert_eq!(router.announced("lan0", "tun0", "2001:db8::3", "fd00:8::2"), 1280);
        assert_eq!(router.announced("tun1", "lan0", "10.9.0.2", "192.0.2.3"), 1400, "another device");

        firewall.set(&clamp("tun0", 1450, 0)).expect("set again");
        assert_eq!(router.announced("tun0", "lan0", "10.8.0.2", "192.0.2.3"), 1400, "it is never raised");
        assert_eq!(router.announced("tun0", "lan0", "fd00:8::2", "2001:db8::3"), 1400, "IPv6 is left alone");
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn connections_that_end_here_are_clamped_too() {
        let router = Router::new();
        let mut firewall = Firewall::open("test").expect("nftables");
        firewall.set(&clamp("tun0", 1300, 1280)).expect("set");
        let pairs = [("10.8.0.2", "10.8.0.1", 1300), ("fd00:8::2", "fd00:8::1", 1280)];
        for (client, server, expected) in pairs {
            let listener = TcpListener::bind((server, 0)).expect("a listener");
            let port = listener.local_addr().expect("an address").port();
            router.send("tun0", &segment(client, server, Segment { mss: 1400, ..Segment::syn(5000, port) }));
            let answer = router.receive("tun0", |packet| Segment::read(packet).filter(|it| it.from == port));
            assert!(answer.valid && answer.mss == expected, "{answer:?}");
            router.send("tun0", &segment(client, server, answer.acknowledged()));
            let (stream, _) = listener.accept().expect("the connection stands");
            assert!(stream.peer_addr().is_ok());
        }
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn a_connection_over_ipv6_into_a_device_that_refuses_it_fails_and_ipv4_works() {
        let router = Router::new();
        let mut firewall = Firewall::open("test").expect("nftables");
        firewall.set(&refusal("tun0", Refused::Leaving)).expect("set");
        let failure = TcpStream::connect("[fd00:8::2]:443").expect_err("nothing leaves");
        assert_eq!(failure.kind(), ErrorKind::NetworkUnreachable, "the answer, not a timeout: {failure}");
        let socket = UdpSocket::bind("10.8.0.1:1234").expect("a socket");
        socket.send_to(b"over IPv4", "10.8.0.2:1234").expect("sent");
        let first = router.receive("tun0", |packet| match packets::udp_text(packet) {
            Some(text) => Some(text.to_vec()),
            None => {
                assert!(Segment::read(packet).is_none(), "the connection's segment came out");
                None
            }
        });
        assert_eq!(first, b"over IPv4");
        drop(firewall);
        let socket = UdpSocket::bind("[fd00:8::1]:1234").expect("a socket");
        socket.send_to(b"over IPv6", "[fd00:8::2]:1234").expect("the rules went with their owner");
        router.receive("tun0", |packet| (packets::udp_text(packet)? == b"over IPv6").then_some(()));
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn forwarded_ipv6_is_answered_and_does_not_leave() {
        let router = Router::new();
        let mut firewall = Firewall::open("test").expect("nftables");
        assert!(router.passes_ipv6_of_lan("tun0", "fd00:8::2"), "without rules");
        for direction in [Refused::Leaving, Refused::BothWays] {
            firewall.set(&refusal("tun0", direction)).expect("set");
            assert!(!router.passes_ipv6_of_lan("tun0", "fd00:8::2"));
            let answer = router.receive("lan0", Unreachable::read);
            assert_eq!(answer, no_route("2001:db8::2", "fd00:8::2"));
            assert!(router.passes_ipv6_of_lan("tun1", "fd00:9::2"), "another device");
            assert!(router.passes("lan0", "tun0", "192.0.2.2", "10.8.0.2"), "IPv4");
        }
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn what_clients_send_over_ipv6_is_answered_too_where_both_ways_are_refused() {
        let router = Router::new();
        let mut firewall = Firewall::open("test").expect("nftables");
        let isolated = isolation(&["tun0"]).isolated;
        let rules = FirewallRules { isolated, ..refusal("tun0", Refused::BothWays) };
        firewall.set(&rules).expect("set");
        // To the network behind, to the server itself, to another client.
        for destination in ["2001:db8::3", "fd00:8::1", "fd00:8::3"] {
            router.send("tun0", &udp("fd00:8::2", destination, b"question"));
            let answer = router.receive("tun0", Unreachable::read);
            assert_eq!(answer, no_route("fd00:8::2", destination));
        }
        assert!(router.passes("tun0", "lan0", "10.8.0.2", "192.0.2.3"), "IPv4");
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn where_leaving_alone_is_refused_ipv6_may_come_in() {
        let router = Router::new();
        let mut firewall = Firewall::open("test").expect("nftables");
        firewall.set(&refusal("tun0", Refused::Leaving)).expect("set");
        assert!(router.passes("tun0", "lan0", "fd00:8::2", "2001:db8::3"));
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn rules_are_replaced_and_go_with_their_owner() {
        let mut firewall = Firewall::open("test").expect("nftables");
        assert!(!stands(), "opening makes no table");
        firewall.set(&FirewallRules::default()).expect("nothing to set");
        assert!(!stands());
        firewall.set(&isolation(&["tun0"])).expect("set");
        check_listing(|text| assert!(text.contains("tun0") && text.contains("flags owner"), "{text}"));
        firewall.set(&clamp("tun1", 1300, 0)).expect("replaced");
        let replaced = |text: &str| assert!(text.contains("tun1") && !text.contains("tun0"), "{text}");
        check_listing(replaced);

        let wrong = firewall.set(&isolation(&["a-name-too-long-for-a-device"]));
        assert!(matches!(wrong, Err(HostError::NoDevice(_))), "{wrong:?}");
        let _ = Command::new("nft").args(["flush", "ruleset"]).status();
        assert!(stands(), "nobody else may remove it");
        check_listing(replaced);
        let mut other = Firewall::open("test").expect("nftables");
        let error = other.set(&isolation(&["tun0"])).expect_err("somebody else's table");
        assert!(error.to_string().contains("another process"), "{error}");

        firewall.set(&FirewallRules::default()).expect("emptied");
        assert!(!stands());
        firewall.set(&isolation(&["tun0"])).expect("set");
        drop(firewall);
        assert!(!stands());
        other.set(&isolation(&["tun0"])).expect("the name is free again");
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn the_table_goes_with_a_killed_process() {
        let program = std::env::current_exe().expect("the test program has a path");
        let mut child = Command::new(program)
            .args(["--exact", "inside::a_table_is_held", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let ready = output.lines().map_while(Result::ok).any(|line| line.contains("the table stands"));
        assert!(ready);
        assert!(stands());
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(!stands());
    }

    /// The other process of the test above.
    #[test]
    #[ignore = "runs in a namespace"]
    fn a_table_is_held() {
        let mut firewall = Firewall::open("test").expect("nftables");
        firewall.set(&isolation(&["tun0"])).expect("set");
        println!("the table stands");
        let _ = std::io::stdin().read_line(&mut String::new());
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn rules_change_after_privileges_were_dropped() {
        let router = Router::new();
        let mut firewall = Firewall::open("test").expect("nftables");
        let nobody = privilege::Drop { uid: Some(65534), gid: Some(65534), keep_net_admin: true };
        assert!(privilege::become_user(nobody).expect("dropped").net_admin);
        firewall.set(&isolation(&["tun0"])).expect("set");
        assert!(!router.passes("tun0", "tun0", "10.8.0.2", "10.8.0.3"));
        firewall.set(&FirewallRules::default()).expect("emptied");
        assert!(router.passes("tun0", "tun0", "10.8.0.2", "10.8.0.3"));
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn the_table_reads_as_nft_writes_it() {
        let mut firewall = Firewall::open("test").expect("nftables");
        let rules = FirewallRules {
            isolated: isolation(&["tun0", "tun1"]).isolated,
            mss: clamp("tun0", 1300, 1280).mss,
            refused_ipv6: refusal("tun0", Refused::BothWays).refused_ipv6,
        };
        firewall.set(&rules).expect("set");
        let lines = [
            "type ifname",
            "elements = { \"tun0\", \"tun1\" }",
            "type filter hook forward priority filter; policy accept;",
            "iifname @isolated oifname @isolated counter packets 0 bytes 0 drop",
            "oifname \"tun0\" meta nfproto ipv6 counter packets 0 bytes 0 reject with icmpv6",
            "iifname \"tun0\" meta nfproto ipv6 counter packets 0 bytes 0 reject with icmpv6",
            "type filter hook output priority filter; policy accept;",
            "icmpv6 type destination-unreachable accept",
            "type filter hook input priority filter; policy accept;",
            "type filter hook prerouting priority mangle; policy accept;",
            "iifname \"tun0\" meta nfproto ipv4 tcp flags syn / syn,rst tcp option maxseg size set 1300",
            "iifname \"tun0\" meta nfproto ipv6 tcp flags syn / syn,rst tcp option maxseg size set 1280",
            "type filter hook postrouting priority mangle; policy accept;",
            "oifname \"tun0\" meta nfproto ipv4 tcp flags syn / syn,rst tcp option maxseg size set 1300",
            "oifname \"tun0\" meta nfproto ipv6 tcp flags syn / syn,rst tcp option maxseg size set 1280",
        ];
        check_listing(|text| {
            for line in lines {
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(text.contains(line), "{line}\n{text}");
            }
        });
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn a_kill_switch_lets_lookups_through_to_the_named_servers_only() {
        let router = Router::new();
        let mut switch = KillSwitch::open().expect("nftables");
        let named = ["192.0.2.53", "2001:db8::53"];
        let leaves = |to: &str, port: u16| {
            let from = if to.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(from).expect("bound");
            socket.send_to(b"?", (to, port)).is_ok()
        };
        let mut set = |lookups| {
            switch.set(&KillSwitchRules { lookups, mark: 7, ..KillSwitchRules::default() }).expect("set");
        };
        set(Lookups::Closed);
        assert!(!leaves(named[0], 53) && !leaves(named[1], 53));
        set(Lookups::At(named.map(|server| server.parse().expect("an address")).to_vec()));
        assert!(leaves(named[0], 53) && leaves(named[1], 53));
        assert!(!leaves("192.0.2.54", 53) && !leaves("2001:db8::54", 53) && !leaves(named[0], 54));
        for port in [53_u16, 853] {
            let server: std::net::IpAddr = named[0].parse().expect("an address");
            let _unanswered = TcpStream::connect_timeout(&(server, port).into(), Duration::from_millis(1));
            let is_call = |packet: &[u8]| packet[9] == 6 && packet[22..24] == port.to_be_bytes();
            router.receive("lan0", |packet| is_call(packet).then_some(()));
        }
        set(Lookups::Anywhere);
        assert!(leaves("192.0.2.54", 53) && leaves("2001:db8::54", 53) && !leaves("192.0.2.54", 54));
        switch.lift().expect("lifted");
        assert!(leaves("192.0.2.54", 54));
    }
}
