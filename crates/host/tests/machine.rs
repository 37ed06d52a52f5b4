//! The kernel's side: a plan in a network namespace, looked at with iproute2, and taken back.
//!
//! ```text
//!   eth0 192.0.2.10/24, 2001:db8::10/64  (one end of a veth pair)   default via 192.0.2.1, 2001:db8::1
//!   tun0                                 (a TUN device)
//! ```
//!
//! Needs root.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod namespace;

use std::{
    net::{IpAddr, UdpSocket},
    process::Command,
};

use culvert_host::{
    Address, Applied, DeviceConfig, Family, Host, HostError, Ledger, NetlinkHost, Place, Plan, Redirect,
    Route, RouteContext, RouteKind, RouteSettings, RouteSpec, Step,
};
use namespace::{ip, namespaced};

namespaced! {
    a_device_is_configured_and_restored
    redirect_gateway_def1_keeps_the_way_to_the_server
    redirect_gateway_without_def1_replaces_and_restores_the_default_route
    ipv6_is_redirected_too
    what_was_there_before_stays
    a_route_that_cannot_be_set_does_not_stop_the_others
    what_is_gone_already_is_no_error
    routes_have_metric_table_source_and_kind
    the_way_out_is_found
    clients_have_routes_behind_them
    what_leaves_is_limited_until_it_is_undone
    a_foreign_queueing_discipline_stays
    a_device_tells_its_kind
}

/// The routes of all tables, sorted; what the kernel makes itself for addresses is left out.
fn routes() -> Vec<String> {
    let mut lines: Vec<String> = [ip("-4 route show table all"), ip("-6 route show table all")]
        .concat()
        .lines()
        .filter(|line| !line.contains("proto kernel") && !line.contains("table local"))
        .map(|line| line.trim_end().replace(" linkdown", ""))
        .collect();
    lines.sort();
    lines
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn machine() -> NetlinkHost {
    for command in [
        "link set lo up",
        "link add eth0 type veth peer name far",
        "link set far up",
        "link set eth0 up",
        "address add 192.0.2.10/24 dev eth0",
        "address add 2001:db8::10/64 dev eth0 nodad",
        "route add default via 192.0.2.1 dev eth0 proto dhcp metric 100",
        "-6 route add default via 2001:db8::1 dev eth0",
        "tuntap add dev tun0 mode tun",
    ] {
        ip(command);
    }
    NetlinkHost::open().expect("netlink")
}

fn tunnel() -> DeviceConfig {
    DeviceConfig {
        name: "tun0".to_owned(),
        mtu: Some(1420),
        tx_queue_len: Some(77),
        addresses: vec![
            Address::V4 { local: [10, 8, 0, 2].into(), prefix: 24 },
            Address::V6 { local: "fd00:8::2".parse().expect("an address"), prefix: 64 },
        ],
        ..DeviceConfig::default()
    }
}

fn context(host: &mut NetlinkHost, remote: &str) -> RouteContext {
    RouteContext {
        device: "tun0".to_owned(),
        vpn4: Some([10, 8, 0, 1].into()),
        vpn6: None,
        has_ipv6: true,
        remote: Some(address(remote)),
        ..RouteContext::default()
    }
    .discover(host)
    .expect("the machine answers")
}

fn complete(applied: &Applied) {
    assert!(applied.is_complete(), "{:?}", applied.failures);
}

/// Runs tc(8), which must succeed, and returns what it prints.
fn tc(arguments: &str) -> String {
    let output = Command::new("tc").args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "tc {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns the number after a word.
fn number(text: &str, word: &str) -> u32 {
    let (_, rest) = text.split_once(word).unwrap_or_else(|| panic!("{word} in {text}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{word} in {text}"))
}

fn shape(bytes_per_second: u32) -> Plan {
    Plan::from_iter([Step::Shape { device: "eth0".to_owned(), bytes_per_second }])
}

mod inside {
    use super::*;

    #[test]
    #[ignore = "runs in a namespace"]
    fn a_device_is_configured_and_restored() {
        let mut host = machine();
        let mut ledger = Ledger::new();
        complete(&ledger.apply(&mut host, &tunnel().plan()));
        let link = ip("-oneline link show tun0");
        assert!(link.contains("mtu 1420") && link.contains("qlen 77") && link.contains(",UP"), "{link}");
        assert_eq!(host.mtu("tun0").expect("there"), 1420);
        let addresses = ip("-oneline address show tun0");
        assert!(
            addresses.contains("inet 10.8.0.2/24 brd 10.8.0.255") && addresses.contains("fd00:8::2/64"),
            "{addresses}"
        );
        assert!(!addresses.contains("tentative"), "{addresses}");
        assert_eq!(ledger.undo(&mut host).len(), 0);
        assert!(!ip("-oneline address show tun0").contains("10.8.0.2"));
        assert!(!ip("-oneline address show tun0").contains("fd00:8::2"));
        assert_eq!(ledger.undo(&mut host).len(), 0, "a second time there is nothing to do");

        let peer = Address::V4Peer { local: [10, 9, 0, 6].into(), remote: [10, 9, 0, 5].into() };
        let plan = DeviceConfig { addresses: vec![peer], ..tunnel() }.plan();
        complete(&ledger.apply(&mut host, &plan));
        assert!(ip("-oneline address show tun0").contains("inet 10.9.0.6 peer 10.9.0.5/32"));
        assert_eq!(ledger.undo(&mut host).len(), 0);
        assert!(!ip("-oneline address show tun0").contains("10.9.0.6"));
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn redirect_gateway_def1_keeps_the_way_to_the_server() {
        let mut host = machine();
        let before = routes();
        let mut ledger = Ledger::new();
        complete(&ledger.apply(&mut host, &tunnel().plan()));
        let settings = RouteSettings {
            redirect: Some(Redirect { def1: true, ..Redirect::default() }),
            ..RouteSettings::default()
        };
        let planned = settings.plan(&context(&mut host, "198.51.100.7"));
        assert_eq!(planned.problems, Vec::<String>::new());
        complete(&ledger.apply(&mut host, &planned.plan));
        let now = ip("-4 route show");
        for line in [
            "0.0.0.0/1 via 10.8.0.1 dev tun0",
            "128.0.0.0/1 via 10.8.0.1 dev tun0",
            "198.51.100.7 via 192.0.2.1 dev eth0",
        ] {
            assert!(now.contains(line), "{now}");
        }
        assert!(ip("route get 198.51.100.7").contains("dev eth0"));
        assert!(ip("route get 203.0.113.1").contains("dev tun0"));
        assert_eq!(ledger.undo(&mut host).len(), 0);
        assert_eq!(routes(), before);
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn redirect_gateway_without_def1_replaces_and_restores_the_default_route() {
        let mut host = machine();
        let before = routes();
        let mut ledger = Ledger::new();
        complete(&ledger.apply(&mut host, &tunnel().plan()));
        let settings = RouteSettings { redirect: Some(Redirect::default()), ..RouteSettings::default() };
        let around = context(&mut host, "198.51.100.7");
        complete(&ledger.apply(&mut host, &settings.plan(&around).plan));
        let now = ip("-4 route show");
        assert!(
            now.contains("default via 10.8.0.1 dev tun0") && !now.contains("default via 192.0.2.1"),
            "{now}"
        );
        assert_eq!(ledger.undo(&mut host).len(), 0);
        assert_eq!(routes(), before, "metric and origin (proto dhcp) are as they were");
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn ipv6_is_redirected_too() {
        let mut host = machine();
        let before = routes();
        let mut ledger = Ledger::new();
        complete(&ledger.apply(&mut host, &tunnel().plan()));
        let redirect = Redirect { def1: true, ipv4: false, ipv6: true, ..Redirect::default() };
        let settings = RouteSettings { redirect: Some(redirect), ..RouteSettings::default() };
        let around = context(&mut host, "2001:db8:5::7");
        complete(&ledger.apply(&mut host, &settings.plan(&around).plan));
        assert!(ip("-6 route get 2001:db8:5::7").contains("via 2001:db8::1 dev eth0"));
        assert!(ip("-6 route get 2001:db8:6::1").contains("dev tun0"));
        assert!(ip("route get 203.0.113.1").contains("dev eth0"));
        assert_eq!(ledger.undo(&mut host).len(), 0);
        assert_eq!(routes(), before);
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn what_was_there_before_stays() {
        let mut host = machine();
        ip("route add 203.0.113.0/24 via 192.0.2.1");
        let before = routes();
        let mut ledger = Ledger::new();
        complete(&ledger.apply(&mut host, &tunnel().plan()));
        let route = Route::to(address("203.0.113.0"), 24).via(Some(address("10.8.0.1"))).dev("tun0");
        let again = route.clone();
        complete(&ledger.apply(&mut host, &[route, again].into_iter().map(Step::Route).collect()));
        assert!(ip("route get 203.0.113.1").contains("dev tun0"), "the tunnel's goes first");
        ledger.undo(&mut host);
        assert_eq!(routes(), before);
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn a_route_that_cannot_be_set_does_not_stop_the_others() {
        let mut host = machine();
        let mut ledger = Ledger::new();
        complete(&ledger.apply(&mut host, &tunnel().plan()));
        let line = |network: &str, gateway| RouteSpec {
            network: Place::Address(address(network)),
            prefix: 24,
            gateway,
            metric: Some(9),
            table: None,
            family: Family::V4,
        };
        let unreachable = Some(Place::Address(address("172.31.255.1")));
        let settings = RouteSettings {
            routes: vec![
                line("10.1.1.0", unreachable),
                line("10.1.2.0", None),
                line("10.1.3.0", Some(Place::NetGateway)),
            ],
            ..RouteSettings::default()
        };
        let around = context(&mut host, "198.51.100.7");
        let applied = ledger.apply(&mut host, &settings.plan(&around).plan);
        assert_eq!(applied.failures.len(), 1);
        let HostError::Refused { source, .. } = &applied.failures[0].error else {
            panic!("refused by the kernel")
        };
        assert_eq!(source.raw_os_error(), Some(101), "network unreachable");
        let now = ip("-4 route show");
        assert!(now.contains("10.1.2.0/24 via 10.8.0.1 dev tun0") && now.contains("metric 9"), "{now}");
        assert!(now.contains("10.1.3.0/24 via 192.0.2.1 dev eth0"), "{now}");
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn what_is_gone_already_is_no_error() {
        let mut host = machine();
        let before = routes();
        let mut ledger = Ledger::new();
        complete(&ledger.apply(&mut host, &tunnel().plan()));
        let settings = RouteSettings {
            redirect: Some(Redirect { def1: true, ..Redirect::default() }),
            ..RouteSettings::default()
        };
        let around = context(&mut host, "198.51.100.7");
        complete(&ledger.apply(&mut host, &settings.plan(&around).plan));
        ip("link delete tun0");
        assert_eq!(ledger.undo(&mut host).len(), 0);
        assert_eq!(routes(), before, "the route to the server went too");
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn routes_have_metric_table_source_and_kind() {
        let mut host = machine();
        let before = routes();
        complete(&Ledger::new().apply(&mut host, &tunnel().plan()));
        let mut ledger = Ledger::new();
        let plan = Plan::from_iter([
            Step::Route(Route {
                source: Some(address("10.8.0.2")),
                ..Route::to_host(address("10.8.0.9")).dev("tun0").metric(Some(100)).table(Some(1000))
            }),
            Step::Route(Route { kind: RouteKind::Blackhole, ..Route::to(address("10.77.0.0"), 16) }),
            Step::Route(Route { kind: RouteKind::Unreachable, ..Route::to(address("2001:db8:77::"), 48) }),
            Step::Route(Route::to(address("fd00:9::"), 64).dev("tun0").metric(Some(200))),
        ]);
        complete(&ledger.apply(&mut host, &plan));
        let now = routes().join("\n");
        for text in [
            "10.8.0.9 dev tun0 table 1000 proto 118 scope link src 10.8.0.2 metric 100",
            "blackhole 10.77.0.0/16",
            "unreachable 2001:db8:77::/48",
            "fd00:9::/64 dev tun0 proto 118 metric 200",
        ] {
            assert!(now.contains(text), "{text}\n{now}");
        }
        assert_eq!(ledger.undo(&mut host).len(), 0);
        assert_eq!(routes(), before);
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn the_way_out_is_found() {
        let mut host = machine();
        let found = context(&mut host, "198.51.100.7");
        assert_eq!(found.net4.as_ref().and_then(|net| net.gateway), Some(address("192.0.2.1")));
        assert_eq!(found.net6.as_ref().and_then(|net| net.gateway), Some(address("2001:db8::1")));
        assert_eq!(found.net4.as_ref().map(|net| net.device.as_str()), Some("eth0"));
        assert_eq!(found.default4.as_ref().and_then(|route| route.metric), Some(100));
        assert!(found.local_networks.contains(&(address("192.0.2.10"), 24)), "{:?}", found.local_networks);

        let neighbour = context(&mut host, "192.0.2.77");
        assert_eq!(neighbour.net4.and_then(|net| net.gateway), None, "it is on the same network");

        ip("route delete default");
        assert_eq!(host.route_to(address("198.51.100.7")).expect("an answer"), None);
        assert_eq!(context(&mut host, "198.51.100.7").net4, None);
        assert!(matches!(host.device_index("nope0"), Err(HostError::NoDevice(_))));
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn clients_have_routes_behind_them() {
        let mut host = machine();
        let before = routes();
        complete(&Ledger::new().apply(&mut host, &tunnel().plan()));
        let mut ledger = Ledger::new();
        let behind = |network, prefix, gateway| {
            Route::to(address(network), prefix).via(Some(address(gateway))).dev("tun0").metric(Some(100))
        };
        let alone = |client, source| Route {
            source: Some(address(source)),
            ..Route::to_host(address(client)).dev("tun0").metric(Some(100))
        };
        let hole =
            |network, prefix| Route { kind: RouteKind::Blackhole, ..Route::to(address(network), prefix) };
        let wanted = [
            behind("192.168.7.0", 24, "10.8.0.9"),
            behind("fd00:77::", 64, "fd00:8::9"),
            alone("10.99.0.5", "10.8.0.2"),
            alone("fd00:99::5", "fd00:8::2"),
            // A client outside the device's network is a gateway once its own route stands.
            behind("192.168.8.0", 24, "10.99.0.5"),
            behind("fd00:78::", 64, "fd00:99::5"),
            hole("192.168.0.0", 16),
            hole("fd00:70::", 32),
        ];
        complete(&ledger.apply(&mut host, &wanted.iter().cloned().map(Step::Route).collect()));
        let now = routes().join("\n");
        for text in [
            "192.168.7.0/24 via 10.8.0.9 dev tun0 proto 118 metric 100",
            "fd00:77::/64 via fd00:8::9 dev tun0 proto 118 metric 100",
            "10.99.0.5 dev tun0 proto 118 scope link src 10.8.0.2 metric 100",
            "fd00:99::5 dev tun0 proto 118 src fd00:8::2 metric 100",
            "192.168.8.0/24 via 10.99.0.5 dev tun0 proto 118 metric 100",
            "fd00:78::/64 via fd00:99::5 dev tun0 proto 118 metric 100",
            "blackhole 192.168.0.0/16 proto 118",
            "blackhole fd00:70::/32 dev lo proto 118",
        ] {
            assert!(now.contains(text), "{text}\n{now}");
        }
        for route in &wanted {
            let again = host.add_route(route).expect_err("it stands");
            assert!(again.is_exists() && !again.is_gone(), "{again}");
        }
        assert_eq!(ledger.undo(&mut host).len(), 0);
        assert_eq!(routes(), before);
        for route in &wanted {
            let again = host.delete_route(route).expect_err("it is gone");
            assert!(again.is_gone() && !again.is_exists(), "{again}");
        }

        ip("link delete tun0");
        assert!(host.add_route(&wanted[0]).expect_err("no device").is_gone());
        assert!(host.delete_route(&wanted[0]).expect_err("no device").is_gone());
        let own = Address::V4 { local: [10, 8, 0, 2].into(), prefix: 24 };
        assert!(host.delete_address("tun0", &own).expect_err("no device").is_gone());
        assert!(host.unshape("tun0").expect_err("no device").is_gone());
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn what_leaves_is_limited_until_it_is_undone() {
        let mut host = machine();
        ip("neighbour add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0");
        let before = tc("qdisc show dev eth0");
        let mut ledger = Ledger::new();
        complete(&ledger.apply(&mut host, &shape(1000)));
        let socket = UdpSocket::bind("192.0.2.10:0").expect("a socket");
        for _ in 0..50 {
            // The kernel may tell that the queue is full, or not.
            let _ = socket.send_to(&[0; 1000], "192.0.2.77:9");
        }
        // The bucket holds 1564 bytes, one datagram; the queue ten frames, 15 datagrams; the rest is lost.
        let text = tc("-s qdisc show dev eth0");
        assert!(text.contains("qdisc tbf 76: root") && text.contains("rate 8Kbit burst 1564b"), "{text}");
        assert!(number(&text, "dropped ") > 20, "{text}");
        assert!(number(&text, "backlog ") > 0, "{text}");

        complete(&ledger.apply(&mut host, &shape(100_000_000)));
        let text = tc("-s qdisc show dev eth0");
        assert!(text.contains("qdisc tbf 76: root") && text.contains("rate 800Mbit"), "{text}");
        let dropped = number(&text, "dropped ");
        for _ in 0..50 {
            socket.send_to(&[0; 1000], "192.0.2.77:9").expect("sent");
        }
        assert_eq!(number(&tc("-s qdisc show dev eth0"), "dropped "), dropped, "nothing more is lost");

        assert_eq!(ledger.changes().len(), 1, "a change of the limit is undone with it");
        assert_eq!(ledger.undo(&mut host).len(), 0);
        assert_eq!(tc("qdisc show dev eth0"), before);
        assert!(host.unshape("eth0").expect_err("nothing to remove").is_gone());
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn a_foreign_queueing_discipline_stays() {
        let mut host = machine();
        tc("qdisc add dev eth0 root handle 5: pfifo limit 77");
        let mut ledger = Ledger::new();
        let applied = ledger.apply(&mut host, &shape(1000));
        let error = &applied.failures[0].error;
        assert!(error.is_exists() && error.to_string().contains("tc qdisc delete dev eth0 root"), "{error}");
        assert_eq!(ledger.changes(), []);

        tc("qdisc delete dev eth0 root");
        complete(&ledger.apply(&mut host, &shape(1000)));
        tc("qdisc replace dev eth0 root handle 5: pfifo limit 77");
        assert_eq!(ledger.undo(&mut host).len(), 0);
        assert!(tc("qdisc show dev eth0").contains("pfifo 5: root"), "it took our place and is left alone");
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn a_device_tells_its_kind() {
        let mut host = machine();
        assert_eq!(host.link_kind("tun0").as_deref(), Some("tun"));
        assert_eq!(host.link_kind("eth0").as_deref(), Some("veth"));
        assert_eq!(host.link_kind("lo"), None);
        assert_eq!(host.link_kind("nope0"), None);
    }
}
