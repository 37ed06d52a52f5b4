//! What a server may do to a client: exactly what the table lets through.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use culvert_config::{
    PushFilter, PushReason, PushRejected, Pushed, parse_ccd,
    profile::{PullFilter, PullVerdict},
    value::{ClientNat, Compression, DhcpValue, PingAction, RouteHost, Topology},
};
use culvert_wire::CipherName;
use proptest::prelude::*;

const OPEN: PushFilter<'static> = PushFilter { filters: &[], route_nopull: false, allow_fqdn: false };

fn apply(filter: &PushFilter<'_>, options: &str) -> Pushed {
    let mut pushed = Pushed::default();
    filter.apply(options, &mut pushed).unwrap();
    pushed
}

#[test]
fn the_reply_of_a_server_is_typed() {
    let pushed = apply(
        &OPEN,
        "route 192.168.1.0 255.255.255.0 vpn_gateway 5,dhcp-option DNS 10.8.0.1,tun-ipv6,route-gateway 10.8.0.1,topology subnet,\
         ping 10,ping-restart 60,ifconfig-ipv6 fd00:8::1000/64 fd00:8::1,ifconfig 10.8.0.2 255.255.255.0,peer-id 3,\
         cipher AES-256-GCM,protocol-flags cc-exit tls-ekm dyn-tls-crypt aead-epoch,tun-mtu 1500",
    );
    let [route] = &pushed.routes[..] else { panic!("one route") };
    assert_eq!((&route.network, route.bits), (&RouteHost::Address([192, 168, 1, 0].into()), 24));
    assert_eq!((&route.gateway, route.metric), (&Some(RouteHost::VpnGateway), Some(5)));
    assert_eq!(pushed.dhcp_options[0].value, DhcpValue::Dns([10, 8, 0, 1].into()));
    assert_eq!(pushed.dhcp_options[0].foreign_option(), "dhcp-option DNS 10.8.0.1");
    assert_eq!(pushed.topology, Some(Topology::Subnet));
    assert_eq!(pushed.ping, Some(Duration::from_secs(10)));
    assert_eq!(pushed.ping_timeout, Some((Duration::from_secs(60), PingAction::Restart)));
    assert_eq!(pushed.ifconfig.unwrap().local, std::net::Ipv4Addr::new(10, 8, 0, 2));
    assert_eq!(pushed.ifconfig_ipv6.unwrap().local.bits, 64);
    assert_eq!(pushed.cipher.unwrap().to_string(), "AES-256-GCM");
    let flags = pushed.protocol;
    assert!(flags.cc_exit && flags.tls_ekm && flags.dyn_tls_crypt && flags.aead_epoch);
    assert_eq!(pushed.tun_mtu, Some(1500));
    // `tun-ipv6` says nothing to a client of today.
    assert_eq!(pushed.notes.len(), 1);
}

#[test]
fn buffers_may_be_sized_by_the_server() {
    let pushed = apply(&OPEN, "rcvbuf 100000,sndbuf 200000");
    assert_eq!((pushed.rcvbuf, pushed.sndbuf), (Some(100_000), Some(200_000)));
    assert!(pushed.notes.is_empty(), "{:?}", pushed.notes);
    let pushed = apply(&OPEN, "rcvbuf 0,sndbuf 0");
    assert_eq!((pushed.rcvbuf, pushed.sndbuf), (None, None));
}

/// Nothing is ignored silently.
#[test]
fn what_a_client_does_anyway_is_said_to_have_no_effect() {
    let pushed = apply(&OPEN, "ping-timer-rem,mute 0");
    let notes: Vec<_> = pushed.notes.iter().map(ToString::to_string).collect();
    assert!(notes[0].contains("'ping-timer-rem' has no effect"), "{notes:?}");
    assert_eq!((notes.len(), pushed.mute), (1, Some(0)));
    let pushed = apply(
        &OPEN,
        "errors-to-stderr,bind-dev eth0,redirect-gateway def1 bypass-dhcp bypass-dns,redirect-private bypass-dns",
    );
    let notes: Vec<_> = pushed.notes.iter().map(ToString::to_string).collect();
    let named =
        |name: &str| notes.iter().filter(|note| note.contains(&format!("'{name}' has no effect: "))).count();
    let named = ["errors-to-stderr", "bind-dev", "bypass-dhcp", "bypass-dns"].map(named);
    assert_eq!((named, notes.len()), ([1, 1, 1, 2], 5), "{notes:?}");
    assert!(pushed.redirect.is_some_and(|redirect| redirect.def1));
}

#[test]
fn a_client_s_own_file_names_the_ciphers_that_it_is_offered() {
    let text = "data-ciphers AES-128-GCM:?vollbit:AES-256-CBC\ndata-ciphers-fallback aes-192-cbc\n";
    let (own, found) = parse_ccd(text, "ccd/alice");
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(own.data_ciphers, Some(vec![CipherName::Aes128Gcm, CipherName::Aes256Cbc]));
    assert_eq!((own.cipher, own.fallback), (Some(CipherName::Aes192Cbc), true));
    let (own, _) = parse_ccd("ncp-ciphers DEFAULT\ncipher AES-256-CBC\n", "ccd/alice");
    assert_eq!(own.data_ciphers.map(|list| list.len()), Some(3));
    assert_eq!((own.cipher, own.fallback), (Some(CipherName::Aes256Cbc), false));

    let (own, found) = parse_ccd("data-ciphers AES-256-GCM:vollbit\ncipher nixbit\n", "ccd/alice");
    let lines: Vec<_> = found.iter().map(|one| one.openvpn_line.as_str()).collect();
    let expected = [
        "Options error: Unsupported cipher in --data-ciphers: vollbit",
        "Options error: Unsupported cipher: nixbit",
    ];
    assert_eq!((lines.as_slice(), own.data_ciphers, own.cipher), (expected.as_slice(), None, None));
}

#[test]
fn what_has_no_effect_for_one_client_is_said() {
    let (_, found) = parse_ccd("providers legacy", "ccd/alice");
    assert_eq!(found[0].openvpn_line, "Note: option 'providers' has no effect for one client");
}

#[test]
fn addresses_are_rewritten_by_at_most_64_rules() {
    let pushed = apply(
        &OPEN,
        "client-nat snat 10.1.0.0 255.255.0.0 10.2.0.0,client-nat dnat 10.3.0.0 255.255.0.0 10.4.0.0",
    );
    let rule = |destination, network: [u8; 4], alias: [u8; 4]| ClientNat {
        destination,
        network: network.into(),
        netmask: [255, 255, 0, 0].into(),
        alias: alias.into(),
    };
    assert_eq!(
        pushed.client_nat,
        [rule(false, [10, 1, 0, 0], [10, 2, 0, 0]), rule(true, [10, 3, 0, 0], [10, 4, 0, 0])]
    );
    let many = ["client-nat snat 10.1.0.0 255.255.0.0 10.2.0.0"; 65].join(",");
    let pushed = apply(&OPEN, &many);
    assert_eq!((pushed.client_nat.len(), pushed.notes.len()), (64, 1));
}

/// SEC-OPT-1, SEC-OPT-2.
#[test]
fn what_is_not_listed_or_malformed_never_reaches_routes_or_scripts() {
    let options = [
        ("up /bin/sh", PushReason::NotPushable),
        ("script-security 3", PushReason::NotPushable),
        ("setenv PATH /tmp", PushReason::NotPushable),
        ("plugin /tmp/x.so", PushReason::NotPushable),
        ("keepalive 10 60", PushReason::NotPushable),
        ("reneg-sec 0", PushReason::NotPushable),
        ("iroute 10.0.0.0", PushReason::NotPushable),
        ("frobnicate", PushReason::Unknown),
        ("block-ipv4", PushReason::Unknown),
        (
            "route $(reboot)",
            PushReason::Malformed(
                "route parameter network/IP '$(reboot)' must be a valid address".to_owned(),
            ),
        ),
        (
            "route example.com",
            PushReason::Malformed(
                "route parameter network/IP 'example.com' must be a valid address".to_owned(),
            ),
        ),
        (
            "dhcp-option DOMAIN a;reboot",
            PushReason::Malformed("--dhcp-option DOMAIN contains invalid characters".to_owned()),
        ),
        (
            "dns search-domains a`b",
            PushReason::Malformed("--dns search-domains contain invalid characters".to_owned()),
        ),
        (
            "dns server -1 address 1.1.1.1",
            PushReason::Malformed("--dns server: invalid priority value '-1'".to_owned()),
        ),
        (
            "tun-mtu 50",
            PushReason::Malformed("tun-mtu: Must be an integer between 100 and 65536, not 50".to_owned()),
        ),
        ("ifconfig 10.0.0.1", PushReason::Malformed("`ifconfig` takes LOCAL REMOTE_OR_MASK".to_owned())),
    ];
    for (option, reason) in options {
        let pushed = apply(&OPEN, option);
        assert_eq!(pushed.notes.first().map(|note| &note.reason), Some(&reason), "{option}");
        assert!(
            pushed.routes.is_empty() && pushed.dhcp_options.is_empty() && pushed.setenv.is_empty(),
            "{option}"
        );
        assert!(pushed.dns.search_domains.is_empty() && pushed.lasting().next().is_none(), "{option}");
    }
}

#[test]
fn control_characters_refuse_the_whole_push() {
    let mut pushed = Pushed::default();
    let result = OPEN.apply("route 10.0.0.0,dhcp-option DOMAIN a\nb", &mut pushed);
    assert_eq!(result, Err(PushRejected::Bytes));
}

#[test]
fn names_are_looked_up_only_where_the_client_allows_it() {
    let allowing = PushFilter { allow_fqdn: true, ..OPEN };
    assert_eq!(
        apply(&allowing, "route example.com").routes[0].network,
        RouteHost::Name("example.com".to_owned())
    );
}

#[test]
fn filters_match_the_beginning_and_the_first_match_decides() {
    let filter = |verdict, prefix: &str| PullFilter { verdict, prefix: prefix.to_owned() };
    let filters = [
        filter(PullVerdict::Accept, "dhcp-option DNS 10."),
        filter(PullVerdict::Ignore, "dhcp-option DNS"),
        filter(PullVerdict::Reject, "redirect-gateway"),
    ];
    let rules = PushFilter { filters: &filters, ..OPEN };
    let pushed = apply(&rules, "dhcp-option DNS 10.8.0.1,dhcp-option DNS 8.8.8.8,ping 1");
    assert_eq!(pushed.dhcp_options.len(), 1);
    assert_eq!(pushed.notes[0].to_string(), "Pushed option removed by filter: 'dhcp-option DNS 8.8.8.8'");
    let rejected = rules.apply("redirect-gateway def1", &mut Pushed::default());
    assert_eq!(rejected, Err(PushRejected::ByFilter("redirect-gateway def1".to_owned())));
}

#[test]
fn route_nopull_keeps_routes_and_dns_out_and_lets_the_rest_in() {
    let rules = PushFilter { route_nopull: true, ..OPEN };
    let pushed = apply(
        &rules,
        "route 10.0.0.0,route-ipv6 fd00::/8,dhcp-option DNS 1.1.1.1,dns search-domains a,redirect-gateway def1,block-ipv6,\
         route-gateway 10.8.0.1,ifconfig 10.8.0.2 255.255.255.0",
    );
    assert!(
        pushed.routes.is_empty()
            && pushed.routes6.is_empty()
            && pushed.redirect.is_none()
            && !pushed.block_ipv6
    );
    assert!(pushed.dhcp_options.is_empty() && pushed.dns.search_domains.is_empty());
    assert!(pushed.route_gateway.is_some() && pushed.ifconfig.is_some());
    assert_eq!(pushed.notes.iter().filter(|note| note.reason == PushReason::RouteNopull).count(), 6);
}

#[test]
fn block_ipv6_may_be_pushed_and_holds() {
    let pushed = apply(&OPEN, "block-ipv6");
    assert!(pushed.block_ipv6);
    assert!(pushed.notes.is_empty(), "{:?}", pushed.notes);
}

#[test]
fn messages_accumulate_until_the_last_one() {
    let mut pushed = Pushed::default();
    OPEN.apply("dns server 0 sni a.example,push-continuation 2", &mut pushed).unwrap();
    assert_eq!(pushed.continuation, 2);
    OPEN.apply("dns server 0 address 1.1.1.1,push-continuation 1", &mut pushed).unwrap();
    assert_eq!(pushed.dns.servers[0].addresses.len(), 1);
    let alone = apply(&OPEN, "dns server 3 sni a.example");
    assert!(alone.dns.servers.is_empty());
    assert_eq!(alone.notes.len(), 1);
}

#[test]
fn a_token_is_never_shown() {
    let pushed = apply(&OPEN, "auth-token SESS_ID_AT_secret,auth-token-user YWxpY2U=");
    assert_eq!(pushed.auth_token.as_ref().unwrap().expose(), "SESS_ID_AT_secret");
    assert_eq!(pushed.auth_token_user.as_deref(), Some("alice"));
    assert!(!format!("{pushed:?}").contains("SESS_ID_AT_secret"));
}

#[test]
fn a_cipher_that_nobody_knows_is_told() {
    let pushed = apply(&OPEN, "cipher FOO-42");
    assert_eq!((pushed.cipher, pushed.unknown_cipher.as_deref()), (None, Some("FOO-42")));
}

#[test]
fn compression_framing_is_typed() {
    assert_eq!(apply(&OPEN, "comp-lzo no").compression, Some(Compression::LzoStub));
    assert_eq!(apply(&OPEN, "compress stub-v2").compression, Some(Compression::StubV2));
}

/// What a renegotiation changes does not open the device anew.
#[test]
fn the_lasting_options_leave_out_what_changes_by_itself() {
    let text = "ifconfig 10.8.0.2 255.255.255.0,peer-id 1,auth-token x,ping 3,cipher AES-128-GCM,tun-mtu 1400,protocol-flags tls-ekm";
    let pushed = apply(&OPEN, text);
    assert_eq!(pushed.lasting().collect::<Vec<_>>(), ["ifconfig 10.8.0.2 255.255.255.0", "tun-mtu 1400"]);
    let pushed = apply(&OPEN, "cipher AES-128-GCM");
    assert_eq!(pushed.lasting().collect::<Vec<_>>(), ["cipher AES-128-GCM"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// SEC-CORE-1, SEC-OPT-2.
    #[test]
    fn no_push_makes_it_panic(options in "([a-z-]{2,16}( [ -~]{0,20}){0,4},){0,6}|\\PC{0,120}") {
        let mut pushed = Pushed::default();
        let _ = OPEN.apply(&options, &mut pushed);
        for note in &pushed.notes {
            let _ = note.to_string();
        }
        let _ = OPEN.update(&format!("PUSH_UPDATE,{options}"), &mut Default::default(), &mut pushed);
        for option in &pushed.dhcp_options {
            prop_assert!(!option.foreign_option().chars().any(char::is_control));
        }
    }

    #[test]
    fn no_file_of_a_client_makes_it_panic(text in "([a-z-]{2,16}( [ -~]{0,20}){0,4}\n){0,6}|\\PC{0,120}") {
        let _ = parse_ccd(&text, "x");
    }
}

#[test]
fn a_clients_vlan_is_read() {
    let (overrides, found) = parse_ccd("vlan-pvid 7\nmax-routes-per-client 3\n", "alice");
    assert_eq!((overrides.vlan_pvid, overrides.max_routes_per_client, found.len()), (Some(7), Some(3), 0));
    let (overrides, found) = parse_ccd("vlan-pvid 4095\n", "alice");
    assert_eq!((overrides.vlan_pvid, found.len()), (None, 1));
}

#[test]
fn that_no_gateway_is_read_from_dhcp_is_said() {
    let mut pushed = Pushed::default();
    let filter = PushFilter { filters: &[], route_nopull: false, allow_fqdn: false };
    filter.apply("route-gateway dhcp,ping 10", &mut pushed).unwrap();
    assert!(pushed.route_gateway.is_none() && pushed.ping.is_some());
    let notes: Vec<_> = pushed.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].starts_with("Note: pushed option 'route-gateway") && notes[0].contains("DHCP"),
        "{notes:?}"
    );
}
