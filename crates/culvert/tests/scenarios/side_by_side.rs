//! culvert and OpenVPN 2.7 as clients of the same server with the same configuration: what they make of the machine, and what
//! they tell scripts, is the same.
//!
//! Each line of a case is run with both. Addresses, routes of all tables and rules must be equal; every variable and
//! argument that OpenVPN's scripts get, culvert's must get too, in the same order of calls. After culvert, everything is as it
//! was before.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, SocketAddr},
};

use culvert_testkit::{
    Implementation, Inner, Namespace, NetnsLab, Release, Signal, TempDir, Topology, Transport, Tunnel,
    TunnelSpec,
};

use crate::{SOON, World};

/// The server's address behind the router that is the client's default gateway.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// One comparison.
#[derive(Default)]
struct Case {
    /// `ip` commands on the client's machine before it starts.
    before: &'static [&'static str],
    /// Pushed by the server.
    push: &'static [&'static str],
    /// Lines of the client. `HOOK` stands for a script that writes down what it is called with.
    client: &'static str,
    /// The client is told to connect again (SIGUSR1).
    restarts: bool,
    /// The server is called over IPv6, on the client's own network.
    over_ipv6: bool,
    /// Two ends, of which this one calls, and nothing is pushed.
    pushed_nothing: bool,
}

/// What was seen of one client.
#[derive(Debug)]
struct Seen {
    machine: BTreeSet<String>,
    calls: Vec<Call>,
}

/// A script that was called: its name and arguments, and its variables.
#[derive(Debug)]
struct Call {
    words: String,
    variables: BTreeMap<String, String>,
}

const SCRIPT: &str = r#"#!/bin/sh
umask 0
{ echo "== $script_type $*"; env; } >>"$(dirname "$0")/calls"
"#;

/// What a client may change on a machine, a line each, without what differs between any two runs.
fn machine(client: &Namespace) -> BTreeSet<String> {
    let commands: [&[&str]; 5] = [
        &["-o", "address"],
        &["-4", "route", "show", "table", "all"],
        &["-6", "route", "show", "table", "all"],
        &["-4", "rule"],
        &["-6", "rule"],
    ];
    let mut lines = BTreeSet::new();
    for command in commands {
        // What the kernel adds by itself to each address, and when it is done with that.
        let is_asked_for = |line: &&str| !line.contains("fe80:") && !line.contains(" table local ");
        for line in client.ip(command).unwrap().lines().filter(is_asked_for) {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            if command[1] == "address" {
                words.remove(0); // the number of the device
            }
            // Who made a route, and whether an address was looked for elsewhere.
            while let Some(at) = words.iter().position(|word| *word == "proto") {
                words.drain(at..at + 2);
            }
            words.retain(|word| !["nodad", "tentative"].contains(word));
            lines.insert(words.join(" "));
        }
    }
    lines
}

fn resolv_conf(client: &Namespace) -> String {
    fs::read_to_string(format!("/etc/netns/{}/resolv.conf", client.name())).unwrap_or_default()
}

fn calls(folder: &TempDir) -> Vec<Call> {
    let text = fs::read_to_string(folder.path().join("calls")).unwrap_or_default();
    let mut calls: Vec<Call> = Vec::new();
    for line in text.lines() {
        if let Some(words) = line.strip_prefix("== ") {
            calls.push(Call { words: words.to_owned(), variables: BTreeMap::new() });
        } else if let (Some(call), Some((name, value))) = (calls.last_mut(), line.split_once('=')) {
            call.variables.insert(name.to_owned(), value.to_owned());
        }
    }
    calls
}

/// Variables that differ between any two runs, or belong to the shell.
fn is_fleeting(name: &str) -> bool {
    ["daemon_", "time_", "tls_", "X509_", "trusted_port", "untrusted_port", "local_port", "config", "proto_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || ["PWD", "_", "SHLVL", "OLDPWD", "PATH"].contains(&name)
}

impl Case {
    fn run(&self, world: &World, client: &Implementation) -> Seen {
        let lab = NetnsLab::new().unwrap();
        lab.server.ip(&["address", "add", &format!("{FAR}/32"), "dev", "lo"]).unwrap();
        lab.client.ip(&["route", "add", "default", "via", &NetnsLab::SERVER_V4.to_string()]).unwrap();
        lab.client.ip(&["-6", "route", "add", "default", "via", &NetnsLab::SERVER_V6.to_string()]).unwrap();
        for command in self.before {
            lab.client.ip(&command.split(' ').collect::<Vec<_>>()).unwrap();
        }
        let folder = TempDir::new().unwrap();
        let hook = folder.write_script("hook", SCRIPT).unwrap().display().to_string();
        let (transport, remote) = match self.over_ipv6 {
            true => (Transport::Udp6, None),
            false => (Transport::Udp4, Some(SocketAddr::from((FAR, NetnsLab::PORT)))),
        };
        let push: Vec<String> = self.push.iter().map(|option| format!("push \"{option}\"")).collect();
        let spec = TunnelSpec {
            inner: Inner::V4AndV6,
            topology: if self.pushed_nothing { Topology::PointToPoint } else { Topology::Subnet },
            transport,
            remote,
            server_extra: format!("multihome\n{}", push.join("\n")),
            client_extra: format!("script-security 2\n{}", self.client.replace("HOOK", &hook)),
            ..TunnelSpec::default()
        };
        let before = (machine(&lab.client), resolv_conf(&lab.client));
        let server = world.peers.get(Release::V2_7).unwrap();
        let mut tunnel = Tunnel::start_in(lab, &spec, &server, client, &world.materials).unwrap();
        tunnel.client.wait_up(SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
        if self.restarts {
            let mark = tunnel.client.mark();
            tunnel.client.signal(Signal::Restart).unwrap();
            tunnel.client.wait_up_after(mark, SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
        }
        let during = machine(&tunnel.lab.client);
        let status = tunnel.client.stop(SOON).unwrap();
        assert_eq!(status.code(), Some(0), "{}", tunnel.client.tail());
        if *client == world.subject {
            let after = (machine(&tunnel.lab.client), resolv_conf(&tunnel.lab.client));
            assert_eq!(after, before, "{}", tunnel.client.tail());
        }
        Seen { machine: during, calls: calls(&folder) }
    }

    /// Runs both, and compares.
    fn check(&self) {
        let world = World::new();
        let theirs = self.run(&world, &world.peers.get(Release::V2_7).unwrap());
        let ours = self.run(&world, &world.subject);
        let differs: Vec<_> = ours.machine.symmetric_difference(&theirs.machine).collect();
        assert!(differs.is_empty(), "{differs:#?}\nours: {ours:#?}\ntheirs: {theirs:#?}");
        let words = |seen: &Seen| seen.calls.iter().map(|call| call.words.clone()).collect::<Vec<_>>();
        assert_eq!(words(&ours), words(&theirs));
        for (ours, theirs) in ours.calls.iter().zip(&theirs.calls) {
            for (name, value) in theirs.variables.iter().filter(|(name, _)| !is_fleeting(name)) {
                assert_eq!(ours.variables.get(name), Some(value), "{name} of {}: {ours:#?}", theirs.words);
            }
            // What a server pushed is known from then on only. Numbered ones are read up to the first that is missing: one too
            // many would count; but after a restart OpenVPN has forgotten the routes of a tunnel that still stands, or stood
            // before.
            let numbered: &[&str] = match self.restarts {
                true => &[],
                false => &["foreign_option_", "dns_", "route_network_", "route_ipv6_network_"],
            };
            for prefix in ["OPENVPN_"].iter().chain(numbered) {
                let names = |call: &Call| {
                    let named = call.variables.keys().filter(|name| name.starts_with(*prefix));
                    named.cloned().collect::<Vec<_>>()
                };
                assert_eq!(names(ours), names(theirs), "of {}", theirs.words);
            }
        }
    }
}

const ALL_HOOKS: &str = "up HOOK\nroute-up HOOK\nroute-pre-down HOOK\ndown HOOK\nipchange HOOK\n";

macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident: $case:expr,)+) => {$(
        $(#[$doc])*
        #[test]
        #[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
        fn $name() {
            let case: Case = $case;
            case.check();
        }
    )+};
}

cases! {
    pushed_routes_go_where_2_7_puts_them: Case {
        push: &[
            "route 10.20.0.0 255.255.0.0",
            "route 10.20.0.0 255.255.0.0",
            "route 10.21.0.1",
            "route 10.22.0.0 255.255.0.0 vpn_gateway 77",
            "route 10.23.0.0 255.255.0.0 net_gateway",
            "route 10.24.0.0 255.255.0.0 default 5",
            "route remote_host 255.255.255.255 net_gateway",
            "route-metric 44",
            "route-ipv6 fd00:20::/48",
            "route-ipv6 fd00:21::/48 fd00:8::9 55",
        ],
        client: ALL_HOOKS,
        ..Case::default()
    },
    routes_of_its_own_and_a_table_for_those_that_follow_and_the_pushed_ones: Case {
        push: &["route 10.22.0.0 255.255.0.0", "route-ipv6 fd00:22::/48", "redirect-gateway def1 ipv6"],
        client: "route 10.20.0.0 255.255.0.0\nroute 10.25.0.0 255.255.255.0 10.8.0.9\nroute-table 100\n\
                 route 10.21.0.0 255.255.0.0\nroute-ipv6 fd00:21::/48\nroute-up HOOK",
        ..Case::default()
    },
    nothing_is_pulled_that_route_nopull_and_pull_filter_forbid: Case {
        push: &[
            "route 10.20.0.0 255.255.0.0",
            "dhcp-option DNS 10.8.0.1",
            "redirect-gateway def1",
            "route-metric 3",
            "dns server 0 address 10.8.0.1",
            "block-ipv6",
            "echo a word",
        ],
        client: "route-nopull\npull-filter accept \"echo a\"\npull-filter ignore \"echo\"\nroute 10.66.0.0 255.255.0.0\n\
                 up HOOK\nroute-up HOOK",
        ..Case::default()
    },
    a_route_that_is_there_already_stays_and_the_tunnel_s_goes_first: Case {
        before: &[
            "route add 10.20.0.0/16 via 10.99.0.1",
            "route add 0.0.0.0/1 via 10.99.0.1",
            "-6 route add fd00:20::/48 via fd99::1",
        ],
        push: &["route 10.20.0.0 255.255.0.0", "route-ipv6 fd00:20::/48", "redirect-gateway def1"],
        ..Case::default()
    },
    the_default_route_is_replaced_without_the_metric_of_routes: Case {
        push: &["redirect-gateway", "route 10.20.0.0 255.255.0.0"],
        client: "route-metric 33\nroute-up HOOK",
        ..Case::default()
    },
    redirect_private_takes_ipv6: Case {
        push: &["redirect-private def1 ipv6", "route-gateway 10.8.0.77"],
        client: ALL_HOOKS,
        ..Case::default()
    },
    a_server_behind_the_router_is_not_local_and_the_neighbours_go_into_the_tunnel: Case {
        push: &["redirect-gateway def1 autolocal block-local bypass-dhcp bypass-dns"],
        client: "route-up HOOK",
        ..Case::default()
    },
    a_local_server_gets_no_route_of_its_own: Case {
        push: &["redirect-gateway def1 local"],
        client: "route-up HOOK",
        ..Case::default()
    },
    ipv4_stays_outside_where_it_is_said_so: Case {
        push: &["redirect-gateway def1 ipv6 !ipv4"],
        client: "route-up HOOK",
        ..Case::default()
    },
    an_ipv6_server_stays_reachable: Case {
        push: &["redirect-gateway def1 ipv6", "route-ipv6 fd99::/48"],
        client: "up HOOK\nroute-up HOOK",
        over_ipv6: true,
        ..Case::default()
    },
    scripts_alone_see_to_routes_and_addresses: Case {
        push: &["redirect-gateway def1", "route 10.20.0.0 255.255.0.0", "setenv-safe WORD value"],
        client: "route-noexec\nifconfig-noexec\nsetenv-safe OWN word\nup HOOK\nroute-up HOOK\ndown HOOK",
        ..Case::default()
    },
    an_up_script_reads_dns_as_foreign_options: Case {
        push: &[
            "dhcp-option DNS 10.8.0.9",
            "dhcp-option DOMAIN old.example",
            "dhcp-option PROXY_HTTP 10.8.0.5 3128",
            "dns search-domains a.example b.example",
            "dns server -1 address 10.8.0.53:5353",
            "dns server 1 address 10.8.0.1 [fd00:8::1]:53",
        ],
        client: ALL_HOOKS,
        ..Case::default()
    },
    dns_updown_runs_before_up_and_before_down: Case {
        push: &[
            "dns search-domains a.example b.example",
            "dns server 1 address 10.8.0.1 [fd00:8::1]:53 10.8.0.2",
            "dns server -2 address 10.8.0.53:5353",
            "dns server -2 resolve-domains x.example y.example",
            "dns server -2 dnssec optional",
            "dns server -2 transport DoT",
            "dns server -2 sni dns.example",
        ],
        client: "dns-updown HOOK\nup HOOK\nroute-up HOOK\nroute-pre-down HOOK\ndown HOOK",
        ..Case::default()
    },
    dns_updown_gets_dhcp_options_as_one_server: Case {
        push: &[
            "dhcp-option DNS fd00:8::1",
            "dhcp-option DNS 10.8.0.1",
            "dhcp-option DOMAIN one.example",
            "dhcp-option DOMAIN-SEARCH two.example",
            "dhcp-option ADAPTER_DOMAIN_SUFFIX three.example",
            "dhcp-option NTP 10.8.0.3",
        ],
        client: "dns-updown HOOK\nup HOOK\ndown HOOK",
        ..Case::default()
    },
    a_pushed_name_server_takes_the_place_of_a_configured_one: Case {
        push: &["dns server 0 address 10.8.0.1", "dns search-domains p.example"],
        client: "dns server 0 address 10.8.0.99\ndns server 5 address 10.8.0.98\ndns search-domains c.example\n\
                 dns-updown HOOK",
        ..Case::default()
    },
    without_persist_tun_a_restart_runs_everything_again: Case {
        push: &["route 10.20.0.0 255.255.0.0", "setenv-safe WORD value"],
        client: ALL_HOOKS,
        restarts: true,
        ..Case::default()
    },
    with_persist_tun_a_restart_is_told_with_up_restart: Case {
        push: &["route 10.20.0.0 255.255.0.0"],
        client: "persist-tun\nup-restart\nup HOOK\nroute-up HOOK\ndown HOOK\nipchange HOOK",
        restarts: true,
        ..Case::default()
    },
    without_pull_scripts_run_before_the_peer_is_called: Case {
        client: "route 10.20.0.0 255.255.0.0\nroute-ipv6 fd00:20::/48\nredirect-gateway def1\n\
                 up HOOK\nroute-up HOOK\nroute-pre-down HOOK\ndown HOOK\nipchange HOOK",
        pushed_nothing: true,
        ..Case::default()
    },
    without_pull_a_restart_is_told_before_the_peer_is_called_again: Case {
        client: "route 10.20.0.0 255.255.0.0\npersist-tun\nup-restart\nup HOOK\nroute-up HOOK\ndown HOOK\nipchange HOOK",
        restarts: true,
        pushed_nothing: true,
        ..Case::default()
    },
    an_exit_that_the_server_is_told_of_is_named_so: Case {
        push: &["explicit-exit-notify 1"],
        client: "down HOOK",
        ..Case::default()
    },
}
