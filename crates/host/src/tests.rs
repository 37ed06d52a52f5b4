use std::net::IpAddr;

use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn context(host: &mut FakeHost, remote: &str) -> RouteContext {
    let known = RouteContext {
        device: "tun0".to_owned(),
        vpn4: Some([10, 8, 0, 1].into()),
        remote: Some(address(remote)),
        ..RouteContext::default()
    };
    known.discover(host).expect("the fake answers")
}

fn redirect(redirect: Redirect) -> RouteSettings {
    RouteSettings { redirect: Some(redirect), ..RouteSettings::default() }
}

fn lines(planned: &Planned) -> Vec<String> {
    let line = |step: &Step| match step {
        Step::Route(route) => route.to_string(),
        Step::Displace(route) => format!("without {route}"),
        other => format!("{other:?}"),
    };
    planned.plan.steps().iter().map(line).collect()
}

const DEF1: Redirect = Redirect {
    default_route: true,
    def1: true,
    local: false,
    autolocal: false,
    block_local: false,
    ipv4: true,
    ipv6: false,
};

#[test]
fn def1_is_a_way_to_the_server_and_two_halves() {
    let planned = redirect(DEF1).plan(&context(&mut FakeHost::new(), "198.51.100.7"));
    assert_eq!(
        lines(&planned),
        [
            "198.51.100.7/32 via 192.0.2.1 dev eth0 table 0 metric -1",
            "0.0.0.0/1 via 10.8.0.1 dev tun0 table 0 metric -1",
            "128.0.0.0/1 via 10.8.0.1 dev tun0 table 0 metric -1",
        ]
    );
}

#[test]
fn local_and_autolocal_spare_the_way_to_a_server_nearby() {
    let host = &mut FakeHost::new();
    for (flags, remote, expected) in [
        (Redirect { local: true, ..DEF1 }, "198.51.100.7", 2),
        (Redirect { autolocal: true, ..DEF1 }, "192.0.2.77", 2),
        (Redirect { autolocal: true, ..DEF1 }, "198.51.100.7", 3),
        (Redirect { local: true, autolocal: true, ..DEF1 }, "198.51.100.7", 3),
        (DEF1, "192.0.2.77", 3),
    ] {
        let planned = redirect(flags).plan(&context(host, remote));
        assert_eq!(lines(&planned).len(), expected, "{flags:?} {remote}");
    }
}

#[test]
fn redirect_private_leaves_the_default_route() {
    let planned = redirect(Redirect { default_route: false, ..DEF1 })
        .plan(&context(&mut FakeHost::new(), "198.51.100.7"));
    assert_eq!(lines(&planned), ["198.51.100.7/32 via 192.0.2.1 dev eth0 table 0 metric -1"]);
}

#[test]
fn block_local_takes_the_local_network_but_not_its_router() {
    let planned =
        redirect(Redirect { block_local: true, ..DEF1 }).plan(&context(&mut FakeHost::new(), "198.51.100.7"));
    assert_eq!(
        lines(&planned)[1..4],
        [
            "192.0.2.1/32 via 192.0.2.1 dev eth0 table 0 metric -1",
            "192.0.2.0/25 via 10.8.0.1 dev tun0 table 0 metric -1",
            "192.0.2.128/25 via 10.8.0.1 dev tun0 table 0 metric -1",
        ]
    );
}

#[test]
fn not_ipv4_and_ipv6_redirect_only_ipv6() {
    let planned = redirect(Redirect { ipv4: false, ipv6: true, ..DEF1 })
        .plan(&context(&mut FakeHost::new(), "198.51.100.7"));
    assert_eq!(
        lines(&planned),
        [
            "::/3 via :: dev tun0 table 0 metric -1",
            "2000::/4 via :: dev tun0 table 0 metric -1",
            "3000::/4 via :: dev tun0 table 0 metric -1",
            "fc00::/7 via :: dev tun0 table 0 metric -1",
        ]
    );
}

/// As OpenVPN does: it has no flag of its own for this.
#[test]
fn redirect_private_takes_ipv6_where_the_tunnel_has_it() {
    let private = redirect(Redirect { default_route: false, ipv6: true, ..DEF1 });
    let mut around = context(&mut FakeHost::new(), "198.51.100.7");
    assert_eq!(lines(&private.plan(&around)).len(), 1);
    around.has_ipv6 = true;
    assert_eq!(lines(&private.plan(&around))[1], "::/3 via :: dev tun0 table 0 metric -1");
}

#[test]
fn a_replaced_default_route_has_no_metric_and_ipv6_goes_into_the_table_of_the_routes() {
    let settings = RouteSettings {
        metric: Some(33),
        table: Some(100),
        ..redirect(Redirect { def1: false, ipv6: true, ..DEF1 })
    };
    let all = lines(&settings.plan(&context(&mut FakeHost::new(), "198.51.100.7")));
    assert_eq!(all[2], "0.0.0.0/0 via 10.8.0.1 dev tun0 table 0 metric -1");
    assert_eq!(all[3], "::/3 via :: dev tun0 table 100 metric 33");
}

#[test]
fn the_net_gateway_is_the_default_route_also_with_a_server_nearby() {
    let around = context(&mut FakeHost::new(), "192.0.2.77");
    assert_eq!(around.resolve(Place::NetGateway, Family::V4), Some(address("192.0.2.1")));
    let line = RouteSpec {
        network: Place::Address(address("10.1.0.0")),
        prefix: 16,
        gateway: Some(Place::NetGateway),
        metric: None,
        table: None,
        family: Family::V4,
    };
    let planned = RouteSettings { routes: vec![line], ..RouteSettings::default() }.plan(&around);
    assert_eq!(lines(&planned), ["10.1.0.0/16 via 192.0.2.1 dev eth0 table 0 metric -1"]);
}

#[test]
fn a_gateway_of_ipv6_is_not_needed_on_a_tun_device_and_not_used() {
    let around = context(&mut FakeHost::new(), "198.51.100.7");
    let line = RouteSpec {
        network: Place::Address(address("fd00:a::")),
        prefix: 64,
        gateway: Some(Place::Address(address("fd99::1"))),
        metric: None,
        table: None,
        family: Family::V6,
    };
    let planned = RouteSettings { routes: vec![line], ..RouteSettings::default() }.plan(&around);
    assert_eq!(lines(&planned), ["fd00:a::/64 via :: dev tun0 table 0 metric -1"]);
}

#[test]
fn a_tunnel_without_ipv6_can_close_the_way_around_it() {
    let settings = RouteSettings { close_ipv6_leak: true, ..redirect(DEF1) };
    let mut around = context(&mut FakeHost::new(), "198.51.100.7");
    assert!(
        lines(&settings.plan(&around))
            .iter()
            .any(|line| line.contains("2000::/4") && line.ends_with("unreachable"))
    );
    around.has_ipv6 = true;
    assert!(!lines(&settings.plan(&around)).iter().any(|line| line.contains("2000::/4")));
}

#[test]
fn an_ipv6_server_keeps_its_route_when_a_line_would_swallow_it() {
    let mut around = context(&mut FakeHost::new(), "2001:db8:5::7");
    around.net6 = Some(NetGateway { gateway: Some(address("fe80::1")), device: "eth0".to_owned() });
    let line = |network| RouteSpec {
        network: Place::Address(address(network)),
        prefix: 32,
        gateway: None,
        metric: None,
        table: None,
        family: Family::V6,
    };
    let with = RouteSettings { routes: vec![line("2001:db8::")], ..RouteSettings::default() }.plan(&around);
    assert_eq!(lines(&with)[0], "2001:db8:5::7/128 via fe80::1 dev eth0 table 0 metric 1");
    let without =
        RouteSettings { routes: vec![line("2001:db9::")], ..RouteSettings::default() }.plan(&around);
    assert_eq!(lines(&without), ["2001:db9::/32 via :: dev tun0 table 0 metric -1"]);
}

#[test]
fn net_gateway_is_the_default_router_also_where_the_server_is_on_the_link() {
    // 192.0.2.77 needs no router.
    let around = context(&mut FakeHost::new(), "192.0.2.77");
    assert_eq!(around.net4.as_ref().and_then(|net| net.gateway), None);
    let line = RouteSpec {
        network: Place::Address(address("10.78.0.0")),
        prefix: 16,
        gateway: Some(Place::NetGateway),
        metric: None,
        table: None,
        family: Family::V4,
    };
    let settings = RouteSettings { routes: vec![line], ..RouteSettings::default() };
    let expected = ["10.78.0.0/16 via 192.0.2.1 dev eth0 table 0 metric -1"];
    assert_eq!(lines(&settings.plan(&around)), expected);
    // Without a default route the way to the server is the best there is.
    let around = RouteContext { default4: None, ..context(&mut FakeHost::new(), "198.51.100.7") };
    assert_eq!(lines(&settings.plan(&around)), expected);
}

#[test]
fn words_stand_for_addresses() {
    let around = context(&mut FakeHost::new(), "198.51.100.7");
    let line = |network, gateway| RouteSpec {
        network,
        prefix: 32,
        gateway,
        metric: None,
        table: None,
        family: Family::V4,
    };
    let settings = RouteSettings {
        routes: vec![
            line(Place::RemoteHost, Some(Place::NetGateway)),
            line(Place::Address(address("10.1.0.1")), Some(Place::RemoteHost)),
            line(Place::VpnGateway, None),
        ],
        metric: Some(3),
        ..RouteSettings::default()
    };
    assert_eq!(
        lines(&settings.plan(&around)),
        [
            "198.51.100.7/32 via 192.0.2.1 dev eth0 table 0 metric 3",
            "10.1.0.1/32 via 198.51.100.7 dev [NULL] table 0 metric 3",
            "10.8.0.1/32 via 10.8.0.1 dev tun0 table 0 metric 3",
        ]
    );
    for (word, place) in [
        ("vpn_gateway", Some(Place::VpnGateway)),
        ("default", Some(Place::VpnGateway)),
        ("net_gateway", Some(Place::NetGateway)),
        ("remote_host", Some(Place::RemoteHost)),
        ("10.0.0.1", Some(Place::Address(address("10.0.0.1")))),
        ("example.org", None),
    ] {
        assert_eq!(RouteSpec::parse_place(word), place);
    }
}

#[test]
fn what_is_missing_is_told_in_openvpns_words() {
    let mut around = context(&mut FakeHost::new(), "198.51.100.7");
    around.vpn4 = None;
    let line = RouteSpec {
        network: Place::Address(address("10.1.0.0")),
        prefix: 16,
        gateway: None,
        metric: None,
        table: None,
        family: Family::V4,
    };
    let planned = RouteSettings { routes: vec![line.clone()], ..redirect(DEF1) }.plan(&around);
    assert!(planned.plan.is_empty());
    assert!(
        planned.problems[0]
            .starts_with("NOTE: unable to redirect IPv4 default gateway -- VPN gateway parameter")
    );
    assert!(
        planned.problems[1]
            .starts_with("OpenVPN ROUTE: OpenVPN needs a gateway parameter for a --route option")
    );
    (around.net4, around.default4) = (None, None);
    let to_net = RouteSpec { gateway: Some(Place::NetGateway), ..line };
    let planned = RouteSettings { routes: vec![to_net], ..RouteSettings::default() }.plan(&around);
    assert!(planned.problems[0].starts_with("OpenVPN ROUTE: net_gateway undefined"));
}

#[test]
fn undo_goes_backwards() {
    let mut host = FakeHost::new();
    let before = host.routes.clone();
    let mut ledger = Ledger::new();
    let around = context(&mut host, "198.51.100.7");
    let applied = ledger.apply(&mut host, &redirect(Redirect { def1: false, ..DEF1 }).plan(&around).plan);
    assert!(applied.is_complete());
    host.calls.clear();
    assert_eq!(ledger.undo(&mut host).len(), 0);
    let verbs: Vec<&str> =
        host.calls.iter().map(|call| call.split(" via ").next().unwrap_or_default()).collect();
    assert_eq!(verbs, ["delete route 0.0.0.0/0", "add route 0.0.0.0/0", "delete route 198.51.100.7/32"]);
    assert_eq!(host.routes.len(), before.len());
}

#[test]
fn a_default_route_that_somebody_else_has_set_meanwhile_is_not_joined_by_the_old_one() {
    let mut host = FakeHost::new();
    let mut ledger = Ledger::new();
    let around = context(&mut host, "198.51.100.7");
    ledger.apply(&mut host, &redirect(Redirect { def1: false, ..DEF1 }).plan(&around).plan);
    let renewed = Route::to(Family::V4.any(), 0).via(Some(address("192.0.2.2"))).dev("eth0");
    host.routes.push(renewed.clone());
    assert!(ledger.undo(&mut host).is_empty());
    assert_eq!(host.default_routes(Family::V4).expect("the fake answers"), [renewed]);
}

/// The routes of a tunnel are worked out again while its own default route stands.
#[test]
fn a_displaced_default_route_is_the_machine_s_own_until_it_is_back() {
    // With another one that is worse, and for a server of each family.
    for remote in ["198.51.100.7", "2001:db8:5::7"] {
        let mut host = FakeHost::new();
        host.devices.insert("wlan0".to_owned(), Vec::new());
        let worse = Route::to(Family::V4.any(), 0).via(Some(address("10.9.0.1"))).dev("wlan0");
        host.routes.push(worse.metric(Some(600)));
        let before = host.routes.clone();
        let mut ledger = Ledger::new();
        let around = context(&mut host, remote);
        let mut settings = redirect(Redirect { def1: false, ..DEF1 });
        let first = settings.plan(&around).plan;
        assert!(ledger.apply(&mut host, &first).is_complete());

        let again = around.clone().discover_under(&mut host, &first).expect("the fake answers");
        assert_eq!(again, around);
        settings.routes.push(RouteSpec {
            network: Place::Address(address("10.66.0.0")),
            prefix: 16,
            gateway: None,
            metric: None,
            table: None,
            family: Family::V4,
        });
        host.calls.clear();
        assert!(ledger.revise(&mut host, &first, &settings.plan(&again).plan).is_complete());
        assert_eq!(host.calls, ["add route 10.66.0.0/16 via 10.8.0.1 dev tun0 table 0 metric -1"]);

        assert!(ledger.undo(&mut host).is_empty());
        let sorted = |host: &mut FakeHost| host.default_routes(Family::V4).expect("the fake answers");
        assert_eq!(host.routes.len(), before.len());
        assert_eq!(
            sorted(&mut host),
            before.iter().filter(|route| route.prefix == 0).cloned().collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_revised_plan_touches_only_what_differs() {
    let host = &mut FakeHost::new();
    let route = |net: &str| Step::Route(Route::to(address(net), 16).dev("tun0"));
    let old = Plan::from_iter([route("10.1.0.0"), route("10.2.0.0"), route("10.3.0.0")]);
    let new = Plan::from_iter([route("10.1.0.0"), route("10.4.0.0")]);
    let mut ledger = Ledger::new();
    assert!(ledger.apply(host, &old).is_complete());
    let before = host.calls.len();
    assert!(ledger.revise(host, &old, &new).is_complete());
    assert_eq!(host.calls.len() - before, 3, "two taken back, one added: {:?}", host.calls);
    let networks = |host: &FakeHost| -> Vec<String> {
        let ours = host.routes.iter().filter(|route| route.device.as_deref() == Some("tun0"));
        ours.map(|route| route.network.to_string()).collect()
    };
    assert_eq!(networks(host), ["10.1.0.0", "10.4.0.0"]);
    assert!(ledger.undo(host).is_empty());
    assert!(networks(host).is_empty());
}

#[test]
fn a_refused_step_is_reported_and_the_rest_is_done() {
    let mut host = FakeHost::new();
    host.refuse.push("128.0.0.0/1".to_owned());
    let mut ledger = Ledger::new();
    let around = context(&mut host, "198.51.100.7");
    let applied = ledger.apply(&mut host, &redirect(DEF1).plan(&around).plan);
    assert_eq!((applied.failures.len(), ledger.changes().len()), (1, 2));
    assert_eq!(
        applied.failures[0].error.to_string(),
        "add route 128.0.0.0/1 via 10.8.0.1 dev tun0 table 0 metric -1: Operation not permitted (os error 1)"
    );
}

#[test]
fn the_way_out_never_leads_through_the_tunnel_itself() {
    let mut host = FakeHost::new();
    let mut ledger = Ledger::new();
    let around = context(&mut host, "198.51.100.7");
    ledger.apply(&mut host, &redirect(DEF1).plan(&around).plan);
    // Another server, while the tunnel still has the traffic (persist-tun).
    let other = context(&mut host, "203.0.113.9");
    assert_eq!(other.net4.map(|net| net.device), Some("eth0".to_owned()));
}
