use culvert_config::{
    PushFilter,
    profile::{Client, DnsUpdown},
    value::{self, Route},
};
use culvert_host::{DnsSettings, FakeHost, NetGateway, Step};

use super::*;
use crate::scripts::ScriptEnv;

fn subnet_client() -> (Device, Routes) {
    let mut pushed = Pushed::default();
    let options = "ifconfig 10.8.0.2 255.255.255.0,ifconfig-ipv6 fd00:8::1000/64 fd00:8::1,topology subnet,\
                   route-gateway 10.8.0.1,route-metric 50,route 10.9.0.0 255.255.0.0 vpn_gateway 7,\
                   route-ipv6 fd00:9::/64,redirect-gateway def1,dhcp-option DNS 10.8.0.1,\
                   dhcp-option DOMAIN example.org,dhcp-option NTP 10.8.0.1";
    PushFilter::new(&Client::default()).apply(options, &mut pushed).expect("nothing is refused");
    let own = Routes {
        routes: vec![Route {
            network: RouteHost::Name("intranet.example".to_owned()),
            bits: 32,
            gateway: Some(RouteHost::NetGateway),
            metric: None,
            table: 5,
        }],
        table: 6,
        redirect: Some(ConfigRedirect {
            gateway: false,
            ipv4: true,
            block_local: true,
            ..ConfigRedirect::default()
        }),
        ..Routes::default()
    };
    merge(&Device::default(), &own, &pushed)
}

#[test]
fn a_pushed_subnet_becomes_a_plan() {
    let (device, routes) = subnet_client();
    let config = device_config("tun0", 1500, &device, Topology::Subnet);
    assert_eq!(
        config.addresses,
        [
            Address::V4 { local: [10, 8, 0, 2].into(), prefix: 24 },
            Address::V6 { local: "fd00:8::1000".parse().expect("an address"), prefix: 64 }
        ]
    );
    let context = route_context("tun0", &device, Topology::Subnet, &routes, Some([198, 51, 100, 7].into()));
    let context = context.discover(&mut FakeHost::new()).expect("the fake answers");
    let (settings, problems) = route_settings(&routes, true, |name| {
        if name == "intranet.example" {
            vec![[172, 16, 0, 9].into(), [172, 16, 0, 10].into()]
        } else {
            Vec::new()
        }
    });
    assert_eq!(problems, Vec::<String>::new());
    let planned = settings.plan(&context);
    let lines: Vec<String> = planned
        .plan
        .steps()
        .iter()
        .map(|step| match step {
            Step::Route(route) => route.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    for expected in [
        "198.51.100.7/32 via 192.0.2.1 dev eth0 table 0 metric -1",
        "0.0.0.0/1 via 10.8.0.1 dev tun0 table 0 metric -1",
        "192.0.2.0/25 via 10.8.0.1 dev tun0 table 0 metric -1",
        "172.16.0.9/32 via 192.0.2.1 dev eth0 table 5 metric 50",
        "172.16.0.10/32 via 192.0.2.1 dev eth0 table 5 metric 50",
        "10.9.0.0/16 via 10.8.0.1 dev tun0 table 6 metric 7",
        "fd00:9::/64 via :: dev tun0 table 6 metric 50",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected}\n{lines:#?}");
    }
}

#[test]
fn a_name_without_address_is_told_and_left_out() {
    let (_, routes) = subnet_client();
    let (settings, problems) = route_settings(&routes, false, |_| Vec::new());
    assert_eq!(settings.routes.len(), 2);
    assert_eq!(problems, ["OpenVPN ROUTE: failed to parse/resolve route for host/network: intranet.example"]);
}

#[test]
fn without_subnet_the_second_address_is_the_far_end() {
    let device = Device {
        ifconfig: Some(Ifconfig { local: [10, 8, 0, 6].into(), second: [10, 8, 0, 5].into() }),
        ..Device::default()
    };
    let config = device_config("tun0", 1500, &device, Topology::Net30);
    assert_eq!(
        config.addresses,
        [Address::V4Peer { local: [10, 8, 0, 6].into(), remote: [10, 8, 0, 5].into() }]
    );
    let context = route_context("tun0", &device, Topology::Net30, &Routes::default(), None);
    assert_eq!(context.vpn4, Some([10, 8, 0, 5].into()));
    assert_eq!(
        hook_arguments("tun0", 1500, &device, false),
        ["tun0", "1500", "0", "10.8.0.6", "10.8.0.5", "init"]
    );
}

#[test]
fn in_a_subnet_the_gateway_is_the_first_address_that_is_not_ours() {
    let gateway = |local: [u8; 4]| {
        let ifconfig = Ifconfig { local: local.into(), second: [255, 255, 255, 0].into() };
        let device = Device { ifconfig: Some(ifconfig), ..Device::default() };
        route_context("tun0", &device, Topology::Subnet, &Routes::default(), None).vpn4
    };
    assert_eq!(gateway([10, 8, 0, 7]), Some([10, 8, 0, 1].into()));
    assert_eq!(gateway([10, 8, 0, 1]), Some([10, 8, 0, 2].into()));
}

#[test]
fn scripts_see_device_routes_and_options() {
    let (device, routes) = subnet_client();
    let mut context =
        route_context("tun0", &device, Topology::Subnet, &routes, Some([198, 51, 100, 7].into()));
    context.net4 = Some(NetGateway { gateway: Some([192, 0, 2, 1].into()), device: "eth0".to_owned() });
    let way6 = culvert_host::Route::to(std::net::Ipv6Addr::UNSPECIFIED.into(), 0)
        .via(Some([0xfe80; 8].into()))
        .dev("eth0");
    context.default6 = Some(way6);
    let (settings, _) = route_settings(&routes, false, |_| vec![[172, 16, 0, 9].into()]);
    let mut env = ScriptEnv::new();
    env.set("route_network_9", "left from before");
    export_device(&mut env, "tun0", 1500, &device, Topology::Subnet);
    context.local_networks = vec![([192, 0, 2, 10].into(), 24)];
    export_routes(&mut env, &settings, &context);
    export_foreign_options(&mut env, &routes, &DnsUpdown::Default, true);
    let seen: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        seen,
        [
            "dev=tun0",
            "dev_type=tun",
            "foreign_option_1=dhcp-option DNS 10.8.0.1",
            "foreign_option_2=dhcp-option DOMAIN example.org",
            "foreign_option_3=dhcp-option NTP 10.8.0.1",
            "ifconfig_broadcast=10.8.0.255",
            "ifconfig_ipv6_local=fd00:8::1000",
            "ifconfig_ipv6_netbits=64",
            "ifconfig_ipv6_remote=fd00:8::1",
            "ifconfig_local=10.8.0.2",
            "ifconfig_netmask=255.255.255.0",
            "net_gateway_ipv6=fe80:fe80:fe80:fe80:fe80:fe80:fe80:fe80",
            "redirect_gateway=1",
            "route_gateway_1=192.0.2.1",
            "route_gateway_2=10.8.0.1",
            "route_gateway_3=10.8.0.1",
            "route_gateway_4=10.8.0.1",
            "route_ipv6_gateway_1=fd00:8::1",
            "route_ipv6_metric_1=50",
            "route_ipv6_network_1=fd00:9::/64",
            "route_metric_1=50",
            "route_metric_2=7",
            "route_net_gateway=192.0.2.1",
            "route_netmask_1=255.255.255.255",
            "route_netmask_2=255.255.0.0",
            "route_netmask_3=255.255.255.128",
            "route_netmask_4=255.255.255.128",
            "route_network_1=172.16.0.9",
            "route_network_2=10.9.0.0",
            "route_network_3=192.0.2.128",
            "route_network_4=192.0.2.0",
            "route_redirect_gateway_ipv4=2",
            "route_vpn_gateway=10.8.0.1",
            "tun_mtu=1500",
        ]
    );
}

#[test]
fn dhcp_options_are_dns_unless_dns_is_there() {
    let (_, mut routes) = subnet_client();
    let settings = dns_settings(&routes).expect("something is asked for");
    assert_eq!(settings.search_domains, ["example.org"]);
    assert_eq!(settings.servers[0].addresses[0].address, IpAddr::from([10, 8, 0, 1]));

    routes.dns.servers.push(value::DnsServer {
        priority: 1,
        addresses: vec![([10, 8, 0, 53].into(), Some(5353))],
        resolve_domains: vec!["corp.example".to_owned()],
        transport: Some(value::DnsTransport::Tls),
        sni: Some("dns.corp.example".to_owned()),
        ..value::DnsServer::default()
    });
    let settings = dns_settings(&routes).expect("something is asked for");
    assert_eq!((settings.servers.len(), settings.search_domains.len()), (1, 0));
    let mut env = ScriptEnv::new();
    export_dns(&mut env, &settings);
    let seen: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        seen,
        [
            "dns_server_1_address_1=10.8.0.53",
            "dns_server_1_port_1=5353",
            "dns_server_1_resolve_domain_1=corp.example",
            "dns_server_1_sni=dns.corp.example",
            "dns_server_1_transport=DoT",
        ]
    );
    assert_eq!(dns_settings(&Routes::default()), None::<DnsSettings>);
}

#[test]
fn dhcp_options_become_one_server_with_the_last_domain_first() {
    let settings = |options: &str| {
        let mut pushed = Pushed::default();
        PushFilter::new(&Client::default()).apply(options, &mut pushed).expect("nothing is refused");
        let (_, routes) = merge(&Device::default(), &Routes::default(), &pushed);
        dns_settings(&routes)
    };
    let found = settings(
        "dhcp-option DNS fd00::1,dhcp-option DOMAIN one.example,dhcp-option DOMAIN-SEARCH two.example,\
         dhcp-option ADAPTER_DOMAIN_SUFFIX three.example,dhcp-option DNS 10.8.0.1",
    )
    .expect("something is asked for");
    assert_eq!(found.search_domains, ["three.example", "two.example"]);
    let addresses: Vec<_> =
        found.servers[0].addresses.iter().map(|address| address.address.to_string()).collect();
    assert_eq!(addresses, ["10.8.0.1", "fd00::1"]);
    assert_eq!(settings("dhcp-option DOMAIN one.example"), None, "OpenVPN needs a server as well");
}

#[test]
fn what_dns_updown_is_told_says_all_there_is() {
    let mut pushed = Pushed::default();
    let options = "dns search-domains a.example b.example,dns server 1 address 10.8.0.1 [fd00::1]:53 10.8.0.2,\
                   dns server -2 address 10.8.0.53:5353,dns server -2 resolve-domains x.example y.example,\
                   dns server -2 dnssec optional,dns server -2 transport DoT,dns server -2 sni dns.example,\
                   dns server 3 address 10.8.0.3,dns server 3 dnssec no,dns server 3 transport plain";
    PushFilter::new(&Client::default()).apply(options, &mut pushed).expect("nothing is refused");
    let (_, routes) = merge(&Device::default(), &Routes::default(), &pushed);
    let settings = dns_settings(&routes).expect("something is asked for");
    let mut env = ScriptEnv::new();
    export_dns(&mut env, &settings);
    let variables: Vec<_> = env.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(import_dns(&variables), settings);
}

/// As recorded of 2.7, where `up` scripts go on reading `foreign_option_N` when a server has moved to `dns`.
#[test]
fn an_up_script_gets_dns_as_foreign_options_and_nobody_else_does() {
    let mut pushed = Pushed::default();
    let options = "dhcp-option DNS 10.8.0.9,dhcp-option PROXY_HTTP 10.8.0.5 3128,dns search-domains a.example,\
                   dns server -1 address 10.8.0.7:5353,dns server 0 address 10.8.0.1 [fd00::1]:53";
    PushFilter::new(&Client::default()).apply(options, &mut pushed).expect("nothing is refused");
    let (_, routes) = merge(&Device::default(), &Routes::default(), &pushed);
    let seen = |routes: &Routes, updown: &DnsUpdown, has_up| {
        let mut env = ScriptEnv::new();
        export_foreign_options(&mut env, routes, updown, has_up);
        env.iter().map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
    };
    let proxy = "dhcp-option PROXY_HTTP 10.8.0.5";
    for updown in [DnsUpdown::Default, DnsUpdown::Disable] {
        assert_eq!(
            seen(&routes, &updown, true),
            [proxy, "dhcp-option DOMAIN a.example", "dhcp-option DNS 10.8.0.1", "dhcp-option DNS6 fd00::1"]
        );
    }
    assert_eq!(seen(&routes, &DnsUpdown::Default, false), [proxy]);
    assert_eq!(seen(&routes, &DnsUpdown::Force, true), [proxy]);
    let old = Routes { dns: value::Dns::default(), ..routes };
    assert_eq!(seen(&old, &DnsUpdown::Default, true), ["dhcp-option DNS 10.8.0.9", proxy]);
    assert_eq!(seen(&old, &DnsUpdown::Force, true), [proxy]);
}

/// The lines of a plan's routes.
fn route_lines(settings: &RouteSettings, context: &RouteContext) -> (Vec<String>, Vec<String>) {
    let planned = settings.plan(context);
    let routes = planned.plan.steps().iter().filter_map(|step| match step {
        Step::Route(route) => Some(route.to_string()),
        _ => None,
    });
    (routes.collect(), planned.problems)
}

#[test]
fn on_an_ethernet_every_route_has_its_gateway_and_only_the_one_that_was_named() {
    let plan = |gateway: &str| {
        let mut pushed = Pushed::default();
        let options = format!(
            "ifconfig 10.8.0.2 255.255.255.0,ifconfig-ipv6 fd00:8::2/64 fd00:8::1,lladdr 02:00:00:00:00:0a,{gateway}\
             route 10.9.0.0 255.255.0.0,route-ipv6 fd00:9::/64,route-ipv6 fd00:a::/64 fd00:8::9,route-ipv6 fd00:b::/64 :: 0,\
             redirect-gateway ipv6 !ipv4"
        );
        PushFilter::new(&Client::default()).apply(&options, &mut pushed).expect("nothing is refused");
        let (device, routes) = merge(&Device { tap: true, ..Device::default() }, &Routes::default(), &pushed);
        let config = device_config("tap0", 1500, &device, Topology::Net30);
        assert_eq!(config.mac, Some([2, 0, 0, 0, 0, 10]));
        assert_eq!(config.addresses[0], Address::V4 { local: [10, 8, 0, 2].into(), prefix: 24 });
        let context = route_context("tap0", &device, Topology::Net30, &routes, None);
        let (settings, _) = route_settings(&routes, true, |_| Vec::new());
        route_lines(&settings, &context)
    };
    let (lines, problems) = plan("route-gateway 10.8.0.1,");
    assert_eq!(problems, Vec::<String>::new());
    for expected in [
        "10.9.0.0/16 via 10.8.0.1 dev tap0 table 0 metric -1",
        "fd00:9::/64 via fd00:8::1 dev tap0 table 0 metric -1",
        "2000::/4 via fd00:8::1 dev tap0 table 0 metric -1",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected}\n{lines:#?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("fd00:a::/64 via fd00:8::9")), "{lines:#?}");
    // Without it no IPv4 route is made up.
    let (lines, problems) = plan("");
    assert!(problems[0].contains("needs a gateway parameter"), "{problems:?}");
    assert!(!lines.iter().any(|line| line.starts_with("10.9.")), "{lines:#?}");
}

#[test]
fn a_tap_without_address_is_left_down_for_its_bridge() {
    let steps = |tap, ifconfig| {
        let device = Device { tap, ifconfig, lladdr: tap.then_some([2, 0, 0, 0, 0, 1]), ..Device::default() };
        device_config("dev0", 1500, &device, Topology::Subnet).plan().steps().to_vec()
    };
    let is_up = |steps: &[Step]| steps.iter().any(|step| matches!(step, Step::Up { .. }));
    let bridged = steps(true, None);
    assert!(!is_up(&bridged) && matches!(bridged[0], Step::LinkAddress { .. }), "{bridged:?}");
    let ifconfig = Ifconfig { local: [10, 8, 0, 1].into(), second: [255, 255, 255, 0].into() };
    assert!(is_up(&steps(true, Some(ifconfig))) && is_up(&steps(false, None)));
}
