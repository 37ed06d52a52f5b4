//! Routes that an administrator puts on a tunnel device, as [`RouteWatch`] sees them, and what [`NetworkNews`] hears. Needs root.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod namespace;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use culvert_host::{Host as _, NetlinkHost, NetworkNews, Route, RouteWatch, ViaRoute};
use culvert_sys::{Epoll, Interest};
use namespace::{ip, namespaced};

namespaced! {
    routes_of_an_administrator_are_followed
    routes_that_do_not_concern_the_device_are_not_news
    routes_that_vanish_silently_are_noticed
    lost_news_count_as_news
    who_waits_for_news_is_woken_by_them
}

const WAIT: Duration = Duration::from_secs(10);

/// Two tunnel devices, and a watch over the first.
fn watched() -> RouteWatch {
    for command in [
        "link set lo up",
        "tuntap add dev tun0 mode tun",
        "tuntap add dev tun1 mode tun",
        "link set tun0 up",
        "link set tun1 up",
        "address add 10.8.0.1/24 dev tun0",
        "address add 10.9.0.1/24 dev tun1",
        "address add fd00:8::1/64 dev tun0 nodad",
    ] {
        ip(command);
    }
    let mut host = NetlinkHost::open().expect("netlink");
    let mut watch = RouteWatch::open(host.device_index("tun0").expect("there")).expect("a watch");
    while watch.drain() {}
    watch
}

fn wait_for_news(watch: &mut RouteWatch) {
    let epoll = Epoll::new().expect("epoll");
    epoll.add(&*watch, 0, Interest::Read).expect("watched");
    let deadline = Instant::now() + WAIT;
    while !watch.drain() {
        assert!(Instant::now() < deadline, "no news");
        epoll.wait(&mut Vec::new(), Some(WAIT)).expect("waits");
    }
}

fn via(network: &str, prefix: u8, gateway: &str) -> ViaRoute {
    ViaRoute {
        network: network.parse().expect("an address"),
        prefix,
        gateway: gateway.parse().expect("an address"),
    }
}

mod inside {
    use super::*;

    #[test]
    #[ignore = "runs in a namespace"]
    fn routes_of_an_administrator_are_followed() {
        let mut watch = watched();
        assert_eq!(watch.routes().expect("a list"), []);
        let mut expected = Vec::new();
        for (command, route) in [
            ("route add 172.16.0.0/16 via 10.8.0.9 dev tun0", via("172.16.0.0", 16, "10.8.0.9")),
            ("route add 172.17.0.0/16 via 10.8.0.9 dev tun0 table 77", via("172.17.0.0", 16, "10.8.0.9")),
            ("route add default via 10.8.0.8 dev tun0", via("0.0.0.0", 0, "10.8.0.8")),
            ("route add fd00:77::/64 via fd00:8::9 dev tun0", via("fd00:77::", 64, "fd00:8::9")),
            ("route add 172.18.0.0/16 via inet6 fd00:8::9 dev tun0", via("172.18.0.0", 16, "fd00:8::9")),
            (
                "route add 172.19.0.0/16 nexthop via 10.8.0.7 dev tun0 nexthop via 10.9.0.7 dev tun1",
                via("172.19.0.0", 16, "10.8.0.7"),
            ),
        ] {
            ip(command);
            wait_for_news(&mut watch);
            expected.push(route);
            expected.sort();
            assert_eq!(watch.routes().expect("a list"), expected, "{command}");
        }
        ip("route delete 172.16.0.0/16");
        wait_for_news(&mut watch);
        expected.retain(|route| *route != via("172.16.0.0", 16, "10.8.0.9"));
        assert_eq!(watch.routes().expect("a list"), expected);

        ip("route replace default via 10.9.0.8 dev tun1");
        wait_for_news(&mut watch);
        expected.retain(|route| route.prefix != 0);
        assert_eq!(watch.routes().expect("a list"), expected, "only the new route was told");
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn routes_that_do_not_concern_the_device_are_not_news() {
        let mut watch = watched();
        ip("route add 172.16.0.0/16 via 10.9.0.9 dev tun1");
        ip("route add blackhole 172.17.0.0/16");
        let mut host = NetlinkHost::open().expect("netlink");
        let network = "172.18.0.0".parse().expect("an address");
        let route = Route::to(network, 16).via(Some([10, 8, 0, 9].into())).dev("tun0");
        host.add_route(&route).expect("added");
        host.delete_route(&route).expect("deleted");
        host.add_route(&route).expect("added");
        assert!(!watch.drain());
        ip("route add 172.19.0.0/16 dev tun0");
        wait_for_news(&mut watch);
        assert_eq!(watch.routes().expect("a list"), [], "ours, or without a gateway");
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn routes_that_vanish_silently_are_noticed() {
        let mut watch = watched();
        ip("address add 10.8.0.77/32 dev lo");
        ip("route add 172.16.0.0/16 via 10.8.0.9 dev tun0 src 10.8.0.77");
        ip("route add 172.17.0.0/16 via 10.8.0.9 dev tun0");
        while watch.drain() {}
        ip("address delete 10.8.0.77/32 dev lo");
        wait_for_news(&mut watch);
        assert_eq!(watch.routes().expect("a list"), [via("172.17.0.0", 16, "10.8.0.9")]);
        while watch.drain() {}
        ip("link set tun0 down");
        wait_for_news(&mut watch);
        assert_eq!(watch.routes().expect("a list"), []);
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn lost_news_count_as_news() {
        let mut watch = watched();
        let mut host = NetlinkHost::open().expect("netlink");
        // Nobody drains: this is several times what may wait, and none of it concerns the device.
        for number in 0..8000_u16 {
            let [high, low] = number.to_be_bytes();
            let route = Route::to([172, 16, high, low].into(), 32).dev("tun1");
            host.add_route(&route).expect("added");
        }
        wait_for_news(&mut watch);
        while watch.drain() {}
    }

    #[test]
    #[ignore = "runs in a namespace"]
    fn who_waits_for_news_is_woken_by_them() {
        ip("link set lo up");
        let news = NetworkNews::open().expect("a subscription");
        let is_empty = || news.take().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(is_empty());
        let epoll = Epoll::new().expect("epoll");
        epoll.add(&news, 0, Interest::Read).expect("watched");
        let mut ready = Vec::new();
        for change in
            ["address add 192.0.2.1/32 dev lo", "route add 198.51.100.0/24 dev lo", "link set lo down"]
        {
            ip(change);
            epoll.wait(&mut ready, Some(WAIT)).expect("waits");
            assert!(!ready.is_empty(), "{change}");
            while !is_empty() {}
        }
    }
}
